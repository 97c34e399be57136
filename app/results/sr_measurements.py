"""Numbers of a DICOM structured report (TID 300): their units, the lines they were read from, and probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import highdicom.sr as sr
import numpy as np

from app.results.coded import WITHOUT_UNIT, concept
from app.results.record import Record
from expert_models.codes import PROBABILITY
from expert_models.finding import Attribute, Finding, Index, Measurement


def measured(measurement: Measurement, lines: Sequence[sr.CoordinatesForMeasurement] = ()) -> sr.Measurement:
    """One number with its unit, and the lines it was read from."""
    return sr.Measurement(
        name=concept(measurement.code),
        value=decimal(measurement.value),
        unit=concept(measurement.unit),
        referenced_coordinates=lines or None,
    )


def coordinates(record: Record, measurement: Measurement) -> list[sr.CoordinatesForMeasurement]:
    """The measurement's lines on their images."""
    return [
        sr.CoordinatesForMeasurement(
            graphic_type=sr.GraphicTypeValues.POLYLINE,
            graphic_data=np.array([image_point(line.start), image_point(line.stop)]),
            source_image=sr.SourceImageForRegion(record.sources[line.instance_uid].SOPClassUID, line.instance_uid),
        )
        for line in measurement.lines
        if line.instance_uid in record.sources
    ]


def image_point(index: Index) -> tuple[float, float]:
    """Index (slice, row, column) -> SCOORD (column, row), whose origin is the first pixel's corner (C.18.6.1.1)."""
    return index[2] + 0.5, index[1] + 0.5


def probability(finding: Finding) -> list[sr.Measurement]:
    """The calibrated probability as one more number; absent where the expert gives none."""
    if finding.probability is None:
        return []
    return [sr.Measurement(concept(PROBABILITY), decimal(finding.probability), concept(WITHOUT_UNIT))]


def rated(attribute: Attribute) -> sr.QualitativeEvaluation:
    """One attribute, its probability as a property of the answer."""
    evaluation = sr.QualitativeEvaluation(concept(attribute.concept), concept(attribute.value))
    if attribute.probability is not None:
        number, has = decimal(attribute.probability), sr.RelationshipTypeValues.HAS_PROPERTIES
        likely = sr.NumContentItem(concept(PROBABILITY), number, concept(WITHOUT_UNIT), relationship_type=has)
        evaluation[0].ContentSequence = sr.ContentSequence([likely])
    return evaluation


def decimal(value: float) -> float:
    """The number nearest to `value` that fits a decimal string of 16 characters (PS3.5, VR DS)."""
    return float(f"{value:.9g}")
