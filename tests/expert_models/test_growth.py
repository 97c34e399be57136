"""Growth and doubling times against values worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expert_models.codes import (
    ATTENUATION_TYPE,
    CONSOLIDATION,
    DAY,
    GROUND_GLASS,
    LUNG_NODULE,
    MILLILITER,
    PART_SOLID,
    SOLID,
    VOLUME,
)
from expert_models.compare import compare_findings
from expert_models.finding import Attribute, Change, Code, Comparison, Finding, Measurement
from expert_models.growth import doubling_time, growth_between
from expert_models.wire import CarriedMasks

FIRST = datetime(2025, 1, 1, 8, 0)


def sized(make: Any, ml: float, uid: str = "1.2", concept: Code = LUNG_NODULE, kind: Code | None = None) -> Finding:
    found: Finding = make.found(concept, series_uid=uid, measured=(VOLUME, ml, MILLILITER))
    return replace(found, attributes=(Attribute(ATTENUATION_TYPE, kind),) if kind else ())


@pytest.mark.parametrize(
    ("before", "after", "days", "expected"),
    [
        (0.5, 1.0, 100, 100.0),  # it doubled once
        (0.5, 2.0, 100, 50.0),  # twice
        (1.0, 1.4142135623730951, 90, 180.0),  # half a doubling, the square root of two
    ],
)
def test_a_volume_that_doubles(make: Any, before: float, after: float, days: int, expected: float) -> None:
    time = doubling_time(sized(make, before), sized(make, after), FIRST, FIRST + timedelta(days=days))
    assert time is not None
    assert (time.value, time.unit) == (pytest.approx(expected), DAY)


@given(st.floats(0.91, 100), st.floats(1.26, 50), st.integers(1, 4000))  # from 8 mm on, 25 % are enough
def test_the_volume_after_the_doubling_time_is_twice_the_first(make: Any, ml: float, factor: float, days: int) -> None:
    time = doubling_time(sized(make, ml), sized(make, ml * factor), FIRST, FIRST + timedelta(days=days))
    assert time is not None
    assert factor ** (time.value / days) == pytest.approx(2)


@pytest.mark.parametrize(
    ("before", "after", "days"),
    [(1.0, 1.25, 90), (1.0, 0.5, 90), (1.0, 2.0, 0.5), (1.0, 2.0, -90), (1.0, 2.0, None)],
    ids=["within the repeatability", "smaller", "half a day", "the wrong way round", "no date"],
)
def test_what_has_no_doubling_time(make: Any, before: float, after: float, days: float | None) -> None:
    later = None if days is None else FIRST + timedelta(days=days)
    assert doubling_time(sized(make, before), sized(make, after), FIRST, later) is None


@pytest.mark.parametrize(("kind", "is_told"), [(SOLID, True), (None, True), (PART_SOLID, False), (GROUND_GLASS, False)])
def test_it_is_told_of_nodules_that_are_not_called_anything_but_solid(
    make: Any, kind: Code | None, is_told: bool
) -> None:
    later = FIRST + timedelta(days=90)
    assert (doubling_time(sized(make, 1), sized(make, 2, kind=kind), FIRST, later) is not None) is is_told
    assert (
        doubling_time(sized(make, 1, concept=CONSOLIDATION), sized(make, 2, concept=CONSOLIDATION), FIRST, later)
        is None
    )


def test_a_comparison_holds_it_with_the_dates_of_the_two_studies(make: Any) -> None:
    now, then = make.study(make.ct("1.2"), year=2026), make.study(make.ct("1.9"), uid="2.0", year=2025)
    (grown,) = compare_findings(now, [sized(make, 2.0)], then, [sized(make, 1.0, "1.9")], CarriedMasks()).comparisons
    assert grown.doubling_time is not None
    assert grown.doubling_time.value == pytest.approx(365)
    (shrunk,) = compare_findings(now, [sized(make, 1.0)], then, [sized(make, 2.0, "1.9")], CarriedMasks()).comparisons
    assert shrunk.doubling_time is None


@pytest.mark.parametrize(
    ("before", "factor", "expected"),
    [  # a ball of 6 mm holds 0.113 mL, one of 10 mm 0.524 mL, one of 14 mm 1.437 mL; limits: docs/experts.md
        (0.113, 1.43, Change.STABLE),
        (0.113, 1.45, Change.LARGER),
        (0.113, 1 / 1.43, Change.STABLE),
        (0.113, 1 / 1.45, Change.SMALLER),
        (0.524, 1.24, Change.STABLE),
        (0.524, 1.26, Change.LARGER),
        (1.437, 1.24, Change.STABLE),
        (1.437, 1.26, Change.LARGER),
        (1.437, 0.76, Change.STABLE),  # 25 % downwards too, though 1 / 1.25 is 20 %
        (1.437, 0.74, Change.SMALLER),
    ],
)
def test_a_small_nodule_must_change_by_more(make: Any, before: float, factor: float, expected: Change) -> None:
    change, growth = growth_between(sized(make, before), sized(make, before * factor))
    assert (change, growth) == (expected, pytest.approx(factor - 1))


@pytest.mark.parametrize(("before", "stable", "larger"), [(0.113, 2.2, 2.3), (0.524, 1.44, 1.46), (1.437, 1.35, 1.36)])
@pytest.mark.parametrize("kind", [GROUND_GLASS, PART_SOLID])
def test_a_subsolid_nodule_must_change_by_more(
    make: Any, kind: Code, before: float, stable: float, larger: float
) -> None:
    old = sized(make, before)  # it is enough that one of the two is called so
    assert growth_between(old, sized(make, before * stable, kind=kind))[0] is Change.STABLE
    assert growth_between(old, sized(make, before * larger, kind=kind))[0] is Change.LARGER


@given(st.floats(0.02, 5.0), st.floats(0.02, 5.0), st.floats(1.0, 5.0))
def test_more_growth_is_never_less_of_a_change(make: Any, before: float, after: float, more: float) -> None:
    order = [Change.SMALLER, Change.STABLE, Change.LARGER]
    changes = [growth_between(sized(make, before), sized(make, each))[0] for each in (after, after * more)]
    first, second = (order.index(each) for each in changes if each is not None)
    assert first <= second


def test_other_diseases_have_no_limit_by_size(make: Any) -> None:
    fluid = [sized(make, ml, concept=CONSOLIDATION) for ml in (0.1, 0.13)]
    assert growth_between(*fluid)[0] is Change.LARGER


def test_nothing_but_growth_has_a_doubling_time(make: Any) -> None:
    time = Measurement(VOLUME, 9.0, DAY)
    with pytest.raises(ValueError, match="only what grew"):
        Comparison("c1", Change.STABLE, "2.0", "2.25.1", "f1", sized(make, 1.0), 0.1, time)
