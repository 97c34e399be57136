"""One lesion, one Tracking UID: over any number of visits, whatever version of an expert finds it, whoever named it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dicom_io.study import Tracked
from expert_models.codes import CARDIOMEGALY, CARDIOTHORACIC_RATIO, LUNG, LUNG_NODULE, MILLILITER, RATIO, VOLUME
from expert_models.compare import compare_findings
from expert_models.finding import Box, Comparison, Finding, Presence
from expert_models.tracking import known_uids, tracked_by, tracking_uid, tracking_uid_in
from expert_models.wire import CarriedMasks

# Places in a CT of 20 cubed voxels of 1 cm, at least 8 cm from one another: more than two visits ever move them.
PLACES = [(a, b, c) for a in (3, 11) for b in (3, 11) for c in (3, 11)]
places = st.lists(st.sampled_from(PLACES), min_size=1, max_size=5, unique=True)


def nodules(make: Any, uid: str, centres: list[tuple[int, int, int]], grow: int = 0) -> list[Finding]:
    """Nodules as an expert finds them: boxes around their places, `grow` voxels larger on each side."""
    return [
        make.found(
            LUNG_NODULE,
            number=number,
            series_uid=uid,
            box=Box(tuple(a - grow for a in centre), tuple(a + 2 + grow for a in centre)),
            measured=(VOLUME, 1.0 + number, MILLILITER),
        )
        for number, centre in enumerate(centres, 1)
    ]


@given(places, st.randoms(use_true_random=False), st.booleans())
def test_three_visits_share_one_uid_a_lesion(make: Any, centres: Any, random: Any, is_updated: bool) -> None:
    """A is reported, B is compared with A, C with B; each time the experts list the lesions in another order.

    is_updated: the experts were replaced after B's report by others that outline more widely.
    """
    uids: list[dict[tuple[int, int, int], str]] = []
    prior, reported = None, None
    for visit in range(3):
        order = random.sample(centres, len(centres))
        study = make.study(make.ct(f"1.{visit}", 20), uid=f"2.{visit}")
        found = nodules(make, f"1.{visit}", order, grow=int(is_updated and visit == 2))
        comparisons: Sequence[Comparison] = ()
        if prior is not None and reported is not None:
            before, made = reported
            seen_again = nodules(
                make, prior.series[0].uid, [each for each, _ in before], grow=int(is_updated and visit == 2)
            )
            followed = replace(prior, tracked=tracked_by(prior.uid, [each for _, each in before], made))
            comparisons = compare_findings(study, found, followed, seen_again, CarriedMasks()).comparisons
            assert len(comparisons) == len(centres)
        uids.append(
            {place: tracking_uid_in(study.uid, each, comparisons) for place, each in zip(order, found, strict=True)}
        )
        prior, reported = study, (list(zip(order, found, strict=True)), comparisons)
    assert uids[0] == uids[1] == uids[2]
    assert len(set(uids[0].values())) == len(centres)


def test_without_a_report_on_the_prior_its_own_finding_names_the_lesion(make: Any) -> None:
    now, then = make.study(make.ct("1.2", 20)), make.study(make.ct("1.9", 20), uid="2.0")
    current, before = nodules(make, "1.2", [PLACES[0]]), nodules(make, "1.9", [PLACES[0]])
    (comparison,) = compare_findings(now, current, then, before, CarriedMasks()).comparisons
    assert comparison.tracking_uid == tracking_uid("2.0", before[0])


def test_a_heart_keeps_the_uid_of_its_report_by_name(make: Any) -> None:
    """Another maker's report says no place: one such thing, one such finding."""
    heart = make.found(CARDIOMEGALY, series_uid="1.9", measured=(CARDIOTHORACIC_RATIO, 0.6, RATIO))
    followed = Tracked("3.4.5", (CARDIOMEGALY.value, CARDIOMEGALY.scheme))
    then = replace(make.study(make.film("1.9"), uid="2.0"), tracked=(followed,))
    assert known_uids(then, [heart]) == {"f1": "3.4.5"}
    assert known_uids(replace(then, tracked=(followed, replace(followed, uid="3.4.6"))), [heart]) == {}


def tracked_at(centre: tuple[int, int, int], size: int = 1, **more: Any) -> Tracked:
    box = (centre, tuple(a + size for a in centre))
    return replace(Tracked("3.4.5", ("27925004", "SCT"), None, "1.9", box), **more)


def test_another_makers_nodule_is_known_by_its_place(make: Any) -> None:
    then = make.study(make.ct("1.9", 20), uid="2.0")
    found = nodules(make, "1.9", [PLACES[0], PLACES[1]])
    assert known_uids(replace(then, tracked=(tracked_at(PLACES[1]),)), found) == {"f2": "3.4.5"}
    assert known_uids(replace(then, tracked=(tracked_at((3, 7, 3)),)), found) == {}, "4 cm beside them is neither"
    assert known_uids(replace(then, tracked=(tracked_at(PLACES[1], side="left"),)), found) == {"f2": "3.4.5"}
    lungs = [make.found(LUNG, series_uid="1.9", box=Box(PLACES[1], tuple(a + 1 for a in PLACES[1])))]
    assert known_uids(replace(then, tracked=(tracked_at(PLACES[1]),)), lungs) == {}, "an organ is not a nodule"


def test_a_report_follows_what_is_there_and_not_what_nobody_looked_for(make: Any) -> None:
    findings = [make.found(LUNG_NODULE, series_uid="1.2"), make.found(CARDIOMEGALY, Presence.NOT_ASSESSED, number=2)]
    (tracked,) = tracked_by("2.1", findings, [])
    assert (tracked.uid, tracked.series_uid) == (tracking_uid("2.1", findings[0]), "1.2")
    assert np.array_equal(tracked.box_index, ((0, 0, 0), (1, 2, 2)))
