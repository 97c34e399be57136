"""From a patient's plan to voxels: one visit drawn organ by organ, from the skin inwards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dicom_io.phantom.anatomy import Anatomy, ellipsoid
from dicom_io.phantom.canvas import Array, Canvas, Points, Texture, blend, smooth_path
from dicom_io.phantom.pathology import Scene
from dicom_io.phantom.skeleton import Posture, Tubes, bone_tubes, paint_bones
from dicom_io.phantom.varied import VariedAnatomy, gas_depth
from dicom_io.phantom.vessels import Trees, balls

Mask = npt.NDArray[np.bool_]
STRUCTURES = (
    "right_lung",
    "left_lung",
    "heart",
    "aorta",
    "mediastinum",
    "liver",
    "abdomen",
    "ribs",
    "spine",
    "clavicles",
    "scapulae",
    "sternum",
    "airways",
)


@dataclass(frozen=True, slots=True)
class Chest:
    """Everything of one visit that is laid out before voxels are touched. Balls: (N, 4) body x, y, z, radius, mm."""

    anatomy: Anatomy
    usual: Anatomy
    bones: tuple[Tubes, ...]
    aorta: Points
    trachea: Points
    bronchi: Points
    vessels: Points
    is_upright: bool


def lay_out(
    anatomy: Anatomy,
    usual: Anatomy,
    trees: Trees,
    posture: Posture,
    *,
    is_upright: bool,
    congestion: float,
    finest: float,
) -> Chest:
    """Place bones, vessels and airways for one visit; congestion > 1 widens vessels; finest: voxel edge in mm."""
    return Chest(
        anatomy=anatomy,
        usual=usual,
        bones=bone_tubes(anatomy, posture),
        aorta=_aorta(anatomy),
        trachea=_trachea(anatomy),
        bronchi=_carried(trees.bronchi, trees.bronchus_radii, anatomy, usual, finest, 0.14 * finest),
        vessels=_carried(
            trees.vessels, trees.vessel_radii * anatomy.vessel_scale * congestion, anatomy, usual, finest,
            least_vessel(anatomy, finest),
        ),
        is_upright=is_upright,
    )  # fmt: skip


def least_vessel(anatomy: Anatomy, finest: float) -> float:
    """Radius below which vessels are left out of voxels of this edge (mm): the films of a varied patient have them."""
    return (0.3 if isinstance(anatomy, VariedAnatomy) else 0.14) * finest


def paint_chest(canvas: Canvas, chest: Chest, texture: Texture, *, keep_airways: bool) -> tuple[Scene, dict[str, Mask]]:
    """Draw a chest without lesions, slab by slab. Returns the scene and its structures.

    keep_airways: remember the bronchial lumen, which air bronchograms need.
    """
    hu = np.empty(canvas.shape, dtype=np.float32)
    structures = {name: np.zeros(canvas.shape, dtype=bool) for name in STRUCTURES}
    lung = np.zeros(canvas.shape, dtype=bool)
    air_ways = np.zeros(canvas.shape if keep_airways else (0, 0, 0), dtype=np.float32)
    for slab in canvas.slabs():
        at = slice(slab.first, slab.first + slab.shape[0])
        masks, lumen = _paint_slab(hu[at], slab, chest, texture)
        for name, mask in masks.items():
            structures[name][at] = mask
        lung[at] = masks["right_lung"] | masks["left_lung"]
        if keep_airways:
            air_ways[at] = lumen
    return Scene(canvas, chest.anatomy, chest.usual, texture, hu, lung, air_ways, chest.is_upright), structures


def _paint_slab(hu: Array, canvas: Canvas, chest: Chest, texture: Texture) -> tuple[dict[str, Mask], Array]:
    """Draw one slab into hu; returns its structures and the share of bronchial lumen."""
    anatomy = chest.anatomy
    x, y, z = canvas.x, canvas.y, canvas.z
    _paint_body(hu, canvas, anatomy, texture)
    wall = anatomy.cage(x, y, z)
    dome = anatomy.dome(canvas.floor_x, y)
    structures = _paint_abdomen(hu, canvas, anatomy, texture, wall, dome)

    inside = (wall > -1.0) & (z > dome)
    fat = np.clip(0.5 + 0.9 * texture.at(canvas, canvas.whole, 6.0, 2.0), 0, 1)
    hu[...] = np.where(inside, 42 - 120 * fat, hu)

    heart_depth = anatomy.heart(x, y, z)
    heart_share = canvas.occupancy(heart_depth)
    blend(hu, heart_share, 43.0)
    aorta_depth = canvas.tube_depth(chest.aorta[:, :3], chest.aorta[:, 3])
    aorta_share = canvas.occupancy(aorta_depth)
    blend(hu, aorta_share, 46.0)

    side = x - 0.35 * anatomy.heart_shift
    cavity = np.minimum(np.minimum(wall, np.abs(side) - anatomy.gap(y, z)), np.minimum(z - dome, anatomy.height - z))
    lung_share = canvas.occupancy(cavity) * (1 - heart_share) * (1 - aorta_share)
    lung = (lung_share > 0.5) & (cavity > 0)
    _paint_lung(hu, canvas, anatomy, texture, lung_share, chest.is_upright)
    airways, lumen = _paint_airways(hu, canvas, chest, lung)
    vessels = canvas.tube_occupancy(chest.vessels[:, :3], chest.vessels[:, 3]) * lung
    np.maximum(hu, hu + vessels * (44 - hu), out=hu)
    structures |= paint_bones(hu, canvas, anatomy, chest.bones, texture)
    structures |= {
        "mediastinum": (np.abs(side) < anatomy.inner(z)) & (wall > 0) & (z > dome),
        "heart": heart_depth > 0,
        "aorta": aorta_depth > 0,
        "right_lung": lung & (side < 0),
        "left_lung": lung & (side >= 0),
        "airways": airways,
    }
    return structures, lumen


def _paint_body(hu: Array, canvas: Canvas, anatomy: Anatomy, texture: Texture) -> None:
    depth = anatomy.skin(canvas.x, canvas.y, canvas.z)
    hu[...] = -1000
    blend(hu, canvas.occupancy(depth), 10.0)
    blend(hu, canvas.occupancy(depth - 2.5), -102.0)
    muscle = canvas.occupancy(depth - np.float32(anatomy.fat), 1.5)
    if anatomy.breast > 0:  # glandular tissue in front of the pectoral muscles
        box_y = canvas.y < -anatomy.front - anatomy.muscle - 10
        gland = anatomy.gland if isinstance(anatomy, VariedAnatomy) else 0.35
        muscle = np.where(box_y, gland * muscle, muscle)
    streak = texture.at(canvas, canvas.whole, 7.0, 2.0)
    blend(hu, muscle, 48 - 45 * np.clip(streak - 0.6, 0, 1.5))


def _paint_abdomen(
    hu: Array, canvas: Canvas, anatomy: Anatomy, texture: Texture, wall: Array, dome: Array
) -> dict[str, Mask]:
    x, y, z = canvas.x, canvas.y, canvas.z
    below = np.minimum(dome - z, wall)
    share = canvas.occupancy(below)
    bowel = texture.at(canvas, canvas.whole, 9.0, 2.0)
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
    if isinstance(anatomy, VariedAnatomy) and anatomy.colon_gas:
        gas = np.minimum(gas_depth(anatomy, x, y, z), below - 5)
        blend(hu, canvas.occupancy(gas), -960.0)
    return {"abdomen": below > 0, "liver": liver_depth > 0}


def _aorta(anatomy: Anatomy) -> npt.NDArray[np.float64]:
    """Ball centres and radii (N, 4) from the root round the arch to the abdomen."""
    height, shift, radius = anatomy.height, anatomy.heart_shift, anatomy.aorta
    base = anatomy.heart_floor + 0.75 * anatomy.heart_tall
    bulge = anatomy.unfold
    path = [
        (shift - 4, -18, base, 1.05 * radius),
        (shift - 12, -24, 0.62 * height, 1.05 * radius),
        (shift - 6, -16, 0.735 * height - radius, radius),
        (shift + 10 + 0.7 * bulge, 2, 0.755 * height - radius, 0.98 * radius),
        (shift + 21 + bulge, 22, 0.735 * height - radius, 0.95 * radius),
        (shift * 0.5 + 21 + 0.6 * bulge, 32, 0.60 * height, 0.88 * radius),
        (shift * 0.3 + 17, 32, 0.25 * height, 0.82 * radius),
        (6, 28, -0.10 * height, 0.80 * radius),
        (3, 26, -0.55 * height, 0.75 * radius),
    ]
    return smooth_path(path, 3.0)


def _paint_lung(hu: Array, canvas: Canvas, anatomy: Anatomy, texture: Texture, share: Array, is_upright: bool) -> None:
    """Parenchyma: denser where gravity draws blood, mottled by acini."""
    gravity = -canvas.z / anatomy.height * 45 if is_upright else canvas.y / anatomy.back * 45
    whole = canvas.whole
    mottle = 16 * texture.at(canvas, whole, 2.2, 0.8) + 14 * texture.at(canvas, whole, 6.0, 1.5)
    blend(hu, share, np.clip(anatomy.lung_hu + gravity + 15 + mottle, -985, -600))


def _trachea(anatomy: Anatomy) -> Points:
    """Trachea and main bronchi as balls (N, 4)."""
    height, shift = anatomy.height, anatomy.heart_shift
    carina = np.array([0.5 * shift + 2, 12.0, 0.60 * height])
    pieces = [smooth_path([(0, -2, 1.40 * height, 9.2), (0.3 * shift, 4, 0.85 * height, 9.0), (*carina, 8.6)], 3.0)]
    for sign in (-1.0, 1.0):
        hilum = anatomy.hilum(sign) - np.array([sign * 6, -6, 0.0])
        middle = (carina + hilum) / 2 + np.array([0, 1, 2.0])
        pieces.append(smooth_path([(*carina, 6.2), (*middle, 5.6), (*hilum, 5.2)], 2.5))
    return np.concatenate(pieces)


def _paint_airways(hu: Array, canvas: Canvas, chest: Chest, lung: Mask) -> tuple[Mask, Array]:
    """Paint trachea, main bronchi and the tree; returns the lumen of the first two, and the tree's share of a voxel."""
    depth = canvas.tube_depth(chest.trachea[:, :3], chest.trachea[:, 3])
    blend(hu, canvas.occupancy(depth + 1.6) * (hu > -400), 30.0)
    blend(hu, canvas.occupancy(depth), -995.0)
    points, radii = chest.bronchi[:, :3], chest.bronchi[:, 3]
    walls = canvas.tube_occupancy(points, radii + 0.45 + 0.12 * radii) * lung
    lumen = canvas.tube_occupancy(points, radii)
    np.maximum(hu, hu + 0.8 * walls * (20 - hu), out=hu)
    blend(hu, lumen * lung, -960.0)
    return depth > 0, lumen


def _carried(
    segments: npt.NDArray[np.float64],
    radii: npt.NDArray[np.float64],
    anatomy: Anatomy,
    usual: Anatomy,
    finest: float,
    least: float,
) -> Points:
    """A tree where the breath has carried it, as balls (N, 4); what is thinner than least is left out."""
    visible = radii > least
    ends = anatomy.carried(segments[visible].reshape(-1, 3), usual).reshape(-1, 2, 3)
    points, ball_radii = balls(ends, radii[visible], 0.7 * finest)
    return np.concatenate([points, ball_radii[:, None]], axis=1)
