"""What is drawn over a picture, and the plane it is drawn in.

Index space is (slice, row, column) of a series; picture space is (x, y) in pixels of the rendered picture, y down.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import hypot

import numpy as np
import numpy.typing as npt

from app.results.outlines import Point
from expert_models.finding import Index, Region


@dataclass(frozen=True, slots=True)
class Shape:
    """Something drawn over a picture. targets: the ids of the findings and comparisons that it belongs to."""

    kind: str  # "outline", "box" or "line"
    targets: tuple[str, ...]
    paths: tuple[tuple[Point, ...], ...]  # picture space; closed, except for a line
    label: str
    tone: str  # "#RRGGBB"
    is_organ: bool = False
    amount: str = ""  # of a measuring line; of several that one amount was read from, the first has it
    read_from: int = 0  # how many lines the amount was read from: a diameter from one, a ratio from two

    @property
    def short_label(self) -> str:
        """What stands on the picture: a line's length, anything else's name."""
        return self.amount if self.kind == "line" else self.label

    @property
    def strokes(self) -> list[tuple[Point, Point]]:
        """A line's strokes: the line itself and a short bar across each end."""
        start, stop = self.paths[0]
        length = max(hypot(stop[0] - start[0], stop[1] - start[1]), 1e-9)
        across = 0.03 * (start[1] - stop[1]), 0.03 * (stop[0] - start[0])
        if length * 0.03 < 3:
            across = 3 * across[0] / (length * 0.03), 3 * across[1] / (length * 0.03)
        bars = [((x - across[0], y - across[1]), (x + across[0], y + across[1])) for x, y in (start, stop)]
        return [(start, stop), *bars]

    @property
    def place(self) -> Point:
        """Where a label fits: above its highest point; below a line's middle, or below the lower end of a steep one."""
        if self.kind != "line":
            return min((point for path in self.paths for point in path), key=lambda point: point[1])
        (x0, y0), (x1, y1) = self.paths[0]
        if abs(x1 - x0) > abs(y1 - y0):
            return (x0 + x1) / 2, (y0 + y1) / 2
        return max(self.paths[0], key=lambda point: point[1])


@dataclass(frozen=True, slots=True)
class Cut:
    """A plane of a volume: axis 0 is the stored image, axis 1 the coronal plane of an axial series."""

    axis: int
    index: int
    flipped: bool = False  # upside down against the index: the coronal plane with the head at the top
    scale: tuple[float, float] = (1.0, 1.0)  # picture pixels per index step along (x, y)
    height: int = 0  # index steps along y

    def plane(self, voxels: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """The 2-D plane of a volume, as it is shown."""
        plane = voxels[self.index] if self.axis == 0 else voxels[:, self.index]
        return plane[::-1] if self.flipped else plane

    def cuts(self, region: Region) -> bool:
        """Whether the region's box reaches into this plane."""
        return region.box.start[self.axis] <= self.index < region.box.stop[self.axis]

    def point(self, index: Index) -> Point:
        """An index position in picture space."""
        down = index[1] if self.axis == 0 else index[0]
        return self.corner((index[2] + 0.5, down + 0.5))

    def corner(self, corner: Point) -> Point:
        """A pixel-corner position of the plane in picture space."""
        x, y = corner
        if self.flipped:
            y = self.height - y
        return round(x * self.scale[0], 2), round(y * self.scale[1], 2)


def merged(shapes: Iterable[Shape]) -> tuple[Shape, ...]:
    """Shapes that lie on one another drawn once, in the first one's colour, answering to all their targets.

    The heart and an enlarged heart are one outline; a diameter and the ratio made of it are one line, labelled with
    the measurement that needs fewer lines.
    """
    kept: dict[tuple[str, tuple[tuple[Point, ...], ...]], Shape] = {}
    for shape in shapes:
        place = shape.kind, shape.paths
        if place not in kept:
            kept[place] = shape
            continue
        first = kept[place]
        plain = shape if shape.read_from < first.read_from else first
        kept[place] = replace(
            first,
            targets=tuple(dict.fromkeys((*first.targets, *shape.targets))),
            label=plain.label,
            amount=plain.amount,
            read_from=plain.read_from,
        )
    return tuple(kept.values())
