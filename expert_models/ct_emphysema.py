"""The emphysema index of a lung on CT (LAA-950): the share of its voxels below -950 HU, where that means something.

Thick slices average emphysema away; sharp kernels and low dose make it up (Coxson, J Thorac Imaging 2013;28(5),
doi:10.1097/RTI.0b013e31829efbe9; Gallardo-Estrella et al., Eur Radiol 2016;26:478-486). So it is given only for voxels
of at most THIN_MM along each axis and a standard deviation of at most MOST_NOISE_HU in the air of the trachea: at that
noise 1.2 % of a normal lung (-860 HU) falls below -950 HU by noise alone. Both limits are ours. Full inspiration is
needed as well, and cannot be told from the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_io.study import Volume
from expert_models.ct_grid import Grid
from expert_models.finding import Box

if TYPE_CHECKING:
    from expert_models.ct_lungs import Lungs

Mask = npt.NDArray[np.bool_]

LOW_ATTENUATION_HU = -950
THIN_MM = 1.5
MOST_NOISE_HU = 40.0
LEAST_AIR_VOXELS = 100
CUT_MM2 = 800.0  # a lung with so much area in an outermost plane of the scan goes on beyond it
AIR_HU = 12.0  # how far from the air of the trachea a pocket of air may lie: emphysema holds some tissue
POCKET_ML = 30.0  # air in one piece that may lie outside the lung, or in a bulla

NEEDS = "the emphysema index needs"


def low_attenuation_percent(volume: Volume, lung: Mask, box: Box) -> float:
    """LAA-950: the per cent of a lung's voxels below -950 HU. lung: of the box's shape, on the voxels of the volume."""
    return 100.0 * float((volume.voxels[box.slices][lung] < LOW_ATTENUATION_HU).mean())


def why_no_index(volume: Volume, lungs: Lungs, placed: Sequence[tuple[Box, Mask]]) -> str | None:
    """Why LAA-950 cannot be given for a scan, in one sentence; None when it can.

    placed: each lung on the voxels of the volume, in its box.
    """
    longest_mm = max(volume.geometry.spacing_mm)
    if longest_mm > THIN_MM:
        return f"{NEEDS} voxels of at most {THIN_MM} mm, and these are {longest_mm:.1f} mm long"
    if any(is_incomplete(mask, box, volume) for box, mask in placed):
        return f"{NEEDS} the whole lungs, and the scan shows a part"
    noise = tracheal_noise(volume, lungs.airways, lungs.grid)
    if noise is None:
        return f"{NEEDS} the noise in the air of the trachea, which was not found"
    if noise > MOST_NOISE_HU:
        return f"{NEEDS} a noise of at most {MOST_NOISE_HU:.0f} HU; the trachea shows {noise:.0f} HU"
    if pocket_ml(lungs) > POCKET_ML:
        return "the emphysema index is not given where a large pocket of air may lie outside the lung or in a bulla"
    return None


def is_incomplete(mask: Mask, box: Box, volume: Volume) -> bool:
    """Whether more than CUT_MM2 of an organ lie in an outermost plane of the volume, along any axis."""
    spacing_mm = np.array(volume.geometry.spacing_mm)
    for axis in range(3):
        voxel_mm2 = float(np.prod(np.delete(spacing_mm, axis)))
        first = mask.take(0, axis).sum() if box.start[axis] == 0 else 0
        last = mask.take(-1, axis).sum() if box.stop[axis] == volume.shape[axis] else 0
        if max(first, last) * voxel_mm2 > CUT_MM2:
            return True
    return False


def tracheal_noise(volume: Volume, airways: Mask, grid: Grid) -> float | None:
    """Standard deviation of the voxels of a volume within the airways, away from their walls; HU.

    airways: on a grid; one voxel of the volume is read for each of its voxels. None when they are too few.
    """
    core = ndimage.binary_erosion(airways, iterations=2)
    if not core.any():
        return None
    index = np.rint(volume.geometry.to_index(grid.geometry.to_patient(np.argwhere(core)))).astype(int)
    index = np.unique(index, axis=0)
    index = index[np.all((index >= 0) & (index < volume.shape), axis=1)]
    values = volume.voxels[tuple(index.T)].astype(float)
    values = values[values < -850]
    return float(values.std()) if values.size >= LEAST_AIR_VOXELS else None


def tracheal_air(lungs: Lungs) -> float | None:
    """Median HU of the air in trachea and main bronchi, away from their walls; None when they were not found."""
    core = ndimage.binary_erosion(lungs.airways) & (lungs.hu < -880.0)
    return float(np.median(lungs.hu[core])) if core.sum() >= 20 else None


def pocket_ml(lungs: Lungs) -> float:
    """The largest connected piece of air within the lungs that is as thin as that of the trachea; mL."""
    air_hu = tracheal_air(lungs)
    if air_hu is None:
        return 0.0
    inside = np.logical_or.reduce([mask for _, mask in lungs.sides])
    labels, count = ndimage.label(ndimage.binary_opening(inside & (lungs.hu < air_hu + AIR_HU)))
    return float(np.bincount(labels.ravel())[1:].max()) * lungs.grid.geometry.voxel_ml if count else 0.0
