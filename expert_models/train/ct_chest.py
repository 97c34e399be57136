"""The recipe of the chest network on CT: phantoms alone, seeds below 900,000, one patch a step.

Every step draws from (seed, step), so a run that was interrupted goes on exactly where it stood. The weights that ship
are a moving average over the steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.losses.dice import DiceLoss
from torch import Tensor, nn
from torch.nn import functional

from expert_models.card import packaged_card
from expert_models.ct_chest_network import CARD, network_input
from expert_models.ct_chest_parts import LESIONS
from expert_models.precision import half_precision, training_device
from expert_models.segment import build_network
from expert_models.train.checkpoint import Curve, Training
from expert_models.train.ct_chest_scenes import ChestScene, chest_scene, patch_of

Progress = Callable[[str], None]

CHECKPOINT = "ct-chest.checkpoint.safetensors"
RULES = 2  # of how a scene is drawn: those that were kept under others are drawn anew
SCENES = "ct-chest-scenes"  # folder of the drawn scenes, which take longer to draw than to read


@dataclass(frozen=True, slots=True)
class Plan:
    """What decides a run."""

    steps: int = 6000
    seed: int = 0
    scenes: int = 400
    batch: int = 1
    rate: float = 2e-3
    average: float = 0.99
    keep_every: int = 100


def train(out: Path, *, progress: Progress | None = None, plan: Plan | None = None) -> tuple[dict[str, Tensor], Curve]:
    """Train to the end of the plan, going on from a checkpoint in out: averaged weights, and the curve.

    ValueError when the checkpoint is of another plan.
    """
    plan, say = plan or Plan(), progress or (lambda _: None)
    card = packaged_card(CARD)
    torch.manual_seed(plan.seed)
    device = training_device()
    network = build_network(card).to(device)
    nn.Module.to(network, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=plan.rate, weight_decay=0.02)
    run = Training(out / CHECKPOINT, network, optimizer, plan)
    groups = by_lesion(drawn_scenes(out / SCENES, plan, card.input.spacing_mm[0], say))
    overlap = DiceLoss(sigmoid=True, batch=True, smooth_nr=30.0, smooth_dr=30.0)
    network.train()
    for step in range(run.done, plan.steps):
        for group in optimizer.param_groups:
            falling = 0.02 + 0.49 * (1 + math.cos(math.pi * step / plan.steps))
            group["lr"] = plan.rate * min(1.0, (step + 1) / 100) * falling
        hu, truth, weight = (each.to(device) for each in batch_of(groups, plan, step))
        picture = network_input(hu, card).contiguous(memory_format=torch.channels_last_3d)
        with half_precision(device):
            logits = network(picture)
        logits = logits.float()
        crossed = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        loss = 3 * (crossed * weight).mean() + overlap(logits * weight - 20 * (1 - weight), truth * weight)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimizer.step()
        run.took(loss, min(plan.average, (step + 1) / (step + 21)))
        if run.done % 50 == 0:
            say(f"step {run.done}/{plan.steps} loss {run.recent_loss(50):.4f}")
        if run.done % plan.keep_every == 0 or run.done == plan.steps:
            run.keep()
    return run.averaged, run.curve


def by_lesion(scenes: Sequence[ChestScene]) -> list[list[ChestScene]]:
    """All scenes, and then those with each lesion: a group of these is as likely as another, however rare it is."""
    groups = [list(scenes), *([each for each in scenes if each.mask(name).any()] for name in LESIONS)]
    return [group for group in groups if group]


def batch_of(groups: Sequence[Sequence[ChestScene]], plan: Plan, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """The patches of one step: HU, truth, weight, each (B, channels, slices, rows, columns)."""
    random = np.random.default_rng([plan.seed, step])
    generator = torch.Generator().manual_seed(int(random.integers(2**62)))
    drawn = []
    for _ in range(plan.batch):
        group = groups[int(random.integers(len(groups)))]
        drawn.append(patch_of(group[int(random.integers(len(group)))], random, generator))
    hu, truth, weight = (torch.stack(each) for each in zip(*drawn, strict=True))
    return hu, truth, weight


def drawn_scenes(folder: Path, plan: Plan, spacing_mm: float, say: Progress) -> list[ChestScene]:
    """The scenes of a plan, read from the folder where they were drawn before."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes = []
    for number in range(plan.scenes):
        path = folder / f"{plan.seed}-{number}-{spacing_mm:g}-{RULES}.npz"
        if not path.exists():
            scene = chest_scene(number, plan.seed, spacing_mm)
            partial = path.with_suffix(".partial.npz")
            np.savez_compressed(partial, hu=scene.hu, bits=scene.bits)
            partial.replace(path)
        with np.load(path, allow_pickle=False) as kept:
            scenes.append(ChestScene(kept["hu"], kept["bits"]))
        if (number + 1) % 20 == 0:
            say(f"scene {number + 1} of {plan.scenes}")
    return scenes
