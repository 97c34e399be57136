"""What a report of measurements says of the things that it follows over time: Tracking Unique Identifiers and places.

Any maker's structured report built on TID 1500 (PS3.16) is read: each Measurement Group (TID 1410, 1411, 1501) with a
Tracking Unique Identifier, its Finding, the laterality of its Finding Site, and where its image coordinates lie.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import RE_VALID_UID

from dicom_io.read import text
from dicom_io.study import Series, Tracked

GROUP = ("DCM", "125007")  # Measurement Group
TRACKING_UID = ("DCM", "112040")  # Tracking Unique Identifier
FINDING = ("DCM", "121071")
FINDING_SITE = {("SCT", "363698007"), ("SRT", "G-C0E3")}
LATERALITY = {("SCT", "272741003"), ("SRT", "G-C171")}
SIDES = {  # CID 244
    ("SCT", "7771000"): "left",
    ("SCT", "24028007"): "right",
    ("SCT", "51440002"): "bilateral",
    ("SRT", "G-A101"): "left",
    ("SRT", "G-A100"): "right",
    ("SRT", "G-A102"): "bilateral",
}
DEEPEST = 20  # levels of a content tree that are followed
LONGEST_UID = 64


@dataclass(frozen=True, slots=True)
class Mark:
    """One measurement group of a report, before the images are at hand that it points into.

    points: (SOP Instance UID, row, column), index positions on an image.
    points_mm: (frame of reference UID, x, y, z), LPS.
    """

    uid: str
    concept: tuple[str, str]  # code value and scheme; ("", "") where the group names no finding
    side: str | None = None
    points: tuple[tuple[str, float, float], ...] = ()
    points_mm: tuple[tuple[str, float, float, float], ...] = ()


def marks_of(dataset: Dataset) -> tuple[Mark, ...]:
    """The marks of a structured report, one for each tracking UID; none for any other object, or a damaged one."""
    try:
        groups = [_mark(each) for each in _under(dataset) if _name(each) == GROUP]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return ()
    merged: dict[str, Mark] = {}
    for mark in filter(None, groups):
        known = merged.get(mark.uid)
        merged[mark.uid] = mark if known is None else _together(known, mark)
    return tuple(merged.values())


def marks_to_json(marks: Sequence[Mark]) -> str:
    """Marks as JSON; `marks_from_json` reads them again."""
    return json.dumps([asdict(each) for each in marks], sort_keys=True)


def marks_from_json(body: str) -> tuple[Mark, ...]:
    """Marks from JSON that `marks_to_json` wrote."""
    return tuple(
        Mark(
            each["uid"],
            (each["concept"][0], each["concept"][1]),
            each["side"],
            tuple((uid, row, column) for uid, row, column in each["points"]),
            tuple((frame, x, y, z) for frame, x, y, z in each["points_mm"]),
        )
        for each in json.loads(body)
    )


def placed(mark: Mark, series: Iterable[Series]) -> Tracked:
    """The mark as a Tracked thing, with its index box in the first of these series that its coordinates lie in."""
    for each in series:
        last = np.array(each.volume.shape) - 1
        nearest = np.array([np.rint(point) for point in _indices(mark, each)]).reshape(-1, 3)
        inside = nearest[((nearest >= -1) & (nearest <= last + 1)).all(axis=1)].clip(0, last).astype(int)
        if len(inside):
            (a, b, c), (d, e, f) = inside.min(axis=0).tolist(), (inside.max(axis=0) + 1).tolist()
            return Tracked(mark.uid, mark.concept, mark.side, each.uid, ((a, b, c), (d, e, f)))
    return Tracked(mark.uid, mark.concept, mark.side)


def _indices(mark: Mark, series: Series) -> Iterator[Sequence[float]]:
    """The mark's points in a series' index space; those on an image that several slices come from are left out."""
    for uid, row, column in mark.points:
        if series.source.count(uid) == 1:
            yield series.source.index(uid), row, column
    frame = series.volume.geometry.frame_of_reference_uid
    for uid, *point_mm in mark.points_mm:
        if uid == frame and not series.modality.is_projection:
            yield series.volume.geometry.to_index([point_mm])[0].tolist()


def _mark(group: Dataset) -> Mark | None:
    uid, concept, side = "", ("", ""), None
    points: list[tuple[str, float, float]] = []
    points_mm: list[tuple[str, float, float, float]] = []
    for item in group.get("ContentSequence") or []:
        name = _name(item)
        if name == TRACKING_UID:
            uid = text(item, "UID")
        elif name == FINDING and not concept[0]:
            code = _code(item, "ConceptCodeSequence")
            concept = (code[1], code[0])
        elif name in FINDING_SITE:
            values = [_code(each, "ConceptCodeSequence") for each in _under(item) if _name(each) in LATERALITY]
            side = next((SIDES[value] for value in values if value in SIDES), side)
    for item in _under(group):
        kind = text(item, "ValueType")
        if kind not in ("SCOORD", "SCOORD3D"):
            continue
        numbers = [float(each) for each in np.atleast_1d(item.get("GraphicData") or [])]
        if not all(map(math.isfinite, numbers)):
            continue
        if kind == "SCOORD3D":
            frame = text(item, "ReferencedFrameOfReferenceUID")
            points_mm += [(frame, *numbers[at : at + 3]) for at in range(0, len(numbers) - 2, 3)]  # type: ignore[misc]
        elif image := next(filter(None, map(_image, _under(item))), ""):
            pairs = zip(numbers[0::2], numbers[1::2], strict=False)
            # a pixel's centre lies half a pixel from its corner, where these coordinates begin (PS3.3 C.18.6.1.1)
            points += [(image, row - 0.5, column - 0.5) for column, row in pairs]
    if not re.fullmatch(RE_VALID_UID, uid) or len(uid) > LONGEST_UID:
        return None
    return Mark(uid, concept, side, tuple(points), tuple(points_mm))


def _together(one: Mark, other: Mark) -> Mark:
    """Two groups of one tracking UID, such as a region and the lengths measured in it."""
    concept = one.concept if one.concept[0] else other.concept
    return Mark(one.uid, concept, one.side or other.side, one.points + other.points, one.points_mm + other.points_mm)


def _under(item: Dataset, depth: int = 0) -> Iterator[Dataset]:
    """Every content item below one, without measurement groups within a group."""
    for child in item.get("ContentSequence") or []:
        yield child
        if depth < DEEPEST and (depth == 0 or _name(child) != GROUP):
            yield from _under(child, depth + 1)


def _name(item: Dataset) -> tuple[str, str]:
    return _code(item, "ConceptNameCodeSequence")


def _code(item: Dataset, sequence: str) -> tuple[str, str]:
    """Scheme and value; empty where there is none."""
    codes = item.get(sequence) or []
    return (text(codes[0], "CodingSchemeDesignator"), text(codes[0], "CodeValue")) if codes else ("", "")


def _image(item: Dataset) -> str:
    """The SOP Instance UID of the image that an item refers to; "" when it is no reference to an image."""
    references = item.get("ReferencedSOPSequence") or []
    return text(references[0], "ReferencedSOPInstanceUID") if references and text(item, "ValueType") == "IMAGE" else ""
