"""What the chest network saw, held against rules that do not come from it.

The network learned from phantoms. So nothing that it marks counts before it has the attenuation of what it is called,
and before its two pleural cavities agree with the lungs that a method without weights found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_io.study import Volume
from expert_models.ct_emphysema import tracheal_air
from expert_models.ct_grid import OUTSIDE_HU, Grid, resample, upright_grid
from expert_models.ct_lungs import Lungs
from expert_models.finding import Side

Mask = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]

LESIONS = ("effusion", "pneumothorax", "consolidation")
SIDES = (Side.RIGHT, Side.LEFT)

# Margins of the network's grid around the lungs, mm: fluid reaches below them, a collapsed lung leaves its side empty.
BELOW_MM, ABOVE_MM, BESIDE_MM, LOST_LUNG_MM, AROUND_MM = 80.0, 30.0, 90.0, 260.0, 70.0

SCORED_ML = 10.0  # the score of a lesion is the mean of the highest logits in so much tissue
FLOOR = -10.0  # a logit below which nothing is told apart
NEAR_CAVITY_MM = 4.0  # how far beyond the cavity's own outline a lesion in it may reach
LEAST_ML = {"effusion": 5.0, "pneumothorax": 5.0, "consolidation": 5.0}  # of one piece; smaller ones are specks
# HU that one voxel of the grid may have. Fluid: water to blood, with the noise of a thin slice; air; airless lung.
VOXEL_HU = {"effusion": (-60.0, 110.0), "pneumothorax": (-1100.0, -880.0), "consolidation": (-500.0, 250.0)}
# HU that a piece may have in the mean. Fluid: transudate to blood.
PIECE_HU = {"effusion": (-20.0, 60.0), "consolidation": (-350.0, 180.0)}
AIR_HU = 25.0  # how far the median of pleural air may lie from that of the trachea: a lung holds tissue, emphysema too
AGREEMENT = 0.85  # share of the lungs that must lie in the network's cavity of the same side


@dataclass(frozen=True, slots=True)
class Lesion:
    """One label on one side. score: a logit; logits: on the grid of Parts, FLOOR wherever it is ruled out."""

    score: float
    logits: Float32
    volume_ml: float


@dataclass(frozen=True, slots=True)
class Parts:
    """What was seen on the network's grid.

    logits: label -> (slices, rows, columns). lesions: (label, side) -> Lesion. doubt: why nothing of it can be
    trusted, None when it can.
    """

    grid: Grid
    hu: Float32
    logits: Mapping[str, Float32]
    lesions: Mapping[tuple[str, Side], Lesion]
    doubt: str | None

    def cavity(self, side: Side) -> Mask:
        """The pleural cavity of one side with all that is in it."""
        return cavity_of(self.logits, side)


def chest_grid(volume: Volume, lungs: Lungs, spacing_mm: float) -> Grid:
    """The upright grid around the lungs on which the network looks. Whole-body scans cost no more than chests."""
    found = ndimage.find_objects(np.logical_or.reduce([mask for _, mask in lungs.sides]).astype(np.uint8))[0]
    ends_mm = lungs.grid.geometry.to_patient([[each.start for each in found], [each.stop - 1 for each in found]])
    is_lost = len(lungs.sides) == 1 and lungs.sides[0][0] is not Side.BILATERAL
    beside = LOST_LUNG_MM if is_lost else BESIDE_MM
    low_mm = ends_mm.min(0) - np.array([beside, AROUND_MM, BELOW_MM])
    high_mm = ends_mm.max(0) + np.array([beside, AROUND_MM, ABOVE_MM])
    return upright_grid(volume, spacing_mm, (low_mm, high_mm))


def parts_of(grid: Grid, hu: Float32, logits: Mapping[str, Float32], lungs: Lungs) -> Parts:
    """Judge the network's logits (label -> array on the grid) with the HU and the lungs of the same scan."""
    seen = hu > OUTSIDE_HU + 1
    logits = {name: np.where(seen, np.clip(each, FLOOR, -FLOOR), FLOOR) for name, each in logits.items()}
    doubt = disagreement(grid, logits, lungs)
    air_hu = tracheal_air(lungs)
    lesions: dict[tuple[str, Side], Lesion] = {}
    for side in SIDES:
        cavity = cavity_of(logits, side)
        reach = NEAR_CAVITY_MM / grid.geometry.spacing_mm[0]
        near = ndimage.distance_transform_edt(~cavity) <= reach if cavity.any() else cavity
        mine = logits[f"{side.value} thorax"] >= logits[f"{_other(side).value} thorax"]
        for name in LESIONS:
            lesions[name, side] = _lesion(name, logits[name], hu, near & mine, grid, air_hu)
    return Parts(grid, hu, logits, lesions, doubt)


def cavity_of(logits: Mapping[str, Float32], side: Side) -> Mask:
    """The largest piece of a pleural cavity, where the network sees it and not that of the other side."""
    mine, other = logits[f"{side.value} thorax"], logits[f"{_other(side).value} thorax"]
    return largest((mine > 0) & (mine > other))


def largest(mask: Mask) -> Mask:
    """The largest connected piece of a mask."""
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    piece: Mask = labels == sizes.argmax()
    return piece


def disagreement(grid: Grid, logits: Mapping[str, Float32], lungs: Lungs) -> str | None:
    """Why the network's cavities cannot be those of these lungs; None when each lung lies in the cavity of its side."""
    cavities = {side: cavity_of(logits, side) for side in SIDES}
    cavities[Side.BILATERAL] = cavities[Side.RIGHT] | cavities[Side.LEFT]
    for side, mask in lungs.sides:
        lung = resample(mask.astype(np.float32), lungs.grid.geometry, grid, fill=0.0) > 0.5
        if not lung.any() or cavities[side][lung].mean() < AGREEMENT:
            return "the outlines of the chest do not agree with the lungs that were found"
    return None


def _lesion(name: str, logits: Float32, hu: Float32, place: Mask, grid: Grid, air_hu: float | None) -> Lesion:
    low, high = VOXEL_HU[name]
    allowed = place & (hu >= low) & (hu <= high)
    kept = np.where(allowed, logits, np.float32(FLOOR))
    labels, _ = ndimage.label(kept > 0)
    for number, where in enumerate(ndimage.find_objects(labels), start=1):
        piece = labels[where] == number
        if not _is_plausible(name, hu[where][piece], grid.geometry.voxel_ml, air_hu):
            kept[where][piece] = FLOOR
    voxels = max(1, round(SCORED_ML / grid.geometry.voxel_ml))
    top = np.partition(kept.ravel(), -voxels)[-voxels:]
    return Lesion(float(top.mean()), kept, float((kept > 0).sum()) * grid.geometry.voxel_ml)


def _is_plausible(name: str, values: Float32, voxel_ml: float, air_hu: float | None) -> bool:
    if values.size * voxel_ml < LEAST_ML[name]:
        return False
    if name == "pneumothorax":
        return float(np.median(values)) <= (-1000.0 if air_hu is None else air_hu) + AIR_HU
    low, high = PIECE_HU[name]
    return low <= float(values.mean()) <= high


def _other(side: Side) -> Side:
    return Side.LEFT if side is Side.RIGHT else Side.RIGHT
