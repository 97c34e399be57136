"""What a film of a varied patient shows finer than its voxels: outlines of bones and the small vessels of the lungs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from dicom_io.phantom.canvas import Canvas, Points
from dicom_io.phantom.scene import Chest
from dicom_io.phantom.skeleton import CORTEX_HU, MARROW_HU, Tubes
from dicom_io.phantom.strands import Strands
from dicom_io.phantom.vessels import Trees

SOFT_HU = 40.0
BLOOD_HU = 44.0


def fine_strands(
    canvas: Canvas, chest: Chest, trees: Trees, air: npt.NDArray[np.bool_], least_mm: float, widen: float
) -> tuple[Strands, ...]:
    """Bones and vessels as tubes. air: (slices, rows, columns) aerated lung, the only place where vessels show.

    least_mm: vessels thinner than this are not in the voxels. widen: the vessels' radius relative to the tree's.
    """
    bones = [part for tubes in chest.bones if tubes.sharp for part in _bone(canvas, chest, tubes)]
    return (*bones, *_vessels(canvas, chest, trees, air, least_mm, widen))


def _bone(canvas: Canvas, chest: Chest, tubes: Tubes) -> Iterable[Strands]:
    """A cortical tube with a marrow in it: two strands, the inner one taking away."""
    kept = (tubes.balls[:, 3] > 1.9) & (tubes.balls[:, 3] < 15)
    if kept.sum() < 2:
        return ()
    balls = tubes.balls
    middles, radii = canvas.to_patient(balls[:, :3]), balls[:, 3]
    along = _steps(middles)
    gain = tubes.gain * chest.anatomy.bone_gain
    marrow = np.maximum(radii - tubes.cortex_mm, 0.05)
    same = np.ones(len(radii))
    outer = (gain * CORTEX_HU - SOFT_HU) * same
    inner = gain * (MARROW_HU - CORTEX_HU) * same
    return tuple(
        Strands(middles[kept], along[kept], radius[kept], value[kept], tubes.squash, True, "bone")
        for radius, value in ((radii, outer), (marrow, inner))
    )


def _steps(points: Points) -> Points:
    """The piece of tube (N, 3) that each ball stands for: as long as the way to its nearer neighbour in the row."""
    gap = np.diff(points, axis=0)
    before, after = np.concatenate([gap[:1], gap]), np.concatenate([gap, gap[-1:]])
    size = [np.linalg.norm(each, axis=1, keepdims=True) for each in (before, after)]
    nearer = np.where(size[0] < size[1], before, after)
    length = np.minimum(size[0], size[1])
    return np.asarray(nearer * np.minimum(1.0, 6.0 / np.maximum(length, 1e-9)), dtype=np.float64)


def _vessels(
    canvas: Canvas, chest: Chest, trees: Trees, air: npt.NDArray[np.bool_], least_mm: float, widen: float
) -> Iterable[Strands]:
    ends = chest.anatomy.carried(trees.vessels.reshape(-1, 3), chest.usual).reshape(-1, 2, 3)
    radii = trees.vessel_radii * widen
    length = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    count = np.maximum(1, np.ceil(length / 1.4)).astype(int)
    which = np.repeat(np.arange(len(count)), count)
    share = (np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count) + 0.5) / count[which]
    middles = canvas.to_patient(ends[which, 0] * (1 - share[:, None]) + ends[which, 1] * share[:, None])
    whole = canvas.to_patient(ends[:, 1]) - canvas.to_patient(ends[:, 0])
    cell = np.clip(np.rint(canvas.geometry.to_index(middles)).astype(int), 0, np.array(canvas.shape) - 1)
    seen = air[cell[:, 0], cell[:, 1], cell[:, 2]]
    value = BLOOD_HU - chest.anatomy.lung_hu
    for drawn in (True, False):
        kept = seen & ((radii[which] > least_mm) == drawn)
        same = np.full(int(kept.sum()), value)
        yield Strands(middles[kept], (whole / count[:, None])[which][kept], radii[which][kept], same, 1.0, drawn)
