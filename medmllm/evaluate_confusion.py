"""Confusing pairs after MediConfusion (arXiv:2409.15477): one question, two films alike to the eye, two right answers.

A pair is two films that one encoder takes for nearly the same while a second look tells them apart. There the two are
BiomedCLIP and DINOv2. Here the first is the encoder of the findings expert, from which the model's own eye began: a
pair is among the nearest tenth by the cosine of its pooled features. The second look is the plain pictures: a pair
correlates less than half of all pairs do. Neither knows what the model says. The rule is one of ranks, because
synthetic films are all alike to both: fixed limits would choose all pairs or none.

`set_accuracy`: the share of pairs of which both films are answered rightly; chance 0.25. `confusion`: of the pairs
whose answers can both be read, the share that got the same one twice; chance 0.5. `confusion/unread`: the share of
pairs with an answer that is neither option; they count as wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from expert_models.card import checked_weights, packaged_card
from expert_models.encoder import EfficientNetLiteEncoder
from expert_models.evaluate import Metric, Progress, mean_metric
from expert_models.finding import Presence, Side
from expert_models.preprocess import network_input
from medmllm import wording
from medmllm.answer import Asked
from medmllm.evaluate_grounding import ask, counted
from medmllm.processor import Input
from medmllm.train.exams import Exam
from medmllm.train.tasks import asked_of
from medmllm.train.truth import CONCEPTS, findings_of

EYE = "cxr-findings"
NEAREST = 0.1  # of all pairs, by the first look
UNLIKE = 0.5  # of all pairs, by the second
THERE = ("yes", "no")
SIDES = ("left", "right")

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Pair:
    """One question of two films, by their number, with the right answer of each."""

    question: str
    options: tuple[str, str]
    films: tuple[int, int]
    right: tuple[str, str]


def evaluate_confusion(
    asked: Asked,
    exams: Iterable[Exam],
    limit: int | None = None,
    progress: Progress | None = None,
    nearest: float = NEAREST,
    unlike: float = UNLIKE,
) -> list[Metric]:
    """The three figures of this module; an empty list when no pair can be made of the exams.

    nearest, unlike: the shares of all pairs, in [0, 1], that each look leaves.
    """
    films = [each for each in counted(islice(exams, limit), progress) if _is_known(each)]
    if len(films) < 2:
        return []
    made = pairs(films, first_look([each.now.picture for each in films]), second_look(films), nearest, unlike)
    answers: list[list[str]] = [[] for _ in made]
    for number, _, answered in ask(asked, _questions(made, films)):
        answers[number].append(answered.text.strip().casefold().rstrip("."))
    both, same, unread = [], [], []
    for pair, said in zip(made, answers, strict=True):
        patient = str(films[pair.films[0]].seed)
        is_read = all(each in pair.options for each in said)
        both.append((float(tuple(said) == pair.right), patient))
        unread.append((float(not is_read), patient))
        if is_read:
            same.append((float(said[0] == said[1]), patient))
    named = {"set_accuracy": both, "confusion": same, "confusion/unread": unread}
    return [mean_metric(name, *zip(*values, strict=True)) for name, values in named.items() if values]


def pairs(
    films: Sequence[Exam], first: Float32, second: Float32, nearest: float = NEAREST, unlike: float = UNLIKE
) -> list[Pair]:
    """Nearest pairs first, each film once for a question. first, second: (N, N) likeness of every two films."""
    upper = np.triu_indices(len(films), 1)
    is_near = first >= np.quantile(first[upper], 1 - nearest)
    is_unlike = second <= np.quantile(second[upper], unlike)
    order = sorted(zip(*upper, strict=True), key=lambda each: -first[each])
    chosen = [(int(a), int(b)) for a, b in order if is_near[a, b] and is_unlike[a, b]]
    made: list[Pair] = []
    for question, options, right in _asked(films):
        used: set[int] = set()
        for a, b in chosen:
            if a in right and b in right and right[a] != right[b] and not used & {a, b}:
                used |= {a, b}
                made.append(Pair(question, options, (a, b), (right[a], right[b])))
    return made


def first_look(pictures: Sequence[npt.NDArray[np.uint8]]) -> Float32:
    """(N, N) cosines of the pooled last features of the findings expert's encoder."""
    card = packaged_card(EYE)
    eye = EfficientNetLiteEncoder()
    weights = load_file(checked_weights(card))
    prefix = "encoder."
    eye.load_state_dict(
        {name.removeprefix(prefix): e.float() for name, e in weights.items() if name.startswith(prefix)}
    )
    eye.eval()
    pooled = []
    with torch.no_grad():
        for picture in pictures:
            framed = network_input(picture.astype(np.float32) / np.float32(255), picture.shape)[0]
            pooled.append(eye(torch.from_numpy(framed)[None, None])[-1].mean(dim=(2, 3))[0])
    features = torch.nn.functional.normalize(torch.stack(pooled), dim=1)
    return np.asarray((features @ features.T).numpy(), dtype=np.float32)


def second_look(films: Sequence[Exam]) -> Float32:
    """(N, N) correlations of the pictures themselves."""
    flat = np.stack([each.now.picture.astype(np.float32).ravel() for each in films])
    return np.asarray(np.atleast_2d(np.corrcoef(flat)), dtype=np.float32)


def _is_known(exam: Exam) -> bool:
    """Whether its lesions are known, as of every film but those that have outlines of organs alone."""
    return exam.then is not None or bool(exam.now.lesions)


def _asked(films: Sequence[Exam]) -> Iterator[tuple[str, tuple[str, str], dict[int, str]]]:
    """Every question, its options, and the right answer of each film that has one."""
    found = [findings_of(each.now, "1") for each in films]
    for concept in dict.fromkeys(CONCEPTS.values()):
        present = [[e for e in own if e.concept == concept and e.presence is Presence.PRESENT] for own in found]
        yield f"is there {wording.noun(concept)}", THERE, {n: THERE[not own] for n, own in enumerate(present)}
        sides = {number: one for number, own in enumerate(present) if (one := _one_side({e.side for e in own}))}
        yield f"on which side is the {wording.noun(concept)}", SIDES, sides


def _one_side(sides: set[Side | None]) -> str | None:
    return next((each.value for each in (Side.LEFT, Side.RIGHT) if sides == {each}), None)


def _questions(made: Sequence[Pair], films: Sequence[Exam]) -> Iterator[tuple[int, Input]]:
    for number, pair in enumerate(made):
        for film in pair.films:
            yield number, asked_of(films[film], pair.question)
