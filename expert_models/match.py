"""Which lesion is which in the prior: one to one, by place, size and kind, and left open where two answers are as good.

What a pair costs is the sum of squares of how far it is off in its own measure, so a difference of costs compares
likelihoods as -2 log does. A pair is told when every other pairing of all lesions costs at least CLEAR more, told apart
when every pairing with it does; between the two, nothing is said of either lesion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, log

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from expert_models.codes import ATTENUATION_TYPE, LONG_AXIS, PART_SOLID, VOLUME
from expert_models.finding import Finding

APART = 16.0  # what two lesions without a partner cost: a pair four standard deviations off
CLEAR = 4.0  # a likelihood ratio of e squared, about 7
FACTOR = 4.0  # in volume from one study to the next, counted as one standard deviation
ANOTHER_KIND = 4.0  # solid against ground glass; part-solid to or from either is a quarter of it
OF_EXTENT = 1 / 6  # of a lesion's longest side: how far its middle shifts as it grows, or is outlined otherwise
NEVER = 1e4

Costs = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Lesion:
    """A finding with its middle, (3,) mm in the prior's space, and its longest side in mm."""

    finding: Finding
    place_mm: npt.NDArray[np.float64]
    extent_mm: float


@dataclass(frozen=True, slots=True)
class Matching:
    """pairs: index in the current study -> index in the prior. open_now, open_then: what cannot be told of."""

    pairs: dict[int, int]
    open_now: frozenset[int]
    open_then: frozenset[int]


def match(now: Sequence[Lesion], then: Sequence[Lesion], error_mm: float) -> Matching:
    """The lesions of two studies matched; error_mm: of the registration that carried them over."""
    if not now or not then:
        return Matching({}, frozenset(), frozenset())
    costs = np.array([[cost(one, other, error_mm) for other in then] for one in now])
    pairs: dict[int, int] = {}
    open_now, open_then = set(), set()
    for row, column in np.ndindex(*costs.shape):
        without = costs.copy()
        without[row, column] = NEVER
        rest = np.delete(np.delete(costs, row, axis=0), column, axis=1)
        gain = _total(without) - (costs[row, column] + _total(rest))
        if gain >= CLEAR:
            pairs[row] = column
        elif gain > -CLEAR:
            open_now.add(row)
            open_then.add(column)
    return Matching(pairs, frozenset(open_now - set(pairs)), frozenset(open_then - set(pairs.values())))


def cost(one: Lesion, other: Lesion, error_mm: float) -> float:
    """What it costs to call two lesions one; NEVER for opposite sides."""
    sides = {one.finding.side, other.finding.side} - {None}
    if len(sides) > 1:
        return NEVER
    spread_mm = hypot(error_mm, OF_EXTENT * max(one.extent_mm, other.extent_mm))
    gap_mm = float(np.linalg.norm(one.place_mm - other.place_mm))
    return (gap_mm / spread_mm) ** 2 + (log(_times(one, other)) / log(FACTOR)) ** 2 + _kinds(one.finding, other.finding)


def _times(one: Lesion, other: Lesion) -> float:
    """The ratio of the volumes, or of the cubes of the long axes, or 1 where neither was measured in both."""
    for code, power in ((VOLUME, 1), (LONG_AXIS, 3)):
        first, second = (each.finding.measurement(code) for each in (one, other))
        if first and second and first.unit == second.unit and min(first.value, second.value) > 0:
            return (first.value / second.value) ** power
    return 1.0


def _kinds(one: Finding, other: Finding) -> float:
    kinds = {one.attribute(ATTENUATION_TYPE), other.attribute(ATTENUATION_TYPE)} - {None}
    if len(kinds) < 2:
        return 0.0
    return ANOTHER_KIND / 4 if PART_SOLID in kinds else ANOTHER_KIND


def _total(costs: Costs) -> float:
    """The cost of the best pairing; lesions without a partner for want of one cost nothing in any of them."""
    clipped = np.minimum(costs, APART)
    return float(clipped[linear_sum_assignment(clipped)].sum())
