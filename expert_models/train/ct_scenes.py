"""What the nodule network learns from: lungs with known nodules, and patches cut from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_io.study import Geometry, Volume
from expert_models.ct_grid import resample, upright_grid
from expert_models.ct_lungs import Lungs, find_lungs
from expert_models.ct_paste import Crop, Pose, paste

PATCH = 48  # voxels along each side
Array = npt.NDArray[np.int16]


@dataclass
class Scene:
    """A pair of lungs on the network's grid. hu int16, truth bool, both (slices, rows, columns).

    inside: (N, 3) indices of lung voxels; lesions: (N, 3) indices inside nodules that the scene itself has;
    hard: (N, 3) indices where an earlier state of the network was wrong.
    """

    hu: Array
    truth: npt.NDArray[np.bool_]
    geometry: Geometry
    inside: npt.NDArray[np.int16]
    lesions: npt.NDArray[np.int16]
    hard: list[tuple[int, int, int]] = field(default_factory=list)


def scene_of(volume: Volume, nodules: npt.NDArray[np.bool_] | None, spacing_mm: float) -> Scene | None:
    """A scene from a CT; nodules: mask of the known ones on its voxels. None when no lung is found in it."""
    lungs = find_lungs(volume)
    if not lungs.sides:
        return None
    grid = upright_grid(volume, spacing_mm, span_mm(lungs))
    hu = np.clip(resample(volume.voxels, volume.geometry, grid), -1024, 3071).astype(np.int16)
    either = np.logical_or.reduce([mask for _, mask in lungs.sides]).astype(np.float32)
    inside = resample(either, lungs.grid.geometry, grid, fill=0.0) > 0.5
    truth = np.zeros(grid.shape, bool)
    if nodules is not None and nodules.any():
        truth = resample(nodules.astype(np.float32), volume.geometry, grid, fill=0.0) > 0.5
    places = np.argwhere(inside).astype(np.int16)
    return Scene(hu, truth, grid.geometry, places[:: max(1, len(places) // 200_000)],
                 np.argwhere(truth).astype(np.int16))  # fmt: skip


def span_mm(lungs: Lungs, margin_mm: float = 12.0) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Lowest and highest corner of the box around all lungs, LPS mm."""
    either = np.logical_or.reduce([mask for _, mask in lungs.sides])
    found = ndimage.find_objects(either.astype(np.uint8))[0]
    ends = np.array([[each.start, each.stop - 1] for each in found], dtype=float).T
    ends_mm = lungs.grid.geometry.to_patient(ends)
    return ends_mm.min(0) - margin_mm, ends_mm.max(0) + margin_mm


@dataclass(frozen=True, slots=True)
class Shares:
    """How patches are chosen: with a pasted nodule, around a nodule of the scene, around an earlier mistake."""

    pasted: float = 0.6
    own: float = 0.12
    hard: float = 0.12


def draw_patch(
    random: np.random.Generator, scenes: Sequence[Scene], crops: Sequence[Crop], shares: Shares
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """One patch in HU with its truth, varied: flips, slice thickness, noise, offset."""
    scene = scenes[int(random.integers(len(scenes)))]
    kind = random.random()
    if kind < shares.pasted and crops:
        place = scene.inside[random.integers(len(scene.inside))]
        hu, truth, geometry = _cut(scene, place + random.integers(-15, 16, 3))
        _paste_one(random, hu, truth, geometry, crops, scene.geometry.to_patient([place])[0])
        if random.random() < 0.25:
            other = scene.inside[random.integers(len(scene.inside))]
            _paste_one(random, hu, truth, geometry, crops, scene.geometry.to_patient([other])[0])
    elif kind < shares.pasted + shares.own and len(scene.lesions):
        place = scene.lesions[random.integers(len(scene.lesions))]
        hu, truth, geometry = _cut(scene, place + random.integers(-15, 16, 3))
    elif kind < shares.pasted + shares.own + shares.hard and scene.hard:
        place = np.array(scene.hard[int(random.integers(len(scene.hard)))])
        hu, truth, geometry = _cut(scene, place + random.integers(-12, 13, 3))
    else:
        hu, truth, geometry = _cut(scene, scene.inside[random.integers(len(scene.inside))])
    return _varied(random, hu, truth)


def _cut(
    scene: Scene, centre: npt.NDArray[np.integer]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], Geometry]:
    start = np.asarray(centre, dtype=int) - PATCH // 2
    low = np.clip(start, 0, np.maximum(np.array(scene.hu.shape) - PATCH, 0))
    part = tuple(slice(int(each), int(each) + PATCH) for each in low)
    hu, truth = scene.hu[part].astype(np.float32), scene.truth[part].copy()
    short = [(0, PATCH - size) for size in hu.shape]
    if any(pad for _, pad in short):
        hu, truth = np.pad(hu, short, constant_values=-1024.0), np.pad(truth, short)
    affine = scene.geometry.affine.copy()
    affine[:3, 3] = scene.geometry.to_patient([low])[0]
    return hu, truth, Geometry(affine)


def _paste_one(
    random: np.random.Generator,
    hu: npt.NDArray[np.float32],
    truth: npt.NDArray[np.bool_],
    geometry: Geometry,
    crops: Sequence[Crop],
    centre_mm: npt.NDArray[np.float64],
) -> None:
    crop = crops[int(random.integers(len(crops)))]
    sign = random.integers(0, 2, 3) * 2 - 1
    pose = Pose(centre_mm, (int(sign[0]), int(sign[1]), int(sign[2])), float(random.uniform(0.8, 1.3)))
    laid = paste(hu, geometry, crop, pose)
    if laid is not None:
        box, mask = laid
        truth[box.slices] |= mask


def _varied(
    random: np.random.Generator, hu: npt.NDArray[np.float32], truth: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    thickness = int(random.choice([1, 1, 1, 2, 3, 5]))
    if thickness > 1:
        hu = ndimage.uniform_filter1d(hu, thickness, axis=0, mode="nearest")
    if random.random() < 0.5:
        noise = random.standard_normal(hu.shape, dtype=np.float32)
        if random.random() < 0.5:
            noise = ndimage.uniform_filter(noise, 2) * np.float32(2.8)
        hu = hu + noise * np.float32(random.uniform(5, 45))
    hu = hu * np.float32(random.uniform(0.95, 1.05)) + np.float32(random.normal(0, 15))
    flips = tuple(axis for axis in range(3) if random.random() < 0.5)
    return np.flip(hu, flips).copy(), np.flip(truth, flips).copy()
