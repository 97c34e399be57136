"""Upright grids: a CT resampled so that slices go to the head, rows to the back and columns to the patient's left.

Every expert on CT computes on such a grid and maps its masks back with the same affines, so neither the order in which
slices were stored, nor a flipped row, nor a tilted gantry can swap left and right or move a finding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_io.study import Geometry, Volume
from expert_models.finding import Box

OUTSIDE_HU = -2000.0  # what a resampled voxel holds where the scan has no data

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Grid:
    """A shape (slices, rows, columns) with the place of its voxels in the patient."""

    shape: tuple[int, int, int]
    geometry: Geometry


def upright_grid(volume: Volume, spacing_mm: float, span_mm: tuple[Array, Array] | None = None) -> Grid:
    """The isotropic upright grid that covers a volume, or the part of it between two corners.

    span_mm: lowest and highest corner, (3,) LPS mm each; the grid is cut to it. ValueError when nothing is left.
    """
    corners_index = (
        np.array(np.meshgrid(*[(-0.5, size - 0.5) for size in volume.shape], indexing="ij")).reshape(3, -1).T
    )
    corners_mm = volume.geometry.to_patient(corners_index)
    low_mm, high_mm = corners_mm.min(0), corners_mm.max(0)
    if span_mm is not None:
        low_mm, high_mm = np.maximum(low_mm, span_mm[0]), np.minimum(high_mm, span_mm[1])
    if np.any(high_mm <= low_mm):
        raise ValueError("the part asked for lies outside the volume")
    count = np.maximum(np.ceil((high_mm - low_mm) / spacing_mm).astype(int), 1)
    first_mm = (low_mm + high_mm) / 2 - (count - 1) / 2 * spacing_mm
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = spacing_mm
    affine[:3, 3] = first_mm
    affine[3, 3] = 1.0
    columns, rows, slices = (int(each) for each in count)
    return Grid((slices, rows, columns), Geometry(affine, volume.geometry.frame_of_reference_uid))


def resample(voxels: Array, source: Geometry, grid: Grid, *, fill: float = OUTSIDE_HU) -> npt.NDArray[np.float32]:
    """Trilinear values of a volume on a grid, (slices, rows, columns) float32.

    voxels: (slices, rows, columns) on the source geometry. Where the grid is coarser than the source, blocks of voxels
    are averaged first, so that noise and fine vessels do not alias. Half a voxel past the outermost centres is still
    inside (the nearest value); beyond that the result is `fill`.
    """
    matrix = np.linalg.inv(source.affine) @ grid.geometry.affine  # grid index -> source index
    wanted = np.array(grid.geometry.spacing_mm).min() / np.array(source.spacing_mm)
    factors = np.maximum(np.floor(wanted + 1e-6).astype(int), 1)
    voxels, matrix = _averaged(voxels, matrix, factors)
    linear, offset = matrix[:3, :3], matrix[:3, 3]
    order = np.abs(linear).argmax(axis=0)  # the source axis that each grid axis follows
    if len(set(order.tolist())) == 3 and np.allclose(np.abs(linear).sum(), np.abs(linear[order, range(3)]).sum()):
        return _along_axes(voxels.transpose(order), np.diag(linear[order]), offset[order], grid.shape, fill)
    padded = np.pad(voxels.astype(np.float32), 1, mode="edge")
    result: npt.NDArray[np.float32] = ndimage.affine_transform(
        padded, linear, offset + 1, grid.shape, np.float32, order=1, mode="constant", cval=fill
    )
    return _blank_beyond(result, linear, offset, voxels.shape, fill)


def on_source(values: Array, level: float, grid: Grid, volume: Volume) -> tuple[Box, Mask]:
    """Where values on a working grid exceed a level, as a mask on the voxels of the series with its tight box.

    Values are interpolated, so the surface stays smooth; what is too thin to reach any voxel centre is given the voxels
    of the highest value. ValueError when no value exceeds the level or all of it lies outside the series.
    """
    if not (found := ndimage.find_objects((values > level).astype(np.uint8))):
        raise ValueError("nothing exceeds the level")
    corners = np.array(np.meshgrid(*[(each.start - 1, each.stop) for each in found[0]], indexing="ij"))
    index = volume.geometry.to_index(grid.geometry.to_patient(corners.reshape(3, -1).T))
    start = np.clip(np.floor(index.min(0)).astype(int), 0, np.array(volume.shape) - 1)
    stop = np.clip(np.ceil(index.max(0)).astype(int) + 1, start + 1, volume.shape)
    affine = volume.geometry.affine.copy()
    affine[:3, 3] = volume.geometry.to_patient([start])[0]
    part = Grid(tuple((stop - start).tolist()), Geometry(affine))
    nothing = float(values.min()) - 1.0
    native = resample(values, grid.geometry, part, fill=nothing)
    if native.max() == np.float32(nothing):
        raise ValueError("nothing of it lies inside the series")
    mask: Mask = native > min(level, np.nextafter(native.max(), -np.inf))
    tight = ndimage.find_objects(mask.astype(np.uint8))[0]
    low = [int(first) + each.start for first, each in zip(start, tight, strict=True)]
    high = [int(first) + each.stop for first, each in zip(start, tight, strict=True)]
    return Box((low[0], low[1], low[2]), (high[0], high[1], high[2])), mask[tight]


def _averaged(voxels: Array, matrix: Array, factors: Array) -> tuple[Array, Array]:
    """Block means by whole factors along each axis, and the matrix that then leads from the grid to them."""
    factors = np.minimum(factors, voxels.shape)
    if np.all(factors == 1):
        return voxels, matrix
    keep = [size // factor * factor for size, factor in zip(voxels.shape, factors, strict=True)]
    if any(kept != size for kept, size in zip(keep, voxels.shape, strict=True)):
        pad = [(0, -size % int(factor)) for size, factor in zip(voxels.shape, factors, strict=True)]
        voxels = np.pad(voxels, pad, mode="edge")
    total = np.zeros([-(-size // int(factor)) for size, factor in zip(voxels.shape, factors, strict=True)], np.float32)
    for start in np.ndindex(*factors.tolist()):
        total += voxels[tuple(slice(first, None, int(step)) for first, step in zip(start, factors, strict=True))]
    shrink = np.diag([*(1.0 / factors), 1.0])
    shrink[:3, 3] = (1.0 - factors) / (2.0 * factors)  # centre of the first block
    return total / np.float32(np.prod(factors)), shrink @ matrix


def _along_axes(voxels: Array, scale: Array, offset: Array, shape: tuple[int, int, int], fill: float) -> Array:
    """Separable linear interpolation: one axis after the other, each as a weighted sum of two takes."""
    result, beyond = np.asarray(voxels), []
    cheapest_first = np.argsort(np.array(shape) / np.array(voxels.shape))
    for axis in cheapest_first.tolist():
        last = voxels.shape[axis] - 1
        position = np.arange(shape[axis]) * scale[axis] + offset[axis]
        beyond.append((axis, (position < -0.5 - 1e-6) | (position > last + 0.5 + 1e-6)))
        position = np.clip(position, 0, last)
        lower = np.minimum(position.astype(int), max(last - 1, 0))
        weight = (position - lower).astype(np.float32).reshape([-1 if each == axis else 1 for each in range(3)])
        below = result.take(lower, axis).astype(np.float32)
        if np.any(weight):
            above = result.take(np.minimum(lower + 1, last), axis).astype(np.float32)
            above -= below
            above *= weight
            below += above
        result = below
    for axis, outside in beyond:
        result[tuple(outside if each == axis else slice(None) for each in range(3))] = fill
    return result


def _blank_beyond(result: Array, linear: Array, offset: Array, shape: tuple[int, ...], fill: float) -> Array:
    """Set `fill` where a grid point lies more than half a voxel past the source, plane by plane to save memory."""
    rows, columns = np.meshgrid(*[np.arange(size) for size in result.shape[1:]], indexing="ij")
    for plane in range(result.shape[0]):
        beyond = np.zeros(result.shape[1:], bool)
        for axis, size in enumerate(shape):
            position = linear[axis, 0] * plane + linear[axis, 1] * rows + linear[axis, 2] * columns + offset[axis]
            beyond |= (position < -0.5 - 1e-6) | (position > size - 0.5 + 1e-6)
        result[plane][beyond] = fill
    return result
