from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from expert_models.codes import CONSOLIDATION, LUNG, LUNG_MASS, LUNG_NODULE, PLEURAL_EFFUSION
from expert_models.finding import Box, Presence, Side
from expert_models.panel import Panel
from expert_models.reconcile import disagreements, reconciled
from medmllm.template import TemplateWriter


def box(start: int, stop: int) -> Box:
    """A cube from start to stop on every axis."""
    return Box((start,) * 3, (stop,) * 3)


def led(findings: Any, masks: Any) -> dict[str, str | None]:
    return {each.id: each.led_by for each in reconciled(findings, masks)}


def test_two_experts_of_one_effusion_are_one_statement(make: Any, masks: Any) -> None:
    one = make.found(PLEURAL_EFFUSION, number=1, expert="a", side=Side.LEFT)
    calibrated = replace(make.found(PLEURAL_EFFUSION, number=2, expert="b", side=Side.LEFT), probability=0.9)
    other = make.found(PLEURAL_EFFUSION, number=3, expert="b", side=Side.RIGHT)
    assert led([one, calibrated, other], masks) == {"f1": "f2", "f2": None, "f3": None}
    assert list(disagreements(reconciled([one, calibrated, other], masks))) == []


def test_findings_of_one_expert_are_never_merged(make: Any, masks: Any) -> None:
    nodules = [make.found(LUNG_NODULE, number=n, series_uid="1", box=box(0, 4)) for n in (1, 2)]
    assert led(nodules, masks) == {"f1": None, "f2": None}


def test_a_nodule_that_two_experts_find_is_told_once_by_place(make: Any, masks: Any) -> None:
    first = make.found(LUNG_NODULE, number=1, expert="a", series_uid="1", box=box(0, 10))
    # 8 x 8 x 8 of 10 x 10 x 10 in common: 512 / (1000 + 1000 - 512) is 0.34
    same = make.found(LUNG_MASS, number=2, expert="b", series_uid="1", box=box(2, 12))
    apart = make.found(LUNG_NODULE, number=3, expert="b", series_uid="1", box=box(7, 17))  # 27 / 1973
    elsewhere = make.found(LUNG_NODULE, number=4, expert="b", series_uid="2", box=box(0, 10))
    assert led([first, same, apart, elsewhere], masks) == {"f1": None, "f2": "f1", "f3": None, "f4": None}


def test_masks_decide_where_boxes_meet(make: Any, masks: Any) -> None:
    half = np.zeros((10, 10, 10), bool)
    half[:5] = True
    pair = []
    for number, mask in ((1, half), (2, ~half)):
        finding = make.found(LUNG_NODULE, number=number, expert=str(number), series_uid="1", box=box(0, 10))
        pair.append(replace(finding, regions=(replace(finding.regions[0], mask_key=masks.save(mask)),)))
    assert led(pair, masks) == {"f1": None, "f2": None}


def test_a_nodule_in_a_consolidation_is_led_by_it_and_most_of_it_leads(make: Any, masks: Any) -> None:
    whole = make.found(CONSOLIDATION, number=1, expert="chest", side=Side.LEFT, series_uid="1", box=box(0, 20))
    inside = make.found(LUNG_NODULE, number=2, expert="nodules", side=Side.LEFT, series_uid="1", box=box(2, 8))
    findings = reconciled([whole, inside], masks)
    assert [each.led_by for each in findings] == [None, "f1"]
    assert list(disagreements(findings)) == [
        "Lung consolidation on the left side of chest and Nodule of lung of nodules lie in one place and are reported "
        "once."
    ]
    mass = make.found(LUNG_MASS, number=2, expert="nodules", side=Side.LEFT, series_uid="1", box=box(0, 18))
    assert led([whole, mass], masks) == {"f1": "f2", "f2": None}  # 5832 of 8000
    beside = make.found(LUNG_NODULE, number=2, expert="nodules", series_uid="1", box=box(17, 27))
    assert led([whole, beside], masks) == {"f1": None, "f2": None}


def test_what_is_only_possible_leads_nothing_that_is_there(make: Any, masks: Any) -> None:
    whole = make.found(
        CONSOLIDATION, Presence.INDETERMINATE, number=1, expert="chest", side=Side.LEFT, series_uid="1", box=box(0, 20)
    )
    inside = make.found(LUNG_NODULE, number=2, expert="nodules", side=Side.LEFT, series_uid="1", box=box(2, 8))
    assert led([whole, inside], masks) == {"f1": None, "f2": None}
    unsure = replace(inside, presence=Presence.INDETERMINATE)
    assert led([whole, unsure], masks) == {"f1": None, "f2": "f1"}
    sign = make.found(PLEURAL_EFFUSION, Presence.INDETERMINATE, number=1, expert="chest", side=Side.LEFT)
    added = make.found(PLEURAL_EFFUSION, number=2, expert="added", side=Side.LEFT)
    assert led([sign, added], masks) == {"f1": "f2", "f2": None}


def test_a_contradiction_makes_the_leading_one_indeterminate(make: Any, masks: Any) -> None:
    absent = replace(make.found(LUNG_NODULE, Presence.ABSENT, number=1, expert="a"), probability=0.05)
    here = make.found(LUNG_NODULE, number=2, expert="b", side=Side.LEFT, series_uid="1", box=box(0, 4))
    there = make.found(LUNG_NODULE, number=3, expert="b", side=Side.RIGHT, series_uid="1", box=box(8, 12))
    findings = reconciled([absent, here, there], masks)
    assert [(each.led_by, each.presence) for each in findings] == [
        ("f2", Presence.ABSENT),
        (None, Presence.INDETERMINATE),
        (None, Presence.INDETERMINATE),
    ]
    assert list(disagreements(findings)) == [
        "The experts disagree on Nodule of lung on the left side: a says absent, b does not; it is reported as "
        "indeterminate."
    ]


def test_what_was_not_assessed_takes_no_part(make: Any, masks: Any) -> None:
    dead = make.found(PLEURAL_EFFUSION, Presence.NOT_ASSESSED, number=1, expert="a")
    sound = make.found(PLEURAL_EFFUSION, number=2, expert="b")
    assert led([dead, sound], masks) == {"f1": None, "f2": None}


def test_pictures_of_another_series_are_not_reconciled(make: Any, masks: Any) -> None:
    def expert(name: str, presence: Presence) -> Any:
        says = [make.found(PLEURAL_EFFUSION, presence, expert=name, side=Side.LEFT)]
        return make.expert(name, concepts=(PLEURAL_EFFUSION,), says=lambda series: says)

    panel = Panel([expert("a", Presence.PRESENT), expert("b", Presence.ABSENT)], masks)
    now = make.study(make.film("1.1"), make.film("1.3", seed=1))
    findings = panel.examine(now)
    assert [(each.id, each.led_by) for each in findings] == [("f1", None), ("f2", None), ("f3", "f1"), ("f4", "f2")]
    assert len(panel.remarks(now, findings)) == 1


def test_the_report_says_it_once_and_keeps_both(make: Any, masks: Any) -> None:
    organ = [make.found(LUNG, number=n, expert=name, side=Side.LEFT) for n, name in ((1, "a"), (2, "b"))]
    nodules = [
        make.found(LUNG_NODULE, number=n, expert=name, side=Side.LEFT, series_uid="1.2", box=box(0, 5))
        for n, name in ((3, "a"), (4, "b"))
    ]
    findings = reconciled([*organ, *nodules], masks)
    report = TemplateWriter().write(make.study(make.ct()), findings, (), ())
    assert len(report.findings) == 4
    cited = [each for sentence in report.sentences for each in sentence.grounding.finding_ids]
    said = [sentence.text for sentence in report.sentences if "nodule" in sentence.text.lower()]
    assert {"f1", "f3"} <= set(cited)
    assert not any("two" in text or "further" in text for text in said)
