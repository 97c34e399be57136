"""Lengths and ratios read from masks."""

from __future__ import annotations

from dataclasses import dataclass
from math import erf, sqrt

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]  # (rows, columns)


@dataclass(frozen=True, slots=True)
class Width:
    """The horizontal extent of a shape: from the outer edge of its leftmost to that of its rightmost pixel.

    left, right: columns of the two edges in index space (a pixel reaches half a column to either side of its centre).
    row: halfway between the rows of the two extremes, where the line is drawn.
    """

    row: float
    left: float
    right: float

    @property
    def pixels(self) -> float:
        """Length in columns."""
        return self.right - self.left


def horizontal_width(mask: Mask) -> Width:
    """The horizontal extent of a mask, ValueError when it is empty.

    Of the heart it is the transverse cardiac diameter: the greatest distances of the right and the left heart border
    from any vertical line between them, added (Danzer, Am J Med Sci 1919). Of both lungs together it is the
    internal thoracic diameter, taken at the lungs' widest.
    """
    columns = np.flatnonzero(mask.any(axis=0))
    if not columns.size:
        raise ValueError("an empty mask has no width")
    left, right = int(columns[0]), int(columns[-1])
    row = (np.flatnonzero(mask[:, left]).mean() + np.flatnonzero(mask[:, right]).mean()) / 2
    return Width(float(row), left - 0.5, right + 0.5)


@dataclass(frozen=True, slots=True)
class Angle:
    """An angle at a vertex between the lines to two other points, all (row, column)."""

    vertex: tuple[float, float]
    first: tuple[float, float]
    second: tuple[float, float]

    @property
    def degrees(self) -> float:
        """In [0, 180]."""
        one, other = (np.subtract(each, self.vertex) for each in (self.first, self.second))
        cosine = float(one @ other) / float(np.linalg.norm(one) * np.linalg.norm(other))
        return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


ARM = 1 / 8  # of the lung's height: how far from the vertex the two sides of a costophrenic angle are read


def costophrenic_angle(lung: Mask, *, is_right: bool) -> Angle | None:
    """Between the chest wall and the dome of the diaphragm, on a frontal film; None where the outline has no corner.

    lung: (rows, columns), its outline, of the patient's right lung (at image left) or left. The vertex is its point
    furthest down and out, along the diagonal; its sides go to the wall an eighth of the lung's height further up, and
    to the dome as far further in. A blunted angle is wide. The definition is ours: textbooks give none in pixels.
    """
    columns = np.flatnonzero(lung.any(axis=0))
    rows = np.flatnonzero(lung.any(axis=1))
    if not columns.size:
        return None
    lowest = len(lung) - 1 - lung[::-1].argmax(axis=0)  # of each column of the lung
    inward = 1 if is_right else -1
    reach = lowest[columns] - inward * columns
    column = int(columns[np.argmax(reach)])
    row, arm = int(lowest[column]), max(1, round(ARM * len(rows)))
    inner = column + inward * arm
    if row - arm < 0 or not lung[row - arm].any() or inner not in columns:
        return None
    wall = np.flatnonzero(lung[row - arm])[0 if is_right else -1]
    return Angle((row, column), (row - arm, float(wall)), (float(lowest[inner]), inner))


def cardiothoracic_ratio(right_lung: Mask, left_lung: Mask, heart: Mask) -> float:
    """Transverse cardiac diameter over internal thoracic diameter, both as `horizontal_width` reads them."""
    return horizontal_width(heart).pixels / horizontal_width(right_lung | left_lung).pixels


def midpoint_between(right: Mask, left: Mask) -> tuple[float, float] | None:
    """The (row, column) half way between the medial ends of the right and the left clavicle; None without both.

    The patient's right is on the left of the picture.
    """
    ends = []
    for bone, last in ((right, -1), (left, 0)):
        columns = np.flatnonzero(bone.any(axis=0))
        if not columns.size:
            return None
        column = int(columns[last])
        ends.append((np.flatnonzero(bone[:, column]).mean(), column))
    (a, b), (c, d) = ends
    return float(a + c) / 2, (b + d) / 2


def middle_of_row(mask: Mask, row: float) -> float | None:
    """The mean column of a mask in the row nearest to this one; None where it has nothing there."""
    nearest = round(row)
    columns = np.flatnonzero(mask[nearest]) if 0 <= nearest < len(mask) else np.zeros(0)
    return float(columns.mean()) if columns.size else None


def probability_above(limit: float, measured: float, bias: float, spread: float) -> float:
    """P(true > limit) for a measurement that is normally distributed about the truth plus bias."""
    return 0.5 * (1 + erf((measured - bias - limit) / (spread * sqrt(2))))


def dice(first: Mask, second: Mask) -> float:
    """Overlap of two masks in [0, 1]; 1 for two empty ones."""
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0
