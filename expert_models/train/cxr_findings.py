"""The recipe of the chest X-ray findings network.

Phantoms carry the truth about place and side of every finding, and real films the truth about real films: readings of
opacity with boxes, labels mined from reports, and above all what normal looks like, which keeps what was learned from
phantoms from firing on patients. A batch mixes them in fixed shares; real films of one view and one answer are drawn as
often as those of another, so that the view tells nothing. The encoder starts from the anatomy network, its first stages
as they are there. The weights that ship are a moving average over the steps. Every step draws from (seed, step), so a
run that was interrupted goes on where it stood.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Generator, Tensor, nn
from torch.nn import functional

from expert_models.card import checked_weights, packaged_card
from expert_models.chest_radiograph import CARD as ANATOMY
from expert_models.findings_network import STRIDE, FindingsNetwork
from expert_models.precision import half_precision, training_device
from expert_models.train.augment import exposed, moved, with_devices, with_nodules
from expert_models.train.checkpoint import Curve, Training
from expert_models.train.findings_films import LABELS, LUNGS, Film

Progress = Callable[[str], None]

CHECKPOINT = "cxr-findings.checkpoint.safetensors"
MOVED, EXPOSED, COVERED = 0.6, 0.6, 0.4  # how far a film is moved; how often it is exposed anew, and covered by things
PLANTED = {"nodule": (0.4, 8.0, 29.0), "mass": (0.2, 32.0, 64.0)}  # share of the real films, diameters in mm
KNOWN = ("sides", "sides_weight", "whole", "whole_weight", "drawn")
FROZEN_STAGES = 2  # of the encoder: edges and textures, which cost most of a step to train again


@dataclass(frozen=True, slots=True)
class Plan:
    """What decides a run, together with the data. shares: films of each group in one batch."""

    steps: int = 1800
    seed: int = 1
    rate: float = 1.5e-3
    width: int = 64
    shares: Mapping[str, int] = field(default_factory=lambda: {"phantom": 8, "read": 4, "mined": 4})
    average: float = 0.99
    checkpoint_every: int = 50


@dataclass(frozen=True, slots=True)
class Group:
    """Films of one kind as tensors, see Film; cells: indices of the films of each cell."""

    pictures: Tensor
    bits: Tensor
    sides: Tensor
    sides_weight: Tensor
    whole: Tensor
    whole_weight: Tensor
    drawn: Tensor
    cells: tuple[Tensor, ...]

    def draw(self, count: int, generator: Generator) -> Tensor:
        """Indices of films, every cell as likely as another."""
        cells = torch.randint(0, len(self.cells), (count,), generator=generator)
        picked = [self.cells[cell] for cell in cells.tolist()]
        return torch.stack([cell[torch.randint(0, len(cell), (1,), generator=generator)[0]] for cell in picked])


def as_group(films: Sequence[Film]) -> Group:
    """Films as one group, kept in 8 and 16 bits."""
    names = sorted({film.cell for film in films})
    cells = tuple(torch.tensor([i for i, film in enumerate(films) if film.cell == name]) for name in names)
    stacked = {name: torch.from_numpy(np.stack([getattr(film, name) for film in films])) for name in KNOWN}
    pictures = torch.from_numpy(np.stack([film.picture for film in films]))[:, None]
    bits = torch.from_numpy(np.stack([film.bits for film in films]).astype(np.int16))
    return Group(pictures=pictures, bits=bits, cells=cells, **stacked)


def new_network(plan: Plan, start: Mapping[str, Tensor] | None = None) -> FindingsNetwork:
    """The network, its encoder from the packaged anatomy weights (or `start`), the first stages not to be trained."""
    torch.manual_seed(plan.seed)
    network = FindingsNetwork(len(LABELS), plan.width)
    weights = start or load_file(checked_weights(packaged_card(ANATOMY)))
    prefix = "encoder."
    network.encoder.load_state_dict(
        {name.removeprefix(prefix): value.float() for name, value in weights.items() if name.startswith(prefix)}
    )
    for part in _frozen(network):
        part.requires_grad_(False)
    return network


def train(
    groups: Mapping[str, Group], plan: Plan, out: Path, progress: Progress, start: FindingsNetwork | None = None
) -> tuple[FindingsNetwork, Curve]:
    """Train to the end of the plan and return the averaged network, on the CPU, with its curve of (step, loss).

    out: a folder for the checkpoint, from which an interrupted run of the same plan goes on. ValueError when the
    checkpoint there is of another plan.
    """
    device = training_device()
    network = (start or new_network(plan)).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=plan.rate, weight_decay=0.03, betas=(0.9, 0.98))
    run = Training(out / CHECKPOINT, network, optimizer, plan)
    for step in range(run.done, plan.steps):
        for group in optimizer.param_groups:
            group["lr"] = plan.rate * min(1.0, (step + 1) / 60) * _falling(step, plan.steps)
        batch = [each.to(device) for each in drawn_batch(groups, plan, step)]
        torch.manual_seed(plan.seed * 1_000_003 + step)  # stochastic depth draws from torch's own generator
        network.train()
        for part in _frozen(network):
            part.eval()
        pictures, halves, masks, *known = batch
        with half_precision(device, depthwise=True):
            maps, logits = network(pictures.contiguous(memory_format=torch.channels_last), halves)
        loss = findings_loss(maps, logits.float(), masks, *known)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 3.0)
        optimizer.step()
        run.took(loss, min(plan.average, (step + 1) / (step + 21)))
        if run.done % 25 == 0:
            progress(f"step {run.done}/{plan.steps} loss {run.recent_loss(25):.4f}")
        if run.done % plan.checkpoint_every == 0:
            run.keep()
    network.load_state_dict(run.averaged)
    return network.cpu().eval(), run.curve


def drawn_batch(groups: Mapping[str, Group], plan: Plan, step: int) -> list[Tensor]:
    """Pictures (B, 1, H, W) in [-2, 2], halves (B, 2, H, W), masks (B, K, H, W), and what is known, as Film has it."""
    generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + step)
    parts = [
        (group, group.draw(plan.shares[name], generator)) for name, group in groups.items() if plan.shares.get(name)
    ]
    pictures = torch.cat([group.pictures[index] for group, index in parts]).float() / 255
    bits = torch.cat([group.bits[index] for group, index in parts])
    masks = torch.stack([(bits >> bit) & 1 for bit in range(LUNGS + 1)], dim=1).float()
    known = {name: torch.cat([getattr(group, name)[index] for group, index in parts]) for name in KNOWN}
    pictures = _planted(pictures, masks, known, generator)
    pictures, masks = moved(pictures, masks[:, :LUNGS], generator, MOVED)
    for change, share in ((exposed, EXPOSED), (with_devices, COVERED)):
        chosen = torch.rand(len(pictures), generator=generator) < share
        pictures = torch.where(chosen[:, None, None, None], change(pictures, generator), pictures)
    return [(pictures - 0.5) * 4, masks[:, :2], masks[:, 2:], *known.values()]


def _planted(pictures: Tensor, masks: Tensor, known: Mapping[str, Tensor], generator: Generator) -> Tensor:
    """Pictures with nodules and masses laid into the lungs of some real films; masks and what is known follow.

    Without them a real film would never have a nodule for certain, and the network would learn just that.
    """
    for name, (share, *limits) in PLANTED.items():
        label = LABELS.index(name)
        low, high = (math.log(limit) for limit in limits)
        sizes = torch.exp(torch.rand(len(pictures), generator=generator) * (high - low) + low)
        sizes = sizes * (torch.rand(len(pictures), generator=generator) < share)
        sizes = sizes * (known["whole"][:, label] == 0)  # where one is said to be, nobody knows where
        pictures, shadows = with_nodules(pictures, masks[:, LUNGS], sizes, generator)
        area = shadows.sum(dim=(1, 2, 3))
        masks[:, 2 + label] = torch.maximum(masks[:, 2 + label], shadows[:, 0])
        on_side = ((shadows * masks[:, :2]).sum(dim=(2, 3)) > 0.3 * area[:, None]) & (area > 0)[:, None]
        known["sides"][:, label][on_side] = 1
        known["sides_weight"][:, label][on_side] = 1
        for each in ("whole", "whole_weight", "drawn"):
            known[each][:, label][area > 0] = 1
    return pictures


def findings_loss(
    maps: Tensor,
    logits: Tensor,
    masks: Tensor,
    sides: Tensor,
    sides_weight: Tensor,
    whole: Tensor,
    whole_weight: Tensor,
    drawn: Tensor,
) -> Tensor:
    """Weighted cross-entropy of sides and of whole films, and cross-entropy with soft Dice of the maps.

    maps (B, K, h, w) and logits (B, K, 2) are the network's; the others are as Film has them, masks (B, K, H, W). A
    film has a finding when either side has: P = 1 - (1 - P_right)(1 - P_left).
    """
    side = functional.binary_cross_entropy_with_logits(logits, sides, reduction="none") * sides_weight
    none = -functional.softplus(logits).sum(-1)  # log of the probability that neither side has it
    either = torch.log(-torch.expm1(none.clamp(max=-1e-6)))
    film = -(whole * either + (1 - whole) * none) * whole_weight
    scored = side.sum() / sides_weight.sum().clamp(min=1) + film.sum() / whole_weight.sum().clamp(min=1)
    truth = functional.max_pool2d(masks, STRIDE)  # a nodule of a few pixels must not vanish
    entropy = functional.binary_cross_entropy_with_logits(maps, truth, reduction="none").mean(dim=(2, 3))
    guess = torch.sigmoid(maps)
    size = truth.sum(dim=(2, 3))
    dice = 1 - (2 * (guess * truth).sum(dim=(2, 3)) + 5) / (guess.sum(dim=(2, 3)) + size + 5)
    seen = drawn * (size > 0)  # Dice of an empty map would only repeat its entropy
    placed = 5 * (entropy * drawn).sum() / drawn.sum().clamp(min=1)
    overlap = 0.5 * (dice * seen).sum() / seen.sum().clamp(min=1)
    return scored + placed + overlap


def _frozen(network: FindingsNetwork) -> list[nn.Module]:
    encoder: Any = network.encoder
    return [encoder._conv_stem, encoder._bn0, *list(encoder._blocks)[:FROZEN_STAGES]]


def _falling(step: int, steps: int) -> float:
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps))
