"""Branching trees in the lungs: arteries, veins and bronchi, grown once per patient and carried by the breath.

A tree is grown by halving: the leaf points that a branch must serve are split across their widest direction, and each
half gets a daughter branch towards its middle. Radii follow Murray's law: the cube of a parent is the sum of the cubes
of its daughters (C. D. Murray, PNAS 12:207, 1926).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dicom_io.phantom.anatomy import Anatomy
from dicom_io.phantom.canvas import Points


@dataclass(frozen=True, slots=True)
class Trees:
    """Segments in the patient's usual body frame: (N, 2, 3) ends in mm, (N,) radii in mm, one set per kind."""

    vessels: npt.NDArray[np.float64]
    vessel_radii: npt.NDArray[np.float64]
    bronchi: npt.NDArray[np.float64]
    bronchus_radii: npt.NDArray[np.float64]


def grow_trees(random: np.random.Generator, anatomy: Anatomy, leaves: int) -> Trees:
    """Arteries and veins with about `leaves` ends per lung each, bronchi with a tenth of that."""
    vessels, bronchi = [], []
    for sign in (-1.0, 1.0):
        hilum = anatomy.hilum(sign)
        low_hilum = hilum + np.array([-sign * 4, 10, -22.0])
        vessels.append(grow(random, hilum, inside_lung(random, anatomy, sign, leaves), 0.6, 8.5))
        vessels.append(grow(random, low_hilum, inside_lung(random, anatomy, sign, leaves), 0.55, 7.5))
        start = hilum + np.array([-sign * 6, 6, 0.0])
        bronchi.append(grow(random, start, inside_lung(random, anatomy, sign, max(leaves // 8, 24)), 0.9, 5.5))
    segments, radii = (np.concatenate([tree[k] for tree in vessels]) for k in range(2))
    tubes, tube_radii = (np.concatenate([tree[k] for tree in bronchi]) for k in range(2))
    return Trees(segments, radii, tubes, tube_radii)


def inside_lung(random: np.random.Generator, anatomy: Anatomy, sign: float, count: int, margin: float = 3.0) -> Points:
    """Points (count, 3) spread evenly through the lung of this side, at least margin mm below its surface."""
    kept: list[Points] = []
    found = 0
    while found < count:
        share = random.random((4 * count + 64, 3))
        x = sign * share[:, 0] * anatomy.half_width
        y = -anatomy.front + share[:, 1] * (anatomy.front + anatomy.back)
        z = -anatomy.sulcus + share[:, 2] * (anatomy.height + anatomy.sulcus)
        x32, y32, z32 = (each.astype(np.float32) for each in (x, y, z))
        inside = (anatomy.cavity(x32, y32, z32) > margin) & (anatomy.heart(x32, y32, z32) < -2)
        kept.append(np.stack([x, y, z], axis=1)[inside])
        found += int(inside.sum())
    return np.concatenate(kept)[:count]


def grow(
    random: np.random.Generator, root: Points, targets: Points, tip_radius: float, root_radius: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """A tree from root (3,) to the targets (N, 3): segment ends (M, 2, 3) and radii (M,)."""
    power = np.log(max(len(targets), 2)) / np.log(root_radius / tip_radius)
    segments: list[tuple[Points, Points]] = []
    radii: list[float] = []
    stack = [(np.asarray(root, dtype=np.float64), targets, 0)]
    while stack:
        start, group, level = stack.pop()
        if len(group) <= 1:
            if len(group):
                segments.append((start, group[0]))
                radii.append(tip_radius)
            continue
        spread = group.max(0) - group.min(0)
        axis = int(np.argmax(spread * (0.8 + 0.4 * random.random(3))))
        cut = int(len(group) * random.uniform(0.35, 0.65))
        cut = min(max(cut, 1), len(group) - 1)
        order = np.argpartition(group[:, axis], cut)
        for half in (group[order[:cut]], group[order[cut:]]):
            radius = tip_radius * len(half) ** (1 / power)
            share = 0.34 if level < 2 else 0.45
            stop = start + share * (half.mean(0) - start)
            bend = (start + stop) / 2 + random.normal(0, 0.06, 3) * np.linalg.norm(stop - start)
            segments += [(start, bend), (bend, stop)]
            radii += [radius, radius]
            stack.append((stop, half, level + 1))
    return np.array(segments), np.array(radii)


def balls(
    segments: npt.NDArray[np.float64], radii: npt.NDArray[np.float64], least_step: float
) -> tuple[Points, npt.NDArray[np.float64]]:
    """Segments (N, 2, 3) as ball centres (M, 3) and radii (M,), close enough to look like tubes."""
    length = np.linalg.norm(segments[:, 1] - segments[:, 0], axis=1)
    count = np.ceil(length / np.maximum(0.7 * radii, least_step)).astype(int) + 1
    which = np.repeat(np.arange(len(radii)), count)
    step = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    share = (step / np.maximum(count[which] - 1, 1))[:, None]
    return segments[which, 0] * (1 - share) + segments[which, 1] * share, radii[which]
