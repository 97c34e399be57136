"""The instances of one study -> Study: volumes of CT, radiographs, request, report, and all that was left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydicom.dataset import Dataset

from dicom_io.errors import NoStudy, UnsupportedImage
from dicom_io.identity import patient_key
from dicom_io.narrative import acquired_on, age_of, is_narrative, rank, report_text, request_of
from dicom_io.pixels import hounsfield, is_for_processing, padding_of, radiograph, stored_frames
from dicom_io.read import quiet, text
from dicom_io.screen import is_report, modality_of, refusal
from dicom_io.stack import Slice, Stack, gap, geometry_of, longest_even_run, slices_of, stacks_of
from dicom_io.study import Geometry, LeftOut, Modality, Series, Study, Volume

# CID 4010 "DX View" (PS3.16) -> the defined terms of ViewPosition (PS3.3 C.8.11.5): SNOMED CT, and before it SNOMED RT.
OLD_VIEWS = {"R-10214": "PA", "R-40888": "PA", "R-10206": "AP", "R-10236": "LL", "R-10232": "RL"}
VIEWS = {
    ("SCT", "272479007"): "PA",
    ("SCT", "399348003"): "AP",
    ("SCT", "399173006"): "LL",
    ("SCT", "399198007"): "RL",
    ("SCT", "399356000"): "RAO",
    ("SCT", "399135007"): "LAO",
    ("SCT", "399038007"): "RPO",
    ("SCT", "399006002"): "LPO",
    ("SCT", "399067008"): "LATERAL",
    **{(scheme, code): view for scheme in ("SRT", "SNM3") for code, view in OLD_VIEWS.items()},
}
FRONTAL = frozenset(["PA", "AP"])
# What an impossible value in a header makes pydicom, or the reading of it, raise.
HEADER_FAULTS = (AttributeError, ValueError, TypeError, IndexError, KeyError)


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """One DICOM instance with the name to call it by when it is left out."""

    name: str
    dataset: Dataset


def assemble(instances: Sequence[Instance], secret: bytes, left_out: Iterable[LeftOut] = ()) -> Study:
    """The study that these instances make up. All must have one Study Instance UID; there are no priors yet.

    secret: the site's, for the patient key. left_out: what the caller left out already.
    Raises NoStudy, with everything that was left out, when there is no usable image; ValueError for several studies.
    """
    with quiet():
        return _assemble(instances, secret, list(left_out))


def label(dataset: Dataset) -> str:
    """What to call an instance whose file name is not known: "image 12 of series 3"."""
    number, series = text(dataset, "InstanceNumber"), text(dataset, "SeriesNumber")
    kind = "report" if is_report(dataset) else "image"
    return f"{kind} {number or 'without a number'}" + (f" of series {series}" if series else "")


def view_of(dataset: Dataset) -> str | None:
    """ViewPosition (0018,5101), or what ViewCodeSequence (0054,0220) says; None when neither does."""
    stated = text(dataset, "ViewPosition").upper()
    if stated:
        return stated
    items = dataset.get("ViewCodeSequence") or []
    codes = [(text(item, "CodingSchemeDesignator").upper(), text(item, "CodeValue")) for item in items]
    return next((VIEWS[code] for code in codes if code in VIEWS), None)


def radiograph_geometry(dataset: Dataset) -> Geometry:
    """Pixel spacing of a radiograph (PS3.3 10.7.1): an affine of spacings alone, its slice axis 1 mm.

    PixelSpacing when it differs from ImagerPixelSpacing, for then it was corrected for magnification or calibrated;
    else ImagerPixelSpacing, the spacing at the detector, divided by EstimatedRadiographicMagnificationFactor where
    that is stated. Without any: 1 mm, not calibrated.
    """
    stated = {keyword: _pair(dataset, keyword) for keyword in ("PixelSpacing", "ImagerPixelSpacing")}
    spacing, imager = stated["PixelSpacing"], stated["ImagerPixelSpacing"]
    factor = dataset.get("EstimatedRadiographicMagnificationFactor")
    magnification = float(factor) if factor and 1.0 <= float(factor) < 4.0 else 1.0
    is_corrected = spacing is not None and imager is not None and not np.allclose(spacing, imager, rtol=1e-3)
    if spacing is not None and (imager is None or is_corrected):
        row_mm, column_mm = spacing
    elif imager is not None:
        row_mm, column_mm = imager[0] / magnification, imager[1] / magnification
    else:
        return Geometry(np.eye(4), is_calibrated=False)
    return Geometry(np.diag([1.0, row_mm, column_mm, 1.0]))


# ---------------------------------------------------------------------------------------------- choosing and grouping


def _assemble(instances: Sequence[Instance], secret: bytes, left_out: list[LeftOut]) -> Study:
    usable = _usable(instances, left_out)
    if len({text(each.dataset, "StudyInstanceUID") for each in usable}) > 1:
        raise ValueError("the instances are of several studies")
    series = []
    for group in _by_series([each for each in usable if not is_report(each.dataset)]):
        series += _series(group, left_out)
    report = _report([each for each in usable if is_report(each.dataset)], left_out)
    if not series:
        raise NoStudy("there is no CT, CR or DX image that can be used", left_out)
    images = _firsts([each.dataset for each in usable if not is_report(each.dataset)])
    dates = [date for date in map(acquired_on, images) if date is not None]
    return Study(
        uid=text(images[0], "StudyInstanceUID"),
        patient_key=patient_key(images[0], secret),
        acquired_on=min(dates, default=None),
        series=tuple(series),
        request=request_of(images),
        report=report,
        left_out=tuple(left_out),
    )


def _usable(instances: Sequence[Instance], left_out: list[LeftOut]) -> list[Instance]:
    usable: dict[str, Instance] = {}
    for each in instances:
        reason = refusal(each.dataset)
        uid = text(each.dataset, "SOPInstanceUID")
        if reason is None and is_report(each.dataset) and not is_narrative(each.dataset):
            reason = "it is a structured report of measurements or events, not a report's text"
        if reason is None and uid in usable:
            reason = "the same instance was sent more than once; the first is used"
        if reason is None:
            usable[uid] = each
        else:
            left_out.append(LeftOut(each.name, reason))
    return list(usable.values())


def _by_series(instances: Sequence[Instance]) -> list[list[Instance]]:
    """By series, in the order of SeriesNumber; within each by InstanceNumber."""
    groups: dict[str, list[Instance]] = {}
    for each in instances:
        groups.setdefault(text(each.dataset, "SeriesInstanceUID"), []).append(each)
    for group in groups.values():
        group.sort(key=lambda each: (_number(each.dataset, "InstanceNumber"), text(each.dataset, "SOPInstanceUID")))
    return [
        groups[uid] for uid in sorted(groups, key=lambda uid: (_number(groups[uid][0].dataset, "SeriesNumber"), uid))
    ]


def _series(group: Sequence[Instance], left_out: list[LeftOut]) -> list[Series]:
    """What one DICOM series gives. Several Series are told apart by the SOP Instance UIDs of their first images."""
    volumes = [each for each in group if modality_of(each.dataset) is Modality.CT]
    series = _ct(volumes, left_out) if volumes else []
    for each in group:
        if each not in volumes:
            try:
                series.append(_radiograph(each))
            except UnsupportedImage as exc:
                left_out.append(LeftOut(each.name, str(exc)))
            except HEADER_FAULTS:
                left_out.append(LeftOut(each.name, "a value in its header cannot be read"))
    if len(series) > 1:
        series = [replace(each, uid=each.source[0]) for each in series]
    return series


def _firsts(datasets: Sequence[Dataset]) -> list[Dataset]:
    """The first dataset of every series: what describes a study is the same in all the rest."""
    return list({text(each, "SeriesInstanceUID"): each for each in reversed(datasets)}.values())[::-1]


def _report(reports: Sequence[Instance], left_out: list[LeftOut]) -> str | None:
    ranked = sorted(reports, key=lambda each: rank(each.dataset), reverse=True)
    chosen: str | None = None
    for each in ranked:
        words = report_text(each.dataset) if chosen is None else ""
        if words:
            chosen = words
        elif chosen is None:
            left_out.append(LeftOut(each.name, "it is a structured report without any text"))
        else:
            left_out.append(LeftOut(each.name, "it is an older or less final report of the study; another is used"))
    return chosen


# ---------------------------------------------------------------------------------------------------------- radiographs


def _radiograph(each: Instance) -> Series:
    dataset = each.dataset
    view = view_of(dataset)
    across, down = [each[:1] for each in (*text(dataset, "PatientOrientation").upper().split("\\"), "")][:2]
    if (view is None or view in FRONTAL) and (across == "R" or down == "H"):
        raise UnsupportedImage("it is stored mirrored or upside down, so left and right cannot be told safely")
    if view in FRONTAL and (across not in ("", "L") or down not in ("", "F")):
        raise UnsupportedImage("it is a frontal view stored on its side")
    (stored,) = stored_frames(dataset)
    values = radiograph(stored, dataset)
    description = text(dataset, "SeriesDescription")
    return Series(
        uid=text(dataset, "SeriesInstanceUID"),
        modality=modality_of(dataset),
        volume=Volume(values[np.newaxis], radiograph_geometry(dataset)),
        source=(text(dataset, "SOPInstanceUID"),),
        view=view,
        description=f"{description} (for processing)".strip() if is_for_processing(dataset) else description,
        body_part=text(dataset, "BodyPartExamined"),
        age_years=age_of(dataset),
    )


# ------------------------------------------------------------------------------------------------------------------- CT


def _ct(group: Sequence[Instance], left_out: list[LeftOut]) -> list[Series]:
    slices: list[Slice] = []
    for each in group:
        try:
            slices += slices_of(each.name, each.dataset)
        except UnsupportedImage as exc:
            left_out.append(LeftOut(each.name, str(exc)))
    stacks, unplaced = stacks_of(slices) if slices else ([], [])
    series: list[Series] = []
    for stack in stacks:
        volume, used, lost = _volume(stack)
        unplaced += lost
        if volume is not None:
            series.append(_ct_series(volume, used))
    if not series:
        left_out += unplaced
        return []
    return [replace(series[0], left_out=tuple(unplaced)), *series[1:]]


def _ct_series(volume: Volume, used: Sequence[Slice]) -> Series:
    first = used[0].dataset
    description = text(first, "SeriesDescription")
    is_reformatted = bool({"MPR", "REFORMATTED", "RESAMPLED"} & set(text(first, "ImageType").upper().split("\\")))
    return Series(
        uid=text(first, "SeriesInstanceUID"),
        modality=Modality.CT,
        volume=volume,
        source=tuple(each.instance_uid for each in used),
        description=f"{description} (reformatted)".strip() if is_reformatted else description,
        body_part=text(first, "BodyPartExamined"),
        age_years=age_of(first),
    )


def _volume(stack: Stack) -> tuple[Volume | None, Sequence[Slice], list[LeftOut]]:
    """Decode a stack slice by slice into one array; what cannot be decoded leaves a gap, and the gap is respected."""
    slices = stack.slices
    voxels = np.empty((len(slices), *slices[0].shape), dtype=np.int16)
    failed: dict[int, LeftOut] = {}
    for members in _by_dataset(slices):
        dataset = slices[members[0]].dataset
        try:
            padding = padding_of(dataset)
            decoded = stored_frames(dataset, [slices[index].frame for index in members])
            for index, stored in zip(members, decoded, strict=True):
                hounsfield(stored, slices[index].slope, slices[index].intercept, padding, out=voxels[index])
        except UnsupportedImage as exc:
            failed |= {index: LeftOut(slices[index].name, str(exc)) for index in members}
        except HEADER_FAULTS:
            reason = "a value in its header cannot be read"
            failed |= {index: LeftOut(slices[index].name, reason) for index in members}
    if not failed:
        return Volume(voxels, stack.geometry), slices, []
    good = [index for index in range(len(slices)) if index not in failed]
    lost = list(failed.values())
    if not good:
        return None, (), lost
    start, stop = longest_even_run([slices[index] for index in good])
    lost += [gap(slices[index]) for index in (*good[:start], *good[stop:])]
    kept = good[start:stop]
    used = [slices[index] for index in kept]
    return Volume(voxels[kept], geometry_of(used)), used, lost


def _by_dataset(slices: Sequence[Slice]) -> list[list[int]]:
    """Indices of the slices, those of one multi-frame image together."""
    members: dict[int, list[int]] = {}
    for index, each in enumerate(slices):
        members.setdefault(id(each.dataset), []).append(index)
    return list(members.values())


def _pair(dataset: Dataset, keyword: str) -> tuple[float, float] | None:
    parts = text(dataset, keyword).split("\\")
    try:
        row_mm, column_mm = (float(part) for part in parts)
    except ValueError:
        return None
    return (row_mm, column_mm) if 0 < row_mm < 100 and 0 < column_mm < 100 else None


def _number(dataset: Dataset, keyword: str) -> int:
    try:
        return int(text(dataset, keyword))
    except ValueError:
        return 0
