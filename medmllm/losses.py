"""What a model learns by: words, masks, and what it outlines before it speaks."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from medmllm.connector import Outlined

UNKNOWN = -100
SIDES = 3  # on the right, on the left, at all
COURSES = ("new", "larger", "stable", "smaller", "resolved")  # what can become of a thing; after them: on neither film


@dataclass(frozen=True, slots=True)
class OutlineTargets:
    """What is true of each of K things on each of B pictures.

    now, then: (B, K, h, w) shares in [0, 1]; now_known, then_known: (B, K) bool. there: (B, K, SIDES) 1 where it is
    on that side, and at all, 0 where it is not. course: (B, K) numbers of COURSES, or how many they are where it is on
    neither film. Both are UNKNOWN where that is not known.
    """

    now: Tensor
    then: Tensor
    now_known: Tensor
    then_known: Tensor
    there: Tensor
    course: Tensor

    def to(self, device: torch.device | str) -> OutlineTargets:
        """The same on a device."""
        return OutlineTargets(*(getattr(self, each.name).to(device) for each in fields(self)))


def word_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the next token: (B, T, V) logits, (B, T) labels with UNKNOWN where nothing is learned.

    An answer of n tokens weighs as sqrt(n) of them: otherwise reports would leave no voice to answers of one word.
    """
    known = labels[:, 1:] != UNKNOWN
    losses = functional.cross_entropy(logits[:, :-1][known].float(), labels[:, 1:][known], reduction="none")
    weights = (1 / _roots(labels))[:, None].expand(known.shape)[known]
    return (losses * weights).sum() / voices(labels)


def voices(labels: Tensor) -> Tensor:
    """What a batch's answers weigh together in `word_losses`; to join the losses of several batches."""
    return _roots(labels).sum()


def _roots(labels: Tensor) -> Tensor:
    return (labels[:, 1:] != UNKNOWN).sum(dim=1).clamp_min(1).sqrt()


def mask_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy and 1 - Dice, in equal parts: (N, h, w) logits against (N, h, w) in [0, 1]."""
    entropy = functional.binary_cross_entropy_with_logits(logits, targets)
    found = logits.sigmoid()
    overlap = 2 * (found * targets).sum(dim=(1, 2)) + 1
    dice = overlap / (found.sum(dim=(1, 2)) + targets.sum(dim=(1, 2)) + 1)
    return entropy + (1 - dice).mean()


def outline_losses(outlined: Outlined, told: Tensor, targets: OutlineTargets) -> Tensor:
    """How far the outlines are from the truth, and what `told`, (B, K, SIDES + courses), says of sides and course.

    Dice is taken of each thing over the whole batch, so that a picture without it counts by what is drawn there.
    """
    lost = [_outlines(outlined.now, targets.now, targets.now_known)]
    if targets.then_known.any():
        lost.append(_outlines(outlined.then, targets.then, targets.then_known))
    told = told.float()
    known = targets.there != UNKNOWN
    if known.any():
        said = told[..., :SIDES][known]
        lost.append(functional.binary_cross_entropy_with_logits(said, targets.there[known].float()))
    if (targets.course != UNKNOWN).any():
        course = told[..., SIDES:].flatten(0, 1)
        lost.append(functional.cross_entropy(course, targets.course.flatten(), ignore_index=UNKNOWN))
    return torch.stack(lost).sum()


def _outlines(logits: Tensor, targets: Tensor, known: Tensor) -> Tensor:
    logits, weight = logits.float(), known[..., None, None].float()
    pixels = weight.sum().clamp_min(1) * logits.shape[-1] * logits.shape[-2]
    entropy = (functional.binary_cross_entropy_with_logits(logits, targets, reduction="none") * weight).sum() / pixels
    found, true = logits.sigmoid() * weight, targets * weight
    overlap = 2 * (found * true).sum(dim=(0, 2, 3)) + 1
    dice = overlap / (found.sum(dim=(0, 2, 3)) + true.sum(dim=(0, 2, 3)) + 1)
    return 5 * entropy + (1 - dice).mean()
