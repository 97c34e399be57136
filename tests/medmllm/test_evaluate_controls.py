"""Scores of the controls, on patients made by hand and readers who see, who do not look, and who are silent."""

from __future__ import annotations

from collections.abc import Sequence

from exams_by_hand import Saying, followed, healthy, real

from medmllm.answer import Answered, Asked
from medmllm.evaluate_controls import evaluate_controls
from medmllm.processor import Input
from medmllm.train.exams import Film

SEEN = "findings | There is a left pleural effusion. | -\nfindings | There is a right lung nodule. | -"
GROWN = "findings | The left pleural effusion is larger. | -"


class Looking:
    """Says what its two films show, and nothing of what it has not seen before."""

    def answers(self, inputs: Sequence[Input]) -> list[Answered]:
        return [Answered(self._now(each) + self._change(each)) for each in inputs]

    def _now(self, given: Input) -> str:
        return f"{SEEN}\n" if _shows(given.pictures[0], followed().now) else ""

    def _change(self, given: Input) -> str:
        return GROWN if _shows(given.priors[0], followed().then) else ""


def _shows(picture: object, film: Film | None) -> bool:
    ours = None if film is None else film.picture.astype("float32") / 255
    return picture is not None and ours is not None and bool((picture == ours).all())


def told(asked: Asked) -> dict[str, tuple[float, int]]:
    """The second patient is shown the films of the first, who is healthy."""
    return {each.name: (each.value, each.n) for each in evaluate_controls(asked, [healthy(), followed()])}


def test_who_looks_says_something_else_of_another_film() -> None:
    assert told(Looking()) == {
        "noise/abnormal": (0, 2),
        "blank/abnormal": (0, 2),
        "swapped_image/changed": (1, 1),
        "swapped_image/followed": (1, 1),
        "swapped_prior/changed": (1, 1),
    }


def test_who_does_not_look_says_the_same_of_everything() -> None:
    assert told(Saying(SEEN + "\n" + GROWN)) == {
        "noise/abnormal": (1, 2),
        "blank/abnormal": (1, 2),
        "swapped_image/changed": (0, 1),
        "swapped_image/followed": (0, 1),
        "swapped_prior/changed": (0, 1),
    }


def test_doubt_about_noise_is_said_of_it_too() -> None:
    assert told(Saying("findings | Possible pneumothorax. | -"))["noise/abnormal"] == (1, 2)
    assert told(Saying("findings | No pneumothorax is identified. | -"))["noise/abnormal"] == (0, 2)


def test_a_real_film_has_the_controls_that_need_no_truth() -> None:
    metrics = evaluate_controls(Saying("There is a left pleural effusion."), [real()])
    assert [(each.name, each.value) for each in metrics] == [("noise/abnormal", 1), ("blank/abnormal", 1)]
    assert evaluate_controls(Saying(""), []) == []
