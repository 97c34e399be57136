"""Which thing a finding is: Tracking Unique Identifiers that one lesion keeps from report to report.

A finding of a prior has the identifier that the newest report on that prior gave it, and gives it to the finding that
is compared with it. So the first report's identifier lives on, over any number of priors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from dicom_io.study import Series, Study, Tracked
from expert_models.codes import ANATOMY
from expert_models.finding import Box, Comparison, Finding, Presence

NEAR_MM = 5.0  # a report's outline, or the line of a length, may lie so far off the middle of what we outline
ALIKE = 4.0  # and may be so many times larger or smaller along its longest side
OTHER_NAME_MM = 5.0  # counts like so much more distance: the report calls it by another code than we do


def tracking_uid(study_uid: str, finding: Finding) -> str:
    """The UID (2.25, a hash as UUID, PS3.5 B.2) of the thing that a finding of a study describes, always the same."""
    boxes = [(region.series_uid, region.box.start, region.box.stop) for region in finding.regions]
    text = f"{study_uid}|{finding.concept.scheme}|{finding.concept.value}|{finding.side}|{boxes}|{finding.expert.name}"
    return f"2.25.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], 'big')}"


def tracking_uid_in(study_uid: str, finding: Finding, comparisons: Iterable[Comparison]) -> str:
    """The finding's UID in a report: that of its comparison, or else its own."""
    compared = next((each for each in comparisons if each.finding_id == finding.id), None)
    return tracking_uid(study_uid, finding) if compared is None else compared.tracking_uid


def tracked_by(study_uid: str, findings: Sequence[Finding], comparisons: Sequence[Comparison]) -> tuple[Tracked, ...]:
    """What a report of ours on a study follows over time: every finding that is, or may be, there."""
    return tuple(
        Tracked(
            uid=tracking_uid_in(study_uid, each, comparisons),
            concept=(each.concept.value, each.concept.scheme),
            side=each.side.value if each.side else None,
            series_uid=each.regions[0].series_uid if each.regions else "",
            box_index=(each.regions[0].box.start, each.regions[0].box.stop) if each.regions else None,
        )
        for each in findings
        if each.presence is not Presence.NOT_ASSESSED
    )


def known_uids(study: Study, findings: Sequence[Finding]) -> dict[str, str]:
    """The UIDs that reports on this study gave its findings, by finding id; a finding that none named is not in it.

    By place, one to one, nearest first, where finding and report both say where it is; else by concept and side, where
    there is one such finding and one such thing in the reports.
    """
    known = _by_place(study, findings)
    for finding in findings:
        called = _called(finding)
        named = [each for each in study.tracked if (each.concept, each.side) == called]
        left = {each.uid for each in named} - set(known.values())
        has_other_place = bool(finding.regions) and any(each.box_index for each in named)
        is_alone = len(left) == 1 and [_called(each) for each in findings].count(called) == 1
        if finding.id not in known and is_alone and not has_other_place:
            known[finding.id] = left.pop()
    return known


def _called(finding: Finding) -> tuple[tuple[str, str], str | None]:
    return (finding.concept.value, finding.concept.scheme), finding.side.value if finding.side else None


def _by_place(study: Study, findings: Sequence[Finding]) -> dict[str, str]:
    placed = [each for each in findings if each.regions]
    things = [each for each in study.tracked if each.box_index is not None]
    if not placed or not things:
        return {}
    pairs = [(_apart(study, finding, thing), finding.id, thing.uid) for finding in placed for thing in things]
    known: dict[str, str] = {}
    for gap_mm, finding_id, uid in sorted(pairs):
        if np.isfinite(gap_mm) and finding_id not in known and uid not in known.values():
            known[finding_id] = uid
    return known


def _apart(study: Study, finding: Finding, thing: Tracked) -> float:
    """Distance of the middles in mm, and what another name costs; infinite for what cannot be the same thing."""
    region = finding.regions[0]
    series, other_series = study.series_of(region.series_uid), study.series_of(thing.series_uid)
    if thing.box_index is None or not _share_a_space(series, other_series):
        return np.inf
    is_named_so = thing.concept == (finding.concept.value, finding.concept.scheme)
    if not is_named_so and finding.concept in ANATOMY:
        return np.inf
    if thing.side and finding.side and thing.side != finding.side.value:
        return np.inf
    centre_mm, size_mm = _middle_and_size(series, region.box)
    other_mm, other_size_mm = _middle_and_size(other_series, Box(*thing.box_index))
    gap_mm = float(np.linalg.norm(centre_mm - other_mm))
    if gap_mm > NEAR_MM + size_mm / 4 or max(size_mm / other_size_mm, other_size_mm / size_mm) > ALIKE:
        return np.inf
    return gap_mm if is_named_so else gap_mm + OTHER_NAME_MM


def _share_a_space(one: Series, other: Series) -> bool:
    """Whether millimetres mean the same in both: one series, or two of one frame of reference."""
    if one.uid == other.uid:
        return True
    frame = one.volume.geometry.frame_of_reference_uid
    return (
        frame is not None and not one.modality.is_projection and frame == other.volume.geometry.frame_of_reference_uid
    )


def _middle_and_size(series: Series, box: Box) -> tuple[npt.NDArray[np.float64], float]:
    """The middle of a box, (3,) LPS mm, and its longest side in mm."""
    geometry = series.volume.geometry
    return geometry.to_patient([box.centre])[0], float(max(np.array(box.shape) * geometry.spacing_mm))
