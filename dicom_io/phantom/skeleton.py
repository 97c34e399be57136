"""Bones: ribs, spine, sternum, clavicles, scapulae, humeri; each a boolean mask, and all of them painted in HU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dicom_io.phantom.anatomy import Anatomy, ellipsoid
from dicom_io.phantom.canvas import Array, Canvas, Points, Texture, blend, sampled, smooth_path
from dicom_io.phantom.ribs import cartilage_balls, rib_balls
from dicom_io.phantom.varied import VariedAnatomy

CORTEX_HU, MARROW_HU = 1250.0, 300.0
PERIOD = 0.1005  # height of one vertebra and its disc, of the lung's height


@dataclass(frozen=True, slots=True)
class Posture:
    """How the shoulder girdle is held: arms forward moves the scapulae out of the lung fields."""

    scapula_out_mm: float
    clavicle_rise_mm: float


@dataclass(frozen=True, slots=True)
class Tubes:
    """Balls (N, 4: body x, y, z, radius in mm) that make a bone, stretched by squash along z, with its cortex."""

    bone: str
    balls: Points
    squash: float
    cortex_mm: float
    gain: float = 1.0
    sharp: bool = False  # whether a film shows it finer than the voxels


def bone_tubes(anatomy: Anatomy, posture: Posture) -> tuple[Tubes, ...]:
    """All bones that are drawn from balls; the vertebral bodies are not."""
    if isinstance(anatomy, VariedAnatomy):
        return (
            Tubes("ribs", rib_balls(anatomy), 2.0, 0.9, 1.35, True),
            Tubes("sternum", cartilage_balls(anatomy), 1.5, 1.2, 0.6, True),
            Tubes("clavicles", _clavicles(anatomy, posture), 1.1, 1.8, 1.2, True),
            Tubes("scapulae", _scapulae(anatomy, posture), 1.0, 1.2, 1.0, True),
            Tubes("scapulae", _humeri(anatomy), 1.0, 3.0, 1.0),
            Tubes("sternum", _sternum(anatomy), 2.0, 1.0),
            Tubes("spine", _processes(anatomy), 1.2, 1.0, 0.5, True),
        )
    return (
        Tubes("ribs", _ribs(anatomy), 1.4, 1.2),
        Tubes("clavicles", _clavicles(anatomy, posture), 1.1, 2.6),
        Tubes("scapulae", _scapulae(anatomy, posture), 1.0, 1.2),
        Tubes("scapulae", _humeri(anatomy), 1.0, 2.0),
        Tubes("sternum", _sternum(anatomy), 2.0, 1.0),
        Tubes("spine", _processes(anatomy), 1.2, 1.0, 0.75),
    )


def paint_bones(
    hu: Array, canvas: Canvas, anatomy: Anatomy, tubes: tuple[Tubes, ...], texture: Texture
) -> dict[str, npt.NDArray[np.bool_]]:
    """Paint every bone into hu and return the masks ribs, spine, clavicles, scapulae and sternum."""
    masks = {"spine": _paint_vertebrae(hu, canvas, anatomy, texture)}
    for each in tubes:
        depth = canvas.tube_depth(each.balls[:, :3], each.balls[:, 3], each.squash)
        mask = _paint(hu, canvas, depth, each.cortex_mm, each.gain * anatomy.bone_gain)
        masks[each.bone] = masks[each.bone] | mask if each.bone in masks else mask
    return masks


def _paint(hu: Array, canvas: Canvas, depth: Array, cortex_mm: float, gain: float) -> npt.NDArray[np.bool_]:
    near = np.flatnonzero(depth > -canvas.voxel)
    inside = depth.ravel()[near]
    share = np.clip(inside / canvas.voxel + 0.5, 0, 1)
    marrow = np.clip((inside - cortex_mm) / canvas.voxel + 0.5, 0, 1)
    value = gain * (CORTEX_HU + marrow * (MARROW_HU - CORTEX_HU))
    flat = hu.reshape(-1)
    flat[near] += share * (value - flat[near])
    mask = np.zeros(hu.size, dtype=bool)
    mask[near] = inside > 0
    return mask.reshape(hu.shape)


def _ribs(anatomy: Anatomy) -> Points:
    """Ball centres and radii (N, 4) of 24 ribs: back, round the side, falling to the front."""
    pieces = []
    height = anatomy.height
    for number in range(1, 13):
        # The neck of rib k leaves the spine at this height; ribs are closer together at the top.
        start = height * (1.045 - 0.098 * (number - 1) - 0.0012 * (number - 1) ** 2)
        span = {1: 0.80, 11: 0.62, 12: 0.45}.get(number, min(0.80 + 0.02 * number, 0.93) if number < 8 else 0.80)
        fall = anatomy.rib_slope * height * (0.16 + 0.068 * min(number, 7) ** 0.9 - 0.012 * max(number - 8, 0))
        theta = np.linspace(0.13, span, 40) * np.pi  # 0 at the back, pi at the front
        share = theta / np.pi
        z = start - fall * (0.25 * share + 0.75 * share**1.2) + 6.0 * np.sin(np.clip(share / 0.3, 0, 1) * np.pi)
        top = np.minimum(z, 0.985 * height).astype(np.float32)
        wall = 3.5
        front, back = anatomy.front_y(top) - wall, anatomy.back_y(top) + wall
        narrow = np.clip(1.0 - 0.5 * np.clip((z - 0.93 * height) / (0.12 * height), 0, 1), 0.4, 1)
        width = (np.maximum(anatomy.outer(top), 0.80 * anatomy.outer(np.float32(0.86 * height))) + wall) * narrow
        if number > 2:
            width = anatomy.outer(top) + wall
        sine, cosine = np.sin(theta), -np.cos(theta)
        # The superellipse of the chest wall, walked by angle.
        x = width * np.abs(sine) ** 0.8
        y = (front + back) / 2 - (back - front) / 2 * np.sign(cosine) * np.abs(cosine) ** 0.8
        radius = 3.5 + 0.9 * np.sin(share * np.pi) + 0.7 * (share > 0.5)
        for side in (-1.0, 1.0):
            neck = [side * 17.0, 46.0, start - 3.0, 3.4]
            line = np.stack([side * x, y, z, radius], axis=1)
            path = np.concatenate([[neck], line])
            path[:, 0] += anatomy.spine_x(path[:, 2].astype(np.float32)) * (1 - np.abs(path[:, 0]) / anatomy.half_width)
            pieces.append(sampled(path, 2.2))
    return np.concatenate(pieces)


def _clavicles(anatomy: Anatomy, posture: Posture) -> Points:
    pieces = []
    height, reach = anatomy.height, anatomy.shoulder - 70.0
    for side in (-1.0, 1.0):
        rise = posture.clavicle_rise_mm * (1.0 if side < 0 else 0.85)
        low = 0.835 * height
        front = float(anatomy.front_y(np.float32(low))) - 8.0
        path = [
            (side * 15, front, low, 9.5),
            (side * 45, front - 4, low + 0.25 * rise, 7.0),
            (side * 0.60 * reach, front + 12, low + 0.7 * rise, 6.2),
            (side * 0.82 * reach, front + 38, low + 1.0 * rise, 6.2),
            (side * reach, front + 46, low + 1.02 * rise, 6.4),
        ]
        pieces.append(smooth_path(path, 2.5))
    return np.concatenate(pieces)


def _scapulae(anatomy: Anatomy, posture: Posture) -> Points:
    """Thin blades outside the posterior ribs, with a thicker lateral border, spine and coracoid."""
    pieces = []
    height = anatomy.height
    for side in (-1.0, 1.0):
        inner = anatomy.half_width * 0.62 + posture.scapula_out_mm
        top, low = 0.93 * height, 0.44 * height
        glenoid = np.array([side * (anatomy.shoulder - 76.0), 22.0, 0.86 * height])
        upper = np.array([side * inner, anatomy.back * 0.86, top])
        lower = np.array([side * (inner + 16), anatomy.back * 0.88, low])
        for border, radius in (((upper, lower), 2.2), ((lower, glenoid), 4.0), ((upper, glenoid), 2.5)):
            pieces.append(_with_radius(sampled(np.stack(border), 2.5), radius))
        for share in np.arange(0.06, 1.0, 0.035):  # the blade: struts from the medial border to the lateral one
            start, stop = upper + share * (lower - upper), glenoid + share * (lower - glenoid)
            pieces.append(_with_radius(sampled(np.stack([start, stop]), 3.0), 1.3))
        acromion = glenoid + np.array([side * 6.0, 10.0, 26.0])
        spine = np.stack([upper + 0.25 * (lower - upper), (upper + glenoid) / 2 + [0, 16, -4], acromion])
        pieces.append(_with_radius(smooth_path(spine, 2.5), 4.0))
        coracoid = glenoid + np.array([[0, 0, 8.0], [-side * 14, -22, 12.0]])
        pieces.append(_with_radius(sampled(coracoid, 2.5), 5.0))
    return np.concatenate(pieces)


def _humeri(anatomy: Anatomy) -> Points:
    pieces = []
    for side in (-1.0, 1.0):
        mirror = np.array([side, 1.0, 1.0])
        head = np.array(anatomy.shoulder_joint) * mirror
        pieces.append(np.array([[*head, 23.0]]))
        if anatomy.arms_down:
            shaft = np.stack([head, head + np.array([72.0, -18.0, -174.0]) * mirror])
            pieces.append(_with_radius(sampled(shaft, 4.0), 11.0))
    return np.concatenate(pieces)


def _sternum(anatomy: Anatomy) -> Points:
    z = np.linspace(0.18, 0.86, 40).astype(np.float32) * np.float32(anatomy.height)
    y = anatomy.front_y(z) - 6.0
    rows = []
    for across in (-9.0, -3.0, 3.0, 9.0):
        spread = across * (1 + 0.7 * np.clip(z / anatomy.height - 0.66, 0, 1) / 0.2)
        rows.append(np.stack([spread, y, z, np.full_like(z, 4.5)], axis=1))
    return np.concatenate(rows).astype(np.float64)


def _with_radius(points: Points, radius: float) -> Points:
    return np.concatenate([points[:, :3], np.full((len(points), 1), radius)], axis=1)


def _paint_vertebrae(hu: Array, canvas: Canvas, anatomy: Anatomy, texture: Texture) -> npt.NDArray[np.bool_]:
    """Vertebral bodies with end plates, discs and the spinal canal."""
    period = anatomy.height * PERIOD
    box_ends = np.array([[-30.0, 20.0, -0.6 * anatomy.height], [30.0, 110.0, 1.45 * anatomy.height]])
    box = canvas.box_around(box_ends, 6.0)
    x, y, z = canvas.part(box)
    x = x - anatomy.spine_x(z)
    size = 15.5 * anatomy.height / 224 * (1.0 + 0.16 * np.clip(0.5 - z / anatomy.height, -0.6, 0.8))
    phase = z / period - np.floor(z / period)  # 0..1 through one vertebra and its disc
    waist = 1 - 0.08 * np.sin(np.pi * np.clip(phase / 0.82, 0, 1))
    half_x, half_y = size * 1.05 * waist, size * 0.82 * waist
    radial = (1 - np.sqrt((x / half_x) ** 2 + ((y - 41.0) / half_y) ** 2)) * half_y
    ends = (0.41 - np.abs(phase - 0.41)) * period  # depth from the end plates; negative in the disc
    body = np.minimum(radial, ends).astype(np.float32)
    part = hu[box]
    blend(part, canvas.occupancy(radial.astype(np.float32)), 85.0)  # discs
    share = canvas.occupancy(body)
    marrow = np.clip((body - 1.2) / canvas.voxel + 0.5, 0, 1)
    mottle = 1 + 0.12 * texture.at(canvas, box, 3.0, 1.0)
    blend(part, share, anatomy.bone_gain * anatomy.spine_gain * (560 + marrow * (190 * mottle - 560)))
    blend(part, canvas.occupancy(ellipsoid((x, y - 63.0, 0 * z), (9.0, 7.0, 1e6)).astype(np.float32)), 25.0)
    mask = np.zeros(canvas.shape, dtype=bool)
    mask[box] = share > 0.5
    return mask


def _processes(anatomy: Anatomy) -> Points:
    """Pedicles, laminae, transverse and spinous processes."""
    period = anatomy.height * PERIOD
    pieces = []
    for number in range(-5, 13):
        middle = (number + 0.41) * period
        shift = float(anatomy.spine_x(np.float32(middle)))
        for side in (-1.0, 1.0):
            pedicle = [(shift + side * 10, 52, middle + 3, 3.0), (shift + side * 12, 66, middle + 2, 3.0)]
            process = [(shift + side * 12, 66, middle + 2, 3.6), (shift + side * 31, 78, middle + 4, 3.2)]
            lamina = [(shift + side * 12, 66, middle + 1, 3.2), (shift, 77, middle - 4, 3.2)]
            pieces += [sampled(each, 2.2) for each in (pedicle, process, lamina)]
        pieces.append(sampled([(shift, 77, middle - 4, 3.0), (shift, 100, middle - 20, 3.4)], 2.2))
    return np.concatenate(pieces)
