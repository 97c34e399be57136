"""The findings' masks as DICOM Segmentations (PS3.3 A.51): written, read back, compared before they are offered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import highdicom as hd
import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes as dicom_codes

from app.results.coded import (
    SERIES_NUMBERS,
    SIDES,
    concept,
    findings_key,
    software_version,
    stable_uid,
    tracking_id_of,
    tracking_uid_of,
)
from app.results.errors import ResultRefused
from app.results.record import Record
from app.results.words import PRODUCT, title_of
from dicom_io.study import Series
from expert_models.codes import ANATOMY
from expert_models.finding import Finding

BoolVolume = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Segment:
    """One finding's mask within its series: a box of index space and the voxels marked in it."""

    number: int
    finding: Finding
    start: tuple[int, int, int]
    voxels: BoolVolume

    @property
    def centroid_index(self) -> npt.NDArray[np.float64]:
        """Mean (slice, row, column) of the marked voxels."""
        return np.asarray(np.argwhere(self.voxels).mean(axis=0) + self.start, dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """One written SEG object. dataset: its header, for references; numbers: finding id -> segment number."""

    name: str
    body: bytes
    series_uid: str
    dataset: Dataset
    numbers: dict[str, int]


def segmentations(record: Record) -> Iterator[Segmentation]:
    """One SEG per series that has masks, each in its own series of the original study; nothing without masks.

    It holds what the experts drew and stays the same object when a person edits or signs the text of the report.
    Raises ResultRefused when a mask or a source image is missing, or when what was written does not read back as the
    same voxels at the same place in the patient.
    """
    count = 0
    for series in record.study.series:
        segments = segments_of(record, series)
        if segments:
            count += 1
            yield segmentation(record, series, segments, f"report-seg-{count}.dcm", count)


def segments_of(record: Record, series: Series) -> list[Segment]:
    """The masks of every finding in this series; a finding's regions become one segment."""
    segments: list[Segment] = []
    for finding in record.report.findings:
        regions = [each for each in finding.regions if each.series_uid == series.uid and each.mask_key]
        if not regions:
            continue
        start = np.min([region.box.start for region in regions], axis=0)
        stop = np.max([region.box.stop for region in regions], axis=0)
        voxels = np.zeros(stop - start, dtype=np.bool_)
        for region in regions:
            place = tuple(slice(a, b) for a, b in zip(region.box.start - start, region.box.stop - start, strict=True))
            try:
                mask = record.masks.load(region.mask_key or "")
            except KeyError as exc:
                raise ResultRefused(f"the mask of finding {finding.id} is no longer kept") from exc
            if mask.shape != region.box.shape:
                raise ResultRefused(f"the mask of finding {finding.id} does not fit its box")
            voxels[place] |= mask
        if voxels.any():
            segments.append(Segment(len(segments) + 1, finding, tuple(start.tolist()), voxels))
    return segments


def segmentation(record: Record, series: Series, segments: list[Segment], name: str, count: int) -> Segmentation:
    """One SEG object, checked against the masks that it was made from."""
    written = write(record, series, segments, count)
    buffer = BytesIO()
    written.save_as(buffer, enforce_file_format=True)
    body = buffer.getvalue()
    read = dcmread(BytesIO(body))
    compare(read, series, segments)
    del read.PixelData
    return Segmentation(name, body, series.uid, read, {each.finding.id: each.number for each in segments})


def write(record: Record, series: Series, segments: list[Segment], count: int) -> hd.seg.Segmentation:
    """The SEG object in memory, over those slices alone that hold a segment."""
    first = min(each.start[0] for each in segments)
    last = max(each.start[0] + each.voxels.shape[0] for each in segments)
    pixels = np.zeros((last - first, *series.volume.shape[1:], len(segments)), dtype=np.uint8)
    for position, segment in enumerate(segments):
        slices, rows, columns = (slice(a, a + n) for a, n in zip(segment.start, segment.voxels.shape, strict=True))
        pixels[slices.start - first : slices.stop - first, rows, columns, position] = segment.voxels
    version = software_version()
    images = source_images(record, series, first, last)
    written = hd.seg.Segmentation(
        source_images=images,
        pixel_array=pixels,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[described(record, each) for each in segments],
        series_instance_uid=stable_uid("series", "seg", record.study.uid, series.uid),
        series_number=SERIES_NUMBERS["seg"] + count,
        sop_instance_uid=stable_uid("instance", "seg", record.study.uid, series.uid, findings_key(record.report)),
        instance_number=1,
        manufacturer=PRODUCT,
        manufacturer_model_name=PRODUCT,
        software_versions=version,
        device_serial_number=f"wetread-{version}",
        content_label="AUTOMATIC",
        content_description="Automatic segmentation, not verified by a physician",
        series_description="Wetread automatic segmentation",
        specific_character_set="ISO_IR 192",
    )
    if series.modality.is_projection:  # without a plane in the patient, this alone says which way is up
        written.PatientOrientation = getattr(images[0], "PatientOrientation", None)
    return written


def source_images(record: Record, series: Series, first: int, last: int) -> list[Dataset]:
    """The headers of slices [first, last)."""
    uids = series.source[first:last]
    if len(set(series.source)) < len(series.source):
        raise ResultRefused("segmentations are written for single-frame images only, and this series has many frames")
    if missing := sum(uid not in record.sources for uid in uids):
        raise ResultRefused(f"{missing} of the {len(uids)} original images that the masks lie on are missing")
    return [record.sources[uid] for uid in uids]


def described(record: Record, segment: Segment) -> hd.seg.SegmentDescription:
    """What a segment is, who drew it, and how it is tracked."""
    finding = segment.finding
    is_organ = finding.concept in ANATOMY
    site = None if is_organ or finding.site is None else [concept(finding.site)]
    description = hd.seg.SegmentDescription(
        segment_number=segment.number,
        segment_label=title_of(finding)[:64],
        segmented_property_category=(
            dicom_codes.SCT.AnatomicalStructure if is_organ else dicom_codes.SCT.MorphologicallyAbnormalStructure
        ),
        segmented_property_type=concept(finding.concept),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=finding.expert.name,
            family=dicom_codes.DCM.ArtificialIntelligence,
            version=finding.expert.version,
            source=PRODUCT,
            parameters={"weights sha256": finding.expert.weights_sha256} if finding.expert.weights_sha256 else None,
        ),
        tracking_uid=tracking_uid_of(record, finding),
        tracking_id=tracking_id_of(finding),
        anatomic_regions=site,
    )
    if finding.side is not None:
        side = concept(SIDES[finding.side])
        if is_organ:
            description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [side]
        elif site:
            description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [side]
    return description


def compare(read: Dataset, series: Series, segments: list[Segment]) -> None:
    """Refuse what does not read back as every marked voxel, at the same place: within one voxel of the centroid.

    Reads frames and positions with pydicom alone, so that a fault of the writer is not repeated by its reader.
    """
    frames = read.pixel_array
    if frames.ndim == 2:
        frames = frames[None]
    shared = read.SharedFunctionalGroupsSequence[0]
    for segment in segments:
        counts, sums = 0, np.zeros(3)
        for frame, groups in zip(frames, read.PerFrameFunctionalGroupsSequence, strict=True):
            identity = group("SegmentIdentificationSequence", groups, shared)
            if identity.ReferencedSegmentNumber == segment.number:
                marked = np.argwhere(frame)
                counts += len(marked)
                sums += places(marked, groups, shared, series).sum(axis=0)
        whole = int(segment.voxels.sum())
        if counts != whole:
            raise ResultRefused(f"the segment of finding {segment.finding.id} read back {counts} of {whole} voxels")
        if np.abs(sums / counts - segment.centroid_index).max() > 1.0:
            raise ResultRefused(f"the segment of finding {segment.finding.id} read back at another place")


def group(name: str, groups: Dataset, shared: Dataset) -> Dataset:
    """A functional group of one frame, which is stored with the frame or, when it is the same for all, once."""
    item: Dataset = (groups if name in groups else shared)[name].value[0]
    return item


def places(marked: npt.NDArray[np.int64], groups: Dataset, shared: Dataset, series: Series) -> npt.NDArray[np.float64]:
    """(N, 2) marked (row, column) of one frame -> (N, 3) index positions in the series, by way of the patient."""
    if series.modality.is_projection:
        derivation = group("DerivationImageSequence", groups, shared)
        source = derivation.SourceImageSequence[0].ReferencedSOPInstanceUID
        return np.column_stack([np.full(len(marked), series.source.index(source)), marked])
    row_mm, column_mm = (float(each) for each in group("PixelMeasuresSequence", groups, shared).PixelSpacing)
    across, down = np.reshape(
        [float(each) for each in group("PlaneOrientationSequence", groups, shared).ImageOrientationPatient], (2, 3)
    )
    origin_mm = [float(each) for each in group("PlanePositionSequence", groups, shared).ImagePositionPatient]
    point_mm = origin_mm + marked[:, 1:] * column_mm * across + marked[:, :1] * row_mm * down
    return series.volume.geometry.to_index(point_mm)
