"""A volume doubling time in a sentence: said by the template, grounded for the verifier; no other number is."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from expert_models import codes
from expert_models.finding import Change, Comparison, Measurement, Side
from medmllm.prompt import _comparison
from medmllm.report import CheckKind, Grounding, Section, Sentence, Verdict
from medmllm.template import TemplateWriter
from medmllm.verify import verify


@pytest.fixture
def grown(make, case_of):
    """A nodule of 0.9 mL that was 0.5 mL 91 days before: 80 % more, doubling in 107 days."""
    prior = make.ct("1.2.6", when=datetime(2024, 1, 1))
    study = make.ct(priors=(prior,))

    def nodule(of, ml, long):
        measured = (*make.axes(long, long - 2), Measurement(codes.VOLUME, ml, codes.MILLILITER))
        regions = (make.region(of, (10, 10, 20), (14, 20, 30)),)
        return make.finding("f1", codes.LUNG_NODULE, side=Side.RIGHT, measurements=measured, regions=regions)

    time = Measurement(codes.VOLUME_DOUBLING_TIME, 107.3, codes.DAY)
    comparison = Comparison("c1", Change.LARGER, "1.2.6", "t1", "f1", nodule(prior, 0.5, 10.0), 0.8, time)
    return case_of(study, (nodule(study, 0.9, 12.0),), (comparison,))


def test_the_template_says_it_and_the_verifier_finds_it_grounded(grown, texts) -> None:
    report = TemplateWriter().write(*grown.parts)
    said = "12 × 10 mm, previously 10 × 8 mm (an increase in volume of 80%, volume doubling time 107 days)."
    assert [each for each in texts(report, Section.FINDINGS) if each.endswith(said)]
    assert all(each.is_grounded for each in verify(report, grown.study).sentences)


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ("The nodule has grown, with a volume doubling time of 107 days.", True),
        ("The nodule has grown; its doubling time is about 15 weeks.", True),  # 107.3 / 7 = 15.3
        ("The nodule has grown, doubling time 3.5 months.", True),  # 107.3 / 30.44 = 3.52
        ("The nodule has grown, with a volume doubling time of 170 days.", False),
        ("The nodule has grown, with a doubling time of 107 weeks.", False),
    ],
)
def test_another_number_is_not_accepted(grown, text: str, is_right: bool) -> None:
    report = TemplateWriter().write(*grown.parts)
    sentence = Sentence(text, Section.FINDINGS, Grounding(("f1",), ("c1",)))
    (checked,) = verify(replace(report, sentences=(sentence,)), grown.study).sentences
    verdicts = {each.kind: each.verdict for each in checked.checks}
    assert (verdicts[CheckKind.NUMBER] is Verdict.PASSED) is is_right


def test_a_model_is_told_it(grown) -> None:
    assert "growth 80%, volume doubling time 107 days" in _comparison(grown.comparisons[0], grown.study)
