"""The truth of an exam as experts would tell it: of some things or of all, with doubts, by side, with measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from expert_models import codes
from expert_models.finding import Change, Comparison, Finding, Measurement, Presence, Side

SHARES = {"all": 0.35, "anatomy": 0.25, "some": 0.2, "none": 0.2}  # of reports, by what experts speak of
UNSURE, UNREAD = 0.1, 0.06  # of their findings
BY_SIDE = 0.4  # of reports: a finding for each side
OPACITY = 0.4  # of reports: a consolidation is told as an opacity
REASONS = (
    "its outline is not sure enough",
    "the network has not been shown to be right about it",
    "the score is too near to the threshold",
    "two networks disagree about it",
)
ONE_SIDED = (codes.LUNG_NODULE, codes.LUNG_MASS, codes.CONSOLIDATION, codes.PLEURAL_EFFUSION, codes.PNEUMOTHORAX)

Random = np.random.Generator
Told = tuple[tuple[Finding, ...], tuple[Finding, ...], tuple[Comparison, ...]]


def told(findings: Sequence[Finding], comparisons: Sequence[Comparison], random: Random) -> Told:
    """What experts say, what is left to be seen, and what became of both; numbered anew, what they say first."""
    given, seen = _shared(findings, random)
    is_opacity, is_sided = random.random() < OPACITY, random.random() < BY_SIDE
    ratio = next((one for each in given if (one := each.measurement(codes.CARDIOTHORACIC_RATIO))), None)
    said = [_said(each, ratio, is_opacity, random) for each in given]
    beside = [other for each in said if is_sided for other in _other_side(each, said)]
    numbers = {each.id: f"f{number}" for number, each in enumerate((*said, *beside, *seen), 1)}
    unread = {each.id for each in said if each.presence is Presence.NOT_ASSESSED}
    kept = [each for each in comparisons if each.finding_id not in unread]
    return (
        tuple(replace(each, id=numbers[each.id]) for each in (*said, *beside)),
        tuple(replace(each, id=numbers[each.id]) for each in seen),
        tuple(
            replace(each, id=f"c{number}", finding_id=numbers[each.finding_id] if each.finding_id else None)
            for number, each in enumerate((_measured(each, findings) for each in kept), 1)
        ),
    )


def _shared(findings: Sequence[Finding], random: Random) -> tuple[list[Finding], list[Finding]]:
    """What experts speak of, whole kinds at a time, and the rest."""
    share = str(random.choice(list(SHARES), p=list(SHARES.values())))
    anatomy = {*codes.ANATOMY, codes.CARDIOMEGALY}
    if share == "all":
        spoken_of = {each.concept for each in findings}
    elif share == "anatomy":
        spoken_of = anatomy
    elif share == "some":
        kinds = {each.concept: None for each in findings if each.concept not in anatomy}
        spoken_of = {each for each in kinds if random.random() < 0.5} | (anatomy if random.random() < 0.7 else set())
    else:
        spoken_of = set()
    given = [each for each in findings if each.concept in spoken_of]
    return given, [each for each in findings if each.concept not in spoken_of]


def _said(finding: Finding, ratio: Measurement | None, is_opacity: bool, random: Random) -> Finding:
    """One finding as its expert puts it."""
    if finding.concept in codes.ANATOMY:
        return replace(finding, measurements=_diameters(ratio, random)) if finding.concept == codes.HEART else finding
    if is_opacity and finding.concept == codes.CONSOLIDATION:
        finding = replace(finding, concept=codes.LUNG_OPACITY)
    doubt = random.random()
    if doubt < UNREAD:
        reason = REASONS[int(random.integers(len(REASONS)))]
        return replace(finding, presence=Presence.NOT_ASSESSED, reason=reason, side=None, regions=(), measurements=())
    if doubt < UNREAD + UNSURE:
        return replace(finding, presence=Presence.INDETERMINATE, probability=float(random.uniform(0.1, 0.8)))
    return finding


def _other_side(finding: Finding, said: Sequence[Finding]) -> list[Finding]:
    """Of what is on one side or on none: that it is absent on the other."""
    same = [each for each in said if each.concept == finding.concept]
    is_alone = len(same) == 1 and finding.presence is Presence.PRESENT and finding.side is not None
    if finding.concept not in ONE_SIDED or not is_alone:
        return []
    other = Side.LEFT if finding.side is Side.RIGHT else Side.RIGHT
    return [replace(finding, id=f"{finding.id} beside", presence=Presence.ABSENT, side=other, regions=())]


def _diameters(ratio: Measurement | None, random: Random) -> tuple[Measurement, ...]:
    """The ratio, and widths as they can be on films of every scale; none without it."""
    if ratio is None:
        return ()
    unit = codes.MILLIMETER if random.random() < 0.6 else codes.PIXEL
    thorax = float(random.uniform(220, 360) if unit == codes.MILLIMETER else random.uniform(150, 2500))
    return (
        Measurement(codes.CARDIAC_DIAMETER, thorax * ratio.value, unit),
        Measurement(codes.THORACIC_DIAMETER, thorax, unit),
        ratio,
    )


def _measured(comparison: Comparison, findings: Sequence[Finding]) -> Comparison:
    """With the growth of what was measured twice."""
    now = next((each for each in findings if each.id == comparison.finding_id), None)
    pair = [each.measurement(codes.CARDIOTHORACIC_RATIO) for each in (now, comparison.prior_finding) if each]
    if comparison.change is Change.NEW or len(pair) < 2 or not (pair[0] and pair[1]):
        return comparison
    return replace(comparison, growth=pair[0].value / pair[1].value - 1)
