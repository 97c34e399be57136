"""Whether the pictures matter: reports from the pictures alone on what is no film, and on another patient's.

`noise/abnormal`, `blank/abnormal`: the share of reports on noise and on one grey that state anything as present or
possible; right is 0. `swapped_image/changed`: told the same and shown another patient's film, on which other things are
true, how often what the report states is another; `swapped_image/followed`: how often it then states as present exactly
what is there on that film. `swapped_prior/changed`: shown another patient's earlier film, on which other things are
true, how often the changes that the report states are others. High is right for these three.

No expert is heard anywhere. Films are swapped only among synthetic patients, of whom everything is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from expert_models import codes
from expert_models.evaluate import Metric, Progress, mean_metric
from expert_models.finding import Change, Code, Presence, Side
from medmllm.answer import Asked
from medmllm.evaluate_grounding import ask, counted
from medmllm.evaluate_reports import SAME
from medmllm.labeler import Statement, statements
from medmllm.lexicon import Polarity
from medmllm.processor import Float32, Input
from medmllm.radfact import plain
from medmllm.train.exams import Exam, Film
from medmllm.train.tasks import unaided_report
from medmllm.train.truth import findings_of

STATED = (Polarity.PRESENT, Polarity.UNCERTAIN)

Present = frozenset[tuple[Code, Side | None]]


@dataclass(frozen=True, slots=True, eq=False)
class _Other:
    """A patient whose films may be shown in place of another's: both films, and what is present on each."""

    now: Float32
    then: Float32 | None
    now_true: Present
    then_true: Present


@dataclass(frozen=True, slots=True)
class _Shown:
    """What was shown: to whose brief, and what is present on the film that stands in the place of theirs."""

    kind: str
    seed: int
    true: Present = frozenset()


def evaluate_controls(
    asked: Asked, exams: Iterable[Exam], limit: int | None = None, progress: Progress | None = None
) -> list[Metric]:
    """The figures of this module that the exams allow; an empty list when there is no exam."""
    said: dict[tuple[str, int], frozenset[Statement]] = {}
    scored: dict[str, list[tuple[float, str]]] = {}
    for shown, _, answered in ask(asked, _questions(counted(islice(exams, limit), progress))):
        stated = frozenset(statements(plain(answered.text)))
        said[shown.kind, shown.seed] = stated
        for name, value in _score(shown, stated, said):
            scored.setdefault(name, []).append((float(value), str(shown.seed)))
    return [mean_metric(name, *zip(*values, strict=True)) for name, values in scored.items()]


def _score(
    shown: _Shown, stated: frozenset[Statement], said: dict[tuple[str, int], frozenset[Statement]]
) -> Iterator[tuple[str, bool]]:
    """What one report scores, by the metric's name; said: what the same patient's reports stated before."""
    match shown.kind:
        case "noise" | "blank":
            yield f"{shown.kind}/abnormal", any(each.polarity in STATED for each in stated)
        case "swapped_image":
            yield "swapped_image/changed", stated != said["film", shown.seed]
            present = {SAME.get(each.concept, each.concept) for each in stated if each.polarity is Polarity.PRESENT}
            yield "swapped_image/followed", present - {codes.HEART} == {concept for concept, _ in shown.true}
        case "swapped_prior":
            yield "swapped_prior/changed", _changes(stated) != _changes(said["films", shown.seed])


def _questions(exams: Iterable[Exam]) -> Iterator[tuple[_Shown, Input]]:
    """Noise and grey, the film, another's film, both films, another's earlier film: each with the exam's own brief."""
    seen: list[_Other] = []
    for exam in exams:
        alone = unaided_report(exam, with_prior=False)
        random = np.random.default_rng([exam.seed, 109])
        shape = exam.now.picture.shape
        yield _Shown("noise", exam.seed), replace(alone, pictures=[random.random(shape, dtype=np.float32)])
        yield _Shown("blank", exam.seed), replace(alone, pictures=[np.full(shape, random.random(), np.float32)])
        if exam.then is None:
            continue
        both = unaided_report(exam)
        own = _Other(both.pictures[0], both.priors[0], _present(exam.now), _present(exam.then))
        if other := next((each for each in reversed(seen) if each.now_true != own.now_true), None):
            yield _Shown("film", exam.seed), alone
            yield _Shown("swapped_image", exam.seed, other.now_true), replace(alone, pictures=[other.now])
        if other := next((each for each in reversed(seen) if each.then_true != own.then_true), None):
            yield _Shown("films", exam.seed), both
            yield _Shown("swapped_prior", exam.seed), replace(both, priors=[other.then])
        seen.append(own)


def _present(film: Film) -> Present:
    return frozenset(
        (each.concept, each.side)
        for each in findings_of(film, "1")
        if each.presence is Presence.PRESENT and each.concept not in codes.ANATOMY
    )


def _changes(stated: Iterable[Statement]) -> set[tuple[Code, Side | None, Change]]:
    return {(each.concept, each.side, each.change) for each in stated if each.change is not None}
