"""CT slices -> evenly spaced stacks with their exact geometry (PS3.3 C.7.6.2.1.1).

A DICOM series is a bag of slices that may hold several acquisitions, orientations, repeats and gaps. Here it becomes
stacks: each of one orientation and grid, no two slices at one place, all steps equal, so that one affine is true for
every voxel. What does not fit is listed with its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_io.errors import UnsupportedImage
from dicom_io.read import text
from dicom_io.screen import MULTI_FRAME_CT, sop_class
from dicom_io.study import Geometry, LeftOut

Vector = npt.NDArray[np.float64]

SAME_PLACE_MM = 0.01
STEP_SHARE = 0.1  # a slice may lie this share of a step off the even grid ...
STEP_ROUNDING_MM = 0.15  # ... or this far, for positions written with one decimal ...
STEP_LIMIT = 0.4  # ... but never this share of a step, or a missing slice would pass

# Series in which places repeat are split by the first of these that leaves no repeats.
PHASES = (
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "NominalPercentageOfCardiacPhase",
    "TriggerTime",
    "KVP",
    "ContrastBolusAgent",
    "AcquisitionTime",
    "ContentTime",
)


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """One frame of one CT image. Directions are unit vectors in LPS; spacing_mm is between rows, between columns."""

    name: str
    dataset: Dataset
    frame: int  # counted from 0
    instance_uid: str
    number: int  # InstanceNumber, or the frame's number
    origin_mm: Vector  # centre of the first voxel
    along_row: Vector  # in which the column index grows
    along_column: Vector  # in which the row index grows
    spacing_mm: tuple[float, float]
    thickness_mm: float | None
    shape: tuple[int, int]
    slope: float
    intercept: float
    kind: tuple[str, ...]  # what else must agree within a stack: frame of reference, image type, kernel

    @property
    def normal(self) -> Vector:
        """Unit normal of the slice, toward the patient's left, back or head, whichever it is nearest to."""
        normal = np.cross(self.along_row, self.along_column)
        return normal if normal[np.argmax(np.abs(normal))] > 0 else -normal


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Evenly spaced slices, ascending along their normal (to the left, back or head), with their geometry."""

    slices: tuple[Slice, ...]
    geometry: Geometry


def slices_of(name: str, dataset: Dataset) -> list[Slice]:
    """The slices in one CT image: one, or every frame of an enhanced CT.

    Raises UnsupportedImage with the reason when the header does not say where they lie or that they are in HU.
    """
    try:
        if sop_class(dataset) not in MULTI_FRAME_CT:
            return [_slice(name, dataset, 0, int(dataset.get("InstanceNumber") or 0), [dataset])]
        shared = _first_item(dataset, "SharedFunctionalGroupsSequence")
        frames = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
        if len(frames) != int(dataset.get("NumberOfFrames") or 0):
            raise UnsupportedImage("it does not describe every one of its frames")
        return [
            _slice(f"frame {index + 1} of {name}", dataset, index, index + 1, _groups(frame, shared))
            for index, frame in enumerate(frames)
        ]
    except (TypeError, ValueError, KeyError, AttributeError, IndexError) as exc:
        raise UnsupportedImage("its position or its scale cannot be read") from exc


def stacks_of(slices: Sequence[Slice]) -> tuple[list[Stack], list[LeftOut]]:
    """The stacks in the slices of one DICOM series, the largest first, and every slice that is in none of them."""
    left_out: list[LeftOut] = []
    stacks = []
    for group in _alike(slices):
        for phase in _phases(_in_order(group)):
            unique = _without_repeats(phase, left_out)
            stacks.append(_longest_run(unique, left_out))
    stacks.sort(key=lambda stack: -len(stack.slices))
    kept = [stack for stack in stacks if len(stack.slices) > 2 or len(stack.slices) * 3 > len(stacks[0].slices)]
    for stack in stacks:
        if stack not in kept:
            reason = "it differs in orientation, size or kind from the rest of its series, and stands alone"
            left_out += [LeftOut(_placed(each), reason) for each in stack.slices]
    return kept, left_out


def longest_even_run(slices: Sequence[Slice]) -> tuple[int, int]:
    """Start and stop of the longest run of equally spaced slices, in slices already in order."""
    if len(slices) < 3:
        return 0, len(slices)
    origins = np.array([each.origin_mm for each in slices])
    best, start = (0, 1), 0
    while start < len(slices) - 1:
        stop = start + 2
        while stop < len(slices):
            step = (origins[stop - 1] - origins[start]) / (stop - 1 - start)
            expected = origins[start] + step * (stop - start)
            if np.linalg.norm(origins[stop] - expected) > _tolerance(step):
                break
            stop += 1
        if stop - start > best[1] - best[0]:
            best = start, stop
        start = stop - 1
    return best


def geometry_of(slices: Sequence[Slice]) -> Geometry:
    """The affine of an even stack: index (slice, row, column) -> LPS mm.

    The step between slices is taken from the first and last positions, so a tilted gantry gives the sheared affine
    that it is. A single slice steps by its thickness along its normal, and is uncalibrated when that is not stated.
    """
    first, last = slices[0], slices[-1]
    if len(slices) > 1:
        step = (last.origin_mm - first.origin_mm) / (len(slices) - 1)
    else:
        step = first.normal * (first.thickness_mm or 1.0)
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = first.along_column * first.spacing_mm[0]
    affine[:3, 2] = first.along_row * first.spacing_mm[1]
    affine[:3, 3] = first.origin_mm
    is_calibrated = len(slices) > 1 or first.thickness_mm is not None
    return Geometry(affine, first.kind[0] or None, is_calibrated)


# ------------------------------------------------------------------------------------------------------------- headers


def _slice(name: str, dataset: Dataset, frame: int, number: int, groups: Sequence[Dataset]) -> Slice:
    origin = _numbers(groups, "ImagePositionPatient", 3)
    orientation = _numbers(groups, "ImageOrientationPatient", 6)
    spacing = _numbers(groups, "PixelSpacing", 2)
    scale = [_number(groups, keyword) for keyword in ("RescaleSlope", "RescaleIntercept")]
    if origin is None or orientation is None:
        raise UnsupportedImage("it does not say where in the patient it lies")
    if spacing is None or min(spacing) <= 0:
        raise UnsupportedImage("it does not state its pixel spacing")
    along_row, along_column = orientation[:3], orientation[3:]
    lengths = np.linalg.norm([along_row, along_column], axis=1)
    if np.any(np.abs(lengths - 1) > 0.01) or abs(along_row @ along_column) > 0.01:
        raise UnsupportedImage("its orientation is not given by two perpendicular unit vectors")
    slope, intercept = scale
    if slope is None or intercept is None or slope == 0:
        raise UnsupportedImage("it does not state how its values become Hounsfield units")
    unit = _words(groups, "RescaleType").upper()
    if unit not in ("", "HU", "US"):
        raise UnsupportedImage("its values are not Hounsfield units")
    if unit == "US" and "ORIGINAL" not in text(dataset, "ImageType"):  # "unspecified": a map of something computed
        raise UnsupportedImage("its values are not Hounsfield units")
    image_type = (_words(groups, "FrameType") or text(dataset, "ImageType")).upper().split("\\")
    if sop_class(dataset) in MULTI_FRAME_CT and image_type[3:] and image_type[3] not in ("NONE", ""):
        raise UnsupportedImage("its values are not Hounsfield units")
    return Slice(
        name=name,
        dataset=dataset,
        frame=frame,
        instance_uid=text(dataset, "SOPInstanceUID"),
        number=number,
        origin_mm=origin,
        along_row=along_row,
        along_column=along_column,
        spacing_mm=(float(spacing[0]), float(spacing[1])),
        thickness_mm=_number(groups, "SliceThickness") or None,
        shape=(int(dataset.Rows), int(dataset.Columns)),
        slope=slope,
        intercept=intercept,
        kind=(text(dataset, "FrameOfReferenceUID"), *image_type[:3], _words(groups, "ConvolutionKernel")),
    )


def _groups(frame: Dataset, shared: Dataset | None) -> list[Dataset]:
    """Every functional group's content that holds for a frame, its own before the shared ones (PS3.3 C.7.6.16)."""
    return [
        item
        for source in (frame, shared)
        if source is not None
        for element in source
        if element.VR == "SQ"
        for item in element.value[:1]
    ]


def _first_item(dataset: Dataset, keyword: str) -> Dataset | None:
    items = dataset.get(keyword)
    return items[0] if items else None


def _find(groups: Sequence[Dataset], keyword: str) -> Any:
    return next((group[keyword].value for group in groups if keyword in group), None)


def _numbers(groups: Sequence[Dataset], keyword: str, count: int) -> Vector | None:
    value = _find(groups, keyword)
    if value is None or isinstance(value, str) or len(value) != count:
        return None
    numbers = np.array([float(part) for part in value])
    return numbers if np.all(np.isfinite(numbers)) else None


def _number(groups: Sequence[Dataset], keyword: str) -> float | None:
    value = _find(groups, keyword)
    number = None if value is None or value == "" else float(value)
    return number if number is not None and np.isfinite(number) else None


def _words(groups: Sequence[Dataset], keyword: str) -> str:
    return next((text(group, keyword) for group in groups if keyword in group), "")


# ------------------------------------------------------------------------------------------------- grouping and order


def _alike(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Slices with the same orientation, grid and kind, in the order in which each group first occurs."""
    groups: list[list[Slice]] = []
    for each in slices:
        home = next((group for group in groups if _is_alike(group[0], each)), None)
        if home is None:
            groups.append([each])
        else:
            home.append(each)
    return groups


def _is_alike(one: Slice, other: Slice) -> bool:
    return (
        one.shape == other.shape
        and one.kind == other.kind
        and max(abs(a - b) for a, b in zip(one.spacing_mm, other.spacing_mm, strict=True)) < 1e-4
        and float(np.abs(one.along_row - other.along_row).max()) < 1e-3
        and float(np.abs(one.along_column - other.along_column).max()) < 1e-3
    )


def _in_order(group: Sequence[Slice]) -> list[Slice]:
    normal = group[0].normal
    return sorted(group, key=lambda each: (round(float(each.origin_mm @ normal) / SAME_PLACE_MM), each.number))


def _repeats(ordered: Sequence[Slice]) -> Iterator[tuple[Slice, bool]]:
    """Each slice, and whether the one kept before it lies at the same place along the normal."""
    kept: Slice | None = None
    for each in ordered:
        is_repeat = kept is not None and abs(float((each.origin_mm - kept.origin_mm) @ each.normal)) <= SAME_PLACE_MM
        yield each, is_repeat
        kept = kept if is_repeat else each


def _phases(ordered: list[Slice]) -> list[list[Slice]]:
    """The slices split by what tells repeated places apart: acquisition, phase, energy; or as they are."""
    if not any(is_repeat for _, is_repeat in _repeats(ordered)):
        return [ordered]
    for keyword in PHASES:
        parts: dict[str, list[Slice]] = {}
        for each in ordered:
            parts.setdefault(text(each.dataset, keyword), []).append(each)
        is_clean = not any(is_repeat for part in parts.values() for _, is_repeat in _repeats(part))
        if 1 < len(parts) <= len(ordered) // 2 and is_clean:
            return list(parts.values())
    return [ordered]


def _without_repeats(ordered: Sequence[Slice], left_out: list[LeftOut]) -> list[Slice]:
    unique = []
    for each, is_repeat in _repeats(ordered):
        if is_repeat:
            left_out.append(
                LeftOut(_placed(each), "another slice of its series lies at the same place; the first is used")
            )
        else:
            unique.append(each)
    return unique


def _longest_run(ordered: Sequence[Slice], left_out: list[LeftOut]) -> Stack:
    start, stop = longest_even_run(ordered)
    left_out += [gap(each) for each in (*ordered[:start], *ordered[stop:])]
    return Stack(tuple(ordered[start:stop]), geometry_of(ordered[start:stop]))


def gap(each: Slice) -> LeftOut:
    """The entry for a slice that lies beyond a gap or a change of spacing."""
    return LeftOut(_placed(each), "it lies beyond a gap or a change of spacing; the longest evenly spaced part is used")


def _tolerance(step: Vector) -> float:
    length = float(np.linalg.norm(step))
    return min(max(STEP_SHARE * length, STEP_ROUNDING_MM), STEP_LIMIT * length)


def _placed(each: Slice) -> str:
    return f"{each.name}, at {float(each.origin_mm @ each.normal):.1f} mm"
