"""Words to places and places to words, scored on exams that no one trained on.

`region_to_text/accuracy`: the name of a region, right in every word. `text_to_region/iou`: of the answered boxes and
the true one, as areas; what is there and gets no box counts as 0. `text_to_region/invented`: the share of absent things
that got a box. `seg/dice`: of the answered masks, united, and the true one; no mask counts as 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from expert_models.evaluate import Metric, Progress, mean_metric
from expert_models.measure import dice
from medmllm.answer import Asked
from medmllm.processor import Input
from medmllm.train.exams import Exam
from medmllm.train.tasks import NO_CHEST, draw_task

TASKS = ("name", "where")
PER_EXAM = 4  # inputs of each task
AT_ONCE = 8
BOX = re.compile(r"\[(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3})\]")


def evaluate_grounding(
    asked: Asked, exams: Iterable[Exam], limit: int | None = None, progress: Progress | None = None
) -> list[Metric]:
    """The four figures of this module; an empty list when there is no exam."""
    scores: dict[str, list[tuple[float, str]]] = {}
    for number, exam in enumerate(islice(exams, limit), 1):
        inputs = list(_inputs(exam))
        for first in range(0, len(inputs), AT_ONCE):
            part = inputs[first : first + AT_ONCE]
            for given, answered in zip(part, asked.answers(part), strict=True):
                for name, value in score(given, answered.text, answered.masks):
                    scores.setdefault(name, []).append((value, str(exam.seed)))
        if progress and number % 10 == 0:
            progress(f"{number} exams asked about")
    return [mean_metric(name, *zip(*cases, strict=True)) for name, cases in scores.items()]


def score(given: Input, text: str, masks: Sequence[npt.NDArray[np.bool_]]) -> Iterator[tuple[str, float]]:
    """What one answer scores, by the metric's name."""
    truth = given.answer or ""
    if "what is" in given.text:
        yield "region_to_text/accuracy", float(text == truth)
    elif given.segments:
        mask = given.segments[0].mask
        yield "text_to_region/iou", overlap(boxes_of(text), boxes_of(truth))
        drawn = np.logical_or.reduce(masks) if masks else np.zeros_like(mask)
        yield "seg/dice", dice(drawn, mask)
    else:
        yield "text_to_region/invented", float(bool(boxes_of(text)))


def boxes_of(text: str) -> list[tuple[int, int, int, int]]:
    """Every box (x1, y1, x2, y2) of a text, 0..999."""
    return [(int(a), int(b), int(c), int(d)) for a, b, c, d in BOX.findall(text)]


def overlap(ones: Sequence[tuple[int, int, int, int]], others: Sequence[tuple[int, int, int, int]]) -> float:
    """Intersection over union of two sets of boxes as areas of the 1000 x 1000 grid; 0 when either is empty."""
    areas = [np.zeros((1000, 1000), bool) for _ in range(2)]
    for area, boxes in zip(areas, (ones, others), strict=True):
        for x1, y1, x2, y2 in boxes:
            area[y1 : y2 + 1, x1 : x2 + 1] = True
    union = np.logical_or(*areas).sum()
    return float(np.logical_and(*areas).sum() / union) if union else 0.0


def _inputs(exam: Exam) -> Iterator[Input]:
    """The first inputs of each task that hold the film and not noise."""
    for task in TASKS:
        drawn = (draw_task(exam, number, None, task) for number in range(100))
        yield from islice((each for each in drawn if NO_CHEST.lower() not in (each.answer or "").lower()), PER_EXAM)
