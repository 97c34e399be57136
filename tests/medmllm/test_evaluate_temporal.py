"""Scores of what became of it, on a patient made by hand."""

from __future__ import annotations

import pytest
from exams_by_hand import Knowing, Saying, followed, healthy, real

from medmllm.answer import Asked
from medmllm.evaluate_temporal import evaluate_temporal


def told(asked: Asked) -> dict[str, tuple[float, int]]:
    return {each.name: (each.value, each.n) for each in evaluate_temporal(asked, [followed(), healthy()])}


def test_who_knows_has_full_marks() -> None:
    # Three changes are asked about; without the prior each of two patients has a report and a question.
    assert told(Knowing()) == {
        "change/accuracy": (1, 3),
        "unaided/change/accuracy": (1, 3),
        "temporal_words/f1": (1, 2),
        "no_prior/invented": (0, 4),
    }


def test_who_is_silent_invents_nothing_and_knows_nothing() -> None:
    assert told(Saying("")) == {
        "change/accuracy": (0, 3),
        "unaided/change/accuracy": (0, 3),
        "temporal_words/f1": (0, 2),
        "no_prior/invented": (0, 4),
    }


def test_who_always_says_larger_is_right_of_the_effusion_alone() -> None:
    larger = told(Saying("larger"))
    assert larger["change/accuracy"] == (pytest.approx(1 / 3), 3)
    assert larger["no_prior/invented"] == (1, 4)
    grown = told(Saying("findings | The left pleural effusion is larger. | -"))
    assert grown["unaided/change/accuracy"] == (pytest.approx(1 / 3), 3)


def test_of_a_film_without_an_earlier_one_only_inventing_is_scored() -> None:
    metrics = evaluate_temporal(Saying("new"), [real()])
    assert [(each.name, each.value, each.n) for each in metrics] == [("no_prior/invented", 1, 2)]
    assert evaluate_temporal(Knowing(), []) == []
