"""Whether experts are called when they are needed, and heard: scored on exams that no one trained on.

`expert_call/accuracy`: asked what only an expert can answer exactly, with experts offered, the share of answers that
are exactly the right call and nothing else. `expert_call/needless`: the share of questions which the pictures answer
that were answered by a call, with experts offered; right is 0. `expert_call/repeated`: told what an expert measured,
the share of answers that have the number that was asked for, with its unit, and no other.

Every film can be asked about, because neither the call nor the number that is told depends on what is on it. No expert
is run: the first answer is scored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice

from expert_models.evaluate import Metric, Progress, mean_metric
from medmllm.answer import Asked
from medmllm.evaluate_grounding import ask, counted
from medmllm.parse import CALL
from medmllm.processor import Input
from medmllm.train.calling import draw_call
from medmllm.train.exams import Exam

PER_EXAM = 4  # questions of each kind
SCORES = {"call": "expert_call/accuracy", "seen": "expert_call/needless", "told": "expert_call/repeated"}
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def evaluate_calls(
    asked: Asked, exams: Iterable[Exam], limit: int | None = None, progress: Progress | None = None
) -> list[Metric]:
    """The three figures of this module; an empty list when there is no exam."""
    scored: dict[str, list[tuple[float, str]]] = {}
    for (exam, kind), given, answered in ask(asked, _questions(counted(islice(exams, limit), progress))):
        value = score(kind, answered.text.strip(), given.answer or "")
        scored.setdefault(SCORES[kind], []).append((float(value), str(exam.seed)))
    return [mean_metric(name, *zip(*values, strict=True)) for name, values in scored.items()]


def score(kind: str, text: str, truth: str) -> bool:
    """What one answer scores. kind: one of SCORES; truth: the right answer."""
    match kind:
        case "call":
            return text == truth
        case "seen":
            return CALL.search(text) is not None
        case "told":
            return truth in text and NUMBER.findall(text) == NUMBER.findall(truth)
    raise ValueError(f"nothing is scored of {kind!r}")


def _questions(exams: Iterable[Exam]) -> Iterator[tuple[tuple[Exam, str], Input]]:
    """The first questions of each kind; of what was told those that have a number for an answer."""
    for exam in exams:
        for kind in SCORES:
            drawn = (draw_call(exam, number, kind) for number in range(100))
            asked = (each for each in drawn if kind != "told" or NUMBER.search(each.answer or ""))
            yield from (((exam, kind), each) for each in islice(asked, PER_EXAM))
