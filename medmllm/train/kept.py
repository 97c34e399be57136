"""The films of `speak`: encoded once and kept, so that the decoder learns many small steps in little time.

What a decoder has to learn of a picture's tokens, to look up which of them a word asks for, comes of many steps and
not of many films (docs/decisions.md, 2026-11-27). Each round of steps has other films, varied anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from expert_models.precision import half_precision
from medmllm.images import Images, Pictured
from medmllm.model import WetreadForReporting
from medmllm.processor import Batch, WetreadProcessor
from medmllm.train.batches import TOLD_WITH_PRIOR, chosen, length, on
from medmllm.train.exams import Exam, Shares, shares
from medmllm.train.plan import Plan
from medmllm.train.tasks import NO_FILM, draw_task, film_of, no_film
from medmllm.train.varied import varied

AT_ONCE = 16  # films that are encoded together

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """Films and what they became, in 16 bit: one tensor of each kind.

    films: each with whether the one before it is shown, and whether it is shown itself, not noise in its place.
    """

    films: Sequence[tuple[Exam, bool, bool]]
    pictured: Pictured


def spoken_batches(
    model: WetreadForReporting,
    processor: WetreadProcessor,
    at_hand: Sequence[Exam],
    plan: Plan,
    done: int,
    progress: Progress,
) -> Iterator[Batch]:
    """The inputs of every step that is left, on films as the model sees them now."""
    kept: Kept | None = None
    often = shares(at_hand)
    for step in range(done, plan.steps):
        if kept is None or step % plan.renewed == 0:
            kept = None  # its memory is needed
            kept = kept_films(model, processor, at_hand, often, plan, step // plan.renewed)
            progress(f"{plan.stage}: {len(kept.films)} films encoded")
        yield spoken_batch(processor, kept, plan, step)


def kept_films(
    model: WetreadForReporting,
    processor: WetreadProcessor,
    at_hand: Sequence[Exam],
    often: Shares,
    plan: Plan,
    round_: int,
) -> Kept:
    """The films of one round, drawn from (seed, round)."""
    random = np.random.default_rng([plan.seed, round_, 107])
    model.eval()
    films: list[tuple[Exam, bool, bool]] = []
    whole: Pictured | None = None
    numbers = chosen(often, plan.films, random)
    for first in range(0, plan.films, AT_ONCE):
        drawn = [varied(at_hand[each], random) for each in numbers[first : first + AT_ONCE]]
        exams = [replace(each, now=replace(each.now)) for each in drawn]  # the same film twice is two films
        earlier = [each.then is not None and random.random() < TOLD_WITH_PRIOR for each in exams]
        films += zip(exams, earlier, (random.random(len(exams)) >= NO_FILM).tolist(), strict=True)
        inputs = [replace(film_of(exam, with_prior), outlines=None) for exam, with_prior, _ in films[first:]]
        inputs = [
            one if is_film else replace(one, pictures=[no_film(exam.now, random)])
            for one, (exam, _, is_film) in zip(inputs, films[first:], strict=True)
        ]
        batch = on(processor.batch(inputs), model.device)
        with torch.no_grad(), half_precision(model.device.type):
            made = model.see(batch.images)[0].changed(_half)
        if whole is None:
            whole = made.changed(lambda tensor: tensor.new_empty(plan.films, *tensor.shape[1:]))
        whole.put(first, made)
    if whole is None:
        raise ValueError("there is no film to keep")
    return Kept(films, whole)


def spoken_batch(processor: WetreadProcessor, kept: Kept, plan: Plan, step: int) -> Batch:
    """The inputs of one step, by length, each on a film of its own."""
    random = np.random.default_rng([plan.seed, step, 109])
    many = len(kept.films)
    drawn = [
        (draw_task(exam, int(random.integers(1 << 30)), with_prior, is_film=is_film), number)
        for number in random.choice(many, size=min(plan.batch, many), replace=False)
        for exam, with_prior, is_film in [kept.films[number]]
    ]
    drawn.sort(key=lambda each: length(each[0]))
    batch = processor.batch([replace(one, outlines=None) for one, _ in drawn])
    rows = torch.tensor([number for _, number in drawn])
    return replace(batch, images=Images(pictured=kept.pictured.changed(lambda tensor: _whole(tensor[rows]))))


def _half(tensor: Tensor) -> Tensor:
    return (tensor.half() if tensor.is_floating_point() else tensor).cpu()


def _whole(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
