"""The network of the chest expert: two windows of the CT in, the probability of each label out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from expert_models.card import Card

if TYPE_CHECKING:
    from torch import Tensor

    from expert_models.runtime import Run

Float32 = npt.NDArray[np.float32]

CARD = "ct-chest"


def network_input(hu: Tensor, card: Card) -> Tensor:
    """HU (B, 1, slices, rows, columns) to the two channels that the network reads, each clipped to [-1, 1].

    The first is the card's range, which shows lung; the second its soft-tissue window.
    """
    import torch

    wide = card.input.range
    soft = (card.calibration["soft_low"], card.calibration["soft_high"])
    return torch.cat([((hu - low) * (2 / (high - low)) - 1).clamp(-1, 1) for low, high in (wide, soft)], dim=1)


def logits_on(hu: Float32, run: Run, card: Card, device: str = "cpu") -> Float32:
    """A network's logits (labels, slices, rows, columns) on a grid of HU, window by window with MONAI's inferer."""
    import torch
    from monai.inferers.utils import sliding_window_inference

    from expert_models.precision import half_precision

    picture = network_input(torch.from_numpy(np.maximum(hu, -1024.0))[None, None], card).to(device)
    with torch.inference_mode(), half_precision(device):
        logits: Any = sliding_window_inference(picture, card.input.size, 1, run, overlap=0.25, mode="gaussian")
    result: Float32 = logits[0].float().cpu().numpy()
    return result
