"""Real nodules in other lungs: a nodule crop blended into a CT at a chosen place.

The nodules of LIDC-IDRI that may be had are crops without the lungs around them. Blended into lungs without nodules
they make scans whose nodules are known: for training, for calibration and for evaluation, each with its own patients.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_io.study import Geometry, Volume
from expert_models.ct_grid import Grid, resample
from expert_models.finding import Box

SOFT_EDGE_MM = 2.0  # over which a crop fades into the lung around it
_REVERSED = np.eye(4)[[2, 1, 0, 3]]  # (slice, row, column) <-> (column, row, slice)

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Crop:
    """One nodule: HU and mask (slices, rows, columns) on one geometry, and whose it is."""

    volume: Volume
    mask: npt.NDArray[np.bool_]
    patient: str

    @property
    def centre_mm(self) -> npt.NDArray[np.float64]:
        """(3,) centre of the mask, LPS mm."""
        return self.volume.geometry.to_patient(np.argwhere(self.mask).mean(0))[0]  # type: ignore[no-any-return, unused-ignore]

    @property
    def reach_mm(self) -> float:
        """Radius of a ball around the centre that holds the mask."""
        points_mm = self.volume.geometry.to_patient(np.argwhere(self.mask))
        return float(np.linalg.norm(points_mm - self.centre_mm, axis=1).max())


@dataclass(frozen=True, slots=True)
class Pose:
    """Where and how a crop is laid: centre, mirrored axes (+1 or -1 of x, y, z), and a factor on its size."""

    centre_mm: npt.NDArray[np.float64]
    mirror: tuple[int, int, int] = (1, 1, 1)
    scale: float = 1.0


def read_nifti(path: Path) -> tuple[Array, Geometry]:
    """A NIfTI file as (slices, rows, columns) with its geometry in LPS. NIfTI's own space is RAS."""
    import nibabel

    image: Any = nibabel.load(path)  # type: ignore[attr-defined, unused-ignore]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(image.affine, dtype=np.float64) @ _REVERSED
    voxels = np.ascontiguousarray(np.asarray(image.dataobj).transpose(2, 1, 0))
    return voxels, Geometry(affine)


def read_ct(path: Path) -> Volume:
    """A CT in NIfTI as a volume in HU."""
    voxels, geometry = read_nifti(path)
    return Volume(np.clip(voxels, -1024, 3071).astype(np.int16), geometry)


def nodule_crops(pack: Path, *, training: bool) -> Iterator[Crop]:
    """The nodules of a folder laid out as ct_nodules: those whose split is "train", or all the others."""
    with (pack / "index.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["split"] == "train") is training]
    for row in rows:
        volume = read_ct(pack / row["file"])
        mask = read_nifti(pack / row["mask"])[0] > 0
        if mask.shape == volume.shape and mask.sum() >= 8:
            yield Crop(volume, mask, row["patient"])


def paste(voxels: Array, geometry: Geometry, crop: Crop, pose: Pose) -> tuple[Box, npt.NDArray[np.bool_]] | None:
    """Blend a crop into voxels, in place, and return the box and mask of the nodule as it now lies there.

    Inside the mask the crop's HU are kept; over SOFT_EDGE_MM outside they fade into what was there. None, and nothing
    done, when less than a voxel of the nodule would lie inside.
    """
    reach_mm = crop.reach_mm * pose.scale + 2 * SOFT_EDGE_MM
    corners_mm = pose.centre_mm + reach_mm * (np.array(list(np.ndindex(2, 2, 2))) * 2 - 1)
    index = geometry.to_index(corners_mm)
    start = np.clip(np.floor(index.min(0)).astype(int), 0, voxels.shape)
    stop = np.clip(np.ceil(index.max(0)).astype(int) + 1, 0, voxels.shape)
    if np.any(stop <= start):
        return None
    grid = Grid(tuple((stop - start).tolist()), Geometry(_seen_from(crop, pose, geometry, start)))
    mask = resample(crop.mask.astype(np.float32), crop.volume.geometry, grid, fill=0.0) > 0.5
    if not mask.any():
        return None
    hu = resample(crop.volume.voxels, crop.volume.geometry, grid)
    distance_mm = ndimage.distance_transform_edt(~mask, sampling=geometry.spacing_mm)
    alpha = np.clip(1.0 - distance_mm / SOFT_EDGE_MM, 0.0, 1.0) * (hu > -1100.0)
    part = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    blended = voxels[part] + alpha * (hu - voxels[part])
    voxels[part] = np.rint(blended).astype(voxels.dtype) if voxels.dtype.kind == "i" else blended
    tight = ndimage.find_objects(mask.astype(np.uint8))[0]
    low = [int(first) + each.start for first, each in zip(start, tight, strict=True)]
    high = [int(first) + each.stop for first, each in zip(start, tight, strict=True)]
    return Box((low[0], low[1], low[2]), (high[0], high[1], high[2])), mask[tight]


def _seen_from(crop: Crop, pose: Pose, geometry: Geometry, start: Array) -> Array:
    """Affine from the index of the part that begins at start to the crop's own patient space."""
    part = geometry.affine.copy()
    part[:3, 3] = geometry.to_patient([start])[0]
    turn = np.eye(4)
    turn[:3, :3] = np.diag(pose.mirror) / pose.scale
    turn[:3, 3] = crop.centre_mm - turn[:3, :3] @ pose.centre_mm
    return turn @ part
