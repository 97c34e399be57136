"""What the model sees with: an encoder of radiographs and one of CT, in which every slice is seen.

Both give `Seen`: a grid of patches from several layers, for tokens, and a finer map, for masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from expert_models.encoder import CHANNELS, EfficientNetLiteEncoder
from expert_models.precision import whole_precision

LAYERS = (2, 3, 4)  # of the encoder's five maps: 1/8, 1/16 and 1/32 of the picture; patches lie 1/16 apart
STRIDE = 16
FINE_STRIDE = 4


@dataclass(frozen=True, slots=True)
class Seen:
    """What an encoder made of B pictures. layers: (B, L, P, D), patches in row order; fine: (B, D, H / 4, W / 4)."""

    layers: Tensor
    fine: Tensor


class PictureEncoder(nn.Module):
    """EfficientNet-Lite0 on pictures (B, channels, side, side), side a multiple of 32: a radiograph or one slice."""

    def __init__(self, width: int, in_channels: int) -> None:
        super().__init__()
        self.body = EfficientNetLiteEncoder(in_channels=in_channels)
        self.across = nn.ModuleList(nn.Conv2d(CHANNELS[each], width, 1) for each in LAYERS)
        self.down = nn.ModuleList(nn.Conv2d(CHANNELS[each], width, 1) for each in range(1, 5))
        self.smooth = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.place = nn.Linear(2, width)

    def forward(self, pictures: Tensor) -> Seen:
        """Raises ValueError for a side that is no multiple of 32."""
        if pictures.shape[-1] % 32 or pictures.shape[-2] % 32:
            raise ValueError(f"a picture's sides must be multiples of 32, not {tuple(pictures.shape[-2:])}")
        with whole_precision(pictures):
            maps = self.body(pictures)
        size = maps[3].shape[-2:]
        grids = [_sized(convolved(maps[each]), size) for convolved, each in zip(self.across, LAYERS, strict=True)]
        layers = torch.stack([grid.flatten(2).transpose(1, 2) for grid in grids], dim=1)
        fine = self.down[3](maps[4])
        for level in (3, 2, 1):
            lateral = self.down[level - 1](maps[level])
            fine = lateral + functional.interpolate(fine, size=lateral.shape[-2:], mode="bilinear", align_corners=False)
        return Seen(layers + self._places(size, layers), self.smooth(fine))

    def _places(self, size: torch.Size, like: Tensor) -> Tensor:
        """Where each patch lies, (P, D): a linear layer of its row and column in [-1, 1]."""
        rows, columns = (torch.linspace(-1, 1, each, device=like.device, dtype=like.dtype) for each in size)
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(-1, 2)
        place: Tensor = self.place(grid)
        return place


class VolumeEncoder(nn.Module):
    """Every slice of a CT, small, in slabs of neighbours: at each place of a slab the slices that speak most are heard.

    Slices are read by an encoder of their own, `at_once` at a time, so that memory does not grow with the volume.
    """

    def __init__(self, width: int, in_channels: int, slabs: int, at_once: int = 16) -> None:
        super().__init__()
        self.slabs = slabs
        self.at_once = at_once
        self.pictures = PictureEncoder(width, in_channels)
        self.speaks = nn.Linear(width, 1)
        self.height = nn.Parameter(torch.randn(slabs, width) * 0.02)

    def forward(self, slices: Tensor) -> Tensor:
        """One volume (S, channels, side, side), feet first -> (slabs, L, P, D). Fewer slices than slabs share them."""
        parts = [self.pictures(part).layers for part in torch.split(slices, self.at_once)]
        layers = torch.cat(parts)
        edges = torch.linspace(0, len(layers), self.slabs + 1).round().long().tolist()
        made = []
        for first, last in pairwise(edges):
            first = min(first, len(layers) - 1)
            slab = layers[first : max(first + 1, last)]
            weights = self.speaks(slab.mean(dim=1)).softmax(dim=0)[:, None]  # (s, 1, P, 1)
            made.append((slab * weights).sum(dim=0))
        return torch.stack(made) + self.height[:, None, None]


def _sized(grid: Tensor, size: torch.Size) -> Tensor:
    if grid.shape[-2:] == size:
        return grid
    if grid.shape[-1] > size[-1]:
        return functional.adaptive_avg_pool2d(grid, (size[0], size[1]))
    return functional.interpolate(grid, size=tuple(size), mode="bilinear", align_corners=False)
