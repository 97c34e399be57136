"""What the structures of a film become in words, and what may be said of devices, which no expert looks for."""

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
    return [
        replace(airways, measurements=(Measurement(codes.LEFTWARD_SHIFT, 14.4, codes.MILLIMETER),)),
        replace(lung, measurements=(Measurement(codes.LUNG_AREA_RATIO, 1.184, codes.RATIO),)),
        make.finding("f3", codes.CLAVICLE, Presence.PRESENT, side=Side.LEFT),
    ]


def test_organs_are_measured_or_outlined(make, texts) -> None:
    report = WRITER.write(make.film(), structures(make), [], [])
    found = texts(report, Section.FINDINGS)
    assert "The trachea measures: leftward tracheal shift 14 mm." in found
    assert "The right lung and the left clavicle are outlined on the images." in found
    assert {each.verdict for sentence in report.sentences for each in sentence.checks} == {Verdict.PASSED}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("The trachea shows a leftward shift of 14 mm.", None),
        ("The trachea shows a leftward shift of 4 mm.", CheckKind.NUMBER),
        ("The trachea is midline.", CheckKind.UNSUPPORTED),
        ("The trachea shows a leftward shift of 14 mm from the midline.", None),
        ("The trachea is outlined, and no NG tube is present.", CheckKind.UNSUPPORTED),
        ("An endotracheal tube ends in the trachea.", CheckKind.UNSUPPORTED),
        ("The trachea holds the tip of a central venous line.", CheckKind.UNSUPPORTED),
    ],
)
def test_what_is_said_of_trachea_and_devices_is_checked(make, text: str, kind: CheckKind | None) -> None:
    report = WRITER.write(make.film(), structures(make), [], [])
    said = check(Sentence(text, Section.FINDINGS, Grounding(("f1",))), report)
    failed = [each.kind for each in said.checks if each.verdict is Verdict.FAILED]
    assert failed == ([kind] if kind else [])


def test_a_device_that_a_model_alone_sees_is_not_said(make) -> None:
    study = make.film()
    report = WRITER.write(study, [], [], [])
    for text, verdict in (("There is a nodule.", Verdict.PASSED), ("There is an endotracheal tube.", Verdict.FAILED)):
        seen = Sentence(text, Section.FINDINGS, Grounding(regions=(make.region(study, (0, 10, 20), (1, 60, 90)),)))
        assert {e.kind: e.verdict for e in check(seen, report, study).checks}[CheckKind.UNSUPPORTED] is verdict


def test_the_brief_tells_what_the_model_learned_with(make) -> None:
    lines = brief(make.film(), structures(make), [], []).text.split("\n")
    assert [line for line in lines if line.startswith("f")] == ["f2 right lung present"]
