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


def cardiothoracic_ratio(right_lung: Mask, left_lung: Mask, heart: Mask) -> float:
    """Transverse cardiac diameter over internal thoracic diameter, both as `horizontal_width` reads them."""
    return horizontal_width(heart).pixels / horizontal_width(right_lung | left_lung).pixels


def midpoint_between(right: Mask, left: Mask) -> tuple[float, float] | None:
    """The (row, column) half way between the medial ends of the right and the left clavicle.

    None without both, and where they cross. The patient's right is on the left of the picture.
    """
    ends = []
    for bone, last in ((right, -1), (left, 0)):
        columns = np.flatnonzero(bone.any(axis=0))
        if not columns.size:
            return None
        column = int(columns[last])
        ends.append((np.flatnonzero(bone[:, column]).mean(), column))
    (a, b), (c, d) = ends
    return (float(a + c) / 2, (b + d) / 2) if b < d else None


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
