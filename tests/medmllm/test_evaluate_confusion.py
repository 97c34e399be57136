"""Confusing pairs: which are chosen, and what a perfect, a stubborn and a mute reader score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from exams_by_hand import Saying, film, followed, healthy, lesion, real

from medmllm.answer import Answered
from medmllm.evaluate_confusion import evaluate_confusion, first_look, pairs, second_look
from medmllm.processor import Input
from medmllm.train.exams import Exam

LEFT = Exam(1_000_011, 0, film(50), film(51, lesion("a", "effusion", "left")), ())
RIGHT = Exam(1_000_012, 0, film(50), film(52, lesion("a", "effusion", "right")), ())
NONE = Exam(1_000_013, 0, film(50), film(53), ())
FILMS = (LEFT, RIGHT, NONE)


class Reader:
    """Knows each film by its grey, and answers of an effusion as it was told to."""

    def __init__(self, answers: dict[str, tuple[str, str, str]]) -> None:
        self._answers = answers

    def answers(self, inputs: Sequence[Input]) -> list[Answered]:
        made = []
        for each in inputs:
            grey = round(float(each.pictures[0][-1, -1]) * 255)
            question = each.text.strip().split("\n")[-1].split(" ")[0]
            made.append(Answered(self._answers[question][grey - 51]))
        return made


def alike(count: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.ones((count, count), np.float32)


def test_pairs_differ_in_the_right_answer_and_use_a_film_once() -> None:
    made = pairs(FILMS, alike(3), alike(3))
    asked = [(each.question, each.right) for each in made]
    assert asked == [
        ("is there pleural effusion", ("yes", "no")),
        ("on which side is the pleural effusion", ("left", "right")),
    ]


def test_a_pair_that_the_first_look_tells_apart_or_the_second_does_not_is_no_pair() -> None:
    far = alike(3)
    far[0, 1] = far[1, 0] = 0.2  # the only two with sides
    assert [each.question for each in pairs(FILMS, far, alike(3))] == ["is there pleural effusion"]
    same = np.full((3, 3), 0.1, np.float32)
    same[0, 1] = same[1, 0] = 0.9
    assert [each.question for each in pairs(FILMS, alike(3), same)] == ["is there pleural effusion"]


def test_the_nearest_are_taken_first() -> None:
    first = np.array([[1, 0.5, 0.9], [0.5, 1, 0.9], [0.9, 0.9, 1]], np.float32)
    first[1, 2] = first[2, 1] = 0.95
    (pair,) = [each for each in pairs(FILMS, first, alike(3)) if each.question.startswith("is there")]
    assert pair.films == (1, 2)


@pytest.mark.parametrize(
    ("is_there", "side", "expected"),
    [
        (("yes", "yes", "no"), ("left", "right", "left"), {"set_accuracy": 1.0, "confusion": 0.0}),
        (("yes", "yes", "yes"), ("left", "left", "left"), {"set_accuracy": 0.0, "confusion": 1.0}),
        (("yes", "yes", "no"), ("Left.", "left", "left"), {"set_accuracy": 0.5, "confusion": 0.5}),
        (("no", "no", "yes"), ("right", "left", "left"), {"set_accuracy": 0.0, "confusion": 0.0}),
    ],
)
def test_what_readers_score(
    is_there: tuple[str, str, str],
    side: tuple[str, str, str],
    expected: dict[str, float],
) -> None:
    reader = Reader({"is": is_there, "on": side})
    scored = {each.name: each.value for each in evaluate_confusion(reader, FILMS, nearest=1, unlike=1)}  # all 3 pairs
    assert scored == {**expected, "confusion/unread": 0.0}


def test_who_says_neither_is_wrong_and_counted() -> None:
    scored = {e.name: e.value for e in evaluate_confusion(Saying("perhaps"), FILMS, nearest=1, unlike=1)}
    assert scored == {"set_accuracy": 0.0, "confusion/unread": 1.0}


def test_films_of_which_no_disease_is_known_make_no_pair() -> None:
    assert evaluate_confusion(Saying("yes"), [real(), replace(real(), seed=900_002)]) == []
    assert evaluate_confusion(Saying("yes"), [followed()]) == []


def test_both_looks_are_symmetric_and_one_for_a_film_and_itself() -> None:
    noise = np.random.default_rng(0).integers(256, size=healthy().now.picture.shape, dtype=np.uint8)
    films = [followed(), healthy(), LEFT, replace(healthy(), now=replace(healthy().now, picture=noise))]
    first = first_look([np.kron(each.now.picture, np.ones((4, 4), np.uint8)) for each in films])
    for look in (first, second_look(films)):
        assert look.shape == (4, 4)
        assert np.allclose(np.diag(look), 1, atol=1e-5)
        assert np.allclose(look, look.T, atol=1e-6)
    assert first[0, 3] < 0.9  # no film at all
