"""RadFact on reports whose scores are worked out by hand."""

from __future__ import annotations

import pytest

from medmllm.radfact import evidence_for, one_way, plain, radfact, read_report

TRUE = """\
findings | There is a <ref>left pleural effusion</ref><box>[[500,500,899,899]]</box>. | -
findings | No pneumothorax or consolidation is identified <ref>in the chest</ref><box>[[100,100,799,799]]</box>. | -"""
WRITTEN = """\
findings | There is a <ref>left pleural effusion</ref><box>[[500,500,899,999]]</box>. | -
findings | There is a <ref>right lung nodule</ref><box>[[0,0,99,99]]</box>. | -
impression | No pneumothorax is identified <ref>in the chest</ref><box>[[0,0,999,999]]</box>. | -"""


def test_a_report_by_hand() -> None:
    # Written: effusion and pneumothorax are entailed, the nodule is not. Of the effusion's box 400 x 400 of 400 x 500
    # lie in the true one, of the pneumothorax's 700 x 700 of 1000 x 1000, which is less than half.
    written, true = read_report(WRITTEN), read_report(TRUE)
    assert one_way(written, true) == pytest.approx((2 / 3, 1 / 2, 1 / 3))
    # True: the effusion is entailed and its box inside; that there is no consolidation was not written.
    assert one_way(true, written) == pytest.approx((1 / 2, 1, 1 / 2))
    told = {each.name: (each.value, each.n) for each in radfact([(WRITTEN, TRUE)], ["1"])}
    assert told == {
        "radfact/logical_f1": (pytest.approx(4 / 7), 1),
        "radfact/grounding_f1": (pytest.approx(2 / 3), 1),
        "radfact/spatial_f1": (pytest.approx(2 / 5), 1),
    }


def test_a_silent_report_has_no_precision_and_no_recall() -> None:
    assert [each.value for each in radfact([("", TRUE)], ["1"])] == [0, 0, 0]
    # Beside a perfect one: precision is 1, of the one report that has any; recall is half, grounded recall 1.
    told = radfact([(TRUE, TRUE), ("", TRUE)], ["1", "2"])
    assert [each.value for each in told] == pytest.approx([2 / 3, 1, 2 / 3])
    assert radfact([], []) == []


LEFT, RIGHT, BOTH = (f"There is a {side} pleural effusion." for side in ("left", "right", "bilateral"))
SOMEWHERE, GROWN, GONE = (
    "There is a pleural effusion.",
    "The left pleural effusion is larger than before.",
    "The left pleural effusion has resolved.",
)
NONE, NONE_LEFT = "No pneumothorax is identified.", "No left pneumothorax is identified."


@pytest.mark.parametrize(
    ("claim", "other", "evidence"),
    [
        (SOMEWHERE, [LEFT], [LEFT]),
        (LEFT, [SOMEWHERE], []),
        (LEFT, [RIGHT], []),
        (LEFT, [BOTH], [BOTH]),
        (BOTH, [LEFT], []),
        (BOTH, [LEFT, NONE, RIGHT], [LEFT, RIGHT]),
        (GROWN, [LEFT], []),
        (LEFT, [GROWN], [GROWN]),
        (LEFT, [GONE], []),
        (NONE_LEFT, [NONE], [NONE]),
        (NONE, [NONE_LEFT], []),
        ("The bones look well.", ["The Bones look well."], ["The Bones look well."]),
        ("The bones look well.", [LEFT], []),
    ],
)
def test_what_follows_from_what(claim: str, other: list[str], evidence: list[str]) -> None:
    [said] = read_report(claim)
    assert [each.text for each in evidence_for(said, read_report("\n".join(other)))] == evidence


def test_reports_are_read_in_whatever_form() -> None:
    first, second = read_report(f"{WRITTEN.splitlines()[0]}\n\nPneumothorax on the <ref>right")
    assert (first.text, first.boxes) == ("There is a left pleural effusion.", ((500, 500, 899, 999),))
    assert (second.text, second.boxes, len(second.states)) == ("Pneumothorax on the right", (), 1)
    assert plain("findings | <ref>One</ref><box>[[1,2,3,4]]</box>. | -\nTwo.") == "One. Two."
