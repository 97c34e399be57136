"""Lengths read from a chest CT: depth of an effusion, width of the heart, calibre of the aorta.

All are read from values that are above 0 inside (logits), on an upright grid; edges are placed between its voxels by
linear interpolation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_io.study import Geometry
from expert_models.ct_grid import Grid, resample

Mask = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]

FINE_MM = 1.0  # grid on which the aorta is measured
LEAST_AREA_MM2 = 150.0  # of a cross section of the aorta: 14 mm across
ROUND = 1.6  # area of a cross section in areas of the largest disc inside; more is no aorta, or runs along the slice
APART_MM = 18.0  # by so much the ascending aorta lies in front of the descending one


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


def aortic_calibres(logits: Float32, grid: Grid, span_mm: tuple[float, float]) -> dict[str, Length]:
    """The greatest calibre of the "ascending" and the "descending" thoracic aorta, each where it can be told.

    The calibre is the diameter of the largest ball inside, so it does not depend on how the vessel runs to the slices;
    of an oval cross section it is the short diameter. Ascending and descending are told apart in slices that cut both,
    the one at least APART_MM in front of the other (as at the level of the pulmonary artery, where Wolak et al. measure
    both: JACC Cardiovasc Imaging 2008;1:200-209); the arch belongs to neither. Cross sections that are not round are
    passed over. span_mm: lowest and highest z, LPS mm.
    """
    found = ndimage.find_objects((logits > 0).astype(np.uint8))
    if not found:
        return {}
    ends_mm = grid.geometry.to_patient([[s.start - 1 for s in found[0]], [s.stop for s in found[0]]])
    fine = _fine_grid(ends_mm.min(0), ends_mm.max(0))
    inside = resample(logits, grid.geometry, fine, fill=float(logits.min())) > 0
    reach = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1, 1:-1]
    z_mm = fine.geometry.to_patient([[number, 0, 0] for number in range(fine.shape[0])])[:, 2]
    best: dict[str, tuple[float, tuple[int, int, int]]] = {}
    for number in np.flatnonzero((z_mm >= span_mm[0]) & (z_mm <= span_mm[1])).tolist():
        for name, piece in _cross_sections(inside[number]):
            within = np.where(piece, reach[number], 0.0)
            row, column = (int(each) for each in np.unravel_index(int(within.argmax()), within.shape))
            radius = float(within[row, column])
            if piece.sum() <= ROUND * np.pi * radius**2 and radius > best.get(name, (0.0,))[0]:
                best[name] = (radius, (number, row, column))
    lengths = {}
    for name, (radius, (plane, along, across)) in best.items():
        half = radius - 0.5  # the distance to the next voxel outside ends at that voxel's centre
        lengths[name] = _between(fine, (plane, along, across - half), (plane, along, across + half))
    return lengths


def _cross_sections(plane: Mask) -> Iterator[tuple[str, Mask]]:
    """ "ascending" and "descending" of one axial slice, when it cuts both; else nothing."""
    labels, count = ndimage.label(plane)
    large = [k for k in range(1, count + 1) if (labels == k).sum() * FINE_MM**2 >= LEAST_AREA_MM2]
    if len(large) != 2:
        return
    rows = {k: float(np.nonzero(labels == k)[0].mean()) for k in large}
    front, back = sorted(large, key=lambda k: rows[k])
    if (rows[back] - rows[front]) * FINE_MM >= APART_MM:
        yield "ascending", labels == front
        yield "descending", labels == back


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


def _fine_grid(low_mm: Array, high_mm: Array) -> Grid:
    columns, rows, slices = (int(each) for each in np.ceil((high_mm - low_mm) / FINE_MM).astype(int) + 1)
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = FINE_MM
    affine[:3, 3] = low_mm
    affine[3, 3] = 1.0
    return Grid((slices, rows, columns), Geometry(affine))


def _between(grid: Grid, start: tuple[float, float, float], stop: tuple[float, float, float]) -> Length:
    ends_mm = grid.geometry.to_patient([start, stop])
    return Length(float(np.linalg.norm(ends_mm[1] - ends_mm[0])), ends_mm[0], ends_mm[1])
