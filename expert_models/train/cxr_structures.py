"""The recipe of the structures network: airways, clavicles, ribs and the diaphragm on a frontal film.

Phantoms carry exact masks of everything, real films those of lungs and of some hearts and airways, and that no device
is there. It starts from the anatomy network, and what made that network robust varies these films too, but for the
painted wires: devices are learned as well, and a wire is one. What came of that is not good enough to be kept, so that
their outputs are dropped at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

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
    checkpoint = out / "cxr-structures.checkpoint.safetensors"
    network, curve = fit(started(plan), lambda step: _batch(groups, plan, step), plan, checkpoint, progress)
    return without_devices(network), curve


def started(plan: Plan) -> LightUNet:
    """A new network with the anatomy network's weights, but for the last layer."""
    torch.manual_seed(plan.seed)
    network = LightUNet(in_channels=1, out_channels=len(CHANNELS), decoder_channels=list(plan.decoder))
    own = network.state_dict()
    published = load_file(checked_weights(packaged_card(ANATOMY)))
    own |= {name: value.to(own[name].dtype) for name, value in published.items() if value.shape == own[name].shape}
    network.load_state_dict(own)
    return network


def without_devices(network: LightUNet) -> LightUNet:
    """The same network without its outputs for devices, which are its last."""
    kept = len(CHANNELS) - len(DEVICES)
    smaller = LightUNet(in_channels=1, out_channels=kept, decoder_channels=list(PLAN.decoder))
    wanted = smaller.state_dict()
    state = network.state_dict()
    smaller.load_state_dict(
        {name: state[name][: len(own)] if own.ndim else state[name] for name, own in wanted.items()}
    )
    return smaller.eval()


def as_group(films: Sequence[Film]) -> Group:
    """Films as one group, kept in 8 and 16 bits."""
    return Group(
        torch.from_numpy(np.stack([film.picture for film in films]))[:, None],
        torch.from_numpy(np.stack([film.bits for film in films])),
        torch.from_numpy(np.stack([film.known for film in films])),
    )


def _batch(groups: Mapping[str, Group], plan: Plan, step: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + step)
    parts = [
        (groups[name], torch.randint(0, len(groups[name].pictures), (count,), generator=generator))
        for name, count in plan.shares.items()
    ]
    pictures = torch.cat([group.pictures[index] for group, index in parts]).float() / 255
    bits = torch.cat([group.bits[index] for group, index in parts]).int()
    masks = torch.stack([(bits >> channel) & 1 for channel in range(len(CHANNELS))], dim=1).float()
    known = torch.cat([group.known[index] for group, index in parts])
    pictures, masks = varied(pictures, masks, generator, wires=False)
    return pictures, masks, known
