"""The network of the chest X-ray findings: one map for each finding, and from it one logit for each side of the chest.

Side and place come of the same evidence: what a side's logit rests on is the picture's features where the finding's own
map is high, within that side. All layers are MONAI's.
"""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.blocks.convolutions import Convolution
from torch import Tensor, nn
from torch.nn import functional

from expert_models.encoder import CHANNELS, EfficientNetLiteEncoder

SIDES = ("right", "left")
STRIDE = 4  # pixels of the picture per pixel of a map


class FindingsNetwork(nn.Module):
    """EfficientNet-Lite0, a light pyramid to a quarter of the resolution, maps and pooled logits.

    labels: number of findings. width: channels of the pyramid.
    """

    def __init__(self, labels: int, width: int = 64) -> None:
        super().__init__()
        self.encoder = EfficientNetLiteEncoder()
        deep = CHANNELS[1:]  # the first map, at half the resolution, is left out: lesions are larger than its detail
        self.lateral = nn.ModuleList(_block(channels, width, 1) for channels in deep)
        self.smooth = nn.ModuleList(_block(width, width, 3) for _ in deep)
        self.map = nn.Conv2d(width, labels, 1)
        self.local = nn.Parameter(torch.zeros(labels, width))  # reads the features under a finding's map
        self.wide = nn.Parameter(torch.zeros(labels, width))  # reads the whole side at the coarsest level
        self.scale = nn.Parameter(torch.ones(labels))  # of the map's own height
        self.bias = nn.Parameter(torch.zeros(labels))
        self.sharpness = nn.Parameter(torch.full((labels,), 2.0))  # how far the highest part of a map speaks for a side
        nn.init.constant_(self.map.bias, -3.0)  # type: ignore[arg-type]  # findings are rare: maps start empty

    def forward(self, pictures: Tensor, sides: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, K, H / 4, W / 4) and logits (B, K, 2), right and left.

        pictures: (B, 1, H, W), H and W multiples of 32. sides: (B, 2, H, W) in [0, 1], the right and the left half of
        the chest.
        """
        _, *levels = self.encoder(pictures)
        coarsest = merged = self.lateral[-1](levels[-1])  # (B, C, H / 32, W / 32)
        merged = self.smooth[-1](merged)
        for level in range(len(levels) - 2, -1, -1):
            finer = self.lateral[level](levels[level])
            merged = finer + functional.interpolate(merged, size=finer.shape[-2:], mode="bilinear")
            merged = self.smooth[level](merged)  # (B, C, H / 4, W / 4)
        maps = self.map(merged).float()
        area = functional.adaptive_avg_pool2d(sides, merged.shape[-2:]).flatten(2)  # (B, 2, N)
        broad = functional.adaptive_avg_pool2d(sides, coarsest.shape[-2:]).flatten(2)
        height = maps.flatten(2)[:, :, None]  # (B, K, 1, N)
        told = self.sharpness[:, None, None] * height + (area[:, None] + 1e-6).log()
        weight = torch.softmax(told, dim=-1)  # (B, K, 2, N)
        peak = (weight * height).sum(-1)  # (B, K, 2)
        under = torch.einsum("bksn,bcn->bksc", weight, merged.float().flatten(2))
        share = broad / broad.sum(-1, keepdim=True).clamp(min=1e-6)
        whole = torch.einsum("bsn,bcn->bsc", share, coarsest.float().flatten(2))
        logits = self.scale[:, None] * peak + torch.einsum("bksc,kc->bks", under, self.local)
        logits = logits + torch.einsum("bsc,kc->bks", whole, self.wide) + self.bias[:, None]
        return maps, logits


def _block(inside: int, outside: int, kernel: int) -> Any:
    return Convolution(2, inside, outside, kernel_size=kernel, norm=("batch", {"momentum": 0.02}), act="relu")
