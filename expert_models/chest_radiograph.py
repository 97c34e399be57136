"""The chest radiograph expert: both lungs, the heart, the cardiothoracic ratio, and whether the heart is enlarged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dicom_io.study import Series
from expert_models.card import Card, packaged_card
from expert_models.codes import (
    CARDIAC_DIAMETER,
    CARDIOMEGALY,
    CARDIOTHORACIC_RATIO,
    HEART,
    LUNG,
    LUNG_AREA_RATIO,
    MILLIMETER,
    PIXEL,
    RATIO,
    THORACIC_DIAMETER,
)
from expert_models.finding import Box, Code, ExpertTag, Finding, Line, Measurement, Presence, Region
from expert_models.input_check import refuses_radiograph
from expert_models.measure import Mask, Width, horizontal_width, probability_above
from expert_models.once import Once
from expert_models.ports import Masks

if TYPE_CHECKING:
    from expert_models.segment import Segmented, Segmenter

CARD = "cxr-anatomy"


class ChestRadiograph:
    """Segments lungs and heart on a frontal chest radiograph and measures the cardiothoracic ratio."""

    def __init__(self, device: str = "cpu", card: Card | None = None) -> None:
        self._card = card or packaged_card(CARD)
        self._device = device
        self._segmenter: Once[Segmenter] = Once(self._loaded)

    @property
    def tag(self) -> ExpertTag:
        """Name, version, weights."""
        return self._card.tag

    @property
    def concepts(self) -> tuple[Code, ...]:
        """Both lungs, the heart, cardiomegaly."""
        return LUNG, HEART, CARDIOMEGALY

    def refuses(self, series: Series) -> str | None:
        """Why this series is not a frontal chest radiograph that can be read, in one sentence; None when it may be."""
        return refuses_radiograph(series, self._card)

    def examine(self, series: Series, masks: Masks) -> Sequence[Finding]:
        """Lungs, heart and cardiomegaly.

        All are not assessed where no two lungs with a heart between them are seen; heart and cardiomegaly where the
        lungs are sure and the outline of the heart is not.
        """
        picture = np.asarray(series.volume.voxels[0], dtype=np.float32)
        segmented = self._segmenter().segment(picture)
        limits = self._card.calibration
        if reason := doubt_of_lungs(segmented, limits):
            return [self._not_assessed(number, concept, reason) for number, concept in enumerate(self.concepts, 1)]
        if reason := doubt_of_heart(segmented, limits):
            lungs = self._lungs(series, segmented.masks, masks)
            unsure = enumerate((HEART, CARDIOMEGALY), len(lungs) + 1)
            return [*lungs, *(self._not_assessed(number, concept, reason) for number, concept in unsure)]
        diameters, ratio = _measured(series, segmented.masks)
        probability = self.probability_enlarged(ratio.value, series.view)
        lungs = self._lungs(series, segmented.masks, masks)
        (heart,) = self._anatomy(series, segmented.masks, masks, ("heart",))
        heart = replace(heart, id=f"f{len(lungs) + 1}", measurements=(*diameters, ratio))
        enlarged = replace(
            heart,
            id=f"f{len(lungs) + 2}",
            concept=CARDIOMEGALY,
            presence=self._presence(probability),
            probability=probability,
            measurements=(ratio,),
        )
        return [*lungs, heart, enlarged]

    def probability_enlarged(self, ratio: float, view: str | None) -> float:
        """Calibrated probability that the true ratio is above the limit of the view.

        The limit is lower for PA than for AP, where the heart lies further from the detector. When the view is not
        stated both limits weigh the same.
        """
        values = self._card.calibration
        by_view = {
            name: probability_above(values[f"limit_{name}"], ratio, values["ratio_bias"], values["ratio_spread"])
            for name in ("pa", "ap")
        }
        for name, probability in by_view.items():
            if (view or "").lower().strip().startswith(name):
                return probability
        return sum(by_view.values()) / 2

    def _lungs(self, series: Series, outlines: Mapping[str, Mask], masks: Masks) -> list[Finding]:
        """Both lungs, each with its area relative to that of the other."""
        right, left = self._anatomy(series, outlines, masks, ("right lung", "left lung"))
        ratio = float(outlines["right lung"].sum() / outlines["left lung"].sum())
        return [
            replace(lung, measurements=(Measurement(LUNG_AREA_RATIO, value, RATIO),))
            for lung, value in ((right, ratio), (left, 1 / ratio))
        ]

    def _anatomy(
        self, series: Series, outlines: Mapping[str, npt.NDArray[np.bool_]], masks: Masks, names: Sequence[str]
    ) -> list[Finding]:
        """What was outlined under these names, without measurements."""
        labels = {label.name: label for label in self._card.labels}
        return [
            Finding(
                f"f{number}",
                labels[name].code,
                Presence.PRESENT,
                self.tag,
                side=labels[name].side,
                regions=(region_of(series, outlines[name], masks),),
            )
            for number, name in enumerate(names, 1)
        ]

    def _not_assessed(self, number: int, concept: Code, reason: str) -> Finding:
        return Finding(f"f{number}", concept, Presence.NOT_ASSESSED, self.tag, reason=reason)

    def _presence(self, probability: float) -> Presence:
        low, high = self._card.indeterminate or (0.5, 0.5)
        if low <= probability <= high:
            return Presence.INDETERMINATE
        return Presence.PRESENT if probability > high else Presence.ABSENT

    def _loaded(self) -> Segmenter:
        # Here and not above: naming the expert must not cost the seconds that torch and MONAI take to load.
        from expert_models.segment import Segmenter

        return Segmenter(self._card, self._device)


def doubt_of_lungs(segmented: Segmented, limits: Mapping[str, float]) -> str | None:
    """Why the masks cannot be the two lungs of a chest radiograph with a heart between them; None when they can.

    The heart need only be there, and in its place: whether its outline is sure, `doubt_of_heart` says.

    limits: the card's calibration: smallest_lung and smallest_heart (share of the picture), lowest_confidence, and
    lowest_agreement (between the outlines of the picture and of its smaller copy).
    """
    for name, mask in segmented.masks.items():
        smallest = limits["smallest_heart" if name == "heart" else "smallest_lung"]
        if mask.mean() < smallest:
            return f"no {name} could be outlined, so this may not be a frontal chest radiograph"
    for name in ("right lung", "left lung"):
        if reason := _unsure(name, segmented, limits):
            return reason
    right, left, heart = (centre(segmented.masks[name]) for name in ("right lung", "left lung", "heart"))
    if not right[1] < heart[1] < left[1]:
        return "the heart does not lie between the two lungs, so the outlines are not trusted"
    if heart[0] < (right[0] + left[0]) / 2:
        return "the heart lies in the upper half of the lungs, so the picture may be upside down"
    return None


def doubt_of_heart(segmented: Segmented, limits: Mapping[str, float]) -> str | None:
    """Why the outline of the heart is not to be measured, the doubts about the lungs first; None when it is."""
    return doubt_of_lungs(segmented, limits) or _unsure("heart", segmented, limits)


def _unsure(name: str, segmented: Segmented, limits: Mapping[str, float]) -> str | None:
    sure = segmented.confidence[name] >= limits["lowest_confidence"]
    if not sure or segmented.agreement[name] < limits["lowest_agreement"]:
        return f"the outline of the {name} is too uncertain to be measured"
    return None


def centre(mask: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Mean (row, column) of a mask that is not empty."""
    rows, columns = mask.sum(axis=1), mask.sum(axis=0)
    total = int(rows.sum())
    return float(rows @ np.arange(len(rows)) / total), float(columns @ np.arange(len(columns)) / total)


def region_of(series: Series, mask: npt.NDArray[np.bool_], masks: Masks) -> Region:
    """The region of a mask (rows, columns) of a radiograph, which is not empty; the mask is kept in masks."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = Box((0, int(rows[0]), int(columns[0])), (1, int(rows[-1]) + 1, int(columns[-1]) + 1))
    return Region(series.uid, box, series.source[0], masks.save(np.ascontiguousarray(mask[None][box.slices])))


def _measured(
    series: Series, masks: Mapping[str, npt.NDArray[np.bool_]]
) -> tuple[tuple[Measurement, Measurement], Measurement]:
    """The two diameters, in mm where the spacing is known and in pixels where it is not, and their ratio."""
    cardiac = horizontal_width(masks["heart"])
    thoracic = horizontal_width(masks["right lung"] | masks["left lung"])
    geometry = series.volume.geometry
    unit, length = (MILLIMETER, geometry.spacing_mm[2]) if geometry.is_calibrated else (PIXEL, 1.0)
    lines = tuple(_line(series, width) for width in (cardiac, thoracic))
    diameters = (
        Measurement(CARDIAC_DIAMETER, cardiac.pixels * length, unit, lines[:1]),
        Measurement(THORACIC_DIAMETER, thoracic.pixels * length, unit, lines[1:]),
    )
    return diameters, Measurement(CARDIOTHORACIC_RATIO, cardiac.pixels / thoracic.pixels, RATIO, lines)


def _line(series: Series, width: Width) -> Line:
    return Line(series.uid, (0.0, width.row, width.left), (0.0, width.row, width.right), series.source[0])
