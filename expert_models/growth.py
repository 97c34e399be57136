"""Whether a finding has grown: its sizes on two dates against what the measurement varies by when nothing changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from math import log, pi

from expert_models.codes import (
    ATTENUATION_TYPE,
    CARDIOTHORACIC_RATIO,
    DAY,
    GROUND_GLASS,
    LONG_AXIS,
    LUNG_MASS,
    LUNG_NODULE,
    MILLILITER,
    PART_SOLID,
    SOLID,
    VOLUME,
    VOLUME_DOUBLING_TIME,
)
from expert_models.finding import Change, Code, Finding, Measurement


@dataclass(frozen=True, slots=True)
class Repeatability:
    """How much a measurement must change before the change is real. relative: as a share of the prior value.

    A relative limit is a factor: what may grow to 1 + limit may shrink to 1 / (1 + limit), and to 1 - AGREED in any
    case.
    """

    code: Code
    limit: float
    relative: bool

    def verdict(self, before: float, after: float) -> Change:
        """LARGER, STABLE or SMALLER."""
        change = after - before
        up = down = self.limit
        if self.relative:
            up, down = self.limit * before, max(AGREED, self.limit / (1 + self.limit)) * before
        if -down <= change <= up:
            return Change.STABLE
        return Change.LARGER if change > 0 else Change.SMALLER


# Volumes: the larger of what is published and what our own measurement varies by (docs/experts.md).
# Published: 25 %, the limit of the British Thoracic Society and NELSON, from scans repeated on one day (reviewed in
# doi:10.1007/s00330-021-08302-0); of nodules under 8 mm six programs varied by up to 25.6 % (de Hoop et al.,
# doi:10.1007/s00330-008-1229-x), and subsolid ones by 35.4 % (Scholten et al., doi:10.1007/s00330-014-3478-1).
AGREED = 0.25
SUBSOLID = 0.354
MEASURED = ((8.0, 0.44),)  # below so many mm of diameter, by bench/repeatability.py
MEASURED_SUBSOLID = ((8.0, 1.26), (12.0, 0.45))
# Without volumes. Long axis: 1.5 mm, the growth of Lung-RADS v2022. Cardiothoracic ratio: docs/models/cxr-anatomy.md.
REPEATABILITY = (
    Repeatability(LONG_AXIS, 1.5, relative=False),
    Repeatability(CARDIOTHORACIC_RATIO, 0.03, relative=False),
)
DOUBLES = frozenset({LUNG_NODULE, LUNG_MASS})  # what a doubling time is told of
DAY_S = 86400.0


def growth_between(old: Finding, finding: Finding) -> tuple[Change | None, float | None]:
    """LARGER, STABLE or SMALLER by the leading measurement that both have, and its relative change; None if none is.

    The volume leads, then the long axis, then the cardiothoracic ratio.
    """
    for rule in (volume_rule(old, finding), *REPEATABILITY):
        before, after = old.measurement(rule.code), finding.measurement(rule.code)
        if before and after and before.unit == after.unit and before.value > 0:
            return rule.verdict(before.value, after.value), after.value / before.value - 1
    return None, None


def volume_rule(old: Finding, finding: Finding) -> Repeatability:
    """What a volume varies by, by attenuation and by the prior's size: the diameter of a ball of its volume."""
    is_subsolid = bool({each.attribute(ATTENUATION_TYPE) for each in (old, finding)} & {PART_SOLID, GROUND_GLASS})
    limits = [SUBSOLID if is_subsolid else AGREED]
    before = old.measurement(VOLUME)
    if before and before.unit == MILLILITER and old.concept in DOUBLES:
        diameter_mm = (max(before.value, 0.0) * 6000 / pi) ** (1 / 3)
        measured = MEASURED_SUBSOLID if is_subsolid else MEASURED
        limits += [limit for below_mm, limit in measured if diameter_mm < below_mm]
    return Repeatability(VOLUME, max(limits), relative=True)


def doubling_time(
    old: Finding, finding: Finding, earlier: datetime | None, later: datetime | None
) -> Measurement | None:
    """The volume doubling time in days of a nodule or mass that grew: t ln 2 / ln(V2 / V1), exponential growth assumed.

    The formula is Schwartz's (Cancer 1961;14:1272-1294), as the British Thoracic Society's guideline of 2015 uses it
    (doi:10.1136/thoraxjnl-2015-207168: up to 400 days, to 600, and beyond, for solid nodules). None where the volume
    did not grow beyond its repeatability, was not measured twice, or the dates are not known or less than a day apart;
    and where the nodule was called anything but solid on either date.
    """
    before, after = old.measurement(VOLUME), finding.measurement(VOLUME)
    if not (before and after) or before.unit != after.unit or finding.concept not in DOUBLES:
        return None
    if {each.attribute(ATTENUATION_TYPE) for each in (old, finding)} - {SOLID, None}:
        return None
    if growth_between(old, finding)[0] is not Change.LARGER or not (earlier and later) or before.value <= 0:
        return None
    if (earlier.tzinfo is None) != (later.tzinfo is None) or (days := (later - earlier).total_seconds() / DAY_S) < 1:
        return None
    return Measurement(VOLUME_DOUBLING_TIME, days * log(2) / log(after.value / before.value), DAY)
