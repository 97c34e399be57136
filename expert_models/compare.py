"""What changed since the prior: findings of two studies matched one to one, and their sizes compared.

Lesions are matched by place (register.py, match.py), what is at most one on a side by name and side.

A change is claimed only when it is larger than what the measurement varies by when nothing has changed. Presence that
flips within that variation is called stable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dicom_io.study import Study
from expert_models.codes import (
    ANATOMY,
    ATELECTASIS,
    CARDIOMEGALY,
    CONSOLIDATION,
    HEART,
    LUNG_MASS,
    LUNG_NODULE,
    LUNG_OPACITY,
    PLEURAL_EFFUSION,
    PNEUMOTHORAX,
    PULMONARY_EDEMA,
)
from expert_models.finding import Change, Code, Compared, Comparison, Finding, Measurement, Presence, Side
from expert_models.growth import doubling_time, growth_between
from expert_models.match import Lesion, Matching, match
from expert_models.ports import Masks
from expert_models.register import Registration, register
from expert_models.tracking import known_uids, tracking_uid

Points = npt.NDArray[np.float64]

FOCAL = frozenset({LUNG_NODULE, LUNG_MASS})  # several of them in one lung: matched by place
# At most one on a side: matched by concept and side. Of anything else, such as an added expert's lesions of the liver,
# nothing says which is which in the prior, so it is not compared.
DIFFUSE = frozenset(
    {
        *(CARDIOMEGALY, PLEURAL_EFFUSION, PNEUMOTHORAX, LUNG_OPACITY, CONSOLIDATION, ATELECTASIS, PULMONARY_EDEMA),
        HEART,
    }
)


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
    study: Study, current: Sequence[Finding], prior: Study, before: Sequence[Finding], masks: Masks
) -> Compared:
    """The findings of two studies of one kind compared (all ids "c1"). Organs are not compared.

    What was not assessed on one side is not compared: neither new nor resolved can be told.
    """
    comparisons: list[Comparison] = []
    remarks: list[str] = []
    registration: Registration | None = None
    for name in dict.fromkeys(finding.expert.name for finding in current):
        now = [each for each in current if each.expert.name == name]
        then = [each for each in before if each.expert.name == name]
        if all(_was_assessed(findings) for findings in (now, then)):
            if registration is None and all(_lesions(findings) for findings in (now, then)):
                registration = register(study, current, prior, before, masks)
                remarks += (
                    [f"{registration.remark[:1].upper()}{registration.remark[1:]}."] if registration.remark else []
                )
            made, untold = _focal(study, _lesions(now), prior, _lesions(then), registration)
            comparisons += made
            remarks += [untold] if untold else []
        comparisons += _diffuse(study, now, prior, then)
    known = known_uids(prior, before)
    return Compared(tuple(_tracked(each, known) for each in comparisons), tuple(remarks))


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
        if all(each.presence is Presence.INDETERMINATE and each.probability is None for each in (finding, old)):
            continue  # a sign that may be nothing has no size
        if finding.concept == HEART and not study.series[0].modality.is_projection:
            continue  # how far its width on CT varies was not measured
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
    prior: Study,
    then: Sequence[Finding],
    registration: Registration | None,
) -> tuple[list[Comparison], str]:
    """Nodules and masses, matched one to one; and a sentence on those of which nothing can be told.

    registration: needed only where there are some on both dates.
    """
    matching = Matching({}, frozenset(), frozenset())
    if registration is not None:
        mine = [_placed(study, each, registration.to_prior) for each in now]
        theirs = [_placed(prior, each, lambda points_mm: points_mm) for each in then]
        matching = match(mine, theirs, registration.error_mm)
    comparisons = []
    for index, finding in enumerate(now):
        if index in matching.pairs:
            old = then[matching.pairs[index]]
            change, growth = growth_between(old, finding)
            if change is not None and Presence.PRESENT in (finding.presence, old.presence):
                comparisons.append(_comparison(change, study, finding, prior, old, growth))
        elif finding.presence is Presence.PRESENT and index not in matching.open_now:
            comparisons.append(_comparison(Change.NEW, study, finding, prior, None, None))
    gone = set(range(len(then))) - set(matching.pairs.values()) - matching.open_then
    for index in sorted(gone):
        if then[index].presence is Presence.PRESENT:
            comparisons.append(_comparison(Change.RESOLVED, study, None, prior, then[index], None))
    return comparisons, _untold([now[index] for index in sorted(matching.open_now)])


def _untold(findings: Sequence[Finding]) -> str:
    count = sum(each.presence is Presence.PRESENT for each in findings)
    if not count:
        return ""
    subject = "One nodule or mass was" if count == 1 else f"{count} nodules or masses were"
    return (
        f"{subject} not compared: which of the prior's it is cannot be told."
        if count == 1
        else (f"{subject} not compared: which of the prior's they are cannot be told.")
    )


def _lesions(findings: Sequence[Finding]) -> list[Finding]:
    """What has a place and may be one of several."""
    return [each for each in findings if each.concept in FOCAL and each.regions]


def _was_assessed(findings: Sequence[Finding]) -> bool:
    """Whether an expert answered for lesions at all: one that failed cannot tell new from missed."""
    focal = [each for each in findings if each.concept in FOCAL]
    return bool(focal) and not any(each.presence is Presence.NOT_ASSESSED for each in focal)


def _placed(study: Study, finding: Finding, carry: Callable[[Points], Points]) -> Lesion:
    """The lesion with the middle of its box, carried over, and its longest side."""
    region = finding.regions[0]
    geometry = study.series_of(region.series_uid).volume.geometry
    place_mm = carry(geometry.to_patient([region.box.centre]))[0]
    return Lesion(finding, place_mm, float(max(np.array(region.box.shape) * geometry.spacing_mm)))


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
