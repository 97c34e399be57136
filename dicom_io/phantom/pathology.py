"""Painting lesions: each takes the voxels that its plan's volume asks for, in the order of a key field.

Every lesion is defined by a key (low = first taken): distance from a centre, height above the diaphragm, depth under
the ribs. The threshold is the key below which exactly the planned volume lies, so that a lesion planned half as large
is half as large on every grid, whatever it was cut by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_io.phantom.anatomy import LOBES, Anatomy
from dicom_io.phantom.canvas import Array, Canvas, Texture, blend
from dicom_io.phantom.lesion import LesionKind, LesionPlan

Box: TypeAlias = tuple[slice, slice, slice]
Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass
class Scene:
    """What is being drawn: voxels, shapes, and what the painters must respect. hu and lung change as they paint."""

    canvas: Canvas
    anatomy: Anatomy
    usual: Anatomy
    texture: Texture
    hu: Array  # (slices, rows, columns) float32
    lung: Mask  # aerated or diseased lung tissue, without pleural air or fluid
    air_ways: Array  # share of each voxel in a bronchial lumen; empty when no lesion needs it
    is_upright: bool

    def lung_box(self, side: str | None = None) -> tuple[Box, Mask]:
        """The index box of the lung tissue of one side, or of both, and that tissue in it."""
        lung = self.lung if side is None else self.lung & self.is_side(side)
        spans = []
        for axes in ((1, 2), (0, 2), (0, 1)):
            hit = np.flatnonzero(lung.any(axis=axes))
            if hit.size == 0:
                raise ValueError("a lesion was planned where there is no lung")
            spans.append(slice(max(int(hit[0]) - 1, 0), int(hit[-1]) + 2))
        box = (spans[0], spans[1], spans[2])
        return box, lung[box]

    def is_side(self, side: str) -> Mask:
        """Columns of this side of the mid-line, (slices, rows, columns)."""
        left = self.canvas.x > np.float32(0.35 * self.anatomy.heart_shift)
        return left if side == "left" else ~left

    def noise(self, box: Box, cell_mm: float, smooth: float) -> Array:
        """Texture over a box."""
        return self.texture.at(self.canvas, box, cell_mm, smooth)


def paint_lesion(scene: Scene, plan: LesionPlan, volume_ml: float) -> tuple[Box, Mask]:
    """Paint one lesion and return its box and mask there."""
    match plan.kind:
        case LesionKind.NODULE | LesionKind.MASS:
            return _focal(scene, plan, volume_ml)
        case LesionKind.CONSOLIDATION | LesionKind.ATELECTASIS:
            return _opacity(scene, plan, volume_ml)
        case LesionKind.EDEMA:
            return _edema(scene, plan, volume_ml)
        case LesionKind.EFFUSION:
            return _effusion(scene, plan, volume_ml)
        case LesionKind.PNEUMOTHORAX:
            return _pneumothorax(scene, plan, volume_ml)
        case LesionKind.CARDIOMEGALY:
            raise ValueError("an enlarged heart is drawn with the anatomy, not over it")


def threshold(scene: Scene, key: Array, allowed: Mask, volume_ml: float) -> float:
    """The key below which volume_ml of the allowed voxels lie (at least one voxel)."""
    values = key[allowed]
    if values.size == 0:
        raise ValueError("a lesion was planned where there is no lung")
    count = round(volume_ml / scene.canvas.geometry.voxel_ml)
    count = int(np.clip(count, 1, max(1, int(0.8 * values.size))))
    return float(np.partition(values, count - 1)[count - 1]) + 1e-4


def _centre(scene: Scene, plan: LesionPlan) -> npt.NDArray[np.float64]:
    return scene.anatomy.carried(np.array([plan.centre_mm]), scene.usual)


def _focal(scene: Scene, plan: LesionPlan, volume_ml: float) -> tuple[Box, Mask]:
    random = np.random.default_rng(plan.shape_seed)
    centre = _centre(scene, plan)
    radius = (volume_ml * 1000 * 0.75 / np.pi) ** (1 / 3)
    box = scene.canvas.box_around(centre, 2.0 * radius + 3 * scene.canvas.voxel)
    place = [axis - np.float32(at) for axis, at in zip(scene.canvas.part(box), centre[0], strict=True)]
    stretch = random.uniform(0.86, 1.16, 3).astype(np.float32)
    distance = np.sqrt(sum((axis / s) ** 2 for axis, s in zip(place, stretch, strict=True)))
    bumps = {"smooth": 0.03, "lobulated": 0.13, "spiculated": 0.08}[plan.style]
    for _ in range(5):  # waves over the surface make lobules
        direction = random.normal(size=3)
        direction *= random.uniform(2, 4.5) / np.linalg.norm(direction)
        phase = sum(np.float32(d) * axis for d, axis in zip(direction, place, strict=True)) / (distance + 0.3 * radius)
        distance = distance * (1 + np.float32(bumps * 0.6) * np.sin(phase * 2 + np.float32(random.uniform(0, 6.3))))
    allowed = scene.lung[box]
    level = threshold(scene, distance, allowed, volume_ml)
    share = scene.canvas.occupancy(np.float32(level) - distance) * allowed
    solid = float(random.uniform(20, 60))
    haze = float(random.uniform(-640, -480))
    part = scene.hu[box]
    mottle = scene.texture.at(scene.canvas, box, 2.0, 1.0)
    if plan.attenuation == "solid":
        blend(part, share, solid + 12 * mottle)
    else:
        np.maximum(part, part + share * (haze + 35 * mottle - part), out=part)
        if plan.attenuation == "part_solid":
            blend(part, scene.canvas.occupancy(np.float32(0.52 * level) - distance), solid)
    if plan.style == "spiculated":
        _spicules(scene, random, centre[0], radius)
    return box, (distance <= level) & allowed


def _spicules(scene: Scene, random: np.random.Generator, centre: npt.NDArray[np.float64], radius: float) -> None:
    count = int(random.integers(10, 20))
    directions = random.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    reach = radius * random.uniform(1.3, 1.75, count)
    at = np.linspace(0.75, 1.0, 14)
    points = centre + (directions[:, None] * (reach[:, None] * at)[..., None]).reshape(-1, 3)
    radii = np.tile(np.linspace(0.10, 0.03, 14) * radius, count).clip(0.25, 1.2)
    share = scene.canvas.tube_occupancy(points, radii) * scene.lung
    np.maximum(scene.hu, scene.hu + share * (10 - scene.hu), out=scene.hu)


def _opacity(scene: Scene, plan: LesionPlan, volume_ml: float) -> tuple[Box, Mask]:
    """Consolidation, or collapsed lung: a plate, or the base of the lower lobe."""
    random = np.random.default_rng(plan.shape_seed)
    centre = _centre(scene, plan)
    box, allowed = scene.lung_box(plan.side)
    x, y, z = scene.canvas.part(box)
    dx, dy, dz = (axis - np.float32(at) for axis, at in zip((x, y, z), centre[0], strict=True))
    if plan.style == "plate":
        normal = np.array([random.normal(0, 0.25), random.normal(0, 0.35), 1.0])
        normal = (normal / np.linalg.norm(normal)).astype(np.float32)
        off = normal[0] * dx + normal[1] * dy + normal[2] * dz
        key = np.sqrt(dx**2 + 1.6 * dy**2 + dz**2 + 130 * off**2)
    elif plan.style == "lobar":
        key = np.sqrt(1.3 * dx**2 + (0.55 * dy) ** 2 + (0.62 * np.maximum(dz, 0)) ** 2 + (0.5 * dz) ** 2)
        key += 2.0 * scene.noise(box, 9.0, 2.0)
    else:
        stretch = random.uniform(0.8, 1.25, 3).astype(np.float32)
        key = np.sqrt((dx / stretch[0]) ** 2 + (dy / stretch[1]) ** 2 + (dz / stretch[2]) ** 2)
        key += 9.0 * scene.noise(box, 7.0, 2.0)
    number = next(number for number, name in LOBES.items() if name == (plan.side, plan.lobe))
    allowed &= scene.anatomy.lobe(x, y, z) == number
    level = threshold(scene, key, allowed, volume_ml)
    soft = {"plate": 2.0, "lobar": 3.0}.get(plan.style, float(random.uniform(5, 14)))
    share = np.clip((np.float32(level) - key) / np.float32(soft) + 0.5, 0, 1) * allowed
    if plan.style == "":
        share *= np.float32(random.uniform(0.75, 1.0))
    part = scene.hu[box]
    filled = part + share * (15 + 25 * scene.noise(box, 3.0, 1.0) - part)
    if plan.style == "plate":
        np.maximum(part, filled, out=part)
    else:  # air stays in the bronchi: air bronchograms
        filled += scene.air_ways[box] * share * (-900 - filled)
        part[...] = np.where(share > 0, filled, part)
    mask = (key <= level) & allowed
    if plan.style != "plate":
        _seal(scene, box, mask, 15.0)
    return box, mask


def _edema(scene: Scene, plan: LesionPlan, volume_ml: float) -> tuple[Box, Mask]:
    random = np.random.default_rng(plan.shape_seed)
    box, lung = scene.lung_box()
    x, y, z = scene.canvas.part(box)
    keys = []
    for sign in (-1.0, 1.0):
        hilum = scene.anatomy.hilum(sign).astype(np.float32)
        away = (x - hilum[0]) ** 2 + 0.8 * (y - hilum[1]) ** 2
        keys.append(np.sqrt(away + 0.55 * (z - hilum[2] + 18) ** 2))
    key = np.minimum(keys[0], keys[1]) + 8.0 * scene.noise(box, 8.0, 2.0)
    level = threshold(scene, key, lung, volume_ml)
    haze = float(random.uniform(180, 380))
    share = np.clip((np.float32(level) - key) / 45 + 0.5, 0, 1.25) * lung
    mottle = np.clip(1 + 0.35 * scene.noise(box, 3.0, 1.2), 0.3, 1.7)
    part = scene.hu[box]
    np.minimum(part + share * np.float32(haze) * mottle, np.maximum(part, 40), out=part)
    return box, (key <= level) & lung


def _effusion(scene: Scene, plan: LesionPlan, volume_ml: float) -> tuple[Box, Mask]:
    """Fluid at the bottom of the pleural space, climbing the wall as a meniscus."""
    box, allowed = scene.lung_box(plan.side)
    x, y, z = scene.canvas.part(box)
    climb = np.exp(-np.clip(scene.anatomy.cage(x, y, z), 0, None) / 9.0)
    key = z - 30 * climb if scene.is_upright else -y - 24 * climb
    level = threshold(scene, key, allowed, volume_ml)
    mask = (key <= level) & allowed
    share = np.clip((np.float32(level) - key) / 2.5 + 0.5, 0, 1) * allowed
    part = scene.hu[box]
    blend(part, share, 8 + 8 * scene.noise(box, 3.0, 1.0))
    rim = np.clip(1 - (key - np.float32(level)) / 22, 0, 1) * (allowed & ~mask)  # lung pressed together beside it
    blend(part, 0.28 * rim, -250.0)
    scene.lung[box] &= ~mask
    _seal(scene, box, mask, 8.0)
    return box, mask


def _pneumothorax(scene: Scene, plan: LesionPlan, volume_ml: float) -> tuple[Box, Mask]:
    """Air between wall and lung, a thin visceral line, and a lung that is denser for being smaller."""
    box, allowed = scene.lung_box(plan.side)
    x, y, z = scene.canvas.part(box)
    height = scene.anatomy.height
    depth = np.minimum(scene.anatomy.cage(x, y, z), height - z)
    if scene.is_upright:
        key = depth - 0.20 * np.clip(z - 0.25 * height, 0, None)
    else:
        key = 0.5 * depth + 0.5 * (y - scene.anatomy.front_y(z))
    size_ml = float(np.count_nonzero(allowed)) * scene.canvas.geometry.voxel_ml
    level = threshold(scene, key, allowed, volume_ml)
    mask = (key <= level) & allowed
    kept = allowed & ~mask
    part = scene.hu[box]
    denser = size_ml / max(size_ml - 0.8 * volume_ml, 0.3 * size_ml)
    part[...] = np.where(kept & (part < -300), -1000 + (part + 1000) * np.float32(denser), part)
    line = np.clip(1 - np.abs(key - np.float32(level + 1.0)) / 1.6, 0, 1) * kept
    np.maximum(part, part + 0.75 * line * (-60 - part), out=part)
    edge = np.clip((np.float32(level) - key) / np.float32(scene.canvas.voxel) + 0.5, 0, 1)
    blend(part, edge * mask, -1000.0)
    scene.lung[box] &= ~mask
    return box, mask


def _seal(scene: Scene, box: Box, mask: Mask, value: float) -> None:
    """Fill the half-aerated voxels between a dense lesion and the wall, which belong to no lung."""
    edge = ndimage.binary_dilation(mask, iterations=2) & ~scene.lung[box] & ~mask
    part = scene.hu[box]
    part[edge & (part < value - 120)] = value
