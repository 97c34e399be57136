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
from medmllm.train.tasks import draw_task, film_of
from medmllm.train.varied import varied

AT_ONCE = 16  # films that are encoded together

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """A film, with or without the one before it, and what they became, in 16 bit."""

    exam: Exam
    with_prior: bool
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
    kept: list[Kept] = []
    often = shares(at_hand)
    for step in range(done, plan.steps):
        if not kept or step % plan.renewed == 0:
            kept.clear()
            kept += kept_films(model, processor, at_hand, often, plan, step // plan.renewed)
            progress(f"{plan.stage}: {len(kept)} films encoded")
        yield spoken_batch(processor, kept, plan, step)


def kept_films(
    model: WetreadForReporting,
    processor: WetreadProcessor,
    at_hand: Sequence[Exam],
    often: Shares,
    plan: Plan,
    round_: int,
) -> list[Kept]:
    """The films of one round, drawn from (seed, round)."""
    random = np.random.default_rng([plan.seed, round_, 107])
    model.eval()
    kept: list[Kept] = []
    numbers = chosen(often, plan.films, random)
    for first in range(0, plan.films, AT_ONCE):
        drawn = [varied(at_hand[each], random) for each in numbers[first : first + AT_ONCE]]
        exams = [replace(each, now=replace(each.now)) for each in drawn]  # the same film twice is two films
        earlier = [each.then is not None and random.random() < TOLD_WITH_PRIOR for each in exams]
        inputs = [film_of(exam, with_prior) for exam, with_prior in zip(exams, earlier, strict=True)]
        batch = on(processor.batch([replace(each, outlines=None) for each in inputs]), model.device)
        with torch.no_grad(), half_precision(model.device.type):
            pictured = model.see(batch.images)[0].changed(_half)
        kept += map(Kept, exams, earlier, pictured.each())
    return kept


def spoken_batch(processor: WetreadProcessor, kept: Sequence[Kept], plan: Plan, step: int) -> Batch:
    """The inputs of one step, by length, each on a film of its own."""
    random = np.random.default_rng([plan.seed, step, 109])
    films = [kept[each] for each in random.choice(len(kept), size=min(plan.batch, len(kept)), replace=False)]
    drawn = [
        (draw_task(each.exam, int(random.integers(1 << 30)), each.with_prior, has_film=True), each.pictured)
        for each in films
    ]
    drawn.sort(key=lambda each: length(each[0]))
    batch = processor.batch([replace(one, outlines=None) for one, _ in drawn])
    pictured = Pictured.joined([each for _, each in drawn]).changed(_whole)
    return replace(batch, images=Images(pictured=pictured))


def _half(tensor: Tensor) -> Tensor:
    return (tensor.half() if tensor.is_floating_point() else tensor).cpu()


def _whole(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
