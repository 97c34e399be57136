"""Our own model behind the port: a folder is loaded, asked, and what it says is checked like anybody's words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.bootstrap import open_language_model
from app.errors import BadSetting
from app.settings import Settings
from expert_models.train.phantoms import HELD_OUT
from medmllm.adapters.local import LocalModel, as_input
from medmllm.answer import Asker
from medmllm.brief import brief
from medmllm.constrain import Vocabulary
from medmllm.errors import ModelUnavailable
from medmllm.parse import GROUNDED, parse
from medmllm.ports import Prompt
from medmllm.processor import WetreadProcessor
from medmllm.template import TemplateWriter
from medmllm.train import mllm
from medmllm.train.exams import Exam, exams
from medmllm.train.truth import comparisons_of, findings_of, study_of
from medmllm.views import Frame
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


def test_the_ct_before_goes_with_a_ct(make: Any) -> None:
    before = make.ct(uid="1.2.6", slices=30, when=datetime(2023, 4, 1))
    given = as_input(brief(make.ct(slices=40, priors=(before,)), (), (), ()))
    (prior,) = given.prior_volumes
    assert prior is not None
    assert (given.volumes[0].shape[0], prior.shape[0]) == (40, 30)
    assert np.array_equal(prior, before.series[0].volume.voxels)
    assert list(as_input(brief(make.ct(), (), (), ())).prior_volumes) == [None]


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


class Babbling(torch.nn.Module):
    """In place of a decoder's head: random, and fond of what ends a sentence, a line and a text, or opens a box.

    Random weights alone repeat one token until the limit, and nothing of that is left to be read.
    """

    def __init__(self, vocabulary: Vocabulary, known: int, seed: int) -> None:
        super().__init__()
        self._random = torch.Generator().manual_seed(seed)
        self._bias = torch.zeros(known)
        fond = [at for at, each in enumerate(vocabulary.tokens) if each in (b" |", b" | ", b"|", b"\n", b"<box>")]
        self._bias[[*fond, vocabulary.end]] = 6.0

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden: (B, T, width). Returns (B, T, known)."""
        return 2 * torch.randn((*hidden.shape[:2], len(self._bias)), generator=self._random) + self._bias


@pytest.mark.parametrize("seed", range(4))
def test_whatever_it_writes_is_read_back_whole(drawn: Sequence[Exam], seed: int) -> None:
    """Two inputs with grammars of their own: every sentence has a box and no id, the corners are in their order."""
    tokenizer = mllm.new_tokenizer(drawn, size=400, texts=40)
    model = mllm.new_model(tokenizer, hidden=64, layers=1, seed=seed)
    model.decoder.lm_head = Babbling(Vocabulary(tokenizer), model.decoder.lm_head.out_features, seed)
    asker = Asker(model, WetreadProcessor.of(model, tokenizer), most_tokens=600)
    study = study_of(drawn[0])
    findings = findings_of(drawn[0].now, study.series[0].uid)
    briefs = [brief(study, told, (), ()) for told in (findings, findings[:1])]
    series = study.series[0]
    frames = [Frame(series.uid, series.source[0], 0, (series.volume.shape[1], series.volume.shape[2]))]
    boxes = 0
    for told, answered in zip(briefs, asker.answers([as_input(each) for each in briefs]), strict=True):
        assert answered.text
        read = parse(answered.text, (), frames, told.regions)
        assert read.problems == ()
        assert all(each.grounding for each in read.sentences)
        whole = list(GROUNDED.finditer(answered.text))
        assert len(whole) == answered.text.count("<box>")
        for numbers in re.findall(r"\[(\d+),(\d+),(\d+),(\d+)\]", answered.text):
            x1, y1, x2, y2 = map(int, numbers)
            assert 0 <= x1 <= x2 <= 999
            assert 0 <= y1 <= y2 <= 999
        boxes += len(whole)
    assert boxes


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
