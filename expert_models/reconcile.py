"""Several experts of one thing in one series: which finding leads in the report, and what they disagree on.

Findings of different experts say the same when they have one concept and side and, where there may be several on a
side, lie in one place. The first of them leads: what is not absent before what is, a sign without a probability after
the others of these, then one with a calibrated probability, then the order of the panel. The others stay among the
findings with `led_by`, and get no sentence of their own. Where one says present and another absent, the leading one
becomes indeterminate. A nodule that lies in a consolidation of another expert is led by it, unless it is most of it:
then it leads. What is only possible leads no nodule that is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from expert_models.codes import ANATOMY, CONSOLIDATION
from expert_models.compare import DIFFUSE, FOCAL
from expert_models.finding import Box, Finding, Presence, Region, Side
from expert_models.ports import Masks

ONE_A_SIDE = frozenset({*DIFFUSE, *ANATOMY})  # of which there is one on a side: place need not be compared
SAME_PLACE = 0.25  # intersection over union from which two outlines are of one thing
WITHIN = 0.7  # share of a nodule that lies in a consolidation from which it is a part of it
MOST_OF_IT = 0.5  # volume of such a nodule, as a share of the consolidation's, from which it is the thing itself


def reconciled(findings: Sequence[Finding], masks: Masks) -> tuple[Finding, ...]:
    """The findings on one series, in their order, those that another one leads marked. Their ids must be unique."""
    ranked = sorted(findings, key=_rank)
    led: dict[str, str] = {}
    unsure: set[str] = set()
    for index, lead in enumerate(ranked):
        for other in ranked[index + 1 :] if lead.id not in led else ():
            if _same(lead, other, masks):
                if other.id not in led:
                    led[other.id] = lead.id
                if (lead.presence, other.presence) == (Presence.PRESENT, Presence.ABSENT):
                    unsure.add(lead.id)
    for whole in [each for each in findings if each.concept == CONSOLIDATION and each.id not in led]:
        for part in [each for each in findings if each.concept in FOCAL and each.id not in led]:
            share, volumes = _share(part, whole, masks)
            is_surer = whole.presence is Presence.INDETERMINATE and part.presence is Presence.PRESENT
            if share >= WITHIN and volumes < MOST_OF_IT and not is_surer:
                led[part.id] = whole.id
            elif share >= WITHIN and volumes >= MOST_OF_IT and part.presence is Presence.PRESENT:
                led[whole.id] = part.id
                break
    return tuple(
        replace(each, led_by=led.get(each.id), presence=Presence.INDETERMINATE if each.id in unsure else each.presence)
        for each in findings
    )


def _rank(finding: Finding) -> tuple[bool, bool, bool]:
    is_sign = finding.presence is Presence.INDETERMINATE and finding.probability is None
    return finding.presence is Presence.ABSENT, is_sign, finding.probability is None


def disagreements(findings: Sequence[Finding]) -> Iterator[str]:
    """A sentence for each finding that was led by one which says otherwise, or is of another kind."""
    known = {each.id: each for each in findings}
    for other in findings:
        lead = known.get(other.led_by or "")
        if lead is None:
            continue
        side = f" on the {lead.side.value} side" if lead.side in (Side.LEFT, Side.RIGHT) else ""
        if {lead.concept, other.concept} <= FOCAL or lead.concept == other.concept:
            if lead.presence is Presence.INDETERMINATE and other.presence is not Presence.INDETERMINATE:
                yield (
                    f"The experts disagree on {lead.concept.meaning}{side}: {other.expert.name} says "
                    f"{other.presence.value}, {lead.expert.name} does not; it is reported as indeterminate."
                )
        else:
            yield (
                f"{lead.concept.meaning}{side} of {lead.expert.name} and {other.concept.meaning} of "
                f"{other.expert.name} lie in one place and are reported once."
            )


def _same(lead: Finding, other: Finding, masks: Masks) -> bool:
    """Whether two findings are answers of different experts to one question."""
    if lead.expert.name == other.expert.name or Presence.NOT_ASSESSED in (lead.presence, other.presence):
        return False
    if lead.concept != other.concept and not {lead.concept, other.concept} <= FOCAL:
        return False
    is_absent = other.presence is Presence.ABSENT  # without a side: on neither
    if lead.side != other.side and not (is_absent and other.side is None):
        return False
    if is_absent or lead.concept in ONE_A_SIDE:
        return True
    shared, first, second = _overlap(lead, other, masks)
    return shared >= SAME_PLACE * (first + second - shared) > 0


def _share(part: Finding, whole: Finding, masks: Masks) -> tuple[float, float]:
    """How much of a finding lies in another expert's, and its volume as a share of the other's; both 0 when apart."""
    if part.expert.name == whole.expert.name or Presence.ABSENT in (part.presence, whole.presence):
        return 0.0, 0.0
    shared, first, second = _overlap(part, whole, masks)
    return (shared / first, first / second) if shared else (0.0, 0.0)


def _overlap(one: Finding, other: Finding, masks: Masks) -> tuple[int, int, int]:
    """Voxels in both, in the one, and in the other; of the first regions that meet, else (0, 0, 0)."""
    for mine in one.regions:
        for theirs in other.regions:
            shared = _shared_box(mine, theirs)
            if shared is not None:
                first, second = (_mask(each, masks) for each in (mine, theirs))
                both = first[_within(shared, mine)] & second[_within(shared, theirs)]
                return int(both.sum()), int(first.sum()), int(second.sum())
    return 0, 0, 0


def _shared_box(one: Region, other: Region) -> Box | None:
    start = [max(pair) for pair in zip(one.box.start, other.box.start, strict=True)]
    stop = [min(pair) for pair in zip(one.box.stop, other.box.stop, strict=True)]
    if one.series_uid != other.series_uid or any(a >= b for a, b in zip(start, stop, strict=True)):
        return None
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def _mask(region: Region, masks: Masks) -> npt.NDArray[np.bool_]:
    return np.ones(region.box.shape, bool) if region.mask_key is None else masks.load(region.mask_key)


def _within(box: Box, region: Region) -> tuple[slice, ...]:
    """A box of the series as an index into the region's mask."""
    return tuple(
        slice(a - origin, b - origin) for a, b, origin in zip(box.start, box.stop, region.box.start, strict=True)
    )
