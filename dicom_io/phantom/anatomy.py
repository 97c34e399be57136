"""The continuous shape of one synthetic chest: signed depths of organs as functions of place, in mm.

Body frame: x to the patient's left, y to the back, z to the head (the axes of DICOM LPS), in mm. z = 0 is the top of
the right hemidiaphragm, z = height the apex of the lungs, (x, y) = (0, 0) the middle of the chest. A depth is positive
inside, negative outside, and close to the distance from the surface, so that partial volume can be drawn from it.

Proportions are those of adult chests on film (a lung field 20 to 26 cm high and 24 to 30 cm wide, a heart of 0.38 to
0.68 of that width, the right dome 1 to 2 cm above the left); none of it is measured from a person.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float32]
Scalar: TypeAlias = npt.NDArray[np.floating[Any]] | np.floating[Any] | float
SQUARENESS = 2.5  # exponent of the superellipse of the chest: 2 is an ellipse


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Sizes and positions of one chest at one visit; mm unless said."""

    sex: str  # "M" or "F"
    height: float  # right dome to apex
    half_width: float  # inner thorax, at the bases
    front: float  # inner thorax, mid-line to the sternum
    back: float  # inner thorax, mid-line to the posterior ribs
    apex_x: float  # lung apex from the mid-line
    mediastinum: float  # half the gap between the two lungs
    left_dome: float  # top of the left dome (z), usually below 0
    right_dome: float  # top of the right dome (z), 0 unless volume was lost
    sulcus: float  # depth of the costophrenic sulcus below the dome
    heart_width: float
    heart_left: float  # share of the width left of the mid-line
    heart_shift: float  # mediastinal shift, positive to the left
    fat: float  # subcutaneous
    muscle: float
    shoulder: float  # half width of the shoulders
    breast: float  # radius, 0 without
    aorta: float  # radius
    vessel_scale: float  # radius of the lung vessels relative to usual
    rib_slope: float  # fall of a rib from back to front, relative to usual
    curvature: float  # scoliosis: greatest lateral shift of the spine
    lung_hu: float
    bone_gain: float  # mineral content relative to usual
    gastric_gas: float  # radius of the stomach bubble, 0 without
    arms_down: bool = True  # upright on a film; raised out of the way for CT
    stretch: float = 1.0  # breath: height relative to the patient's usual
    unfold: float = 0.0  # how far the aortic arch stands out to the left
    spine_gain: float = 1.0  # mineral content of the vertebrae relative to the other bones

    # --- profiles along z ------------------------------------------------------------------------------------------

    def outer(self, z: Scalar) -> Array:
        """Half width of the inner thorax at z (mm)."""
        t = np.clip((z / self.height - 0.05) / 0.95, 0, 1)
        return np.asarray(self.apex_x + (self.half_width - self.apex_x) * np.sqrt(1 - t**2.7), dtype=np.float32)

    def inner(self, z: Scalar) -> Array:
        """Half width of the mediastinum between the lungs at z (mm)."""
        t = np.clip((z / self.height - 0.76) / 0.24, 0, 1)
        return np.asarray(
            self.mediastinum + (self.apex_x - self.mediastinum) * (1 - np.sqrt(1 - t**2)), dtype=np.float32
        )

    def gap(self, y: Scalar, z: Scalar) -> Array:
        """Half the distance of the two lungs at (y, z): narrow behind the sternum, wide beside vessels and spine."""
        inner = self.inner(z)
        y = np.asarray(y, dtype=np.float32)
        before = smoothstep((-y - 22.0) / 26.0)
        middle = smoothstep((y + 26.0) / 20.0) * (1 - smoothstep((y - 6.0) / 22.0))
        behind = smoothstep((y - 34.0) / 45.0)
        below = 1 - smoothstep((z / self.height - 0.58) / 0.22)
        narrow = (before * (inner - 5.0) + middle * (inner - 10.0)) * below
        return np.asarray(inner - narrow + 5.0 * behind, dtype=np.float32)

    def front_y(self, z: Scalar) -> Array:
        """y of the anterior inner wall at z (negative, mm)."""
        t = np.clip((z / self.height - 0.1) / 0.9, 0, 1)
        return np.asarray(-self.front * (1 - 0.72 * t**2.0), dtype=np.float32)

    def back_y(self, z: Scalar) -> Array:
        """y of the posterior inner wall at z (mm)."""
        t = np.clip((z / self.height - 0.3) / 0.7, 0, 1)
        return np.asarray(self.back * (1 - 0.22 * t**2.5), dtype=np.float32)

    def spine_x(self, z: Scalar) -> Array:
        """Lateral place of the spine at z (mm)."""
        return np.asarray(self.curvature * np.sin(np.pi * np.clip(z / self.height, -0.4, 1.3)), dtype=np.float32)

    # --- depths ----------------------------------------------------------------------------------------------------

    def cage(self, x: Scalar, y: Scalar, z: Scalar) -> Array:
        """Depth inside the inner thoracic wall, which is closed at the apex by the lungs' own borders."""
        width, front, back = self.outer(z), self.front_y(z), self.back_y(z)
        return superellipse(x, y, (front + back) / 2, width, (back - front) / 2)

    def dome(self, x: Scalar, y: Scalar) -> Array:
        """z of the diaphragm under (x, y) (mm)."""
        tendon = min(self.left_dome, self.right_dome) - 12.0
        sides = []
        for sign, top in ((-1.0, self.right_dome), (1.0, self.left_dome)):
            centre = 0.50 * self.half_width
            across = sign * x - centre
            lateral = np.clip(across / (self.half_width - centre), 0, 1.1) ** 2.4
            medial = np.clip(-across / centre, 0, 1) ** 2.0
            behind = np.clip((y + 10) / (self.back + 10), 0, 1.1) ** 2.2
            before = np.clip((-10 - y) / (self.front - 10), 0, 1.1) ** 2.2
            fall = self.sulcus * (0.85 * lateral + 1.1 * behind + 0.35 * before)
            sides.append(top - fall - (top - tendon) * medial)
        return np.where(x < 0, sides[0], sides[1]).astype(np.float32)

    def cavity(self, x: Scalar, y: Scalar, z: Scalar, dome: Array | None = None) -> Array:
        """Depth inside the pleural cavities (both sides), heart and vessels not yet taken out."""
        floor = self.dome(x, y) if dome is None else dome
        side = np.abs(x - 0.35 * self.heart_shift) - self.gap(y, z)
        return np.minimum(np.minimum(self.cage(x, y, z), side), np.minimum(z - floor, self.height - z))

    def heart(self, x: Scalar, y: Scalar, z: Scalar) -> Array:
        """Depth inside the cardiac silhouette: pericardium and the roots of the great vessels up to the arch."""
        x = x - self.heart_shift
        width = self.heart_width
        tall = self.heart_tall
        depth = self.heart_depth
        floor = self.heart_floor
        left, right = width * self.heart_left, width * (1 - self.heart_left)
        middle_y = min(-self.front * 0.9 + depth, 24.0 - depth)
        # Ventricles: an ellipse with given half extents, its long axis 30 degrees down to the left.
        half_x, half_z = 0.41 * width, 0.43 * tall
        # A wide heart in a short chest has no ellipse of just these extents: its short axis is then 0.6 of the height.
        long = np.sqrt(max(1.5 * half_x**2 - 0.5 * half_z**2, (0.6 * half_x) ** 2))
        short = np.sqrt(max(1.5 * half_z**2 - 0.5 * half_x**2, (0.6 * half_z) ** 2))
        cos, sin = float(np.cos(np.pi / 6)), 0.5
        dx, dz = x - (left - half_x), z - (floor + half_z)
        ventricles = ellipsoid(
            (cos * dx - sin * dz, y - (middle_y - 4), sin * dx + cos * dz), (float(long), depth, float(short))
        )
        half_x = 0.32 * width
        atria = ellipsoid(
            (x - (half_x - right), y - (middle_y + 6), z - (floor + 0.50 * tall)), (half_x, 0.9 * depth, 0.44 * tall)
        )
        low, high = floor + 0.5 * tall, self.arch
        t = np.clip((z - low) / (high - low), 0, 1)
        cap = np.sqrt(np.clip(1 - np.clip((z - (high - 22)) / 22, 0, 1) ** 2, 0, 1))
        half = ((0.40 * width) * (1 - t) ** 1.25 + 29.0 * (1 - (1 - t) ** 1.25)) * cap
        centre = (left - right) / 2 * 0.55 * (1 - t) + 4.0 * t
        roots = superellipse(x - centre, y, np.float32(middle_y + 12), np.maximum(half, 0.5), np.float32(0.7 * depth))
        roots = np.minimum(np.minimum(roots, high - z), z - low + 8)
        return np.maximum(np.maximum(ventricles, atria), roots).astype(np.float32)

    def skin(self, x: Scalar, y: Scalar, z: Scalar) -> Array:
        """Depth under the skin."""
        u = z / self.height
        wall = self.fat + self.muscle + 8.0
        chest = self.half_width * (1 - 0.10 * np.clip(u, 0, 1)) + wall
        rise = smoothstep((u - 0.58) / 0.27)
        neck = smoothstep((u - 0.90) / 0.46)
        width = (chest + (self.shoulder - chest) * rise) * (1 - neck) + (56.0 + 0.3 * self.fat) * neck
        front = (-self.front - wall) * (1 - 0.45 * smoothstep((u - 0.45) / 0.6))
        back = (self.back + wall + 12.0) * (1 - 0.22 * smoothstep((u - 0.75) / 0.4))
        if self.breast > 0:
            front = front - self.bust(x, z)
        body = superellipse(x, y, (front + back) / 2, width, (back - front) / 2)
        return np.maximum(body, self._arms(x, y, z)) if self.arms_down else body

    def bust(self, x: Scalar, z: Scalar) -> Array:
        """How far the breasts stand out at (x, z), in mm: a fold below, fading into the chest wall above."""
        across = (np.abs(x) - 0.56 * self.half_width) / (1.15 * self.breast)
        along = z - 0.13 * self.height
        rise = np.where(along < 0, along / (0.75 * self.breast), along / (1.7 * self.breast))
        full = np.clip(1 - across**2 - rise**2, 0, 1)
        return np.asarray(0.62 * self.breast * np.where(along < 0, np.sqrt(full), full))

    def _arms(self, x: Scalar, y: Scalar, z: Scalar) -> Array:
        """Depth inside the two upper arms, capsules from the shoulder outwards and down."""
        joint, shaft = self.shoulder_joint, (62.0, -16.0, -150.0)
        across, behind, up = np.abs(x) - joint[0], y - joint[1], z - joint[2]
        squared = sum(each**2 for each in shaft)
        along = np.clip((across * shaft[0] + behind * shaft[1] + up * shaft[2]) / squared, 0, 1.5)
        away = (across - along * shaft[0]) ** 2 + (behind - along * shaft[1]) ** 2 + (up - along * shaft[2]) ** 2
        return np.asarray(36.0 + 0.4 * self.fat - np.sqrt(away), dtype=np.float32)

    # --- derived places --------------------------------------------------------------------------------------------

    @property
    def shoulder_joint(self) -> tuple[float, float, float]:
        """Middle of the left humeral head; body mm."""
        return self.shoulder - 52.0, 14.0, 0.855 * self.height

    @property
    def arch(self) -> float:
        """z of the top of the aortic arch's lower wall, where the cardiac silhouette ends."""
        return 0.735 * self.height

    @property
    def heart_tall(self) -> float:
        """Height of the heart without the great vessels."""
        return float(np.clip(98.0 * (self.heart_width / 120.0) ** 0.75, 70, 0.62 * self.height))

    @property
    def heart_depth(self) -> float:
        """Half the antero-posterior size of the heart."""
        return float(np.clip(40.0 * (self.heart_width / 120.0) ** 0.7, 28, 0.5 * (0.88 * self.front + 24)))

    @property
    def heart_floor(self) -> float:
        """z of the lower border of the heart."""
        return min(self.left_dome, self.right_dome) - 12.0

    def hilum(self, sign: float) -> npt.NDArray[np.float64]:
        """Where vessels and bronchi enter the lung of this side (-1 right, +1 left); (3,) body mm."""
        across = sign * (self.mediastinum + 16.0) + self.heart_shift
        return np.array([across, 8.0, (0.50 if sign < 0 else 0.54) * self.height])

    def lobe(self, x: Scalar, y: Scalar, z: Scalar) -> npt.NDArray[np.uint8]:
        """1 right upper, 2 right middle, 3 right lower, 4 left upper, 5 left lower; by plane fissures."""
        oblique = (0.33 + 0.375 * y / (0.5 * (self.front + self.back))) * self.height
        lower = z < oblique
        right = np.where(lower, 3, np.where(z < 0.42 * self.height, 2, 1))
        return np.where(x < self.heart_shift * 0.35, right, np.where(lower, 5, 4)).astype(np.uint8)

    def carried(self, points_mm: npt.NDArray[np.float64], usual: Anatomy) -> npt.NDArray[np.float64]:
        """Points (N, 3) of the patient's usual chest, where breath and pose have carried them at this visit."""
        scale = np.array(
            [self.half_width / usual.half_width, (self.front + self.back) / (usual.front + usual.back), self.stretch]
        )
        moved = np.asarray(points_mm, dtype=np.float64).copy()
        moved[:, 2] = usual.height - moved[:, 2]
        moved *= scale
        moved[:, 2] = self.height - moved[:, 2]
        return moved


LOBES = {
    1: ("right", "upper"),
    2: ("right", "middle"),
    3: ("right", "lower"),
    4: ("left", "upper"),
    5: ("left", "lower"),
}


def superellipse(x: Scalar, y: Scalar, centre_y: Scalar, half_x: Scalar, half_y: Scalar) -> Array:
    """Depth inside |x/a|^n + |y/b|^n = 1, scaled to mm by the shorter half axis."""
    radius = (np.abs(x / half_x) ** SQUARENESS + np.abs((y - centre_y) / half_y) ** SQUARENESS) ** (1 / SQUARENESS)
    return np.asarray((1 - radius) * np.minimum(half_x, half_y), dtype=np.float32)


def ellipsoid(place: tuple[Scalar, Scalar, Scalar], half: tuple[float, float, float]) -> Array:
    """Depth inside an ellipsoid at the origin, scaled to mm by its shortest half axis."""
    radius = np.sqrt(sum((axis / size) ** 2 for axis, size in zip(place, half, strict=True)))
    return np.asarray((1 - radius) * min(half), dtype=np.float32)


def smoothstep(t: Scalar) -> Array:
    """0 below 0, 1 above 1, smooth between."""
    t = np.clip(t, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def draw_anatomy(random: np.random.Generator, sex: str, age_years: int, *, heart_ratio: float) -> Anatomy:
    """A chest of this sex and age, with a heart of about this share of the inner thoracic width."""
    size = (1.0 if sex == "M" else 0.91) * random.normal(1.0, 0.045)
    habitus = float(np.clip(random.gamma(2.2, 0.45), 0.15, 3.2))  # 1 = usual weight
    half_width = float(np.clip(138 * size * random.normal(1, 0.04), 108, 165))
    height = float(np.clip(224 * size * random.normal(1, 0.06), 170, 275))
    barrel = random.normal(1.0, 0.07) * (1 + max(age_years - 55, 0) * 0.002)
    return Anatomy(
        sex=sex,
        height=height,
        half_width=half_width,
        front=float(80 * size * barrel),
        back=float(84 * size * barrel),
        apex_x=float(43 * size * random.normal(1, 0.06)),
        mediastinum=float(np.clip(random.normal(20, 2.5) + habitus, 15, 28)),
        left_dome=float(-random.uniform(2, 22)),
        right_dome=0.0,
        sulcus=float(random.uniform(34, 58)),
        heart_width=float(heart_ratio * 2 * half_width * 0.985),
        heart_left=float(random.uniform(0.60, 0.74)),
        heart_shift=float(random.normal(0, 2.0)),
        fat=float(5 + 13 * habitus * (1.2 if sex == "F" else 1.0)),
        muscle=float(random.uniform(12, 22) * (1.1 if sex == "M" else 0.9)),
        shoulder=float(np.clip(222 * size * random.normal(1, 0.03), 196, 245)),
        breast=float(np.clip(random.normal(46, 11) + 6 * habitus, 26, 78)) if sex == "F" else 0.0,
        aorta=float(12.0 + age_years / 18 * random.uniform(0.6, 1.3)),
        vessel_scale=float(random.normal(1.0, 0.08)),
        rib_slope=float(random.normal(1.0, 0.12)),
        curvature=float(random.normal(0, 3.5)),
        lung_hu=float(random.normal(-862, 18)),
        bone_gain=float(np.clip(random.normal(1.12 - age_years * 0.004, 0.1), 0.55, 1.3)),
        gastric_gas=float(random.uniform(14, 34)) if random.random() < 0.7 else 0.0,
    )


def breathe(
    usual: Anatomy, random: np.random.Generator, *, heart_factor: float, elevate: tuple[float, float]
) -> Anatomy:
    """The same chest at one visit: another breath and heart size, domes lifted by volume loss (right, left; mm)."""
    stretch = float(np.clip(random.normal(1.0, 0.035), 0.88, 1.08))
    widen = float(1 + 0.25 * (stretch - 1) + random.normal(0, 0.004))
    return replace(
        usual,
        height=usual.height * stretch,
        half_width=usual.half_width * widen,
        front=usual.front * float(1 + 0.3 * (stretch - 1)),
        heart_width=usual.heart_width * heart_factor * float(1 - 0.4 * (stretch - 1)),
        heart_shift=usual.heart_shift + 0.3 * (elevate[1] - elevate[0]) + float(random.normal(0, 1)),
        right_dome=usual.right_dome + elevate[0],
        left_dome=usual.left_dome + elevate[1] + float(random.normal(0, 2)),
        stretch=stretch,
    )
