"""The recipe of the structures network: airways, bones, the diaphragm, tubes, lines and implants on a frontal film.

Phantoms carry exact masks of everything, real films those of lungs and of some hearts and airways, and that no device
is there. It starts from the anatomy network, and what made that network robust varies these films too, but for the
painted wires: here a wire is a finding.

A first network so made told no device on any real film: on those there had been none. In a second stage shadows of the
phantoms' devices are laid into the real films, where they lie in the phantom's chest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from expert_models.card import checked_weights, packaged_card
from expert_models.chest_radiograph import CARD as ANATOMY
from expert_models.encoder import LightUNet
from expert_models.train.augment import varied
from expert_models.train.checkpoint import Curve
from expert_models.train.cxr_anatomy import Plan, Progress, fit
from expert_models.train.structure_films import CHANNELS, DEVICES, FRAME, Film, phantoms, real_films

PHANTOMS = range(900)
PLAN = Plan(
    steps=2000, seed=3, rate=1.2e-3, size=FRAME[0], shares={"phantom": 6, "whole": 1, "lungs": 1}, average=0.995
)
SECOND = Plan(steps=500, seed=4, rate=8e-4, size=FRAME[0], shares={"phantom": 3, "whole": 2, "lungs": 3}, average=0.995)
PLANTED = 0.75  # share of the real films that shadows are laid into, in the second stage
SMOOTH = (9, 61)  # frame pixels: squares whose mean is what a film is without its devices; the large one in the midst
DEVICE = slice(CHANNELS.index(DEVICES[0]), CHANNELS.index(DEVICES[-1]) + 1)
CHECKPOINT = "cxr-structures.checkpoint.safetensors"


@dataclass(frozen=True, slots=True)
class Group:
    """Films of one kind: uint8 (N, 1, H, W), bits uint16 (N, H, W), known: weight (N, K)."""

    pictures: Tensor
    bits: Tensor
    known: Tensor


def train_structures(data: Path | None, out: Path, progress: Progress) -> tuple[LightUNet, Curve]:
    """The network and its curve. Without the pack cxr_anatomy in the data, phantoms alone are learned from."""
    plan = PLAN
    groups = {"phantom": as_group(list(phantoms(PHANTOMS, out / "structures", progress)))}
    pack = data / "cxr_anatomy" if data else None
    if pack is None or not (pack / "index.csv").is_file():
        progress("no real radiographs: training on phantoms alone")
        plan = replace(plan, shares={"phantom": sum(plan.shares.values())})
    else:
        films = list(real_films(pack))
        told = [bool(film.known[[CHANNELS.index(name) for name in DEVICES]].any()) for film in films]
        groups["whole"] = as_group([film for film, is_whole in zip(films, told, strict=True) if is_whole])
        groups["lungs"] = as_group([film for film, is_whole in zip(films, told, strict=True) if not is_whole])
        progress(f"{len(groups['whole'].pictures)} real films without a device, {len(groups['lungs'].pictures)} others")
    first, curve = fit(
        started(plan), lambda step: batch_of(groups, plan, step), plan, out / "first" / CHECKPOINT, progress
    )
    if "whole" not in groups:
        return first, curve
    progress("second stage: shadows of devices are laid into real films")
    network, more = fit(
        first, lambda step: batch_of(groups, SECOND, step, PLANTED), SECOND, out / "second" / CHECKPOINT, progress
    )
    return network, curve + [(step + plan.steps, loss) for step, loss in more]


def started(plan: Plan) -> LightUNet:
    """A new network with the anatomy network's weights, but for the last layer."""
    torch.manual_seed(plan.seed)
    network = LightUNet(in_channels=1, out_channels=len(CHANNELS), decoder_channels=list(plan.decoder))
    own = network.state_dict()
    published = load_file(checked_weights(packaged_card(ANATOMY)))
    own |= {name: value.to(own[name].dtype) for name, value in published.items() if value.shape == own[name].shape}
    network.load_state_dict(own)
    return network


def as_group(films: Sequence[Film]) -> Group:
    """Films as one group, kept in 8 and 16 bits."""
    return Group(
        torch.from_numpy(np.stack([film.picture for film in films]))[:, None],
        torch.from_numpy(np.stack([film.bits for film in films])),
        torch.from_numpy(np.stack([film.known for film in films])),
    )


def batch_of(groups: Mapping[str, Group], plan: Plan, step: int, planted: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """The films of a step, varied, see `fit`. planted: the share of the real ones that get shadows of devices."""
    generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + step)
    parts = [
        _drawn(groups[name], torch.randint(0, len(groups[name].pictures), (count,), generator=generator))
        for name, count in plan.shares.items()
    ]
    for part, name in zip(parts, plan.shares, strict=True) if planted else ():
        if name != "phantom":
            count = len(part[0])
            donors = torch.randint(0, len(groups["phantom"].pictures), (count,), generator=generator)
            wanted = torch.rand(count, generator=generator) < planted
            with_shadows(part, _drawn(groups["phantom"], donors), wanted, generator)
    pictures, masks, known = (torch.cat(each) for each in zip(*parts, strict=True))
    pictures, masks = varied(pictures, masks, generator, wires=False)
    return pictures, masks, known


Drawn = tuple[Tensor, Tensor, Tensor]  # pictures (B, 1, H, W) and masks (B, K, H, W) in [0, 1], known (B, K)


def _drawn(group: Group, index: Tensor) -> Drawn:
    bits = group.bits[index].int()
    masks = torch.stack([(bits >> channel) & 1 for channel in range(len(CHANNELS))], dim=1).float()
    return group.pictures[index].float() / 255, masks, group.known[index].clone()


def with_shadows(films: Drawn, donors: Drawn, wanted: Tensor, generator: torch.Generator) -> None:
    """Lay the shadows of the donors' devices into the wanted films, where they lie in the chest, in place.

    A shadow is what a donor is brighter than its surroundings, made weaker or up to twice as strong. The box around its
    lungs goes onto the box around the film's, a little out of place and size. What was laid is known; what the film
    itself may hold of other devices stays as known as it was.
    """
    pictures, masks, known = films
    given, shapes, _ = donors
    there = shapes[:, DEVICE].amax(dim=1, keepdim=True)
    around = _mean_around(given, 1 - there, SMOOTH[0])
    around = torch.where(around >= 0, around, _mean_around(given, 1 - there, SMOOTH[1]))
    shadow = (given - around).clamp(min=0) * there * (around >= 0)
    for film in wanted.nonzero()[:, 0].tolist():
        onto, source = (_box(each[film, :2].amax(dim=0)) for each in (masks, shapes))
        if onto is None or source is None or not there[film].any():
            continue
        jitter = torch.rand(4, generator=generator) * 2 - 1
        scale = source[1] / onto[1] * torch.exp(0.08 * jitter[:2])
        shift = source[0] - scale * onto[0] + 0.05 * jitter[2:]
        matrix = torch.stack(
            [torch.stack([scale[0], torch.zeros(()), shift[0]]), torch.stack([torch.zeros(()), scale[1], shift[1]])]
        )
        laid = torch.cat([shadow[film], shapes[film, DEVICE]])[None]
        grid = functional.affine_grid(matrix[None], list(laid.shape), align_corners=False)
        moved = functional.grid_sample(laid, grid, align_corners=False)[0]
        gain = torch.exp(0.2 + 0.5 * (torch.rand(1, generator=generator) * 2 - 1))
        pictures[film] = (pictures[film] + gain * moved[:1]).clamp(0, 1)
        masks[film, DEVICE] = torch.maximum(masks[film, DEVICE], (moved[1:] > 0.5).float())
        known[film, DEVICE] = torch.maximum(known[film, DEVICE], moved[1:].amax(dim=(1, 2)).gt(0.5).float())


def _mean_around(pictures: Tensor, counted: Tensor, side: int) -> Tensor:
    """The mean of the counted pixels (0 or 1) in a square about each; -1 where hardly one is counted."""
    total, share = pictures * counted, counted
    for square in ((side, 1), (1, side)):  # one after the other: thirty times as fast
        half = (square[0] // 2, square[1] // 2)
        total, share = (functional.avg_pool2d(each, square, 1, half) for each in (total, share))
    return torch.where(share > 0.02, total / share.clamp(min=1e-3), -torch.ones(()))


def _box(lungs: Tensor) -> tuple[Tensor, Tensor] | None:
    """Middle and half size (x, y) of the box around a mask (H, W), the frame from -1 to 1; None for an empty one."""
    rows, columns = lungs.amax(dim=1).nonzero()[:, 0], lungs.amax(dim=0).nonzero()[:, 0]
    if not len(rows):
        return None
    ends = (
        torch.tensor([[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]]) * 2 / torch.tensor(lungs.shape[::-1]) - 1
    )
    return ends.mean(dim=0), (ends[1] - ends[0]) / 2
