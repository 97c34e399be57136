"""What the structures of a film become in words: organs with lengths and angles, devices that may be there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from expert_models import codes
from expert_models.finding import Measurement, Presence, Side
from medmllm.brief import brief
from medmllm.report import CheckKind, Grounding, Section, Sentence, Verdict
from medmllm.template import TemplateWriter
from medmllm.verify import check

WRITER = TemplateWriter()


def structures(make):
    airways = make.finding("f1", codes.AIRWAYS, Presence.PRESENT)
    lung = make.finding("f2", codes.LUNG, Presence.PRESENT, side=Side.RIGHT)
    tube = make.finding("f3", codes.ENDOTRACHEAL_TUBE, Presence.INDETERMINATE)
    return [
        replace(airways, measurements=(Measurement(codes.LEFTWARD_SHIFT, 4.4, codes.MILLIMETER),)),
        replace(lung, measurements=(Measurement(codes.LUNG_AREA_RATIO, 1.184, codes.RATIO),)),
        tube,
        make.finding("f4", codes.RIB, Presence.PRESENT),
    ]


def test_organs_are_measured_and_a_device_is_possible(make, texts) -> None:
    report = WRITER.write(make.film(), structures(make), [], [])
    found = texts(report, Section.FINDINGS)
    assert "The trachea measures: leftward tracheal shift 4.4 mm." in found
    assert "The right lung measures: area relative to the other lung 1.18." in found
    assert "The ribs are outlined on the images." in found
    assert "A possible endotracheal tube is indeterminate." in found
    assert found[-1].endswith("the upper abdomen or other lines and devices.")
    assert texts(report, Section.IMPRESSION)[0] == "Indeterminate: possible endotracheal tube."
    assert {each.verdict for sentence in report.sentences for each in sentence.checks} == {Verdict.PASSED}


def test_where_no_device_was_told_all_are_left_to_the_reader(make, texts) -> None:
    untold = make.finding("f1", codes.LINES_AND_DEVICES, Presence.NOT_ASSESSED)
    report = WRITER.write(make.film(), [untold], [], [])
    found = texts(report, Section.FINDINGS)
    assert "Lines and devices" not in " ".join(texts(report, Section.IMPRESSION))
    assert found[0].startswith("Lines and devices were not assessed by the expert")
    assert found[-1].endswith("the upper abdomen or lines and devices.")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("A possible endotracheal tube is indeterminate.", None),
        ("There is an endotracheal tube.", CheckKind.NEGATION),
        ("No ET tube is present.", CheckKind.NEGATION),
        ("The trachea is outlined, and no NG tube is present.", CheckKind.UNSUPPORTED),
        ("The trachea is midline.", CheckKind.UNSUPPORTED),
        ("The tip of the endotracheal tube may lie 31 mm above the carina.", CheckKind.NUMBER),
    ],
)
def test_what_is_said_of_devices_is_checked(make, text: str, kind: CheckKind | None) -> None:
    report = WRITER.write(make.film(), structures(make), [], [])
    said = check(Sentence(text, Section.FINDINGS, Grounding(("f1", "f3"))), report)
    failed = [each.kind for each in said.checks if each.verdict is Verdict.FAILED]
    assert (kind in failed) if kind else not failed


def test_a_device_is_no_abnormality(make, texts) -> None:
    absent = make.finding("f1", codes.PNEUMOTHORAX, Presence.ABSENT, 0.01)
    lead = make.finding("f2", codes.ECG_LEAD, Presence.INDETERMINATE)
    report = WRITER.write(make.film(), [absent, lead], [], [])
    assert "No abnormality among those assessed: no pneumothorax is identified." in texts(report, Section.IMPRESSION)
    assert {each.verdict for sentence in report.sentences for each in sentence.checks} == {Verdict.PASSED}


def test_the_brief_tells_what_the_model_learned_with(make) -> None:
    lines = brief(make.film(), structures(make), [], []).text.split("\n")
    assert [line for line in lines if line.startswith("f")] == ["f2 right lung present"]
