"""Scores of calling experts, by readers who know, who always call, and who never do."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from exams_by_hand import Knowing, Saying, followed, healthy, real

from medmllm.answer import Answered, Asked
from medmllm.evaluate_calls import evaluate_calls, score
from medmllm.processor import Input

EXAMS = (followed(), healthy(), real())
HEART = "<cxr-anatomy(heart)>"


def told(asked: Asked) -> dict[str, tuple[float, int]]:
    """Four questions of each kind for each of three patients."""
    return {each.name: (each.value, each.n) for each in evaluate_calls(asked, EXAMS)}


class Talkative:
    """Knows, and says so in a sentence."""

    def answers(self, inputs: Sequence[Input]) -> list[Answered]:
        return [Answered(f"it is {each.answer} here") for each in inputs]


def test_who_knows_calls_repeats_and_looks() -> None:
    assert told(Knowing()) == {
        "expert_call/accuracy": (1, 12),
        "expert_call/needless": (0, 12),
        "expert_call/repeated": (1, 12),
    }


def test_who_is_silent_calls_nobody() -> None:
    assert told(Saying("")) == {
        "expert_call/accuracy": (0, 12),
        "expert_call/needless": (0, 12),
        "expert_call/repeated": (0, 12),
    }


def test_who_always_calls_the_same_expert_is_right_of_some_and_needless_of_all() -> None:
    scores = told(Saying(HEART))
    assert 0 < scores["expert_call/accuracy"][0] < 1
    assert scores["expert_call/needless"] == (1, 12)
    assert scores["expert_call/repeated"] == (0, 12)


def test_a_call_within_a_sentence_is_none_and_a_number_within_one_is_repeated() -> None:
    assert told(Talkative()) == {
        "expert_call/accuracy": (0, 12),
        "expert_call/needless": (0, 12),
        "expert_call/repeated": (1, 12),
    }


@pytest.mark.parametrize(
    ("kind", "text", "truth", "value"),
    [
        ("call", HEART, HEART, True),
        ("call", "<cxr-anatomy(lung)>", HEART, False),
        ("call", f"{HEART}{HEART}", HEART, False),
        ("call", f"{HEART}<cxr-findings(pneumothorax)>", HEART, False),
        ("call", "0.52", HEART, False),
        ("seen", "no", "no", False),
        ("seen", "on the left <SEG> as in <region 1>", "left", False),
        ("seen", HEART, "no", True),
        ("told", "141 mm", "141 mm", True),
        ("told", "The heart is 141 mm wide.", "141 mm", True),
        ("told", "0.52.", "0.52", True),
        ("told", "1141 mm", "141 mm", False),
        ("told", "141 pixels", "141 mm", False),
        ("told", "141 mm of 282 mm", "141 mm", False),
        ("told", "10.52", "0.52", False),
        ("told", "37", "37%", False),
        ("told", HEART, "141 mm", False),
    ],
)
def test_one_answer_is_scored(kind: str, text: str, truth: str, value: bool) -> None:
    assert score(kind, text, truth) is value


def test_what_is_not_scored_is_refused_and_without_exams_there_is_nothing() -> None:
    with pytest.raises(ValueError, match="nothing is scored of 'unanswered'"):
        score("unanswered", "", "")
    assert evaluate_calls(Knowing(), []) == []
    assert {each.n for each in evaluate_calls(Knowing(), EXAMS, limit=1)} == {4}
