"""What the structures of a film become in words: organs with lengths and angles, devices that may be there."""

from __future__ import annotations

from dataclasses import replace

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
        replace(lung, measurements=(Measurement(codes.COSTOPHRENIC_ANGLE, 43.2, codes.DEGREE),)),
        replace(tube, measurements=(Measurement(codes.TIP_ABOVE_CARINA, -12.0, codes.MILLIMETER),)),
        make.finding("f4", codes.RIB, Presence.PRESENT),
    ]


def test_organs_are_measured_and_a_device_is_possible(make, texts) -> None:
    report = WRITER.write(make.film(), structures(make), [], [])
    found = texts(report, Section.FINDINGS)
    assert "The trachea measures: leftward tracheal shift 4.4 mm." in found
    assert "The right lung measures: costophrenic angle 43 degrees." in found
    assert "The ribs are outlined on the images." in found
    assert "A possible endotracheal tube is indeterminate (tip above the carina −12 mm)." in found
    assert found[-1].endswith("the upper abdomen or other lines and devices.")
    assert (
        texts(report, Section.IMPRESSION)[0]
        == "Indeterminate: possible endotracheal tube, tip above the carina −12 mm."
    )
    assert {each.verdict for sentence in report.sentences for each in sentence.checks} == {Verdict.PASSED}


def test_where_no_device_was_told_all_are_left_to_the_reader(make, texts) -> None:
    untold = make.finding("f1", codes.LINES_AND_DEVICES, Presence.NOT_ASSESSED)
    found = texts(WRITER.write(make.film(), [untold], [], []), Section.FINDINGS)
    assert found[0].startswith("Lines and devices were not assessed by the expert")
    assert found[-1].endswith("the upper abdomen or lines and devices.")


def test_an_angle_that_was_not_measured_fails(make) -> None:
    report = WRITER.write(make.film(), structures(make), [], [])
    for degrees, verdict in ((43, Verdict.PASSED), (58, Verdict.FAILED)):
        said = Sentence(
            f"The right costophrenic angle measures {degrees} degrees.", Section.FINDINGS, Grounding(("f2",))
        )
        assert {e.kind: e.verdict for e in check(said, report).checks}[CheckKind.NUMBER] is verdict


def test_the_brief_tells_what_the_model_learned_with(make) -> None:
    lines = brief(make.film(), structures(make), [], []).text.split("\n")
    assert [line for line in lines if line.startswith("f")] == ["f2 right lung present"]
