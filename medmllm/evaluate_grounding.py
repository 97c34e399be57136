"""Words to places and places to words, scored on exams that no one trained on.

`region_to_text/accuracy`: the name of a region, right in every word. `text_to_region/iou`: of the answered boxes and
the true one, as areas; what is there and gets no box counts as 0. `text_to_region/invented`: the share of absent things
that got a box. `seg/dice`: of the answered masks, united, and the true one; no mask counts as 0. `lungs/`, `heart/`:
the same of these alone.

Reports from the pictures alone, every second one with its prior: `radfact/` (medmllm/radfact.py), and what they find,
`unaided/finding/` and `unaided/side/accuracy` (medmllm/evaluate_reports.py).

Of a real film nothing is known but its anatomy: it is asked where lungs and heart are, as far as they were outlined.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from expert_models.evaluate import Metric, Progress, mean_metric
from expert_models.measure import dice
from medmllm.answer import Answered, Asked
from medmllm.brief import NO_CHEST
from medmllm.evaluate_reports import PHANTOM, Case, scores
from medmllm.processor import Input
from medmllm.radfact import area_of, boxes_of, plain, radfact
from medmllm.train.exams import Exam
from medmllm.train.tasks import draw_task, unaided_report, where_is_anatomy
from medmllm.train.truth import findings_of
from medmllm.views import Corners

TASKS = ("name", "where")
PER_EXAM = 4  # inputs of each task
AT_ONCE, AHEAD = 8, 64
ANATOMY = {"right lung": "lungs", "left lung": "lungs", "heart": "heart"}

About = TypeVar("About")


def evaluate_grounding(
    asked: Asked, exams: Iterable[Exam], limit: int | None = None, progress: Progress | None = None
) -> list[Metric]:
    """The figures of this module that the exams allow; an empty list when there is no exam."""
    scored: dict[str, list[tuple[float, str]]] = {}
    reports: list[tuple[str, str]] = []
    cases: list[Case] = []
    for exam, given, answered in ask(asked, _questions(counted(islice(exams, limit), progress))):
        if _task(given) == "report":
            reports.append((answered.text, given.answer or ""))
            cases.append(Case(str(exam.seed), plain(answered.text), findings_of(exam.now, "1")))
            continue
        for name, value in score(given, answered.text, answered.masks):
            scored.setdefault(name, []).append((value, str(exam.seed)))
    places = [mean_metric(name, *zip(*values, strict=True)) for name, values in scored.items()]
    return [*places, *radfact(reports, [each.patient for each in cases]), *scores(cases, PHANTOM, "unaided/")]


def ask(asked: Asked, questions: Iterator[tuple[About, Input]]) -> Iterator[tuple[About, Input, Answered]]:
    """Every question with its answer, in order; what stands beside a question comes back with it.

    AT_ONCE are asked together, of AHEAD those with answers of like length: a word would wait for a report to end.
    """
    while part := list(islice(questions, AHEAD)):
        by_length = sorted(range(len(part)), key=lambda each: len(part[each][1].answer or ""))
        answers: dict[int, Answered] = {}
        for first in range(0, len(part), AT_ONCE):
            numbers = by_length[first : first + AT_ONCE]
            answers.update(zip(numbers, asked.answers([part[each][1] for each in numbers]), strict=True))
        for number, (about, given) in enumerate(part):
            yield about, given, answers[number]


def counted(exams: Iterable[Exam], progress: Progress | None) -> Iterator[Exam]:
    """The exams; every tenth is told of."""
    for number, exam in enumerate(exams, 1):
        yield exam
        if progress and number % 10 == 0:
            progress(f"{number} exams asked about")


def score(given: Input, text: str, masks: Sequence[npt.NDArray[np.bool_]]) -> Iterator[tuple[str, float]]:
    """What one answer scores, by the metric's name."""
    truth = given.answer or ""
    if "what is" in given.text:
        yield "region_to_text/accuracy", float(text == truth)
    elif given.segments:
        mask = given.segments[0].mask
        iou = overlap(boxes_of(text), boxes_of(truth))
        drawn = dice(np.logical_or.reduce(masks) if masks else np.zeros_like(mask), mask)
        yield "text_to_region/iou", iou
        yield "seg/dice", drawn
        if part := ANATOMY.get(_task(given).removeprefix("where is the ")):
            yield f"{part}/iou", iou
            yield f"{part}/dice", drawn
    else:
        yield "text_to_region/invented", float(bool(boxes_of(text)))


def overlap(ones: Sequence[Corners], others: Sequence[Corners]) -> float:
    """Intersection over union of two sets of boxes as areas of the 1000 x 1000 grid; 0 when either is empty."""
    one, other = area_of(ones), area_of(others)
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 0.0


def _questions(exams: Iterable[Exam]) -> Iterator[tuple[Exam, Input]]:
    for number, exam in enumerate(exams):
        if exam.then is None:
            yield from ((exam, each) for each in where_is_anatomy(exam))
        else:
            yield exam, unaided_report(exam, with_prior=number % 2 == 1)
            yield from ((exam, each) for each in _inputs(exam))


def _inputs(exam: Exam) -> Iterator[Input]:
    """The first inputs of each task that hold the film and not noise."""
    for task in TASKS:
        drawn = (draw_task(exam, number, None, task) for number in range(100))
        yield from islice((each for each in drawn if NO_CHEST.lower() not in (each.answer or "").lower()), PER_EXAM)


def _task(given: Input) -> str:
    """The last line of what it is told."""
    return given.text.rsplit("\n", 1)[-1]
