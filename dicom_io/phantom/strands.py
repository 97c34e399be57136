"""Tubes projected onto a film by their geometry, as sharp as its pixels: what the voxels are too coarse for.

The projection of a cylinder is its axis spread by a disc: the line integral of a disc's indicator at distance x from
its middle is 2 sqrt(r^2 - x^2), the path through a cylinder of that radius. So the axes are laid down as points that
carry the tube's volume, sorted by radius, and each radius is spread by its disc.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal

Array = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.float64]
SAME_RADIUS = 1.18  # tubes whose radii differ by less are spread by one disc


class Aim(Protocol):
    """Where points of patient space fall on a film."""

    def at(self, points_mm: Points, rows: int, spacing_mm: float) -> tuple[Points, Numbers]:
        """(N, 3) LPS mm -> (N, 2) fractional (row, column), and (N,) magnifications."""


@dataclass(frozen=True, slots=True, eq=False)
class Strands:
    """Short pieces of tubes in patient space.

    middles_mm: (N, 3) LPS. along_mm: (N, 3) from one end of each piece to the other. radii_mm, values: (N,); values is
    what a mm of the tube adds (HU, or 1 / mm).
    squash: how much taller along z than thick. drawn: whether the visit's voxels show them already, coarsely.
    tissue: "bone" or "soft", which the beam weighs differently.
    """

    middles_mm: Points
    along_mm: Points
    radii_mm: Numbers
    values: Numbers
    squash: float = 1.0
    drawn: bool = True
    tissue: str = "soft"

    @property
    def lengths_mm(self) -> Numbers:
        """(N,) length of each piece."""
        return np.asarray(np.linalg.norm(self.along_mm, axis=1), dtype=np.float64)


def pieces(path: Points) -> tuple[Points, Points]:
    """A polyline (N, 3) as the middles (N - 1, 3) of its pieces and the way along each (N - 1, 3)."""
    return (path[1:] + path[:-1]) / 2, np.diff(path, axis=0)


def cast(strands: Strands, aim: Aim, rows: int, spacing_mm: float) -> Array:
    """The tubes' value times path length at every pixel, (rows, rows), in value * mm."""
    image = np.zeros((rows, rows), dtype=np.float32)
    middles_mm, which, count = _cut(strands, spacing_mm)
    place, magnification = aim.at(middles_mm, rows, spacing_mm)
    radii_mm = strands.radii_mm[which]
    radius = radii_mm * magnification / spacing_mm
    volume = strands.values[which] * (strands.lengths_mm / count)[which] * np.pi * radii_mm**2 * strands.squash
    volume = volume * magnification**2 / spacing_mm**2
    for kept in _alike(radius):
        laid = _laid(place[kept], volume[kept], rows)
        image += _spread(laid, float(np.median(radius[kept])), strands.squash)
    return image


def _cut(strands: Strands, spacing_mm: float) -> tuple[Points, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The pieces cut so finely that no gap is seen: middles (M, 3), whose piece each was (M,), parts per piece (N,)."""
    count = np.maximum(1, np.floor(1.1 * strands.lengths_mm / spacing_mm)).astype(np.int64)
    which = np.repeat(np.arange(len(count)), count)
    number = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    share = (number + 0.5) / count[which] - 0.5
    return strands.middles_mm[which] + share[:, None] * strands.along_mm[which], which, count


def _alike(radius: Numbers) -> Iterator[npt.NDArray[np.int64]]:
    """Indices of tubes whose radii are about the same, group by group."""
    group = np.floor(np.log(np.maximum(radius, 0.2)) / np.log(SAME_RADIUS)).astype(int)
    for each in np.unique(group):
        yield np.flatnonzero(group == each)


def _laid(place: Points, weight: Numbers, rows: int) -> Array:
    """Weights (N,) laid down at fractional (row, column), shared by the four nearest pixels."""
    low = np.floor(place).astype(int)
    share = place - low
    total = np.zeros(rows * rows)
    for down in (0, 1):
        for along in (0, 1):
            row, column = low[:, 0] + down, low[:, 1] + along
            inside = (row >= 0) & (row < rows) & (column >= 0) & (column < rows)
            part = np.abs(1 - down - share[:, 0]) * np.abs(1 - along - share[:, 1]) * weight
            total += np.bincount((row * rows + column)[inside], part[inside], minlength=rows * rows)
    return total.reshape(rows, rows).astype(np.float32)


def _spread(laid: Array, radius: float, squash: float) -> Array:
    """Convolve with a disc of this radius in pixels, its sum one; below a pixel a Gaussian of the same variance."""
    if radius < 0.75:
        return np.asarray(ndimage.gaussian_filter(laid, (0.5 * radius * squash, 0.5 * radius)), dtype=np.float32)
    high, wide = int(np.ceil(radius * squash)) + 1, int(np.ceil(radius)) + 1
    down, along = np.mgrid[-high : high + 1, -wide : wide + 1]
    away = np.hypot(down / squash, along)
    disc = np.clip(radius - away + 0.5, 0, 1).astype(np.float32)
    disc /= disc.sum()
    hit = np.argwhere(laid)
    if len(hit) == 0:
        return laid
    # Only the box that the tubes touch.
    (top, left), (bottom, right) = hit.min(axis=0), hit.max(axis=0) + 1
    top, left = max(top - high, 0), max(left - wide, 0)
    bottom, right = bottom + high, right + wide
    result = np.zeros_like(laid)
    result[top:bottom, left:right] = signal.fftconvolve(laid[top:bottom, left:right], disc, mode="same")
    return result
