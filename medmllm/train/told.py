"""The truth of an exam as experts would tell it: of some things or of all, with doubts, by side, with measurements.

What no expert could assess is told as such, and is left to be seen as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from expert_models import codes
from expert_models.finding import Code, Comparison, Finding, Measurement, Presence, Side
from medmllm.train.truth import TRUTH

# Of reports, by what experts speak of; "packaged": of everything, as the experts that ship do.
SHARES = {"packaged": 0.4, "all": 0.1, "anatomy": 0.15, "some": 0.25, "none": 0.1}
UNSURE, UNREAD = 0.1, 0.06  # of their findings, and of the kinds that they speak of
BY_SIDE = 0.4  # of reports: a finding for each side
OPACITY = 0.4  # of reports: a consolidation is told as an opacity
NEVER_READ = (codes.LUNG_NODULE, codes.ATELECTASIS)  # by the experts that ship (docs/models/cxr-findings.md)
SELDOM_READ = (codes.LUNG_MASS, codes.PNEUMOTHORAX)  # told as possible when strong, else not assessed
STRONG = 0.5  # of those that are there
REASONS = (
    "its outline is not sure enough",
    "the network has not been shown to be right about it",
    "the score is too near to the threshold",
    "two networks disagree about it",
    "no strong sign is seen, and how often the expert misses one on real radiographs is not known",
    "where the truth is known, the answers of the expert were hardly better than a guess",
)
ONE_SIDED = (
    codes.LUNG_NODULE,
    codes.LUNG_MASS,
    codes.CONSOLIDATION,
    codes.LUNG_OPACITY,
    codes.PLEURAL_EFFUSION,
    codes.PNEUMOTHORAX,
)

Random = np.random.Generator
Told = tuple[tuple[Finding, ...], tuple[Finding, ...], tuple[Comparison, ...]]


def told(findings: Sequence[Finding], comparisons: Sequence[Comparison], random: Random) -> Told:
    """What experts say, what is left to be seen, and what became of both; numbered anew, what they say first."""
    share = str(random.choice(list(SHARES), p=list(SHARES.values())))
    given, seen = _shared(findings, share, random)
    is_packaged = share == "packaged"
    is_opacity, is_sided = is_packaged or random.random() < OPACITY, is_packaged or random.random() < BY_SIDE
    unread = _unread(given, is_packaged, random)
    seen += [each for each in given if each.concept in unread]
    ratio = next((one for each in given if (one := each.measurement(codes.CARDIOTHORACIC_RATIO))), None)
    said = [_said(each, ratio, is_opacity, random) for each in given if each.concept not in unread]
    said = [one for each in said for one in (_sided(each) if is_packaged else [each])]
    said += [_not_assessed(_named(concept, is_opacity), random) for concept in unread]
    renamed = {each.concept: _named(each.concept, is_opacity) for each in given if each.concept not in unread}
    beside = [other for each in said if is_sided for other in _other_side(each, said)]
    numbers = {each.id: f"f{number}" for number, each in enumerate((*said, *beside, *seen), 1)}
    return (
        tuple(replace(each, id=numbers[each.id]) for each in (*said, *beside)),
        tuple(replace(each, id=numbers[each.id]) for each in seen),
        tuple(
            replace(each, id=f"c{number}", finding_id=numbers[each.finding_id] if each.finding_id else None)
            for number, each in enumerate((_compared(each, findings, renamed) for each in comparisons), 1)
        ),
    )


def _shared(findings: Sequence[Finding], share: str, random: Random) -> tuple[list[Finding], list[Finding]]:
    """What experts speak of, whole kinds at a time, and the rest."""
    anatomy = {*codes.ANATOMY, codes.CARDIOMEGALY}
    if share in ("all", "packaged"):
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


def _unread(given: Sequence[Finding], is_packaged: bool, random: Random) -> list[Code]:
    """The kinds that experts could not assess."""
    there = {each.concept for each in given if each.presence is Presence.PRESENT}
    unread = []
    for concept in dict.fromkeys(each.concept for each in given if each.concept not in codes.ANATOMY):
        seldom = concept in SELDOM_READ and not (concept in there and random.random() < STRONG)
        is_never = is_packaged and (concept in NEVER_READ or seldom)
        if is_never or random.random() < UNREAD:
            unread.append(concept)
    return unread


def _said(finding: Finding, ratio: Measurement | None, is_opacity: bool, random: Random) -> Finding:
    """One finding as its expert puts it."""
    if finding.concept in codes.ANATOMY:
        return replace(finding, measurements=_diameters(ratio, random)) if finding.concept == codes.HEART else finding
    finding = replace(finding, concept=_named(finding.concept, is_opacity))
    if random.random() < UNSURE:
        sure = float(random.uniform(0.1, 0.8)) if random.random() < 0.7 else None
        return replace(finding, presence=Presence.INDETERMINATE, probability=sure)
    return finding


def _named(concept: Code, is_opacity: bool) -> Code:
    return codes.LUNG_OPACITY if is_opacity and concept == codes.CONSOLIDATION else concept


def _not_assessed(concept: Code, random: Random) -> Finding:
    reason = REASONS[int(random.integers(len(REASONS)))]
    return Finding(f"{concept.value} unread", concept, Presence.NOT_ASSESSED, TRUTH, reason=reason)


def _sided(finding: Finding) -> list[Finding]:
    """What is absent, for each side where there are two."""
    if finding.concept not in ONE_SIDED or finding.presence is not Presence.ABSENT:
        return [finding]
    return [replace(finding, id=f"{finding.id} {side}", side=side) for side in (Side.RIGHT, Side.LEFT)]


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


def _compared(comparison: Comparison, findings: Sequence[Finding], renamed: Mapping[Code, Code]) -> Comparison:
    """With the growth of what was measured twice, and the earlier finding as its expert puts it."""
    now, then = next((each for each in findings if each.id == comparison.finding_id), None), comparison.prior_finding
    if then is None:
        return comparison
    pair = [each.measurement(codes.CARDIOTHORACIC_RATIO) for each in (now, then) if each]
    growth = pair[0].value / pair[1].value - 1 if len(pair) == 2 and pair[0] and pair[1] else comparison.growth
    return replace(
        comparison, prior_finding=replace(then, concept=renamed.get(then.concept, then.concept)), growth=growth
    )
