"""The long and short axis of a mask in the slices of its series.

The long axis is the longest straight line across the mask within one slice, over all slices; the short axis is the
longest line across it at a right angle, in the same slice. Both run from pixel edge to pixel edge, as with calipers
(the two whose average the Fleischner Society's guidelines use; MacMahon et al., Radiology 2017;284:228-243).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull, QhullError

from dicom_io.study import Geometry
from expert_models.finding import Box, Index

Array = npt.NDArray[np.float64]

_CORNERS = np.array([(-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5)])


@dataclass(frozen=True, slots=True)
class Axis:
    """A length in mm between two points in index space (slice, row, column)."""

    length_mm: float
    start: Index
    stop: Index


def axes_of(mask: npt.NDArray[np.bool_], box: Box, geometry: Geometry) -> tuple[Axis, Axis]:
    """The long and the short axis of a mask of exactly the box's shape. ValueError for an empty mask.

    In-plane lengths come from the affine, so that pixels need not be square.
    """
    if not mask.any():
        raise ValueError("an empty mask has no axes")
    plane_mm = _plane(geometry)
    per_plane = [(_longest(mask[plane], box, plane_mm), int(plane)) for plane in np.flatnonzero(mask.any((1, 2)))]
    (length_mm, start, stop), plane = max(per_plane, key=lambda each: each[0][0])
    number = float(box.start[0] + plane)
    long_axis = Axis(length_mm, (number, float(start[0]), float(start[1])), (number, float(stop[0]), float(stop[1])))
    return long_axis, _across(mask[plane], box, number, plane_mm, (stop - start) @ plane_mm.T)


def _longest(area: npt.NDArray[np.bool_], box: Box, plane_mm: Array) -> tuple[float, Array, Array]:
    """Length in mm of the longest line across an area, and its ends as (row, column)."""
    hull = _hull(area) + np.array(box.start[1:])
    points_mm = hull @ plane_mm.T
    lengths = np.linalg.norm(points_mm[:, None] - points_mm[None], axis=-1)
    first, second = np.unravel_index(int(lengths.argmax()), lengths.shape)
    return float(lengths[first, second]), hull[first], hull[second]


def _plane(geometry: Geometry) -> Array:
    """(2, 2) steps of row and column index in mm, in an orthonormal frame of the slice plane."""
    row, column = geometry.affine[:3, 1], geometry.affine[:3, 2]
    along = column / np.linalg.norm(column)
    rest = row - (row @ along) * along
    return np.array([[np.linalg.norm(rest), 0.0], [row @ along, np.linalg.norm(column)]])


def _hull(area: npt.NDArray[np.bool_]) -> Array:
    """Pixel corners on the convex hull of an area, (N, 2) as (row, column)."""
    corners = (np.argwhere(area)[:, None] + _CORNERS[None]).reshape(-1, 2)
    try:
        return np.asarray(corners[ConvexHull(corners).vertices])
    except QhullError as exc:
        raise ValueError("a slice of the mask has no area") from exc


def _across(area: npt.NDArray[np.bool_], box: Box, number: float, plane_mm: Array, along_mm: Array) -> Axis:
    """The longest line at a right angle to the long axis through the convex hull of the area.

    The width of a convex polygon is greatest at one of its corners, so only those places are tried.
    """
    along_mm = along_mm / np.linalg.norm(along_mm)
    frame = np.stack([along_mm, [-along_mm[1], along_mm[0]]])
    corners = (_hull(area) + np.array(box.start[1:])) @ plane_mm.T @ frame.T  # (N, 2) as (along, across) in mm
    best = max((_chord(corners, place) for place in corners[:, 0]), key=lambda each: each[2] - each[1])
    back = np.linalg.inv(plane_mm) @ np.linalg.inv(frame)
    ends = [back @ np.array([best[0], across]) for across in best[1:]]
    start, stop = ((number, float(end[0]), float(end[1])) for end in ends)
    return Axis(best[2] - best[1], start, stop)


def _chord(corners: Array, place: float) -> tuple[float, float, float]:
    """Where the line along == place crosses a convex polygon: the place, and lowest and highest across."""
    first, second = corners, np.roll(corners, -1, axis=0)
    crosses = (np.minimum(first[:, 0], second[:, 0]) <= place) & (np.maximum(first[:, 0], second[:, 0]) >= place)
    run = second[crosses, 0] - first[crosses, 0]
    share = np.divide(place - first[crosses, 0], run, out=np.zeros_like(run), where=run != 0)
    across = first[crosses, 1] + share * (second[crosses, 1] - first[crosses, 1])
    return float(place), float(across.min()), float(across.max())
