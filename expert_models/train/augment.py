# ruff: noqa: N806 - B, C, H, W are the axes of a batch
"""Variation for training radiographs: pose, detector, disease and devices. Never mirrored: the heart has a side.

All functions take and return batches: pictures (B, 1, H, W) in [0, 1], masks (B, C, H, W), and draw from the generator
they are given, so that a step of training is the same again when it is repeated.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional

from dicom_io.phantom.project import LUNG_HU, WATER_PER_MM

SOFT_TISSUE_PER_MM = -WATER_PER_MM * LUNG_HU / 1000  # attenuation beyond that of lung
LEAST_WHITER = 0.05  # of a picture in [0, 1], by the densest part of a shadow that can be seen


def _uniform(generator: Generator, low: float, high: float, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=generator) * (high - low) + low


def _chosen(generator: Generator, probability: float, count: int) -> Tensor:
    return (torch.rand(count, generator=generator) < probability).float()


def moved(pictures: Tensor, masks: Tensor, generator: Generator, strength: float = 1.0) -> tuple[Tensor, Tensor]:
    """Turn within 18 degrees, scale, stretch, shear, shift and bend a little; what comes from outside is black.

    strength: of all of these, 1 as for outlines; less where the smallest shadow must survive it.
    """
    B = len(pictures)
    angle = _uniform(generator, -1, 1, B) ** 3 * math.radians(18) * strength
    zoom = torch.exp(_uniform(generator, -0.18, 0.42, B) * strength)  # above 1: the chest becomes smaller
    stretch = torch.exp(_uniform(generator, -0.12, 0.12, B) * strength)
    shear = _uniform(generator, -0.08, 0.08, B) * strength
    shift = _uniform(generator, -0.18, 0.18, B, 2) * strength
    cosine, sine = torch.cos(angle), torch.sin(angle)
    matrix = torch.stack(
        [
            torch.stack([zoom * stretch * cosine, -zoom * sine + shear, shift[:, 0]], -1),
            torch.stack([zoom * sine, zoom / stretch * cosine, shift[:, 1]], -1),
        ],
        dim=1,
    )
    grid = functional.affine_grid(matrix, list(pictures.shape), align_corners=False)
    bend = functional.interpolate(_uniform(generator, -0.03, 0.03, B, 2, 5, 5), size=grid.shape[1:3], mode="bicubic")
    grid = grid + strength * bend.permute(0, 2, 3, 1)
    both = functional.grid_sample(torch.cat([pictures, masks], 1), grid, align_corners=False, padding_mode="zeros")
    return both[:, :1], both[:, 1:]


def diseased(pictures: Tensor, lungs: Tensor, generator: Generator) -> Tensor:
    """Whiten parts of the lungs as infiltrates and effusions do, and darken others; the masks stay as they are."""
    B, _, H, W = pictures.shape
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, H), torch.linspace(-1, 1, W), indexing="ij")
    result = pictures
    for _ in range(4):
        centre = _uniform(generator, -0.7, 0.7, B, 2, 1, 1)
        size = _uniform(generator, 0.06, 0.35, B, 2, 1, 1)
        blob = torch.exp(-(((rows - centre[:, 0]) / size[:, 0]) ** 2 + ((columns - centre[:, 1]) / size[:, 1]) ** 2))
        rough = functional.interpolate(torch.rand(B, 1, 24, 24, generator=generator), size=(H, W), mode="bilinear")
        strength = _uniform(generator, -0.15, 0.75, B) * _chosen(generator, 0.35, B)
        cover = (blob[:, None] * (0.4 + 0.6 * rough) * lungs * strength.view(B, 1, 1, 1)).clamp(-1, 1)
        white = torch.where(cover > 0, torch.full_like(result, 0.8), torch.zeros_like(result))
        result = result + cover.abs() * (white - result)
    level = _uniform(generator, 0.1, 0.9, B, 1, 1, 1)
    effusion = torch.sigmoid((rows.view(1, 1, H, W) - level) * 25) * _chosen(generator, 0.15, B).view(B, 1, 1, 1)
    side = torch.sigmoid(columns * 12 * torch.where(torch.rand(B, 1, 1, generator=generator) < 0.5, -1.0, 1.0))[:, None]
    return result + (effusion * side * lungs * 0.8) * (0.8 - result)


def exposed(pictures: Tensor, generator: Generator) -> Tensor:
    """Another detector: tone curve, contrast, uneven field, blur, noise."""
    B, _, H, W = pictures.shape
    gamma = torch.exp(_uniform(generator, -0.6, 0.6, B, 1, 1, 1))
    result = pictures.clamp(0, 1) ** gamma
    field = functional.interpolate(_uniform(generator, -0.18, 0.18, B, 1, 3, 3), size=(H, W), mode="bicubic")
    result = result + field * _chosen(generator, 0.5, B).view(B, 1, 1, 1)
    contrast = _uniform(generator, 0.6, 1.25, B, 1, 1, 1)
    result = (result - 0.5) * contrast + 0.5 + _uniform(generator, -0.12, 0.12, B, 1, 1, 1)
    soft = functional.avg_pool2d(result, 5, stride=1, padding=2, count_include_pad=False)
    sharpness = _uniform(generator, -0.9, 0.6, B, 1, 1, 1)  # below 0: blurred, above: sharpened
    result = result + sharpness * (result - soft)
    noise = torch.randn(B, 1, H, W, generator=generator) * _uniform(generator, 0, 0.06, B, 1, 1, 1)
    return (result + noise * _chosen(generator, 0.5, B).view(B, 1, 1, 1)).clamp(0, 1)


def with_devices(pictures: Tensor, generator: Generator, wires: bool = True) -> Tensor:
    """Letters, plates, wires and covered corners, bright or dark."""
    B, _, H, W = pictures.shape
    result = pictures.clone()
    rows, columns = torch.meshgrid(torch.arange(H).float(), torch.arange(W).float(), indexing="ij")
    for i in range(B):
        for _ in range(int(torch.randint(0, 4, (1,), generator=generator))):
            height, width = (int(v) for v in torch.randint(4, H // 7, (2,), generator=generator))
            top = int(torch.randint(0, H - height, (1,), generator=generator))
            left = int(torch.randint(0, W - width, (1,), generator=generator))
            patch = result[i, :, top : top + height, left : left + width]
            tone = float(torch.rand(1, generator=generator))
            keep = float(_uniform(generator, 0.0, 0.6, 1))
            result[i, :, top : top + height, left : left + width] = patch * keep + tone * (1 - keep)
        for _ in range(int(torch.randint(0, 4, (1,), generator=generator)) if wires else 0):
            a, b, c, d = (float(v) for v in _uniform(generator, -1, 1, 4))
            t = columns / W - 0.5
            wire = (b * t + 0.5 * c * torch.sin(6 * t + 3 * d)) * H + H / 2 + a * H / 2
            band = ((rows - wire).abs() < 1 + abs(d)).float()
            band = band.t() if a > 0 and H == W else band
            result[i, 0] = result[i, 0] + band * 0.35
    return result.clamp(0, 1)


def with_nodules(pictures: Tensor, lungs: Tensor, sizes: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """A round, lobed shadow somewhere in the lungs of each picture, as dense as soft tissue of its thickness.

    lungs (B, H, W) in [0, 1]. sizes (B): diameters in pixels, which are taken for millimetres; where it is 0, where no
    lung is, or where the picture is too white for it to be seen, nothing is laid. Returns the pictures and where the
    shadows are, (B, 1, H, W).
    """
    B, _, H, W = pictures.shape
    rows, columns = torch.meshgrid(torch.arange(H).float(), torch.arange(W).float(), indexing="ij")
    thickness = torch.zeros_like(pictures)
    for i in torch.nonzero((sizes > 0) & (lungs.flatten(1).sum(1) > 0))[:, 0].tolist():
        places = torch.nonzero(lungs[i] > 0.5)
        row, column = places[int(torch.randint(0, len(places), (1,), generator=generator))].tolist()
        down, across = rows - row, columns - column
        angle = torch.atan2(down, across)
        radius = sizes[i] / 2 * torch.ones_like(angle)
        for k in range(2, 6):
            wave, phase = _uniform(generator, -1, 1, 2).tolist()
            radius = radius + 0.06 * sizes[i] * wave * torch.cos(k * angle + 2 * math.pi * phase)
        thickness[i, 0] = 2 * (radius**2 - down**2 - across**2).clamp(min=0).sqrt()
    gain = _uniform(generator, 0.35, 0.8, B, 1, 1, 1)  # of the film: how far an attenuation of 1 whitens what is dark
    soft = functional.avg_pool2d(functional.avg_pool2d(thickness, 3, stride=1, padding=1), 3, stride=1, padding=1)
    whiter = gain * SOFT_TISSUE_PER_MM * soft * (1 - pictures)
    is_seen = whiter.amax(dim=(1, 2, 3), keepdim=True) >= LEAST_WHITER
    return pictures + whiter * is_seen, ((thickness > 0) & is_seen).float()


def varied(pictures: Tensor, masks: Tensor, generator: Generator, *, wires: bool = True) -> tuple[Tensor, Tensor]:
    """One training batch, varied: pictures in [-2, 2] as the network reads them, and masks in [0, 1], lungs first.

    wires: whether some are painted, which the masks do not know of.
    """
    pictures, masks = moved(pictures, masks, generator)
    lungs = masks[:, :2].amax(dim=1, keepdim=True)
    pictures = with_devices(exposed(diseased(pictures, lungs, generator), generator), generator, wires)
    return (pictures - 0.5) * 4, masks
