"""A voxel grid laid over the body frame, and the drawing of tubes on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_io.study import Geometry

Array = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Canvas:
    """Voxel centres in the body frame. The body stands turned by `turn` (radians about z) and leaning by `lean`
    (mm of x per mm of z) in patient LPS space, and its origin lies at `origin_mm` there.
    """

    geometry: Geometry
    shape: tuple[int, int, int]  # (slices, rows, columns)
    turn: float = 0.0
    lean: float = 0.0
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    first: int = 0  # slices below this grid, when it is a slab of a larger one

    @cached_property
    def z(self) -> Array:
        """(slices, 1, 1) body z in mm."""
        affine = self.geometry.affine
        z = affine[2, 3] + affine[2, 0] * np.arange(self.shape[0]) - self.origin_mm[2]
        return np.asarray(z, dtype=np.float32)[:, None, None]

    @cached_property
    def _plane(self) -> tuple[Array, Array]:
        affine = self.geometry.affine
        x = affine[0, 3] + affine[0, 2] * np.arange(self.shape[2])[None, :] - self.origin_mm[0]
        y = affine[1, 3] + affine[1, 1] * np.arange(self.shape[1])[:, None] - self.origin_mm[1]
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        return (cos * x + sin * y).astype(np.float32), (-sin * x + cos * y).astype(np.float32)

    @cached_property
    def y(self) -> Array:
        """(1, rows, columns) body y in mm."""
        return self._plane[1][None]

    @cached_property
    def floor_x(self) -> Array:
        """(1, rows, columns) body x at z = 0, in mm."""
        return self._plane[0][None]

    @cached_property
    def x(self) -> Array:
        """(slices, rows, columns) body x in mm."""
        return self._plane[0][None] - np.float32(self.lean) * self.z

    @property
    def spacing(self) -> npt.NDArray[np.float64]:
        """(3,) mm along slice, row, column."""
        return np.array(self.geometry.spacing_mm)

    @property
    def voxel(self) -> float:
        """A voxel's edge for partial volume: the cube root of its volume, mm."""
        return float(np.prod(self.spacing) ** (1 / 3))

    def occupancy(self, depth: Array, softness: float = 1.0) -> Array:
        """Share of each voxel inside a surface, from its depth in mm; softness widens the edge, in voxels."""
        share = depth * np.float32(1 / (self.voxel * softness)) + np.float32(0.5)
        return np.asarray(np.clip(share, 0, 1), dtype=np.float32)

    def to_patient(self, body_mm: Points) -> Points:
        """(N, 3) body (x, y, z) -> (N, 3) patient LPS mm."""
        body_mm = np.atleast_2d(np.asarray(body_mm, dtype=np.float64))
        x, y, z = (body_mm[:, 0] + self.lean * body_mm[:, 2], body_mm[:, 1], body_mm[:, 2])
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        turned = np.stack([cos * x - sin * y, sin * x + cos * y, z], axis=1)
        return np.asarray(turned + np.array(self.origin_mm), dtype=np.float64)

    def to_index(self, body_mm: Points) -> Points:
        """(N, 3) body (x, y, z) -> (N, 3) fractional (slice, row, column)."""
        return np.asarray(self.geometry.to_index(self.to_patient(body_mm)), dtype=np.float64)

    def box_around(self, body_mm: Points, margin_mm: float) -> tuple[slice, slice, slice]:
        """The index box of all voxels within margin_mm of the points' bounding box, cut to the grid."""
        index = self.to_index(body_mm)
        reach = margin_mm / self.spacing
        low = np.clip(np.floor(index.min(0) - reach), 0, np.array(self.shape) - 1).astype(int)
        high = np.clip(np.ceil(index.max(0) + reach) + 1, low + 1, self.shape).astype(int)
        return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])

    def slabs(self, voxels: int = 600_000) -> Iterator[Canvas]:
        """The grid in slabs of about so many voxels: small arrays stay in the cache and spare page faults."""
        step = max(1, voxels // (self.shape[1] * self.shape[2]))
        for first in range(0, self.shape[0], step):
            affine = self.geometry.affine.copy()
            affine[:3, 3] += first * affine[:3, 0]
            shape = (min(step, self.shape[0] - first), *self.shape[1:])
            yield replace(self, geometry=Geometry(affine), shape=shape, first=self.first + first)

    @property
    def whole(self) -> tuple[slice, slice, slice]:
        """The index box of the whole grid."""
        return slice(0, self.shape[0]), slice(0, self.shape[1]), slice(0, self.shape[2])

    def part(self, box: tuple[slice, slice, slice]) -> tuple[Array, Array, Array]:
        """Body (x, y, z) of the voxels of a box, broadcastable to its shape."""
        return self.x[box], self.y[:, box[1], box[2]], self.z[box[0]]

    def tube_depth(self, points: Points, radii: npt.NDArray[np.float64], squash: float = 1.0) -> Array:
        """Depth inside the union of balls of radii (N,) at body points (N, 3); -99 far away.

        squash > 1 makes the balls that much taller along z (a rib is higher than thick).
        """
        points, radii = self._in_reach(points, radii, squash)
        depth = np.full(int(np.prod(self.shape)), -99, dtype=np.float32)
        for flat, distance, radius in self._near(points, radii, self.voxel, squash):
            np.maximum.at(depth, flat, radius - distance)
        return depth.reshape(self.shape)

    def tube_occupancy(self, points: Points, radii: npt.NDArray[np.float64]) -> Array:
        """Share of each voxel inside thin tubes; tubes thinner than a voxel fill their true share of it."""
        points, radii = self._in_reach(points, radii, 1.0)
        voxel = self.voxel
        drawn = np.maximum(radii, 0.5 * voxel)
        weight = np.minimum(1.0, (radii / (0.5 * voxel)) ** 2)
        filled = np.zeros(int(np.prod(self.shape)), dtype=np.float32)
        order = np.argsort(drawn, kind="stable")
        for flat, distance, radius, share in self._near_weighted(points[order], drawn[order], weight[order]):
            inside = np.clip((radius - distance) / np.float32(voxel) + np.float32(0.5), 0, 1) * share
            np.maximum.at(filled, flat, inside)
        return filled.reshape(self.shape)

    def _in_reach(
        self, points: Points, radii: npt.NDArray[np.float64], squash: float
    ) -> tuple[Points, npt.NDArray[np.float64]]:
        """The balls that can touch this grid's slices."""
        bottom, top = float(self.z[0, 0, 0]), float(self.z[-1, 0, 0])
        reach = squash * (radii + 2 * self.voxel) + self.spacing[0]
        near = (points[:, 2] > bottom - reach) & (points[:, 2] < top + reach)
        return points[near], radii[near]

    def _near(
        self, points: Points, radii: npt.NDArray[np.float64], margin: float, squash: float
    ) -> Iterator[tuple[npt.NDArray[np.int64], Array, Array]]:
        order = np.argsort(radii, kind="stable")
        ones = np.ones(len(radii))
        for flat, distance, radius, _ in self._near_weighted(points[order], radii[order], ones, margin, squash):
            yield flat, distance, radius

    def _near_weighted(
        self,
        points: Points,
        radii: npt.NDArray[np.float64],
        weight: npt.NDArray[np.float64],
        margin: float | None = None,
        squash: float = 1.0,
    ) -> Iterator[tuple[npt.NDArray[np.int64], Array, Array, Array]]:
        """Voxels near balls sorted by radius, in runs: flat index, distance, radius and weight, each 1-D."""
        margin = 0.5 * self.voxel if margin is None else margin
        index = self.to_index(points)
        start = 0
        while start < len(radii):
            reach = radii[start] * 1.35 + 0.25
            stop = int(np.searchsorted(radii, reach, side="right"))
            size = np.array([squash, 1.0, 1.0]) * (radii[stop - 1] + margin) / self.spacing
            axes = [np.arange(-int(np.ceil(s)), int(np.ceil(s)) + 1) for s in size]
            offsets = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
            offsets = offsets[(((np.abs(offsets) - 0.87).clip(0) / size) ** 2).sum(1) <= 1.0]
            step = max(1, 2_000_000 // len(offsets))
            for first in range(start, stop, step):
                yield from self._run(index[first : min(first + step, stop)], offsets, radii, weight, first, squash)
            start = stop

    def _run(
        self,
        index: Points,
        offsets: npt.NDArray[np.int64],
        radii: npt.NDArray[np.float64],
        weight: npt.NDArray[np.float64],
        first: int,
        squash: float,
    ) -> Iterator[tuple[npt.NDArray[np.int64], Array, Array, Array]]:
        centre = np.rint(index)
        gap = (centre - index).astype(np.float32)
        scale = (self.spacing / np.array([squash, 1.0, 1.0])).astype(np.float32)
        away = [(gap[:, None, k] + offsets[None, :, k].astype(np.float32)) * scale[k] for k in range(3)]
        distance = np.sqrt(away[0] ** 2 + away[1] ** 2 + away[2] ** 2)
        cells = [centre[:, None, k].astype(np.int32) + offsets[None, :, k].astype(np.int32) for k in range(3)]
        inside = np.ones(distance.shape, dtype=bool)
        for cell, size in zip(cells, self.shape, strict=True):
            inside &= (cell >= 0) & (cell < size)
        flat = (cells[0].astype(np.int64) * self.shape[1] + cells[1]) * self.shape[2] + cells[2]
        count = len(index)
        radius = np.broadcast_to(radii[first : first + count, None].astype(np.float32), distance.shape)
        share = np.broadcast_to(weight[first : first + count, None].astype(np.float32), distance.shape)
        yield flat[inside], distance[inside], radius[inside], share[inside]


def blend(hu: Array, share: Array | np.float32, value: Array | float) -> None:
    """Fill hu in place with value, by each voxel's share."""
    hu += share * (value - hu)


def sampled(path: npt.ArrayLike, step_mm: float) -> Points:
    """A polyline (N, d) resampled so that neighbours are about step_mm apart (first three columns are mm)."""
    path = np.asarray(path, dtype=np.float64)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path[:, :3], axis=0), axis=1))])
    count = max(2, int(np.ceil(length[-1] / step_mm)) + 1)
    at = np.linspace(0, length[-1], count)
    return np.stack([np.interp(at, length, path[:, k]) for k in range(path.shape[1])], axis=1)


def smooth_path(path: npt.ArrayLike, step_mm: float) -> Points:
    """A polyline (N, d) with its corners rounded (a quadratic through midpoints), resampled at step_mm."""
    path = np.asarray(path, dtype=np.float64)
    for _ in range(3):
        cut = np.concatenate([0.75 * path[:-1] + 0.25 * path[1:], 0.25 * path[:-1] + 0.75 * path[1:]], axis=1)
        path = np.concatenate([path[:1], cut.reshape(-1, path.shape[1]), path[-1:]])
    return sampled(path, step_mm)


class Texture:
    """Periodic smooth noise of unit variance, cheap to read anywhere: the same place gives the same value."""

    def __init__(self, random: np.random.Generator, size: int = 80) -> None:
        self._size = size
        white = random.standard_normal((size, size, size), dtype=np.float32)
        self._tiles: dict[float, Array] = {}
        self._white = white

    def tile(self, smooth: float) -> Array:
        """(size, size, size) noise blurred by smooth cells and scaled to unit variance."""
        if smooth not in self._tiles:
            blurred = ndimage.gaussian_filter(self._white, smooth, mode="wrap") if smooth > 0 else self._white
            self._tiles[smooth] = (blurred / blurred.std()).astype(np.float32)
        return self._tiles[smooth]

    def at(self, canvas: Canvas, box: tuple[slice, slice, slice], cell_mm: float, smooth: float) -> Array:
        """Noise over an index box of the grid, its tile's cells cell_mm wide, interpolated linearly."""
        tile = self.tile(smooth)
        result = tile
        for axis, (part, spacing) in enumerate(zip(box, canvas.spacing, strict=True)):
            first = canvas.first if axis == 0 else 0
            place = (first + np.arange(part.start, part.stop)) * spacing / cell_mm
            low = np.floor(place).astype(int)
            share = (place - low).astype(np.float32).reshape([-1 if k == axis else 1 for k in range(3)])
            lower = np.take(result, low % self._size, axis=axis)
            result = lower + share * (np.take(result, (low + 1) % self._size, axis=axis) - lower)
        return result
