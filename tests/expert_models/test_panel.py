from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dicom_io.study import Geometry, Modality, Volume
from expert_models.codes import (
    CARDIOMEGALY,
    CARDIOTHORACIC_RATIO,
    HEART,
    LUNG,
    LUNG_NODULE,
    MILLILITER,
    PICTURE_FITNESS,
    RATIO,
    VOLUME,
)
from expert_models.ct_lungs import IMAGED_VOLUME
from expert_models.errors import MasksUnavailable, WeightsMismatch
from expert_models.finding import Box, Change, Code, Compared, Presence, Side
from expert_models.panel import Panel


def test_findings_of_all_experts_are_numbered_through(make: Any, masks: Any) -> None:
    panel = Panel([make.expert("a"), make.expert("b", concepts=(CARDIOMEGALY,))], masks)
    findings = panel.examine(make.study(make.film()))
    assert [(each.id, each.concept, each.expert.name) for each in findings] == [
        ("f1", LUNG, "a"),
        ("f2", HEART, "a"),
        ("f3", CARDIOMEGALY, "b"),
    ]


def test_a_failing_expert_is_named_and_the_others_stand(make: Any, masks: Any) -> None:
    broken = make.expert("broken", error=RuntimeError("patient Doe 1951"))
    findings = Panel([broken, make.expert("sound", concepts=(LUNG_NODULE,))], masks).examine(make.study(make.film()))
    assert [(each.concept, each.presence) for each in findings] == [
        (LUNG, Presence.NOT_ASSESSED),
        (HEART, Presence.NOT_ASSESSED),
        (LUNG_NODULE, Presence.PRESENT),
    ]
    assert findings[0].reason == "the expert broken failed (RuntimeError)"


def test_our_own_errors_are_told_in_full(make: Any, masks: Any) -> None:
    broken = make.expert("broken", error=WeightsMismatch("the weights of broken are missing"))
    findings = Panel([broken], masks).examine(make.study(make.film()))
    assert findings[0].reason == "the expert broken failed: the weights of broken are missing"


def test_an_expert_that_fails_while_refusing_stops_nobody(make: Any, masks: Any) -> None:
    class Touchy(make.expert):  # type: ignore[misc]
        def refuses(self, series: object) -> str | None:
            raise KeyError("no")

    findings = Panel([Touchy("touchy"), make.expert("sound")], masks).examine(make.study(make.film()))
    assert [each.presence for each in findings] == [Presence.NOT_ASSESSED] * 2 + [Presence.PRESENT] * 2


def test_a_study_that_everyone_refuses_is_not_silently_normal(make: Any, masks: Any) -> None:
    radiograph = make.expert("x", refuses_because="the view LL is not frontal")
    volume = make.expert("ct", modality=Modality.CT, concepts=(LUNG, LUNG_NODULE))
    findings = Panel([radiograph, volume], masks).examine(make.study(make.film(), make.film("1.3")))
    assert [(each.id, each.concept, each.reason) for each in findings] == [
        ("f1", LUNG, "the view LL is not frontal; the modality is not CT"),
        ("f2", HEART, "the view LL is not frontal"),
        ("f3", LUNG_NODULE, "the modality is not CT"),
    ]
    assert {each.presence for each in findings} == {Presence.NOT_ASSESSED}


def test_a_study_without_series_says_so(make: Any, masks: Any) -> None:
    findings = Panel([make.expert()], masks).examine(make.study())
    assert {each.reason for each in findings} == {"the study holds no picture that an expert could read"}


def test_of_two_reconstructions_the_finer_is_read_once(make: Any, masks: Any) -> None:
    expert = make.expert(modality=Modality.CT, says=lambda series: [make.found(LUNG, series_uid=series.uid)])
    thick, thin, other = make.ct("1.2", 10), make.ct("1.3", 40), make.ct("1.4", 5, frame="8.8")
    findings = Panel([expert], masks).examine(make.study(thick, thin, other))
    assert [each.regions[0].series_uid for each in findings] == ["1.3", "1.4"]


def test_two_places_in_one_frame_of_reference_are_both_read(make: Any, masks: Any) -> None:
    """A chest of 10 cm and an abdomen of 40 cm, the patient not moved: coarse or not, nobody else shows the chest."""
    expert = make.expert(modality=Modality.CT, says=lambda series: [make.found(LUNG, series_uid=series.uid)])
    abdomen, chest = make.ct("1.3", 40), make.ct("1.2", 10)
    affine = chest.volume.geometry.affine.copy()
    affine[2, 3] = 360.0  # begins 36 cm up: 4 of its 10 cm lie in the other
    chest = replace(chest, volume=Volume(chest.volume.voxels, Geometry(affine, "9.9")))
    findings = Panel([expert], masks).examine(make.study(abdomen, chest))
    assert [each.regions[0].series_uid for each in findings] == ["1.3", "1.2"]


def test_the_same_pixels_are_examined_once(make: Any, masks: Any) -> None:
    expert = make.expert()
    panel = Panel([expert], masks)
    prior = make.study(make.film("1.9", seed=1), uid="2.0", year=2025)
    now = make.study(make.film(), priors=(prior,))
    findings = panel.examine(now)
    panel.compare(now, findings)
    panel.examine(prior)
    assert expert.asked == 2


def test_the_prior_goes_through_the_same_path(make: Any, masks: Any) -> None:
    ratios = {"1.1": 0.56, "1.9": 0.49}

    def says(series: Any) -> list[Any]:
        ratio = ratios[series.uid]
        presence = Presence.PRESENT if ratio > 0.5 else Presence.ABSENT
        measured = (CARDIOTHORACIC_RATIO, ratio, RATIO)
        return [make.found(CARDIOMEGALY, presence, series_uid=series.uid, measured=measured)]

    panel = Panel([make.expert(says=says)], masks)
    now = make.study(make.film(), priors=(make.study(make.film("1.9", seed=1), uid="2.0", year=2025),))
    (comparison,) = panel.compare(now, panel.examine(now)).comparisons
    assert (comparison.id, comparison.change, comparison.finding_id) == ("c1", Change.NEW, "f1")
    assert comparison.prior_study_uid == "2.0"
    assert comparison.prior_finding is None


def test_a_nodule_that_another_expert_leads_is_not_told_as_resolved(make: Any, masks: Any) -> None:
    shared, other = Box((2, 4, 3), (4, 6, 5)), Box((7, 14, 15), (8, 15, 16))

    def expert(name: str, *boxes: Box) -> Any:
        def says(series: Any) -> list[Any]:
            return [
                make.found(
                    LUNG_NODULE, number=number, expert=name, side=Side.RIGHT if box is shared else Side.LEFT,
                    series_uid=series.uid, box=box, measured=(VOLUME, 1.0, MILLILITER),
                )
                for number, box in enumerate(boxes, 1)
            ]  # fmt: skip

        return make.expert(name, Modality.CT, concepts=(LUNG_NODULE,), says=says)

    panel = Panel([expert("a", shared), expert("b", shared, other)], masks)
    prior = make.study(make.ct("1.9"), uid="2.0", year=2025)
    # Other voxels than the prior's, or both would be one series of one place.
    now = make.study(make.ct("1.2", frame="9.8"), priors=(prior,))
    findings = panel.examine(now)
    assert [each.led_by for each in findings] == [None, "f1", None]
    told = [(each.change, each.finding_id) for each in panel.compare(now, findings).comparisons]
    assert told == [(Change.STABLE, "f1"), (Change.STABLE, "f3")]


def test_without_a_prior_there_is_no_comparison(make: Any, masks: Any) -> None:
    panel = Panel([make.expert()], masks)
    now = make.study(make.film(), priors=(make.study(make.ct(), uid="2.0"),))
    assert panel.compare(now, panel.examine(now)) == Compared()


def test_a_store_that_takes_no_masks_ends_the_examination(make: Any, masks: Any) -> None:
    full = make.expert("sound", error=MasksUnavailable("masks cannot be kept: the disk is full"))
    with pytest.raises(MasksUnavailable):
        Panel([full], masks).examine(make.study(make.film()))


def test_a_reconstruction_that_is_not_read_is_named(make: Any, masks: Any) -> None:
    thick, thin = make.ct("1.2", 10), make.ct("1.3", 40)
    panel = Panel([make.expert(modality=Modality.CT), make.expert("film")], masks)
    now = make.study(thick, thin, make.film())
    assert panel.remarks(now, panel.examine(now)) == (
        "Series 1 of 3 (10 slices) was not read by the experts: another series shows the same place in 40 slices.",
    )
    assert panel.remarks(make.study(thin), ()) == ()


def test_experts_that_contradict_one_another_are_both_heard(make: Any, masks: Any) -> None:
    def expert(name: str, presence: Presence, side: Side | None = None, modality: Modality = Modality.CT) -> Any:
        says = [make.found(LUNG_NODULE, presence, expert=name, side=side)]
        return make.expert(name, modality, concepts=(LUNG_NODULE,), says=lambda series: says)

    panel = Panel(
        [
            expert("one", Presence.PRESENT, Side.LEFT),
            expert("two", Presence.ABSENT),
            expert("three", Presence.ABSENT, Side.RIGHT),  # of the other side
            expert("film", Presence.ABSENT, modality=Modality.DX),  # of other pictures
        ],
        masks,
    )
    now = make.study(make.ct(), make.film())
    findings = panel.examine(now)
    assert [(each.expert.name, each.presence, each.led_by) for each in findings] == [
        ("one", Presence.INDETERMINATE, None),
        ("two", Presence.ABSENT, "f1"),
        ("three", Presence.ABSENT, None),
        ("film", Presence.ABSENT, None),
    ]
    assert panel.remarks(now, findings) == (
        "The experts disagree on Nodule of lung on the left side: two says absent, one does not; it is reported as "
        "indeterminate.",
    )


INVERTED = Code("picture-inverted", "99WETREAD", "Inverted grey scale")
SAID = "the grey scale of the picture seems to be inverted"


def check(make: Any, presence: Presence | None, error: Exception | None = None, of: str = "1.1") -> Any:
    """A check that finds the film of one series inverted, for sure or perhaps, or fails."""

    def says(series: Any) -> list[Any]:
        return [make.found(INVERTED, presence, expert="check")] if presence and series.uid == of else []

    return make.expert("check", concepts=(PICTURE_FITNESS,), says=says, error=error)


def test_what_a_check_refuses_no_expert_is_asked_about(make: Any, masks: Any) -> None:
    expert = make.expert("a", concepts=(LUNG,))
    panel = Panel([check(make, Presence.PRESENT), expert], masks)
    now = make.study(make.film())
    findings = panel.examine(now)
    assert [(each.concept, each.presence, each.reason) for each in findings] == [(LUNG, Presence.NOT_ASSESSED, SAID)]
    assert expert.asked == 0
    assert panel.remarks(now, findings) == ()  # the finding says it already


def test_a_refused_picture_beside_a_fit_one_is_named(make: Any, masks: Any) -> None:
    panel = Panel([make.expert("a", concepts=(LUNG,)), check(make, Presence.PRESENT)], masks)
    now = make.study(make.film(), make.film("1.3", seed=1))
    findings = panel.examine(now)
    assert [each.presence for each in findings] == [Presence.PRESENT]
    assert panel.remarks(now, findings) == (f"Series 1 of 2 was not read by the experts: {SAID}.",)


def test_a_doubt_is_told_and_refuses_nothing(make: Any, masks: Any) -> None:
    panel = Panel([check(make, Presence.INDETERMINATE), make.expert("a", concepts=(LUNG,))], masks)
    now = make.study(make.film())
    findings = panel.examine(now)
    assert [(each.concept, each.presence) for each in findings] == [(LUNG, Presence.PRESENT)]
    assert panel.remarks(now, findings) == (f"Series 1 of 1 may be unfit for the experts: {SAID}.",)


def test_an_expert_that_checks_its_input_itself_is_asked(make: Any, masks: Any) -> None:
    hands = make.expert("hands", concepts=(LUNG,))
    hands.checks_its_input = True
    findings = Panel([check(make, Presence.PRESENT), hands], masks).examine(make.study(make.film()))
    assert [each.presence for each in findings] == [Presence.PRESENT]


def test_a_check_that_fails_is_named_asked_once_and_stops_nobody(make: Any, masks: Any) -> None:
    failing = check(make, None, RuntimeError("x"))
    panel = Panel([failing, make.expert("a", concepts=(LUNG,))], masks)
    now = make.study(make.film())
    findings = panel.examine(now)
    panel.remarks(now, findings)
    assert [(each.concept, each.presence) for each in findings] == [
        (LUNG, Presence.PRESENT),
        (PICTURE_FITNESS, Presence.NOT_ASSESSED),
    ]
    assert findings[1].reason == "the expert check failed (RuntimeError)"
    assert failing.asked == 1


def test_a_ct_that_ends_within_the_lungs_is_named(make: Any, masks: Any) -> None:
    def lung(series: Any) -> list[Any]:
        code = IMAGED_VOLUME if series.uid == "1.2" else VOLUME
        return [make.found(LUNG, series_uid=series.uid, measured=(code, 70.0, MILLILITER))]

    panel = Panel([make.expert(modality=Modality.CT, says=lung)], masks)
    now = make.study(make.ct("1.3", frame="8.8"), make.ct("1.2"))
    assert panel.remarks(now, panel.examine(now)) == (
        "Series 2 of 2 does not show the lungs whole: what is called absent was looked for in the part that was "
        "imaged.",
    )


def test_what_was_kept_without_its_mask_is_examined_again(make: Any, masks: Any) -> None:
    def says(series: Any) -> list[Any]:
        finding = make.found(LUNG, series_uid=series.uid)
        region = replace(finding.regions[0], mask_key=masks.save(np.ones((1, 2, 2), bool)))
        return [replace(finding, regions=(region,))]

    expert = make.expert(says=says)
    panel = Panel([expert], masks)
    now = make.study(make.film())
    assert panel.examine(now) == panel.examine(now)
    assert expert.asked == 1
    masks.kept.clear()
    assert len(panel.examine(now)) == 1
    assert expert.asked == 2


def test_a_comparison_that_fails_is_named_and_costs_no_other(make: Any, masks: Any) -> None:
    def ratio(series: Any) -> list[Any]:
        return [make.found(CARDIOMEGALY, series_uid=series.uid, measured=(CARDIOTHORACIC_RATIO, 0.6, RATIO))]

    def elsewhere(series: Any) -> list[Any]:
        return [make.found(LUNG_NODULE, expert="ct", series_uid="9.9.9")]  # of no series of the study

    panel = Panel([make.expert(says=ratio), make.expert("ct", Modality.CT, says=elsewhere)], masks)
    prior = make.study(make.film("1.9", seed=1), make.ct("1.8"), uid="2.0", year=2025)
    now = make.study(make.film(), make.ct(), priors=(prior,))
    compared = panel.compare(now, panel.examine(now))
    assert "CT was not compared with the prior: it failed (KeyError)." in compared.remarks
    assert [each.change for each in compared.comparisons] == [Change.STABLE]


def test_an_expert_that_could_not_assess_is_not_asked_about_the_prior(make: Any, masks: Any) -> None:
    broken = make.expert("broken", error=RuntimeError("x"))
    panel = Panel([broken, make.expert("sound")], masks)
    now = make.study(make.film(), priors=(make.study(make.film("1.9", seed=1), uid="2.0", year=2025),))
    panel.compare(now, panel.examine(now))
    assert broken.asked == 1
