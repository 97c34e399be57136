"""What changed since the prior: findings of two studies matched one to one, and their sizes compared.

A change is claimed only when it is larger than what the measurement varies by when nothing has changed. Presence that
flips within that variation is called stable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from dicom_io.study import Series, Study
from expert_models.codes import (
    ANATOMY,
    ATELECTASIS,
    CARDIOMEGALY,
    CONSOLIDATION,
    HEART,
    LUNG,
    LUNG_MASS,
    LUNG_NODULE,
    PLEURAL_EFFUSION,
    PNEUMOTHORAX,
    PULMONARY_EDEMA,
)
from expert_models.finding import Box, Change, Code, Comparison, Finding, Measurement, Presence, Side
from expert_models.growth import doubling_time, growth_between
from expert_models.tracking import known_uids, tracking_uid

FOCAL = frozenset({LUNG_NODULE, LUNG_MASS})  # several of them in one lung: matched by place
# At most one on a side: matched by concept and side. Of anything else, such as an added expert's lesions of the liver,
# nothing says which is which in the prior, so it is not compared.
DIFFUSE = frozenset({CARDIOMEGALY, PLEURAL_EFFUSION, PNEUMOTHORAX, CONSOLIDATION, ATELECTASIS, PULMONARY_EDEMA, HEART})
NEAREST = 0.15  # of the lung's extent: how far a lesion may seem to move with breathing and posture

Placed = tuple[Finding, npt.NDArray[np.float64]]  # a lesion and where in its lung it lies


def of_kind(study: Study, is_projection: bool) -> Study:
    """The study with its radiographs alone, or its volumes alone."""
    return replace(study, series=tuple(each for each in study if each.modality.is_projection is is_projection))


def comparable_prior(study: Study, is_projection: bool) -> Study | None:
    """The newest prior with pictures of the kind, cut down to them; for radiographs, of the same view if there is one.

    A PA and an AP radiograph show hearts of different size, so a somewhat older prior of the same view is the better
    one. Priors are newest first.
    """
    priors = [kind for kind in (of_kind(prior, is_projection) for prior in study.priors) if kind.series]
    if not priors:
        return None
    views = _views(of_kind(study, is_projection))
    return next((prior for prior in priors if _views(prior) & views), priors[0])


def compare_findings(
    study: Study, current: Sequence[Finding], prior: Study, before: Sequence[Finding]
) -> list[Comparison]:
    """Comparisons (all with id "c1") of the findings of two studies of one kind. Organs are not compared.

    What was not assessed on one side is not compared: neither new nor resolved can be told.
    """
    comparisons: list[Comparison] = []
    for name in dict.fromkeys(finding.expert.name for finding in current):
        now = [each for each in current if each.expert.name == name]
        then = [each for each in before if each.expert.name == name]
        comparisons += _focal(study, now, current, prior, then, before)
        comparisons += _diffuse(study, now, prior, then)
    known = known_uids(prior, before)
    return [_tracked(each, known) for each in comparisons]


def _tracked(comparison: Comparison, known: Mapping[str, str]) -> Comparison:
    """The comparison under the UID that a report on the prior gave its prior finding, if one did."""
    prior = comparison.prior_finding
    return replace(comparison, tracking_uid=known[prior.id]) if prior and prior.id in known else comparison


def _diffuse(study: Study, now: Sequence[Finding], prior: Study, then: Sequence[Finding]) -> list[Comparison]:
    """Findings of which there is one on a side at most, matched by concept and side; the heart's size in any case.

    Where cardiomegaly was absent twice, the heart itself is compared: a heart may grow and still be of normal size.
    """
    before = {(each.concept, each.side): each for each in then}
    several = _repeated(now) | _repeated(then)
    comparisons = []
    said_of_heart = False
    for finding in sorted(now, key=lambda each: each.concept in ANATOMY):
        old = before.get((finding.concept, finding.side))
        if old is None or finding.concept not in DIFFUSE or (finding.concept, finding.side) in several:
            continue
        if Presence.NOT_ASSESSED in (finding.presence, old.presence) or (finding.concept == HEART and said_of_heart):
            continue
        if finding.presence is old.presence is Presence.ABSENT or not _same_view(study, finding, prior, old):
            continue
        change, growth = _changed(finding, old)
        if change is None:
            continue
        said_of_heart = said_of_heart or finding.concept == CARDIOMEGALY
        comparisons.append(_comparison(change, study, finding, prior, old, growth))
    return comparisons


def _repeated(findings: Sequence[Finding]) -> set[tuple[Code, Side | None]]:
    """Concepts and sides of which there is more than one in one series."""
    series = (each.regions[0].series_uid if each.regions else "" for each in findings)
    counts = Counter((each.concept, each.side, uid) for each, uid in zip(findings, series, strict=True))
    return {(concept, side) for (concept, side, _), count in counts.items() if count > 1}


def _changed(finding: Finding, old: Finding) -> tuple[Change | None, float | None]:
    """What became of a finding, and by how much; None where it cannot be told."""
    change, growth = growth_between(old, finding)
    flip = {
        (Presence.ABSENT, Presence.PRESENT): Change.NEW,
        (Presence.PRESENT, Presence.ABSENT): Change.RESOLVED,
    }.get((old.presence, finding.presence))
    if change is None:
        return flip, None
    if (flip, change) in ((Change.NEW, Change.LARGER), (Change.RESOLVED, Change.SMALLER)):
        return flip, growth
    return change, growth


def _focal(
    study: Study,
    now: Sequence[Finding],
    current: Sequence[Finding],
    prior: Study,
    then: Sequence[Finding],
    before: Sequence[Finding],
) -> list[Comparison]:
    """Nodules and masses, matched one to one by their place in the lungs."""
    if not all(_was_assessed(findings) for findings in (now, then)):
        return []
    mine = [(each, _place(study, each, current)) for each in now if each.concept in FOCAL and each.regions]
    theirs = [(each, _place(prior, each, before)) for each in then if each.concept in FOCAL and each.regions]
    pairs = _matched(mine, theirs)
    comparisons = []
    for index, (finding, _) in enumerate(mine):
        if index in pairs:
            old = theirs[pairs[index]][0]
            change, growth = growth_between(old, finding)
            if change is not None and Presence.PRESENT in (finding.presence, old.presence):
                comparisons.append(_comparison(change, study, finding, prior, old, growth))
        elif finding.presence is Presence.PRESENT:
            comparisons.append(_comparison(Change.NEW, study, finding, prior, None, None))
    for index, (old, _) in enumerate(theirs):
        if index not in pairs.values() and old.presence is Presence.PRESENT:
            comparisons.append(_comparison(Change.RESOLVED, study, None, prior, old, None))
    return comparisons


def _was_assessed(findings: Sequence[Finding]) -> bool:
    """Whether an expert answered for lesions at all: one that failed cannot tell new from missed."""
    focal = [each for each in findings if each.concept in FOCAL]
    return bool(focal) and not any(each.presence is Presence.NOT_ASSESSED for each in focal)


def _matched(mine: Sequence[Placed], theirs: Sequence[Placed]) -> dict[int, int]:
    """Indices of mine -> theirs, the pairing of least total distance; pairs further apart than NEAREST are none."""
    if not mine or not theirs:
        return {}
    distance = np.array([[_apart(one, other) for other in theirs] for one in mine])
    rows, columns = linear_sum_assignment(np.minimum(distance, 10 * NEAREST))
    return {
        int(row): int(column) for row, column in zip(rows, columns, strict=True) if distance[row, column] <= NEAREST
    }


def _apart(one: Placed, other: Placed) -> float:
    """Distance in shares of the lung; far beyond reach where the sides differ."""
    sides = {one[0].side, other[0].side} - {None}
    return float(np.linalg.norm(one[1] - other[1])) if len(sides) < 2 else 1e3


def _place(study: Study, finding: Finding, findings: Sequence[Finding]) -> npt.NDArray[np.float64]:
    """Where the finding lies in its lung: (3,), each axis 0 to 1 over the lung's box along the patient's axes.

    Breathing and posture stretch the lungs; a place in shares of the lung moves far less than one in millimetres.
    Without an outlined lung, the whole picture takes its place.
    """
    region = finding.regions[0]
    series = study.series_of(region.series_uid)
    lungs = [
        each.regions[0].box
        for each in findings
        if each.concept == LUNG and each.regions and finding.side in (None, each.side)
        if each.regions[0].series_uid == series.uid
    ]
    slices, rows, columns = series.volume.shape
    boxes = lungs or [Box((0, 0, 0), (slices, rows, columns))]
    corners = np.concatenate([_corners_mm(series, box) for box in boxes])
    low, extent = corners.min(axis=0), np.ptp(corners, axis=0)
    centre_mm = series.volume.geometry.to_patient([region.box.centre])[0]
    return np.asarray((centre_mm - low) / np.where(extent > 0, extent, 1))


def _corners_mm(series: Series, box: Box) -> npt.NDArray[np.float64]:
    ends = [(start, stop - 1) for start, stop in zip(box.start, box.stop, strict=True)]
    return series.volume.geometry.to_patient(list(product(*ends)))


def _views(study: Study) -> set[str]:
    """PA, AP or nothing for each radiograph."""
    return {(series.view or "").upper()[:2] for series in study if series.modality.is_projection}


def _same_view(study: Study, finding: Finding, prior: Study, old: Finding) -> bool:
    """False for two radiographs of different view: their hearts are magnified differently, so size tells nothing."""
    pair = [
        {(each.series_of(region.series_uid).view or "").upper()[:2] for region in statement.regions}
        for each, statement in ((study, finding), (prior, old))
    ]
    return not (pair[0] and pair[1]) or pair[0] == pair[1]


def _comparison(
    change: Change, study: Study, finding: Finding | None, prior: Study, old: Finding | None, growth: float | None
) -> Comparison:
    """One comparison, its parts left out as its change demands, tracked by its older record."""
    kept = None if change is Change.NEW else old
    owner, traced = (prior, kept) if kept else (study, finding)
    if traced is None:
        raise ValueError("a comparison needs a finding on one side at least")
    return Comparison(
        id="c1",
        change=change,
        prior_study_uid=prior.uid,
        tracking_uid=tracking_uid(owner.uid, traced),
        finding_id=finding.id if finding and change is not Change.RESOLVED else None,
        prior_finding=kept,
        growth=growth,
        doubling_time=_doubling(change, study, finding, prior, old),
    )


def _doubling(
    change: Change, study: Study, finding: Finding | None, prior: Study, old: Finding | None
) -> Measurement | None:
    if change is not Change.LARGER or finding is None or old is None:
        return None
    return doubling_time(old, finding, prior.acquired_on, study.acquired_on)
