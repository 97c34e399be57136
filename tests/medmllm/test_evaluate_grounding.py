"""Scores of grounding on answers that are right, wrong and missing; and how the model itself answers, at tiny size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from exams_by_hand import Knowing, Saying, followed, real

from expert_models.train.phantoms import HELD_OUT
from medmllm.answer import Answered, Asked, Asker
from medmllm.brief import PICTURE, REGION
from medmllm.evaluate_grounding import AHEAD, AT_ONCE, ask, evaluate_grounding, overlap, score
from medmllm.processor import Input, Place, WetreadProcessor
from medmllm.radfact import boxes_of
from medmllm.tokens import SEG
from medmllm.train import mllm
from medmllm.train.exams import Exam, exams


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Exam]:
    return list(exams(range(HELD_OUT + 21, HELD_OUT + 23), tmp_path_factory.mktemp("exams")))


def told(asked: Asked, of: Sequence[Exam]) -> dict[str, float]:
    return {each.name: each.value for each in evaluate_grounding(asked, of)}


def test_who_knows_has_full_marks_and_who_is_silent_none(drawn: Sequence[Exam]) -> None:
    known = told(Knowing(), drawn)
    assert known.pop("text_to_region/invented") == 0
    assert set(known.values()) == {1}
    radfact = {f"radfact/{name}_f1" for name in ("logical", "grounding", "spatial")}
    places = {"region_to_text/accuracy", "text_to_region/iou", "seg/dice"}
    found = {f"unaided/{name}" for name in ("finding/f1", "finding/precision", "finding/recall", "side/accuracy")}
    assert radfact | places | found <= set(known)
    silent = told(Saying(""), drawn)
    assert set(silent.values()) == {0}
    undefined = {"unaided/finding/precision", "unaided/side/accuracy"}  # of nothing that was said
    assert set(known) - set(silent) == undefined
    boasting = "<ref>it</ref><box>[[0,0,999,999]]</box>"
    assert told(Saying(boasting), drawn)["text_to_region/invented"] == 1


class Repeating:
    """Answers with the question; keeps how long the true answers were that were asked for together."""

    def __init__(self) -> None:
        self.lengths: list[list[int]] = []

    def answers(self, inputs: Sequence[Input]) -> list[Answered]:
        self.lengths.append([len(each.answer or "") for each in inputs])
        return [Answered(each.text) for each in inputs]


def test_answers_come_in_order_and_long_ones_are_asked_for_together() -> None:
    asked = Repeating()
    questions = [(number, Input(f"q{number}", answer="x" * (number % 7))) for number in range(AHEAD + 3)]
    came = [(number, answered.text) for number, _, answered in ask(asked, iter(questions))]
    assert came == [(number, f"q{number}") for number in range(AHEAD + 3)]
    ahead = [length for each in asked.lengths[:-1] for length in each]
    assert ahead == sorted(ahead)
    assert {len(each) for each in asked.lengths[:-1]} == {AT_ONCE}


def test_a_report_without_experts_by_hand() -> None:
    # There are an effusion and a nodule; an effusion is said on the wrong side, and a mass that is not there.
    said = "findings | There is a right pleural effusion. | -\nfindings | There is a left lung mass. | -"
    metrics = told(Saying(said), [followed()])
    assert metrics["unaided/finding/f1"] == metrics["unaided/finding/recall"] == 0.5
    assert metrics["unaided/side/accuracy"] == 0
    assert metrics["radfact/logical_f1"] == 0


def test_of_a_real_film_what_was_outlined_is_asked_for() -> None:
    # Only the lungs are outlined: two questions, both answered rightly.
    metrics = {each.name: (each.value, each.n) for each in evaluate_grounding(Knowing(), [real()])}
    assert metrics == dict.fromkeys(("text_to_region/iou", "seg/dice", "lungs/iou", "lungs/dice"), (1, 2))
    assert told(Saying("no"), [real()])["lungs/iou"] == 0


def test_overlap_by_hand() -> None:
    # Two squares of 100 x 100 that share 50 x 100.
    assert overlap([(0, 0, 99, 99)], [(50, 0, 149, 99)]) == pytest.approx(5000 / 15000)
    assert overlap([(0, 0, 9, 9), (20, 0, 29, 9)], [(0, 0, 9, 9)]) == pytest.approx(0.5)
    assert overlap([], [(0, 0, 9, 9)]) == 0
    assert boxes_of("<box>[[1,2,3,4],[10,20,999,40]]</box>") == [(1, 2, 3, 4), (10, 20, 999, 40)]


def test_one_answer_by_hand() -> None:
    half = np.zeros((10, 10), bool)
    half[:5] = True
    asked = Input(f"{PICTURE} where is it", answer=f"<box>[[0,0,999,499]]</box> {SEG}", segments=[Place(0, half)])
    told = dict(score(asked, f"<box>[[0,0,999,999]]</box> {SEG}", [np.ones((10, 10), bool)]))
    assert told == {"text_to_region/iou": 0.5, "seg/dice": pytest.approx(2 / 3)}
    assert dict(score(Input(f"what is {REGION}", answer="heart"), "the heart", ())) == {"region_to_text/accuracy": 0.0}


def test_the_model_answers_in_words_and_draws_what_it_says(drawn: Sequence[Exam]) -> None:
    tokenizer = mllm.new_tokenizer(drawn, size=400, texts=40)
    model = mllm.new_model(tokenizer, hidden=64, layers=1)
    seg = tokenizer.convert_tokens_to_ids(SEG)
    model.decoder.lm_head = torch.nn.Linear(64, len(tokenizer))  # whatever it thinks, it says <SEG>
    with torch.no_grad():
        model.decoder.lm_head.weight.zero_()
        model.decoder.lm_head.bias.zero_()[seg] = 1
    asker = Asker(model, WetreadProcessor.of(model, tokenizer), most_tokens=3)
    film = np.random.default_rng(0).random((90, 120), dtype=np.float32)
    answers = asker.answers([Input(f"{PICTURE}\nwhere", [film]), Input("nothing to see")])
    drawing, blind = answers
    assert drawing.text == SEG * 3
    assert [each.shape for each in drawing.masks] == [(90, 120)] * 3
    assert blind.text == SEG * 3
    assert blind.masks == ()  # there is no picture to draw on
