"""What a step learns from, drawn from (seed, step): an interrupted run goes on as if it had not been."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medmllm.images import Images, Regions
from medmllm.processor import Batch, Input, WetreadProcessor
from medmllm.train.exams import Exam, Shares
from medmllm.train.plan import Plan
from medmllm.train.tasks import draw_task, film_of
from medmllm.train.varied import varied

PER_EXAM = 8  # inputs of an exam in a batch: to vary its films and to encode them costs more than to speak of them
SEEN_WITH_PRIOR, TOLD_WITH_PRIOR = 0.9, 0.8  # of the exams of `see`, and of the other stages


def seen_batch(processor: WetreadProcessor, at_hand: Sequence[Exam], often: Shares, plan: Plan, step: int) -> Batch:
    """The films of one step of `see`, with their priors and outlines, and no word."""
    random = np.random.default_rng([plan.seed, step, 103])
    drawn = [varied(at_hand[each], random) for each in chosen(often, plan.batch, random)]
    return processor.batch([film_of(each, bool(random.random() < SEEN_WITH_PRIOR)) for each in drawn])


def drawn_batch(processor: WetreadProcessor, at_hand: Sequence[Exam], often: Shares, plan: Plan, step: int) -> Batch:
    """The inputs of one step, by length."""
    random = np.random.default_rng([plan.seed, step, 101])
    exams_ = [varied(at_hand[each], random) for each in chosen(often, -(-plan.batch // PER_EXAM), random)]
    earlier = random.random(len(exams_)) < TOLD_WITH_PRIOR
    inputs = [
        draw_task(exams_[of], int(random.integers(1 << 30)), with_prior=bool(earlier[of]))
        for of in (number // PER_EXAM for number in range(plan.batch))
    ]
    return processor.batch(sorted(inputs, key=length))


def chosen(often: Shares, size: int, random: np.random.Generator) -> list[int]:
    """Numbers of exams, drawn by their shares."""
    return [int(each) for each in random.choice(len(often), size=size, p=often)]


def length(one: Input) -> int:
    """Letters to read and to learn."""
    return len(one.text) + len(one.answer or "")


def on(batch: Batch, device: torch.device | str) -> Batch:
    """The batch on a device."""
    images, regions = batch.images, batch.regions

    def moved(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(device)

    return Batch(
        batch.input_ids.to(device),
        batch.attention_mask.to(device),
        moved(batch.labels),
        Images(
            moved(images.pictures),
            moved(images.priors),
            moved(images.has_prior),
            moved(images.shown),
            [each.to(device) for each in images.volumes],
            [moved(each) for each in images.prior_volumes],
            moved(images.slices),
            images.pictured and images.pictured.changed(lambda tensor: tensor.to(device)),
        ),
        None
        if regions is None
        else Regions(regions.masks.to(device), regions.boxes.to(device), regions.owners.to(device)),
        moved(batch.mask_owners),
        moved(batch.mask_targets),
        batch.outlines and batch.outlines.to(device),
    )
