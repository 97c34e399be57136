"""Writers that go without something: what reaches them, and what does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medmllm.ablate import PARTS, Ablated
from medmllm.adapters.scripted import ScriptedModel
from medmllm.report import Report
from medmllm.template import TemplateWriter
from medmllm.write import MllmWriter


class Listening:
    """A writer that keeps what it was given."""

    def write(self, study, findings, comparisons, evidence, notices=()) -> Report:
        self.study, self.findings, self.comparisons = study, findings, comparisons
        return TemplateWriter().write(study, findings, comparisons, evidence, notices)


def given(case, *parts):
    listening = Listening()
    Ablated(listening, parts).write(*case.parts)
    return listening


def test_each_part_is_left_out_and_no_other(film_case) -> None:
    study, findings, comparisons, _ = film_case.parts
    assert study.priors
    assert comparisons
    assert any(each.regions for each in findings)
    whole = given(film_case)
    assert (whole.study, whole.findings, whole.comparisons) == (study, findings, comparisons)
    silent = given(film_case, "experts")
    assert (silent.study, list(silent.findings), list(silent.comparisons)) == (study, [], [])
    alone = given(film_case, "prior")
    assert (alone.study.priors, list(alone.comparisons), alone.findings) == ((), [], findings)
    placeless = given(film_case, "regions")
    assert not any(each.regions for each in placeless.findings)
    assert [replace(each, regions=()) for each in findings] == list(placeless.findings)
    assert not any(each.prior_finding and each.prior_finding.regions for each in placeless.comparisons)
    both = given(film_case, "prior", "experts")
    assert (both.study.priors, list(both.findings)) == ((), [])


def test_without_pictures_every_one_is_one_grey(film_case) -> None:
    study = given(film_case, "pictures").study
    before = film_case.parts[0]
    for now, was in zip(
        (*study.series, *study.priors[0].series), (*before.series, *before.priors[0].series), strict=True
    ):
        assert now.volume.voxels.shape == was.volume.voxels.shape
        assert np.ptp(now.volume.voxels) == 0
        assert now.uid == was.uid


def test_without_checks_a_false_sentence_stands_and_is_marked(film_case) -> None:
    false = "findings | There is a pneumothorax. | f3"  # f3 says that there is none
    true = "findings | The heart is enlarged, with a cardiothoracic ratio of 0.61. | f1"

    def report(*parts):
        model = ScriptedModel([f"{true}\n{false}", true], name="tiny")  # asked again, it mends it
        return Ablated(MllmWriter(model, TemplateWriter()), parts).write(*film_case.parts)

    said = {each.text: each for each in report("checks").sentences}
    assert not said["There is a pneumothorax."].is_grounded
    assert "There is a pneumothorax." not in {each.text for each in report().sentences}


def test_what_cannot_be_left_out_is_refused() -> None:
    with pytest.raises(ValueError, match=f"'doctor' is not one of {', '.join(PARTS)}"):
        Ablated(TemplateWriter(), ["prior", "doctor"])
    with pytest.raises(ValueError, match="no model whose sentences"):
        Ablated(TemplateWriter(), ["checks"])
