"""The model that ships: it is that of its card, sees what is plain to see, and says when there is nothing to read."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from app.bootstrap import open_language_model
from app.settings import Settings
from dicom_io.study import Geometry, Modality, Series, Study, Volume
from expert_models.measure import dice
from expert_models.train.phantoms import HELD_OUT
from medmllm.adapters.local import PACKAGED, LocalModel
from medmllm.brief import brief
from medmllm.errors import ModelUnavailable
from medmllm.evaluate_controls import evaluate_controls
from medmllm.evaluate_grounding import boxes_of, overlap
from medmllm.ports import Prompt
from medmllm.template import TemplateWriter, scope
from medmllm.train.exams import Exam, exams
from medmllm.train.tasks import where_is_anatomy
from medmllm.train.truth import findings_of, study_of
from medmllm.write import MllmWriter

CARD = Path(__file__).parents[2] / "docs" / "models" / "wetread-cxr.md"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Exam]:
    return list(exams(range(HELD_OUT + 31, HELD_OUT + 33), tmp_path_factory.mktemp("exams")))


@pytest.fixture(scope="module")
def model() -> LocalModel:
    return LocalModel(PACKAGED)


def test_the_weights_are_those_of_the_card() -> None:
    digest = hashlib.sha256((PACKAGED / "model.safetensors").read_bytes()).hexdigest()
    assert digest in CARD.read_text(encoding="utf-8")
    assert sum(each.stat().st_size for each in PACKAGED.iterdir()) < 60_000_000


def test_it_knows_where_lungs_and_heart_are(drawn: Sequence[Exam], model: LocalModel) -> None:
    asked = [each for exam in drawn for each in where_is_anatomy(exam)]
    assert len(asked) == 3 * len(drawn)
    for given, answered in zip(asked, model.answers(asked), strict=True):
        assert overlap(boxes_of(answered.text), boxes_of(given.answer or "")) > 0.6, given.text
        assert dice(answered.masks[0], given.segments[0].mask) > 0.9, given.text


def test_noise_and_one_grey_are_no_chest(drawn: Sequence[Exam], model: LocalModel) -> None:
    scored = {each.name: each.value for each in evaluate_controls(model, drawn[:2])}
    assert scored["noise/abnormal"] == scored["blank/abnormal"] == 0


def test_its_report_is_checked_completed_and_marked(drawn: Sequence[Exam], tmp_path: Path) -> None:
    """Experts speak of the organs alone: what else is said rests on places, and no sentence is without its ground."""
    model = open_language_model(Settings(home=tmp_path, mllm_url="local:"))
    exam = next(each for each in drawn if each.now.lesions)
    study = study_of(exam)
    findings = findings_of(exam.now, study.series[0].uid)[:4]
    report = MllmWriter(model, TemplateWriter()).write(study, findings, (), ())
    assert report.writer == "mllm:local wetread-cxr"
    assert all(sentence.is_grounded for sentence in report.sentences)
    cited = {id_ for sentence in report.sentences for id_ in sentence.grounding.finding_ids}
    assert cited == {"f1", "f2", "f3", "f4"}
    assert {each.text for each in TemplateWriter().write(study, findings, (), ()).sentences} - {
        each.text for each in report.sentences
    } <= {scope(findings).text}  # which is shorter by what the model speaks of
    seen = [
        e for e in report.sentences if e.grounding.regions and not (e.grounding.finding_ids or e.grounding.attributes)
    ]
    told = re.search(r"(\d+) sentences? rests? on what the language model alone sees", " ".join(report.notices))
    assert seen
    assert told
    assert int(told[1]) == len(seen)


def test_a_ct_is_refused_with_the_reason(model: LocalModel) -> None:
    volume = Volume(np.zeros((4, 64, 64), np.int16), Geometry(np.eye(4)))
    series = Series("1.1", Modality.CT, volume, tuple("abcd"), body_part="CHEST")
    told = brief(Study("1", "someone", None, (series,)), (), (), ())
    with pytest.raises(ModelUnavailable, match="reads radiographs alone"):
        model.complete(Prompt("", "", brief=told))
