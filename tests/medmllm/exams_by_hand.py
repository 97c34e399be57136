"""Patients of whom everything is known, made by hand, and whoever is asked about them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medmllm.answer import Answered
from medmllm.processor import Input
from medmllm.train.exams import Drawn, Exam, Film

SIDE = 64
RIGHT_LUNG, LEFT_LUNG, HEART = (8, 8, 40, 28), (8, 36, 40, 56), (40, 24, 56, 44)  # top, left, bottom, right
PLACES = ((30, 40, 38, 54), (12, 10, 16, 14), (20, 12, 28, 20))  # of the first lesion, the second, the third


def lesion(name: str, kind: str, side: str | None, change: str | None = None) -> Drawn:
    return Drawn(name, kind, side, None, 20.0, 5.0, change)


def film(grey: int, *lesions: Drawn) -> Film:
    """Of one grey with a white corner; the outlines are rectangles."""
    picture = np.full((SIDE, SIDE), grey, np.uint8)
    picture[:4, :4] = 255
    places = (RIGHT_LUNG, LEFT_LUNG, HEART, *PLACES[: len(lesions)])
    outlines = np.zeros((len(places), SIDE, SIDE), bool)
    for outline, (top, left, bottom, right) in zip(outlines, places, strict=True):
        outline[top:bottom, left:right] = True
    return Film("PA", picture, outlines, lesions, 0.45)


def followed() -> Exam:
    """An effusion on the left that grew, a nodule on the right that came, a pneumothorax on the right that went."""
    gone = lesion("c", "pneumothorax", "right")
    then = film(60, lesion("a", "effusion", "left"), gone)
    now = film(90, lesion("a", "effusion", "left", "larger"), lesion("b", "nodule", "right", "new"))
    return Exam(1_000_001, 90, then, now, (gone,))


def healthy() -> Exam:
    """Nothing, on neither film."""
    return Exam(1_000_002, 90, film(30), film(40), ())


def real() -> Exam:
    """A film of which the lungs are known, and no more."""
    shown = film(120)
    outlines = shown.outlines.copy()
    outlines[2] = False
    return Exam(900_001, 0, None, Film("PA", shown.picture, outlines, (), None), ())


class Knowing:
    """Answers with the truth, which it is given with the question."""

    def answers(self, inputs: Sequence[Input]) -> list[Answered]:
        return [Answered(each.answer or "", tuple(place.mask for place in each.segments)) for each in inputs]


class Saying:
    """Says the same whatever it is asked."""

    def __init__(self, text: str) -> None:
        self._text = text

    def answers(self, inputs: Sequence[Input]) -> list[Answered]:
        return [Answered(self._text) for _ in inputs]
