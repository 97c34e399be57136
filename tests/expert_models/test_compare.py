from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from dicom_io.study import Study
from expert_models.codes import (
    CARDIOMEGALY,
    CARDIOTHORACIC_RATIO,
    CONSOLIDATION,
    HEART,
    LONG_AXIS,
    LUNG,
    LUNG_NODULE,
    MILLILITER,
    MILLIMETER,
    PLEURAL_EFFUSION,
    RATIO,
    VOLUME,
)
from expert_models.compare import comparable_prior, compare_findings
from expert_models.finding import Box, Change, Code, Comparison, Finding, Presence, Side
from expert_models.tracking import tracking_uid
from expert_models.wire import CarriedMasks


def changes_of(study: Study, current: Sequence[Finding], prior: Study, before: Sequence[Finding]) -> list[Comparison]:
    """The comparisons of findings without masks: lesions are placed by their share of the lungs' extent."""
    return list(compare_findings(study, current, prior, before, CarriedMasks()).comparisons)


PRESENT, ABSENT, UNSURE = Presence.PRESENT, Presence.ABSENT, Presence.INDETERMINATE


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((ABSENT, 0.48), (PRESENT, 0.56), Change.NEW),
        ((PRESENT, 0.56), (ABSENT, 0.46), Change.RESOLVED),
        ((PRESENT, 0.56), (PRESENT, 0.62), Change.LARGER),
        ((PRESENT, 0.62), (PRESENT, 0.56), Change.SMALLER),
        ((PRESENT, 0.56), (PRESENT, 0.57), Change.STABLE),
        ((ABSENT, 0.495), (PRESENT, 0.505), Change.STABLE),  # flipped, but within what the measurement varies by
        ((UNSURE, 0.50), (PRESENT, 0.56), Change.LARGER),
        ((PRESENT, 0.56), (UNSURE, 0.55), Change.STABLE),
    ],
)
def test_heart_size_by_the_ratio(make: Any, before: Any, after: Any, expected: Change) -> None:
    now, then = make.study(make.film()), make.study(make.film("1.9"), uid="2.0")
    current = make.found(CARDIOMEGALY, after[0], series_uid="1.1", measured=(CARDIOTHORACIC_RATIO, after[1], RATIO))
    prior = make.found(CARDIOMEGALY, before[0], series_uid="1.9", measured=(CARDIOTHORACIC_RATIO, before[1], RATIO))
    (comparison,) = changes_of(now, [current], then, [prior])
    assert comparison.change is expected
    assert comparison.growth == pytest.approx(after[1] / before[1] - 1)
    assert (comparison.prior_finding is None) == (expected is Change.NEW)
    assert (comparison.finding_id is None) == (expected is Change.RESOLVED)


def test_a_heart_of_normal_size_twice_is_compared_as_the_heart(make: Any) -> None:
    now, then = make.study(make.film()), make.study(make.film("1.9"), uid="2.0")

    def heart(uid: str, ratio: float) -> list[Any]:
        measured = (CARDIOTHORACIC_RATIO, ratio, RATIO)
        return [
            make.found(HEART, PRESENT, number=1, series_uid=uid, measured=measured),
            make.found(CARDIOMEGALY, ABSENT, number=2, series_uid=uid, measured=measured),
        ]

    (comparison,) = changes_of(now, heart("1.1", 0.47), then, heart("1.9", 0.40))
    assert (comparison.change, comparison.finding_id) == (Change.LARGER, "f1")


@pytest.mark.parametrize("other", [Presence.NOT_ASSESSED, None])
def test_nothing_is_new_where_the_prior_was_not_assessed(make: Any, other: Presence | None) -> None:
    now, then = make.study(make.film()), make.study(make.film("1.9"), uid="2.0")
    before = [make.found(CARDIOMEGALY, other), make.found(LUNG_NODULE, other)] if other else []
    current = [make.found(CARDIOMEGALY, series_uid="1.1"), make.found(LUNG_NODULE, series_uid="1.1")]
    assert changes_of(now, current, then, before) == []


def test_hearts_of_different_views_are_not_compared(make: Any) -> None:
    now, then = make.study(make.film(view="PA")), make.study(make.film("1.9", view="AP"), uid="2.0")
    current = make.found(CARDIOMEGALY, PRESENT, series_uid="1.1", measured=(CARDIOTHORACIC_RATIO, 0.60, RATIO))
    prior = make.found(CARDIOMEGALY, ABSENT, series_uid="1.9", measured=(CARDIOTHORACIC_RATIO, 0.50, RATIO))
    assert changes_of(now, [current], then, [prior]) == []


def test_another_experts_finding_is_not_compared(make: Any) -> None:
    now, then = make.study(make.film()), make.study(make.film("1.9"), uid="2.0")
    current = make.found(CARDIOMEGALY, PRESENT, series_uid="1.1", expert="one")
    prior = make.found(CARDIOMEGALY, ABSENT, series_uid="1.9", expert="another")
    assert changes_of(now, [current], then, [prior]) == []


def nodule(make: Any, uid: str, number: int, centre: tuple[int, int, int], ml: float, **more: Any) -> Any:
    box = Box(centre, (centre[0] + 1, centre[1] + 1, centre[2] + 1))
    return make.found(LUNG_NODULE, number=number, series_uid=uid, box=box, measured=(VOLUME, ml, MILLILITER), **more)


def lungs(make: Any, uid: str, lower: int) -> list[Any]:
    """Two lungs from slice `lower` to slice 20, rows 2 to 18: the right one in columns 1 to 9, the left in 11 to 19."""
    return [
        make.found(
            LUNG, number=8, series_uid=uid, side=Side.RIGHT, box=Box((lower, 2, 1), (20, 18, 9)), expert="lungs"
        ),
        make.found(
            LUNG, number=9, series_uid=uid, side=Side.LEFT, box=Box((lower, 2, 11), (20, 18, 19)), expert="lungs"
        ),
    ]


def test_nodules_are_matched_by_place_in_lungs_that_breathed_in(make: Any) -> None:
    # The prior's lungs are 10 slices tall, today's 20; lying at the same share of the lung is at another millimetre.
    now, then = make.study(make.ct("1.2", 20)), make.study(make.ct("1.9", 20, offset_mm=40), uid="2.0")
    before = [
        nodule(make, "1.9", 1, (12, 5, 3), 1.0, side=Side.RIGHT),
        nodule(make, "1.9", 2, (15, 12, 14), 1.0, side=Side.LEFT),
        nodule(make, "1.9", 3, (18, 12, 5), 1.0, side=Side.RIGHT),
        *lungs(make, "1.9", 10),
    ]
    current = [
        nodule(make, "1.2", 1, (10, 12, 14), 1.1, side=Side.LEFT),  # 10 % larger: within the repeatability
        nodule(make, "1.2", 2, (4, 5, 3), 2.0, side=Side.RIGHT),  # doubled
        nodule(make, "1.2", 3, (10, 16, 18), 1.0, side=Side.LEFT),
        *lungs(make, "1.2", 0),
    ]
    comparisons = changes_of(now, current, then, before)
    assert [(each.finding_id, each.change) for each in comparisons] == [
        ("f1", Change.STABLE),
        ("f2", Change.LARGER),
        ("f3", Change.NEW),
        (None, Change.RESOLVED),
    ]
    assert comparisons[1].growth == pytest.approx(1.0)
    assert comparisons[3].prior_finding is before[2]


def test_nodules_of_opposite_sides_are_never_one(make: Any) -> None:
    now, then = make.study(make.ct("1.2", 20)), make.study(make.ct("1.9", 20), uid="2.0")
    current = [nodule(make, "1.2", 1, (10, 9, 9), 1.0, side=Side.RIGHT)]
    before = [nodule(make, "1.9", 1, (10, 9, 10), 1.0, side=Side.LEFT)]
    changes = [each.change for each in changes_of(now, current, then, before)]
    assert changes == [Change.NEW, Change.RESOLVED]


@pytest.mark.parametrize(("after", "expected"), [(9.0, Change.STABLE), (9.6, Change.LARGER), (6.4, Change.SMALLER)])
def test_without_volumes_the_long_axis_decides(make: Any, after: float, expected: Change) -> None:
    now, then = make.study(make.ct("1.2", 20)), make.study(make.ct("1.9", 20), uid="2.0")
    current = make.found(LUNG_NODULE, series_uid="1.2", measured=(LONG_AXIS, after, MILLIMETER))
    prior = make.found(LUNG_NODULE, series_uid="1.9", measured=(LONG_AXIS, 8.0, MILLIMETER))
    assert [each.change for each in changes_of(now, [current], then, [prior])] == [expected]


def test_an_unsure_candidate_is_neither_new_nor_resolved(make: Any) -> None:
    now, then = make.study(make.ct("1.2", 20)), make.study(make.ct("1.9", 20), uid="2.0")
    absent = make.found(LUNG_NODULE, ABSENT)
    assert changes_of(now, [make.found(LUNG_NODULE, UNSURE, series_uid="1.2")], then, [absent]) == []
    assert changes_of(now, [absent], then, [make.found(LUNG_NODULE, UNSURE, series_uid="1.9")]) == []


def test_the_prior_of_the_same_view_is_preferred_and_the_newest_otherwise(make: Any) -> None:
    newest = make.study(make.film("1.9", view="AP"), uid="2.9", year=2025)
    older = make.study(make.film("1.8", view="PA"), uid="2.8", year=2024)
    scan = make.study(make.ct("1.7"), uid="2.7", year=2023)
    priors = (newest, older, scan)

    def chosen(series: Any, is_projection: bool) -> str | None:
        prior = comparable_prior(make.study(series, priors=priors), is_projection)
        return prior.uid if prior else None

    assert chosen(make.film(view="PA"), True) == "2.8"
    assert chosen(make.film(view=None), True) == "2.9"
    assert chosen(make.ct(), False) == "2.7"
    assert comparable_prior(make.study(make.ct(), priors=(newest,)), False) is None


def test_a_tracking_uid_is_a_valid_uid_and_always_the_same(make: Any) -> None:
    finding = make.found(LUNG_NODULE, series_uid="1.2")
    uid = tracking_uid("2.0", finding)
    assert uid == tracking_uid("2.0", finding) != tracking_uid("2.1", finding)
    assert re.fullmatch(r"2\.25\.(0|[1-9]\d*)", uid)
    assert len(uid) <= 64


def test_lesions_that_nobody_can_tell_apart_are_not_compared(make: Any) -> None:
    """Two consolidations beside one, and an added expert's lesions of the liver: which became which is not known."""
    now, then = make.study(make.ct()), make.study(make.ct("1.9"), uid="2.0")

    def volume(concept: Code, ml: float, uid: str) -> Any:
        return make.found(concept, series_uid=uid, measured=(VOLUME, ml, MILLILITER))

    lesion = Code("126851005", "SCT", "Neoplasm of liver")
    one, other, before = (volume(CONSOLIDATION, ml, uid) for ml, uid in ((9, "1.2"), (2, "1.2"), (5, "1.9")))
    assert changes_of(now, [one, other], then, [before]) == []
    assert changes_of(now, [volume(lesion, 9, "1.2")], then, [volume(lesion, 5, "1.9")]) == []
    (alone,) = changes_of(now, [one], then, [before])
    assert alone.change is Change.LARGER


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (PRESENT, PRESENT, []),  # neither larger nor stable: nothing measures it
        (ABSENT, PRESENT, [Change.NEW]),
        (PRESENT, ABSENT, [Change.RESOLVED]),
    ],
)
def test_a_shadow_on_films_has_no_size(make: Any, before: Presence, after: Presence, expected: list[Change]) -> None:
    now, then = make.study(make.film()), make.study(make.film("1.9"), uid="2.0")
    current = make.found(PLEURAL_EFFUSION, after, series_uid="1.1")
    prior = make.found(PLEURAL_EFFUSION, before, series_uid="1.9")
    assert [each.change for each in changes_of(now, [current], then, [prior])] == expected


@pytest.mark.parametrize("before", [PRESENT, UNSURE])
def test_two_signs_without_a_probability_are_not_compared_by_size(make: Any, before: Presence) -> None:
    now, then = make.study(make.ct("1.2")), make.study(make.ct("1.9"), uid="2.0")
    current = make.found(PLEURAL_EFFUSION, UNSURE, side=Side.LEFT, measured=(VOLUME, 400.0, MILLILITER))
    prior = make.found(PLEURAL_EFFUSION, before, side=Side.LEFT, measured=(VOLUME, 200.0, MILLILITER))
    found = [each.change for each in changes_of(now, [current], then, [prior])]
    assert found == ([Change.LARGER] if before is PRESENT else [])


def test_hearts_on_ct_are_not_compared_by_the_limit_of_films(make: Any) -> None:
    now, then = make.study(make.ct("1.2")), make.study(make.ct("1.9"), uid="2.0")
    current = make.found(HEART, PRESENT, series_uid="1.2", measured=(CARDIOTHORACIC_RATIO, 0.60, RATIO))
    prior = make.found(HEART, PRESENT, series_uid="1.9", measured=(CARDIOTHORACIC_RATIO, 0.50, RATIO))
    assert changes_of(now, [current], then, [prior]) == []
