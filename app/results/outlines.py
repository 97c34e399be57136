"""The outline of a mask as closed polygons.

Traced along the pixels' edges rather than interpolated through their centres: the outline encloses exactly the pixels
that were marked, and none of the libraries that wetread needs anyway offers marching squares.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Point = tuple[
    float, float
]  # (x, y): x to the right along a row, y down; pixel (row, column) covers [column, column + 1)


def outlines(mask: npt.NDArray[np.bool_]) -> list[list[Point]]:
    """Closed polygons around the marked pixels of a (rows, columns) mask, in pixel-corner coordinates.

    Corners only, first not repeated last. The inside lies on the right of each edge as drawn on a screen (y down), so
    holes run the other way; filled by the even-odd rule they give the mask back. Pixels that touch at a corner are
    kept apart.
    """
    if mask.ndim != 2:
        raise ValueError(f"an outline is drawn around a mask of two axes, got shape {mask.shape}")
    edges = boundary_edges(mask)
    polygons = []
    while edges:
        start = next(iter(edges))
        polygons.append(corners(follow(start, edges)))
    return polygons


def boundary_edges(mask: npt.NDArray[np.bool_]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """From each corner, the corners that an edge of the boundary leads to, with the inside on its right."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    edges: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # neighbour that must be empty, then the edge's start and end relative to the pixel's corner (x, y)
    for neighbour, (start_x, start_y), (stop_x, stop_y) in (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),  # above: left to right
        (padded[1:-1, 2:], (1, 0), (1, 1)),  # right: downwards
        (padded[2:, 1:-1], (1, 1), (0, 1)),  # below: right to left
        (padded[1:-1, :-2], (0, 1), (0, 0)),  # left: upwards
    ):
        for row, column in np.argwhere(inside & ~neighbour).tolist():
            edges.setdefault((column + start_x, row + start_y), []).append((column + stop_x, row + stop_y))
    return edges


def follow(start: tuple[int, int], edges: dict[tuple[int, int], list[tuple[int, int]]]) -> list[tuple[int, int]]:
    """One closed walk from `start`, taking its edges out of `edges`."""
    walk = [start]
    before, here = start, edges[start].pop()
    if not edges[start]:
        del edges[start]
    while here != start:
        walk.append(here)
        ways = edges[here]
        if len(ways) > 1:  # two pixels touch at this corner: turn right, so that each keeps its own outline
            right = (here[0] - (here[1] - before[1]), here[1] + (here[0] - before[0]))
            ways.sort(key=lambda way: way == right)
        before, here = here, ways.pop()
        if not ways:
            del edges[before]
    return walk


def corners(walk: list[tuple[int, int]]) -> list[Point]:
    """The walk without the points that lie on a straight run."""
    kept = []
    for index, (x, y) in enumerate(walk):
        (x0, y0), (x1, y1) = walk[index - 1], walk[(index + 1) % len(walk)]
        if (x - x0) * (y1 - y) != (x1 - x) * (y - y0):
            kept.append((float(x), float(y)))
    return kept
