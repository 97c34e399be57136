"""Our own model behind the port: a folder is loaded, asked, and what it says is checked like anybody's words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.bootstrap import open_language_model
from app.errors import BadSetting
from app.settings import Settings
from expert_models.train.phantoms import HELD_OUT
from medmllm.adapters.local import LocalModel, as_input
from medmllm.answer import Asker
from medmllm.brief import brief
from medmllm.errors import ModelUnavailable
from medmllm.ports import Prompt
from medmllm.processor import WetreadProcessor
from medmllm.template import TemplateWriter
from medmllm.train import mllm
from medmllm.train.exams import Exam, exams
from medmllm.train.truth import comparisons_of, findings_of, study_of
from medmllm.write import MllmWriter


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Exam]:
    return list(exams([HELD_OUT + 31], tmp_path_factory.mktemp("exams")))


@pytest.fixture(scope="module")
def folder(drawn: Sequence[Exam], tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model") / "tiny"
    tokenizer = mllm.new_tokenizer(drawn, size=400, texts=40)
    model = mllm.new_model(tokenizer, hidden=64, layers=1)
    model.save_pretrained(str(made))
    WetreadProcessor.of(model, tokenizer).save_pretrained(str(made))
    return made


def test_a_brief_becomes_the_arrays_that_its_markers_stand_for(drawn: Sequence[Exam]) -> None:
    exam = drawn[0]
    study = study_of(exam)
    findings = findings_of(exam.now, study.series[0].uid)
    given = as_input(brief(study, findings, comparisons_of(exam, findings), ()))
    assert np.allclose(given.pictures[0] * 255, exam.now.picture, atol=0.01)
    prior = given.priors[0]
    assert prior is not None
    assert np.allclose(prior * 255, exam.then.picture, atol=0.01)
    for place, region in zip(given.regions, [r for each in findings for r in each.regions], strict=True):
        rows, columns = np.flatnonzero(place.mask.any(axis=1)), np.flatnonzero(place.mask.any(axis=0))
        assert ((rows[0], columns[0]), (rows[-1] + 1, columns[-1] + 1)) == (region.box.start[1:], region.box.stop[1:])
    without = as_input(brief(replace(study, priors=()), findings, (), ()))
    assert list(without.priors) == [None]


def test_an_untrained_model_costs_its_text_and_not_the_report(drawn: Sequence[Exam], folder: Path) -> None:
    study = study_of(drawn[0])
    findings = findings_of(drawn[0].now, study.series[0].uid)
    model = open_language_model(Settings(home=folder.parent, mllm_url=folder.as_uri().replace("file:", "local:")))
    assert model is not None
    assert model.name == "local tiny"
    report = MllmWriter(model, TemplateWriter()).write(study, findings, (), ())
    assert report.writer == "template"
    assert report.sentences == TemplateWriter().write(study, findings, (), ()).sentences
    assert "The language model did not write this report" in report.notices[-1]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_it_writes_is_within_the_grammar(drawn: Sequence[Exam], seed: int) -> None:
    """Random weights, two inputs with grammars of their own: every id, box and line can be read back."""
    tokenizer = mllm.new_tokenizer(drawn, size=400, texts=40)
    model = mllm.new_model(tokenizer, hidden=64, layers=1, seed=seed)
    asker = Asker(model, WetreadProcessor.of(model, tokenizer), most_tokens=150)
    study = study_of(drawn[0])
    findings = findings_of(drawn[0].now, study.series[0].uid)
    inputs = [as_input(brief(study, told, (), ())) for told in (findings, findings[:1])]
    for given, answered in zip(inputs, asker.answers(inputs), strict=True):
        assert given.grammar is not None
        for line in filter(None, answered.text.split("\n")):
            section, sentence, ids = line.split(" | ")
            assert section in ("findings", "impression")
            assert sentence.strip()
            assert ids == "-" or set(ids.split()) <= set(given.grammar.ids)
            for numbers in re.findall(r"\[(\d+),(\d+),(\d+),(\d+)\]", sentence):
                x1, y1, x2, y2 = map(int, numbers)
                assert 0 <= x1 <= x2 <= 999
                assert 0 <= y1 <= y2 <= 999


def test_an_answer_that_was_cut_loses_its_last_line(drawn: Sequence[Exam]) -> None:
    tokenizer = mllm.new_tokenizer(drawn, size=400, texts=40)
    model = mllm.new_model(tokenizer, hidden=64, layers=1)
    given = as_input(brief(study_of(drawn[0]), (), (), ()))
    assert Asker(model, WetreadProcessor.of(model, tokenizer), most_tokens=3).answers([given])[0].text == ""


def test_a_batch_is_held_whole_or_not_at_all(drawn: Sequence[Exam]) -> None:
    tokenizer = mllm.new_tokenizer(drawn, size=400, texts=40)
    model = mllm.new_model(tokenizer, hidden=64, layers=1)
    given = as_input(brief(study_of(drawn[0]), (), (), ()))
    with pytest.raises(ValueError, match="has a grammar, or none"):
        Asker(model, WetreadProcessor.of(model, tokenizer)).answers([given, replace(given, grammar=None)])


def test_what_it_cannot_do_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="reads briefs"):
        LocalModel(folder).complete(Prompt("", ""))
    with pytest.raises(BadSetting, match=r"holds no model: model.safetensors"):
        open_language_model(Settings(home=tmp_path, mllm_url=f"local://{tmp_path}"))
