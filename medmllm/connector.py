"""From image features to the decoder's tokens: current and prior aligned, packed, and regions pooled out of them.

Shapes: B images, L layers of an encoder, P = side * side patches in row order, D features, R regions, K things that are
outlined.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class SqueezeExcite(nn.Module):
    """Scales each of C layers by what all of them hold (Hu et al., arXiv:1709.01507): (B, C, P, D) -> the same."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        squeezed = max(1, layers // 2)
        self.gate = nn.Sequential(nn.Linear(layers, squeezed), nn.GELU(), nn.Linear(squeezed, layers), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        gate: Tensor = self.gate(x.mean(dim=(2, 3)))
        return x * gate[:, :, None, None]


class LayerFusion(nn.Module):
    """Layers as channels, halved until one is left (Libra's layer-wise features): (B, L, P, D) -> (B, P, D)."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        steps: list[nn.Module] = [SqueezeExcite(layers)]
        while layers > 1:
            fewer = max(1, layers // 2)
            steps.append(nn.Conv2d(layers, fewer, 1, bias=False))
            if fewer > 1:
                steps.append(SqueezeExcite(fewer))
            layers = fewer
        self.steps = nn.Sequential(*steps)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        fused: Tensor = self.steps(x)
        return fused[:, 0]


class TemporalAlignment(nn.Module):
    """Current image in the light of the prior one, after Libra's temporal alignment connector (arXiv:2411.19378).

    Other than there: how alike the two are is judged patch by patch, so that a patient who merely moved, or a lesion
    that came, does not count for the whole film (`per_patch`, ours; False gives one value for each image); and a
    missing prior is a learned state of its own, not a copy of the current image.
    """

    def __init__(self, width: int, layers: int, heads: int, dropout: float = 0.1, per_patch: bool = True) -> None:
        super().__init__()
        self.per_patch = per_patch
        self.fusion = LayerFusion(layers)
        self.absent = nn.Parameter(torch.randn(width) * 0.02)
        self.prior_bias = nn.Parameter(torch.zeros(()))
        self.of_current = nn.MultiheadAttention(width, heads, add_bias_kv=True, batch_first=True)
        self.of_prior = nn.MultiheadAttention(width, heads, add_bias_kv=True, batch_first=True)
        self.across = nn.MultiheadAttention(width, heads, add_bias_kv=True, batch_first=True)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.mlp = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width), nn.Dropout(dropout)
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, current: Tensor, prior: Tensor, has_prior: Tensor) -> Tensor:
        """(B, L, P, D), (B, L, P, D) and (B,) bool -> (B, P, D). Where has_prior is False, `prior` is not looked at."""
        now = self.fusion(current)
        then = self.fusion(prior)
        then = then + self.likeness(now, then) * self.prior_bias
        then = torch.where(has_prior[:, None, None], then, self.absent.to(then.dtype))
        asked = self.norms[0](now + self.drop(self.of_current(now, now, now, need_weights=False)[0]))
        known = self.norms[1](then + self.drop(self.of_prior(then, then, then, need_weights=False)[0]))
        merged = self.norms[2](asked + self.drop(self.across(asked, known, known, need_weights=False)[0]))
        aligned: Tensor = self.norms[3](now + self.mlp(merged))
        return aligned

    def likeness(self, now: Tensor, then: Tensor) -> Tensor:
        """((cosine + 1) / 2) ** 8 in [0, 1], which only near copies come close to: (B, P, 1), or (B, 1, 1)."""
        if self.per_patch:
            cosine = functional.cosine_similarity(now, then, dim=-1)[..., None]
        else:
            cosine = functional.cosine_similarity(now.flatten(1), then.flatten(1), dim=-1)[:, None, None]
        return ((cosine + 1) / 2) ** 8


class TokenPacker(nn.Module):
    """A grid of patches to a grid `ratio` times coarser, each token reading its own cell (arXiv:2407.02392).

    The query of a cell is its mean, its keys and values are every layer's features of the cell's ratio * ratio patches.
    A side that ratio does not divide is padded by its edge.
    """

    def __init__(self, width: int, layers: int, ratio: int, heads: int, out_width: int) -> None:
        super().__init__()
        self.ratio = ratio
        self.query = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))
        self.memory = nn.Sequential(
            nn.Linear(layers * width, width), nn.GELU(), nn.Linear(width, width), nn.LayerNorm(width)
        )
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.out = nn.Sequential(nn.Linear(width, out_width), nn.GELU(), nn.Linear(out_width, out_width))

    def tokens(self, side: int) -> int:
        """How many tokens a grid of side * side patches becomes."""
        return math.ceil(side / self.ratio) ** 2

    def forward(self, aligned: Tensor, layers: Tensor) -> Tensor:
        """(B, P, D) and (B, L, P, D) -> (B, tokens, out width), cells in row order."""
        batch, depth, patches, width = layers.shape
        stacked = layers.transpose(1, 2).reshape(batch, patches, depth * width)
        cells = self._cells(self.memory(stacked) + aligned)
        query = self.query(self._cells(aligned).mean(dim=1, keepdim=True))
        read: Tensor = query + self.attention(query, cells, cells, need_weights=False)[0]
        packed: Tensor = self.out(read[:, 0]).reshape(batch, -1, self.out[-1].out_features)
        return packed

    def _cells(self, x: Tensor) -> Tensor:
        """(B, P, D) -> (B * cells, ratio * ratio, D)."""
        batch, patches, width = x.shape
        side, ratio = math.isqrt(patches), self.ratio
        missing = -side % ratio
        grid = x.transpose(1, 2).reshape(batch, width, side, side)
        if missing:
            grid = functional.pad(grid, (0, missing, 0, missing), mode="replicate")
        count = (side + missing) // ratio
        grid = grid.reshape(batch, width, count, ratio, count, ratio)
        return grid.permute(0, 2, 4, 3, 5, 1).reshape(batch * count * count, ratio * ratio, width)


class PlainPacker(nn.Module):
    """Token packing switched off: every patch is a token. It is there to be measured against."""

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.out = nn.Sequential(nn.Linear(width, out_width), nn.GELU(), nn.Linear(out_width, out_width))

    def tokens(self, side: int) -> int:
        """side * side."""
        return side * side

    def forward(self, aligned: Tensor, layers: Tensor) -> Tensor:
        """(B, P, D) -> (B, P, out width)."""
        packed: Tensor = self.out(aligned)
        return packed


class FourierBoxes(nn.Module):
    """Corners of boxes in [0, 1] as sines and cosines of 1, 2, 4 ... half turns, then one linear layer."""

    def __init__(self, width: int, bands: int = 8) -> None:
        super().__init__()
        self.bands = bands
        self.linear = nn.Linear(4 * 2 * bands, width)

    def forward(self, boxes: Tensor) -> Tensor:
        """(R, 4) x1, y1, x2, y2 of width and height -> (R, width)."""
        frequencies = math.pi * 2.0 ** torch.arange(self.bands, device=boxes.device)
        angles = (boxes[..., None] * frequencies).flatten(1).to(self.linear.weight.dtype)
        coded: Tensor = self.linear(torch.cat([angles.sin(), angles.cos()], dim=-1))
        return coded


class RegionTokens(nn.Module):
    """One token for each region: the features under its mask and where its box lies (Ferret's and MedPLIB's idea)."""

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.boxes = FourierBoxes(width)
        self.out = nn.Sequential(
            nn.LayerNorm(2 * width), nn.Linear(2 * width, out_width), nn.GELU(), nn.Linear(out_width, out_width)
        )

    def forward(self, features: Tensor, masks: Tensor, boxes: Tensor) -> Tensor:
        """(R, P, D), (R, P) shares of each patch that is covered, (R, 4) in [0, 1] -> (R, out width).

        A region that covers no patch has its features taken as 0: its place still speaks.
        """
        weights = masks / masks.sum(dim=1, keepdim=True).clamp_min(1e-6)
        pooled = torch.einsum("rp,rpd->rd", weights.to(features.dtype), features)
        token: Tensor = self.out(torch.cat([pooled, self.boxes(boxes)], dim=-1))
        return token


@dataclass(frozen=True, slots=True)
class Outlined:
    """tokens: (B, K, out width). now, then: (B, K, h, w) logits of where each thing lies; then: without a prior of no
    meaning."""

    tokens: Tensor
    now: Tensor
    then: Tensor


class OutlineTokens(nn.Module):
    """What the model was taught to outline, one token for each thing: where and how large it is, now and before.

    Region tokens of regions that nobody drew: the model draws them itself, on the film and on the one before, so that a
    change of size or place stands in one token instead of between two pictures. A missing prior is a learned state.
    """

    NUMBERS = 9  # of a soft outline, see `_measured`
    SHARPER = 10  # a fifth more of an area is a change of 0.06 in its number, too little to be learned from soon

    def __init__(self, width: int, things: int, heads: int, out_width: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.maps = nn.Conv2d(width, things, 1)
        nn.init.constant_(cast(Tensor, self.maps.bias), -3.0)  # most of a film is free of most things
        self.described = nn.Linear(width + self.NUMBERS, width)
        self.grown = nn.Linear(self.NUMBERS, width, bias=False)
        nn.init.zeros_(self.grown.weight)
        self.absent = nn.Parameter(torch.randn(width) * 0.02)
        self.thing = nn.Parameter(torch.randn(things, width) * 0.02)
        self.pair = nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, width))
        self.among = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.out = nn.Linear(width, out_width)

    def forward(self, now: Tensor, then: Tensor, has_prior: Tensor) -> Outlined:
        """Fine maps (B, D, h, w) of both films, and (B,) bool. Where that is False, `then` is not looked at."""
        at_now, at_then = self.maps(now), self.maps(then)
        seen_now, numbers_now = self._measured(now, at_now)
        seen_then, numbers_then = self._measured(then, at_then)
        kind = self.maps.weight.dtype
        told_now = self.described(torch.cat([seen_now, numbers_now], dim=-1).to(kind))
        told_then = self.described(torch.cat([seen_then, numbers_then], dim=-1).to(kind))
        told_then = torch.where(has_prior[:, None, None], told_then, self.absent.to(told_then.dtype))
        pair = self.pair(torch.cat([told_now, told_then], dim=-1)) + self.thing
        grown = (numbers_now - numbers_then) * self.SHARPER
        grown = torch.where(has_prior[:, None, None], grown, 0.0)
        pair = pair + self.grown(grown.to(kind))
        tokens: Tensor = self.out(self.among(pair))
        return Outlined(tokens, at_now, at_then)

    def _measured(self, fine: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The features under each soft outline, (B, K, D), and (B, K, NUMBERS) its area (whole and in halves, as
        logarithms), peak, centre and spread. Sums over a film are taken in float32.
        """
        with torch.autocast(fine.device.type, enabled=False):
            fine, logits = fine.float(), logits.float()
            soft = logits.sigmoid()
            height, width = soft.shape[-2:]
            rows = torch.linspace(-1, 1, height, device=soft.device)[:, None]
            columns = torch.linspace(-1, 1, width, device=soft.device)[None]
            area = soft.sum(dim=(2, 3))
            whole = area.clamp_min(1e-3)

            def mean(values: Tensor) -> Tensor:
                return (soft * values).sum(dim=(2, 3)) / whole

            x, y = mean(columns), mean(rows)
            numbers = [
                *((each / (height * width) + 1e-4).log() / 3 for each in (area, *_halves(soft))),
                logits.amax(dim=(2, 3)).clamp(-10, 10) / 5,
                x,
                y,
                (mean(columns**2) - x**2).clamp_min(1e-6).sqrt(),
                (mean(rows**2) - y**2).clamp_min(1e-6).sqrt(),
                (mean(columns * rows) - x * y),
            ]
            pooled = torch.einsum("bkhw,bdhw->bkd", soft, fine) / whole[..., None]
            return pooled, torch.stack(numbers, dim=-1)


def _halves(soft: Tensor) -> tuple[Tensor, Tensor]:
    """(B, K, h, w) -> areas in the left and in the right half of the picture, each (B, K)."""
    middle = soft.shape[-1] // 2
    return soft[..., :middle].sum(dim=(2, 3)), soft[..., middle:].sum(dim=(2, 3))
