"""Whether a finding has grown: its sizes on two dates against what the measurement varies by when nothing changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from math import log

from expert_models.codes import (
    ATTENUATION_TYPE,
    CARDIOTHORACIC_RATIO,
    DAY,
    LONG_AXIS,
    LUNG_MASS,
    LUNG_NODULE,
    SOLID,
    VOLUME,
    VOLUME_DOUBLING_TIME,
)
from expert_models.finding import Change, Code, Finding, Measurement


@dataclass(frozen=True, slots=True)
class Repeatability:
    """How much a measurement must change before the change is real. relative: as a share of the prior value."""

    code: Code
    limit: float
    relative: bool

    def verdict(self, before: float, after: float) -> Change:
        """LARGER, STABLE or SMALLER."""
        change = after - before
        limit = self.limit * before if self.relative else self.limit
        if abs(change) <= limit:
            return Change.STABLE
        return Change.LARGER if change > 0 else Change.SMALLER


# In order of preference. Volume: 25 %, the limit of the British Thoracic Society and of NELSON, from scans repeated on
# the same day (reviewed in doi:10.1007/s00330-021-08302-0). Long axis: 1.5 mm, the growth of Lung-RADS v2022.
# Cardiothoracic ratio: see docs/models/cxr-anatomy.md.
REPEATABILITY = (
    Repeatability(VOLUME, 0.25, relative=True),
    Repeatability(LONG_AXIS, 1.5, relative=False),
    Repeatability(CARDIOTHORACIC_RATIO, 0.03, relative=False),
)
DOUBLES = frozenset({LUNG_NODULE, LUNG_MASS})  # what a doubling time is told of
DAY_S = 86400.0


def growth_between(old: Finding, finding: Finding) -> tuple[Change | None, float | None]:
    """LARGER, STABLE or SMALLER by the leading measurement that both have, and its relative change; None if none is."""
    for rule in REPEATABILITY:
        before, after = old.measurement(rule.code), finding.measurement(rule.code)
        if before and after and before.unit == after.unit and before.value > 0:
            return rule.verdict(before.value, after.value), after.value / before.value - 1
    return None, None


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
