"""The report as a DICOM structured report: TID 1500 in a Comprehensive 3D SR (PS3.16).

Partial and unverified while it is a draft; complete and verified, with the observer who signed, afterwards (C.17.2).
One measurement group per finding: TID 1411 or 1410 where it has a place, TID 1501 where it has none. The sentences are
the text answers of the root's qualitative evaluations (TID 1500, row 12), each under its section's LOINC code.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import highdicom.sr as sr
import numpy as np
from pydicom import Dataset
from pydicom.sr.codedict import codes as dicom_codes
from pydicom.uid import Comprehensive3DSRStorage
from pydicom.valuerep import DT

from app.results.coded import (
    ANSWERS,
    CHANGE_SINCE_PRIOR,
    CHANGES,
    EDITED,
    GROUNDING,
    MODALITIES,
    PRESENCE,
    SECTION_CODES,
    SEEN,
    SIDES,
    UNSUPPORTED,
    concept,
    instance_uid,
    series_description,
    series_number,
    series_uid,
    software_version,
    stable_uid,
    tracked,
    tracking_id_of,
    tracking_uid_of,
)
from app.results.errors import ResultRefused
from app.results.outlines import outlines
from app.results.record import Record
from app.results.report_seg import Segmentation, group
from app.results.sr_measurements import coordinates, measured, probability, rated
from app.results.words import PRODUCT, doubts_of, growth_of
from expert_models.finding import Change, Code, Comparison, Finding, Measurement, Presence, Region
from medmllm.report import Report, Sentence
from medmllm.verify import rests_on_places

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
Group = (
    sr.PlanarROIMeasurementsAndQualitativeEvaluations
    | sr.VolumetricROIMeasurementsAndQualitativeEvaluations
    | sr.MeasurementsAndQualitativeEvaluations
)


def structured_report(record: Record, segmentations: Sequence[Segmentation] = ()) -> bytes:
    """The SR object as DICOM file bytes, in the original study and a series of its own.

    segmentations: the SEG objects that were written for this record, for the groups to refer to.
    Raises ResultRefused when not one of the original images is at hand.
    """
    images = [record.sources[uid] for series in record.study.series for uid in series.source if uid in record.sources]
    if not images:
        raise ResultRefused("none of the original images is at hand to refer to")
    report, signature = record.report, record.report.signature
    document = sr.Comprehensive3DSR(
        evidence=[*{each.SOPInstanceUID: each for each in images}.values(), *(each.dataset for each in segmentations)],
        content=content_of(record, images, segmentations),
        series_instance_uid=series_uid("sr", report),
        series_number=series_number("sr", report),
        sop_instance_uid=instance_uid("sr", report),
        instance_number=1,
        manufacturer=PRODUCT,
        is_complete=signature is not None,
        is_final=signature is not None,
        is_verified=signature is not None,
        verifying_observer_name=None if signature is None else person_name(signature.name),
        verifying_organization=None if signature is None else one_value(signature.organization)[:64],
        previous_versions=[reference(each) for each in record.earlier[-1:]] or None,
        manufacturer_model_name=PRODUCT,
        software_versions=software_version(),
        series_description=series_description("report", report),
        specific_character_set="ISO_IR 192",
    )
    if signature is not None:  # highdicom takes the present for the time of the signature
        document.VerifyingObserverSequence[0].VerificationDateTime = DT(signature.signed_at)
    buffer = BytesIO()
    document.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def person_name(full_name: str) -> str:
    """A full name as VR PN: whole in its first component, for nothing says which of its words is the family's."""
    return one_value(full_name).translate({ord("^"): " ", ord("="): " "})[:63] + "^"


def one_value(text: str) -> str:
    """Text without what one value of a DICOM string cannot hold: backslashes and control characters (PS3.5 6.2)."""
    return "".join(each if each.isprintable() and each != "\\" else " " for each in text)


def reference(report: Report) -> Dataset:
    """What an SR says of the one it was made from (Predecessor Documents Sequence, C.17.2)."""
    earlier = Dataset()
    earlier.SOPClassUID = Comprehensive3DSRStorage
    earlier.SOPInstanceUID = instance_uid("sr", report)
    earlier.StudyInstanceUID, earlier.SeriesInstanceUID = report.study_uid, series_uid("sr", report)
    return earlier


def content_of(record: Record, images: Sequence[Dataset], segmentations: Sequence[Segmentation]) -> Dataset:
    """The root container of TID 1500."""
    groups: list[Group] = []
    for finding in record.report.findings:
        groups.append(finding_group(record, finding, segmentations))
        if lines := [each for each in finding.measurements if coordinates(record, each)]:
            groups.append(line_group(record, finding, lines))
    groups += [resolved_group(each) for each in record.report.comparisons if each.change is Change.RESOLVED]
    # highdicom insists on a group; a report without findings gets one here that is taken out again below
    placeholder = sr.MeasurementsAndQualitativeEvaluations(sr.TrackingIdentifier(stable_uid("none"), "none"))
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=device()),
        procedure_reported=procedures(images[0]),
        imaging_measurements=groups or [placeholder],
        title=dicom_codes.DCM.ImagingMeasurementReport,
        language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(
            sr.CodedConcept("en", "RFC5646", "English")
        ),
    )
    root: Dataset = report[0]
    measured_groups = root.ContentSequence.pop()
    root.ContentSequence.extend([image_library(record), *([measured_groups] if groups else []), narrative(record)])
    return root


def device() -> sr.ObserverContext:
    """The observer: this software, never a person."""
    return sr.ObserverContext(
        observer_type=dicom_codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=stable_uid("device", software_version()),
            name=PRODUCT,
            manufacturer_name=PRODUCT,
            model_name=f"{PRODUCT} {software_version()}",
        ),
    )


def image_library(record: Record) -> sr.ContainerContentItem:
    """TID 1600, one group per series with its modality; by hand, for radiographs often lack what highdicom wants."""
    library = container(dicom_codes.DCM.ImageLibrary)
    for series in record.study.series:
        entries = container(dicom_codes.DCM.ImageLibraryGroup)
        entries.ContentSequence.append(
            sr.CodeContentItem(
                name=dicom_codes.DCM.Modality,
                value=concept(MODALITIES[series.modality]),
                relationship_type=sr.RelationshipTypeValues.HAS_ACQ_CONTEXT,
            )
        )
        for uid in dict.fromkeys(each for each in series.source if each in record.sources):
            entries.ContentSequence.append(
                sr.ImageContentItem(
                    name=sr.CodedConcept("260753009", "SCT", "Source"),
                    referenced_sop_class_uid=record.sources[uid].SOPClassUID,
                    referenced_sop_instance_uid=uid,
                    relationship_type=sr.RelationshipTypeValues.CONTAINS,
                )
            )
        library.ContentSequence.append(entries)
    return library


def container(name: sr.CodedConcept) -> sr.ContainerContentItem:
    """An empty container contained in its parent."""
    item = sr.ContainerContentItem(name=name, relationship_type=sr.RelationshipTypeValues.CONTAINS)
    item.ContentSequence = sr.ContentSequence()
    return item


def procedures(image: Dataset) -> list[sr.CodedConcept]:
    """The procedure as the image codes it; simply an imaging procedure where it does not."""
    coded = [
        sr.CodedConcept(item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning)
        for item in image.get("ProcedureCodeSequence") or ()
        if item.get("CodeValue") and item.get("CodingSchemeDesignator") and item.get("CodeMeaning")
    ]
    return coded or [sr.CodedConcept("363679005", "SCT", "Imaging procedure")]


def narrative(record: Record) -> sr.ContainerContentItem:
    """The sentences, in order; marked are those that failed a check or rest on nothing, a person's, and a model's."""
    said = container(sr.CodedConcept("C0034375", "UMLS", "Qualitative Evaluations"))
    for sentence in record.report.sentences:
        item = text(concept(SECTION_CODES[sentence.section]), sentence.text)
        if mark := grounding_of(sentence):
            item.ContentSequence = sr.ContentSequence(
                [
                    sr.CodeContentItem(
                        name=concept(GROUNDING),
                        value=concept(mark),
                        relationship_type=sr.RelationshipTypeValues.HAS_CONCEPT_MOD,
                    )
                ]
            )
        said.ContentSequence.append(item)
    return said


def grounding_of(sentence: Sentence) -> Code | None:
    """What a reader has to know of where a sentence comes from; None for one that rests on what experts found."""
    if sentence.is_edited:
        return EDITED
    if doubts_of(sentence):
        return UNSUPPORTED
    return SEEN if rests_on_places(sentence) else None


def finding_group(record: Record, finding: Finding, segmentations: Sequence[Segmentation]) -> Group:
    """One finding: what it is, where it is, whether it is there, how sure, how large, who says so."""
    comparison = record.comparison_of(finding)
    evaluations = [sr.QualitativeEvaluation(concept(PRESENCE), concept(ANSWERS[finding.presence]))]
    evaluations += [rated(each) for each in finding.attributes]
    if comparison is not None:
        evaluations.append(changed(comparison))
    site = finding.site or finding.concept
    side = None if finding.side is None else concept(SIDES[finding.side])
    numbers = [measured(each) for each in finding.measurements if not coordinates(record, each)]
    if comparison is not None and comparison.doubling_time is not None:
        numbers.append(measured(comparison.doubling_time))
    shared: dict[str, Any] = {
        "tracking_identifier": sr.TrackingIdentifier(tracking_uid_of(record, finding), tracking_id_of(finding)),
        "finding_type": concept(finding.concept),
        "algorithm_id": algorithm(finding),
        "finding_sites": [sr.FindingSite(concept(site), side)] if finding.site or side else None,
        "measurements": [*numbers, *probability(finding)] or None,
        "qualitative_evaluations": evaluations,
    }
    written = placed(record, finding, segmentations, shared)
    comments = [finding.reason] if finding.reason else []
    if comparison is not None and comparison.growth is not None:
        comments.append(f"{growth_of(comparison)} since the prior study")
    written[0].ContentSequence.extend(text(dicom_codes.DCM.Comment, each) for each in comments)
    return written


def placed(record: Record, finding: Finding, segmentations: Sequence[Segmentation], shared: dict[str, Any]) -> Group:
    """The group in the template that fits the finding's place: a segment, a region of an image, or none."""
    for each in segmentations:
        if (number := each.numbers.get(finding.id)) is not None:
            return segmented(record, each, number, shared)
    regions = [each for each in finding.regions if each.instance_uid in record.sources]
    if len(regions) == 1:
        return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            referenced_region=image_region(record, regions[0]), **shared
        )
    if regions:
        return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_regions=[image_region(record, each) for each in regions], **shared
        )
    return sr.MeasurementsAndQualitativeEvaluations(**shared)


def segmented(record: Record, segmentation: Segmentation, number: int, shared: dict[str, Any]) -> Group:
    """TID 1410 with the one frame of a radiograph's segment, TID 1411 with the whole segment of a volume."""
    series = record.study.series_of(segmentation.series_uid)
    uid = segmentation.dataset.SOPInstanceUID
    if not series.modality.is_projection:
        return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=sr.ReferencedSegment(
                SEGMENTATION_STORAGE,
                uid,
                number,
                source_series=sr.SourceSeriesForSegmentation(record.series_instance_uid(series)),
            ),
            **shared,
        )
    together = segmentation.dataset.SharedFunctionalGroupsSequence[0]
    frames = segmentation.dataset.PerFrameFunctionalGroupsSequence
    numbers = [group("SegmentIdentificationSequence", each, together).ReferencedSegmentNumber for each in frames]
    frame = sr.ReferencedSegmentationFrame(
        SEGMENTATION_STORAGE,
        uid,
        numbers.index(number) + 1,
        number,
        sr.SourceImageForSegmentation(record.sources[series.source[0]].SOPClassUID, series.source[0]),
    )
    for item in frame:  # a reference names frames or segments, never both (PS3.3 table 10-3)
        if "ReferencedSegmentNumber" in item.ReferencedSOPSequence[0]:
            del item.ReferencedSOPSequence[0].ReferencedSegmentNumber
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(referenced_segment=frame, **shared)


def image_region(record: Record, region: Region) -> sr.ImageRegion:
    """The region on the image that shows it best: the longest outline of its mask there, or its box."""
    (_, top, left), (_, bottom, right) = region.box.start, region.box.stop
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    found = record.series(region.series_uid)
    if region.mask_key is not None and found is not None and region.instance_uid in found[1].source:
        try:
            mask = record.masks.load(region.mask_key)
        except KeyError as exc:
            raise ResultRefused("a region's mask is no longer kept") from exc
        inside = found[1].source.index(region.instance_uid) - region.box.start[0]
        if 0 <= inside < len(mask) and mask[inside].any():
            longest = max(outlines(mask[inside]), key=len)
            corners = [(round(x) + left, round(y) + top) for x, y in longest]
    return sr.ImageRegion(
        graphic_type=sr.GraphicTypeValues.POLYLINE,
        graphic_data=np.array([*corners, corners[0]], dtype=np.float64),
        source_image=sr.SourceImageForRegion(record.sources[region.instance_uid].SOPClassUID, region.instance_uid),
    )


def line_group(record: Record, finding: Finding, lines: Sequence[Measurement]) -> Group:
    """The measurements that were read from lines, under the finding's Tracking UID.

    A group of their own: a measurement in a region's group (TID 1419) cannot hold the coordinates of its lines.
    """
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(tracking_uid_of(record, finding), tracking_id_of(finding)),
        finding_type=concept(finding.concept),
        algorithm_id=algorithm(finding),
        measurements=[measured(each, coordinates(record, each)) for each in lines],
    )


def changed(comparison: Comparison) -> sr.QualitativeEvaluation:
    """What became of a finding since the prior."""
    return sr.QualitativeEvaluation(concept(CHANGE_SINCE_PRIOR), concept(CHANGES[comparison.change]))


def resolved_group(comparison: Comparison) -> Group:
    """A finding of the prior that is no longer there."""
    prior = comparison.prior_finding
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(tracked(comparison), f"{PRODUCT} {comparison.id}: resolved"),
        finding_type=None if prior is None else concept(prior.concept),
        qualitative_evaluations=[
            sr.QualitativeEvaluation(concept(PRESENCE), concept(ANSWERS[Presence.ABSENT])),
            changed(comparison),
        ],
    )


def algorithm(finding: Finding) -> sr.AlgorithmIdentification:
    """Who says so (TID 4019)."""
    expert = finding.expert
    weights = [f"weights sha256 {expert.weights_sha256}"] if expert.weights_sha256 else None
    return sr.AlgorithmIdentification(name=expert.name, version=expert.version, parameters=weights)


def text(name: sr.CodedConcept, value: str) -> sr.TextContentItem:
    """A text item contained in its parent."""
    return sr.TextContentItem(name=name, value=value, relationship_type=sr.RelationshipTypeValues.CONTAINS)
