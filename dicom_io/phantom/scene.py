"""From a patient's plan to voxels: one visit drawn organ by organ, from the skin inwards."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dicom_io.phantom.anatomy import Anatomy, ellipsoid
from dicom_io.phantom.canvas import Array, Canvas, Texture, blend, smooth_path
from dicom_io.phantom.pathology import Scene
from dicom_io.phantom.skeleton import Posture, paint_bones
from dicom_io.phantom.vessels import Trees, balls

Mask = npt.NDArray[np.bool_]


def paint_chest(
    canvas: Canvas,
    anatomy: Anatomy,
    usual: Anatomy,
    trees: Trees,
    texture: Texture,
    posture: Posture,
    *,
    is_upright: bool,
    congestion: float,
) -> tuple[Scene, dict[str, Mask]]:
    """Draw a chest without lesions; congestion > 1 widens the lung vessels. Returns the scene and its structures."""
    x, y, z = canvas.x, canvas.y, canvas.z
    hu = _paint_body(canvas, anatomy, texture)
    wall = anatomy.cage(x, y, z)
    dome = anatomy.dome(canvas.floor_x, y)
    structures = _paint_abdomen(hu, canvas, anatomy, texture, wall, dome)

    inside = (wall > -1.0) & (z > dome)
    fat = np.clip(0.5 + 0.9 * texture.at(canvas, _whole(canvas), 6.0, 2.0), 0, 1)
    hu[...] = np.where(inside, 42 - 120 * fat, hu)

    heart_depth = anatomy.heart(x, y, z)
    heart_share = canvas.occupancy(heart_depth)
    blend(hu, heart_share, 43.0)
    aorta = _aorta(anatomy)
    aorta_depth = canvas.tube_depth(aorta[:, :3], aorta[:, 3])
    aorta_share = canvas.occupancy(aorta_depth)
    blend(hu, aorta_share, 46.0)

    cavity = anatomy.cavity(x, y, z, dome)
    lung_share = canvas.occupancy(cavity) * (1 - heart_share) * (1 - aorta_share)
    lung = (lung_share > 0.5) & (cavity > 0)
    _paint_lung(hu, canvas, anatomy, texture, lung_share, is_upright)
    air_ways = _paint_airways(hu, canvas, anatomy, usual, trees, lung)
    _paint_vessels(hu, canvas, anatomy, usual, trees, lung, congestion)
    structures |= paint_bones(hu, canvas, anatomy, posture, texture)
    left = x > 0.35 * anatomy.heart_shift
    structures |= {
        "mediastinum": (np.abs(x - 0.35 * anatomy.heart_shift) < anatomy.inner(z)) & (wall > 0) & (z > dome),
        "heart": heart_depth > 0,
        "aorta": aorta_depth > 0,
        "right_lung": lung & ~left,
        "left_lung": lung & left,
    }
    return Scene(canvas, anatomy, usual, texture, hu, lung, wall, air_ways, is_upright), structures


def _whole(canvas: Canvas) -> tuple[slice, slice, slice]:
    a, b, c = (slice(0, size) for size in canvas.shape)
    return a, b, c


def _paint_body(canvas: Canvas, anatomy: Anatomy, texture: Texture) -> Array:
    depth = anatomy.skin(canvas.x, canvas.y, canvas.z)
    hu = np.full(canvas.shape, -1000, dtype=np.float32)
    blend(hu, canvas.occupancy(depth), 10.0)
    blend(hu, canvas.occupancy(depth - 2.5), -102.0)
    muscle = canvas.occupancy(depth - np.float32(anatomy.fat), 1.5)
    if anatomy.breast > 0:  # glandular tissue in front of the pectoral muscles
        box_y = canvas.y < -anatomy.front - anatomy.muscle - 10
        muscle = np.where(box_y, 0.35 * muscle, muscle)
    streak = texture.at(canvas, _whole(canvas), 7.0, 2.0)
    blend(hu, muscle, 48 - 45 * np.clip(streak - 0.6, 0, 1.5))
    return hu


def _paint_abdomen(
    hu: Array, canvas: Canvas, anatomy: Anatomy, texture: Texture, wall: Array, dome: Array
) -> dict[str, Mask]:
    x, y, z = canvas.x, canvas.y, canvas.z
    below = np.minimum(dome - z, wall)
    share = canvas.occupancy(below)
    bowel = texture.at(canvas, _whole(canvas), 9.0, 2.0)
    blend(hu, share, 15 + 22 * np.clip(bowel, -2, 1.5))
    size = anatomy.half_width
    liver_depth = ellipsoid(
        (x + 0.46 * size, y + 4.0, z + 52.0 - anatomy.right_dome), (0.86 * size, 0.92 * anatomy.front, 74.0)
    )
    spleen_depth = ellipsoid((x - 0.68 * size, y - 34.0, z + 48.0), (34.0, 42.0, 44.0))
    liver_depth = np.minimum(liver_depth, below - 2)
    blend(hu, canvas.occupancy(liver_depth), 57.0)
    blend(hu, canvas.occupancy(np.minimum(spleen_depth, below - 2)), 48.0)
    if anatomy.gastric_gas > 0:
        radius = anatomy.gastric_gas
        place = (x - 0.44 * size, y + 22.0, z - (anatomy.left_dome - 9.0 - 0.62 * radius))
        gas = ellipsoid(place, (1.15 * radius, radius, 0.62 * radius))
        blend(hu, canvas.occupancy(np.minimum(gas, below - 5)), -985.0)
    return {"abdomen": below > 0, "liver": liver_depth > 0}


def _aorta(anatomy: Anatomy) -> npt.NDArray[np.float64]:
    """Ball centres and radii (N, 4) from the root round the arch to the abdomen."""
    height, shift, radius = anatomy.height, anatomy.heart_shift, anatomy.aorta
    base = anatomy.heart_floor + 0.75 * anatomy.heart_tall
    path = [
        (shift - 4, -18, base, 1.05 * radius),
        (shift - 12, -24, 0.62 * height, 1.05 * radius),
        (shift - 6, -16, 0.735 * height - radius, radius),
        (shift + 10, 2, 0.755 * height - radius, 0.98 * radius),
        (shift + 21, 22, 0.735 * height - radius, 0.95 * radius),
        (shift * 0.5 + 21, 32, 0.60 * height, 0.88 * radius),
        (shift * 0.3 + 17, 32, 0.25 * height, 0.82 * radius),
        (6, 28, -0.10 * height, 0.80 * radius),
        (3, 26, -0.55 * height, 0.75 * radius),
    ]
    return smooth_path(path, 3.0)


def _paint_lung(hu: Array, canvas: Canvas, anatomy: Anatomy, texture: Texture, share: Array, is_upright: bool) -> None:
    """Parenchyma: denser where gravity draws blood, mottled by acini."""
    gravity = -canvas.z / anatomy.height * 45 if is_upright else canvas.y / anatomy.back * 45
    whole = _whole(canvas)
    mottle = 16 * texture.at(canvas, whole, 2.2, 0.8) + 14 * texture.at(canvas, whole, 6.0, 1.5)
    blend(hu, share, np.clip(anatomy.lung_hu + gravity + 15 + mottle, -985, -600))


def _paint_airways(hu: Array, canvas: Canvas, anatomy: Anatomy, usual: Anatomy, trees: Trees, lung: Mask) -> Array:
    """Trachea, main bronchi and the tree; returns the lumen's share of each voxel, for air bronchograms."""
    height, shift = anatomy.height, anatomy.heart_shift
    carina = np.array([0.5 * shift + 2, 12.0, 0.60 * height])
    trachea = smooth_path([(0, -2, 1.40 * height, 9.2), (0.3 * shift, 4, 0.85 * height, 9.0), (*carina, 8.6)], 3.0)
    mains = []
    for sign in (-1.0, 1.0):
        hilum = anatomy.hilum(sign) - np.array([sign * 6, -6, 0.0])
        mains.append(smooth_path([(*carina, 6.2), (*((carina + hilum) / 2 + [0, 1, 2.0]), 5.6), (*hilum, 5.2)], 2.5))
    tube = np.concatenate([trachea, *mains])
    depth = canvas.tube_depth(tube[:, :3], tube[:, 3])
    blend(hu, canvas.occupancy(depth + 1.6) * (hu > -400), 30.0)
    blend(hu, canvas.occupancy(depth), -995.0)

    ends = anatomy.carried(trees.bronchi.reshape(-1, 3), usual).reshape(-1, 2, 3)
    points, radii = balls(ends, trees.bronchus_radii, 0.7 * canvas.voxel)
    walls = canvas.tube_occupancy(points, radii + 0.45 + 0.12 * radii) * lung
    lumen = canvas.tube_occupancy(points, radii)
    np.maximum(hu, hu + 0.8 * walls * (20 - hu), out=hu)
    blend(hu, lumen * lung, -960.0)
    return lumen


def _paint_vessels(
    hu: Array, canvas: Canvas, anatomy: Anatomy, usual: Anatomy, trees: Trees, lung: Mask, congestion: float
) -> None:
    ends = anatomy.carried(trees.vessels.reshape(-1, 3), usual).reshape(-1, 2, 3)
    radii = trees.vessel_radii * anatomy.vessel_scale * congestion
    visible = radii > 0.14 * canvas.voxel
    points, ball_radii = balls(ends[visible], radii[visible], 0.7 * canvas.voxel)
    share = canvas.tube_occupancy(points, ball_radii) * lung
    np.maximum(hu, hu + share * (44 - hu), out=hu)
