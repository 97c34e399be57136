"""Which lesion is which: costs by hand, and lesions of which nothing can be told."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expert_models.codes import (
    ATTENUATION_TYPE,
    GROUND_GLASS,
    LUNG_NODULE,
    MILLILITER,
    PART_SOLID,
    SOLID,
    VOLUME,
)
from expert_models.finding import Attribute, Code, Side
from expert_models.match import NEVER, Lesion, cost, match


def lesion(
    make: Any, x: float, y: float = 0.0, *, ml: float = 1.0, side: Side | None = None, kind: Code | None = None
) -> Lesion:
    """A nodule without extent at a place in mm."""
    found = make.found(LUNG_NODULE, side=side, measured=(VOLUME, ml, MILLILITER))
    attributes = (Attribute(ATTENUATION_TYPE, kind),) if kind else ()
    return Lesion(replace(found, attributes=attributes), np.array([x, y, 0.0]), 0.0)


def test_costs_by_hand(make: Any) -> None:
    here = lesion(make, 0.0)
    assert cost(here, lesion(make, 6.0), 3.0) == pytest.approx(4.0)  # two errors away
    assert cost(here, lesion(make, 0.0, ml=4.0), 3.0) == pytest.approx(1.0)  # four times the volume
    assert cost(here, lesion(make, 3.0, 4.0, ml=0.25), 5.0) == pytest.approx(2.0)  # one of each
    assert cost(lesion(make, 0, kind=SOLID), lesion(make, 0, kind=GROUND_GLASS), 3.0) == pytest.approx(4.0)
    assert cost(lesion(make, 0, kind=SOLID), lesion(make, 0, kind=PART_SOLID), 3.0) == pytest.approx(1.0)
    assert cost(lesion(make, 0, side=Side.LEFT), lesion(make, 0, side=Side.RIGHT), 3.0) == NEVER
    wide = Lesion(here.finding, np.array([5.0, 0, 0]), 24.0)  # 24 mm wide: its middle is known to 4 mm
    assert cost(here, wide, 3.0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("gap_mm", "is_pair", "is_open"), [(0, True, False), (10, True, False), (12, False, True), (14, False, False)]
)
def test_two_alone(make: Any, gap_mm: float, is_pair: bool, is_open: bool) -> None:
    """With an error of 3 mm: one thing up to 3 * sqrt(12) = 10.4 mm, two beyond 13.4 mm, open between."""
    matching = match([lesion(make, 0.0)], [lesion(make, gap_mm)], 3.0)
    assert (matching.pairs == {0: 0}, matching.open_now == {0}) == (is_pair, is_open)
    assert 3 * sqrt(12) < 12 < 3 * sqrt(20)


def test_the_best_pairing_is_of_all_and_not_of_the_nearest_first(make: Any) -> None:
    """Both lesions moved by 6 mm; the second lies nearest to where the first was, and is none the less the second."""
    now, then = [lesion(make, 6.0), lesion(make, 16.0)], [lesion(make, 0.0), lesion(make, 10.0)]
    assert match(now, then, 3.0).pairs == {0: 0, 1: 1}


def test_one_between_two_is_neither(make: Any) -> None:
    matching = match([lesion(make, 5.0)], [lesion(make, 0.0), lesion(make, 10.0)], 3.0)
    assert (matching.pairs, matching.open_now, matching.open_then) == ({}, {0}, {0, 1})


def test_size_and_kind_tell_apart_what_place_does_not(make: Any) -> None:
    then = [lesion(make, 0.0, ml=0.2, kind=SOLID), lesion(make, 2.0, ml=5.0, kind=GROUND_GLASS)]
    now = [lesion(make, 1.0, ml=5.0, kind=GROUND_GLASS), lesion(make, 1.0, ml=0.2, kind=SOLID)]
    assert match(now, then, 3.0).pairs == {0: 1, 1: 0}


@given(st.lists(st.integers(0, 20), min_size=1, max_size=6, unique=True), st.randoms(use_true_random=False))
def test_the_order_does_not_matter_and_no_lesion_has_two_partners(make: Any, places: Any, random: Any) -> None:
    then = [lesion(make, 15.0 * place) for place in places]
    order = random.sample(range(len(places)), len(places))
    matching = match([lesion(make, 15.0 * places[index] + 2) for index in order], then, 3.0)
    assert matching.pairs == dict(enumerate(order))
    assert matching.open_now == matching.open_then == frozenset()
