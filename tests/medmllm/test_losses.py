"""What is learned from: outlines against the truth, and only where it is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from medmllm.connector import Outlined
from medmllm.losses import COURSES, SIDES, UNKNOWN, OutlineTargets, outline_losses, word_losses

THINGS, CELLS = 2, 4
LARGER, NEITHER = COURSES.index("larger"), len(COURSES)


def targets() -> OutlineTargets:
    """One picture and its prior: the first thing fills the upper half of both, on the left; the second is nowhere."""
    masks = torch.zeros(1, THINGS, CELLS, CELLS)
    masks[:, 0, :2] = 1
    known = torch.ones(1, THINGS, dtype=torch.bool)
    there = torch.tensor([[[0, 1, 1], [0, 0, 0]]])
    return OutlineTargets(masks, masks, known, known, there, torch.tensor([[LARGER, NEITHER]]))


def drawn(masks: torch.Tensor, sure: float = 30.0) -> Outlined:
    logits = (masks * 2 - 1) * sure
    return Outlined(torch.zeros(1, THINGS, 4), logits, logits)


def told(of: OutlineTargets, sure: float = 30.0) -> torch.Tensor:
    sides = (of.there * 2 - 1) * sure
    course = torch.nn.functional.one_hot(of.course, NEITHER + 1) * sure
    return torch.cat([sides.float(), course.float()], dim=-1)


def test_the_truth_costs_nothing() -> None:
    true = targets()
    assert outline_losses(drawn(true.now), told(true), true).item() == pytest.approx(0, abs=1e-5)


def test_knowing_nothing_costs_what_chance_does() -> None:
    """Every logit 0. Per film: 5 ln 2 of the pixels; Dice of the first thing 2 * 4 + 1 over 8 + 8 + 1, of the second
    1 over 8 + 1. Sides ln 2, course ln 6."""
    true = targets()
    nothing = Outlined(torch.zeros(1, THINGS, 4), torch.zeros_like(true.now), torch.zeros_like(true.now))
    film = 5 * math.log(2) + ((1 - 9 / 17) + (1 - 1 / 9)) / 2
    expected = 2 * film + math.log(2) + math.log(6)
    told_nothing = torch.zeros(1, THINGS, SIDES + NEITHER + 1)
    assert outline_losses(nothing, told_nothing, true).item() == pytest.approx(expected, rel=1e-5)


def test_what_is_not_known_is_not_held_against_it() -> None:
    true = targets()
    wrong = drawn(1 - true.now)
    nowhere = torch.zeros_like(true.now_known)
    unknown = replace(
        true,
        now_known=nowhere,
        then_known=nowhere,
        there=torch.full_like(true.there, UNKNOWN),
        course=torch.full_like(true.course, UNKNOWN),
    )
    assert outline_losses(wrong, -told(true), unknown).item() == pytest.approx(0, abs=1e-6)
    without_prior = replace(true, then_known=nowhere)
    earlier_wrong = replace(drawn(true.now), then=wrong.then)
    assert outline_losses(earlier_wrong, told(true), without_prior).item() == pytest.approx(0, abs=1e-5)


def test_a_long_answer_weighs_as_the_root_of_its_length() -> None:
    """One word of probability 1/2, and four of 1/4: (ln 2 + 2 ln 4) / (1 + 2). What is not learned does not count."""
    labels = torch.tensor([[UNKNOWN, 1, UNKNOWN, UNKNOWN, UNKNOWN], [UNKNOWN, 1, 1, 1, 1]])
    logits = torch.full((2, 5, 4), 9.0)
    logits[0, 0] = torch.tensor([0.0, 0.0, -99, -99])
    logits[1, :4] = 0.0
    assert word_losses(logits, labels).item() == pytest.approx((math.log(2) + 2 * math.log(4)) / 3, rel=1e-5)
