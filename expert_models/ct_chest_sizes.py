"""Lengths read from a chest CT: depth of an effusion, width of the heart.

All are read from values that are above 0 inside (logits), on an upright grid; edges are placed between its voxels by
linear interpolation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from expert_models.ct_grid import Grid

Mask = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Length:
    """A straight length in mm between two points of patient space, (3,) LPS mm each."""

    length_mm: float
    start_mm: Array
    stop_mm: Array


def effusion_depth(logits: Float32, cavity: Mask, grid: Grid) -> Length | None:
    """The greatest front-to-back depth of fluid along the midclavicular line, over all slices; None without any.

    The measure by which Moy et al. size effusions (Chest 2013;143:1054-1059, with limits of 3 and 10 cm). The line is
    taken halfway between the medial and the lateral border of the pleural cavity.
    """
    columns = np.flatnonzero(cavity.any((0, 1)))
    if not columns.size:
        return None
    middle = round(float(columns[0] + columns[-1]) / 2)
    best: tuple[float, int, tuple[float, float]] | None = None
    for number in np.flatnonzero((logits[:, :, middle] > 0).any(1)).tolist():
        run = longest_run(logits[number, :, middle])
        if run is not None and (best is None or run[1] - run[0] > best[0]):
            best = (run[1] - run[0], number, run)
    if best is None:
        return None
    _, plane, (start, stop) = best
    return _between(grid, (plane, start, middle), (plane, stop, middle))


def greatest_width(logits: Float32, grid: Grid) -> Length | None:
    """The greatest transverse extent of a shape in one axial slice; None when it is empty.

    Of the heart: the transverse cardiac diameter on CT, outer to outer border. Of both pleural cavities together: the
    transverse thoracic diameter from inner to inner chest wall. Gollub et al. divide the one by the other, each at its
    own greatest, as here (J Comput Assist Tomogr 2012;36:67-71). The line lies halfway between the rows of its ends.
    """
    best: tuple[float, int, tuple[float, float]] | None = None
    profiles = logits.max(axis=1)
    for number in np.flatnonzero((profiles > 0).any(1)).tolist():
        first, last = outermost(profiles[number])
        if best is None or last - first > best[0]:
            best = (last - first, number, (first, last))
    if best is None:
        return None
    _, plane, (first, last) = best
    ends = [min(max(round(each), 0), logits.shape[2] - 1) for each in (first + 0.5, last - 0.5)]
    row = float(np.mean([logits[plane, :, end].argmax() for end in ends]))
    return _between(grid, (plane, row, first), (plane, row, last))


def longest_run(profile: Float32) -> tuple[float, float] | None:
    """Start and stop, between samples, of the longest stretch of a profile (N,) above 0; None when there is none."""
    labels, count = ndimage.label(profile > 0)
    if not count:
        return None
    runs = [(int(each[0].start), int(each[0].stop) - 1) for each in ndimage.find_objects(labels)]
    return max((_edges(profile, *run) for run in runs), key=lambda run: run[1] - run[0])


def outermost(profile: Float32) -> tuple[float, float]:
    """The first and the last crossing of 0 of a profile (N,) that is above 0 somewhere, between samples."""
    above = np.flatnonzero(profile > 0)
    return _edges(profile, int(above[0]), int(above[-1]))


def _edges(profile: Float32, first: int, last: int) -> tuple[float, float]:
    """Where a profile crosses 0 before `first` and after `last`; half a sample beyond when it does not."""

    def crossing(inside: int, outside: int) -> float:
        if not 0 <= outside < len(profile):
            return inside + 0.5 * (outside - inside)
        a, b = float(profile[inside]), float(profile[outside])
        return inside + (outside - inside) * a / (a - b)

    return crossing(first, first - 1), crossing(last, last + 1)


def _between(grid: Grid, start: tuple[float, float, float], stop: tuple[float, float, float]) -> Length:
    ends_mm = grid.geometry.to_patient([start, stop])
    return Length(float(np.linalg.norm(ends_mm[1] - ends_mm[0])), ends_mm[0], ends_mm[1])
