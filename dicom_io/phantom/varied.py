"""The chest of a varied patient: what people differ in beyond size, and how they were positioned for the film.

Ranges follow what is usual on adult films (a lordotic or rotated bedside film, a poor breath, breasts that shadow the
bases, an unfolded aorta in the old); none of it is measured from a person.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dicom_io.phantom.anatomy import Anatomy, Array, Scalar, draw_anatomy, ellipsoid, smoothstep

RIB_PAIRS = 12


@dataclass(frozen=True, slots=True)
class VariedAnatomy(Anatomy):
    """A chest with more ways to differ; mm unless said."""

    taper: float = 2.7  # how late the lung fields narrow towards the apex: small early, large late
    breasts: tuple[float, float] = (0.0, 0.0)  # radius of the right and the left one, 0 without
    droop: float = 0.0  # how far the breasts hang, 0 to 1
    gland: float = 0.35  # share of glandular tissue
    trunk: float = 0.0  # how far the pulmonary trunk stands out
    rib_shift: tuple[float, ...] = (0.0,) * RIB_PAIRS  # of each rib pair along z
    cartilage: float = 0.0  # calcified share of the costal cartilages
    colon_gas: tuple[tuple[float, float, float], ...] = ()  # x, z below the dome, radius of each pocket
    stature_m: float = 1.7
    weight_kg: float = 70.0

    def outer(self, z: Scalar) -> Array:
        """Half width of the inner thorax at z (mm)."""
        t = np.clip((z / self.height - 0.05) / 0.95, 0, 1)
        wide = np.sqrt(1 - t**self.taper)
        return np.asarray(self.apex_x + (self.half_width - self.apex_x) * wide, dtype=np.float32)

    def heart(self, x: Scalar, y: Scalar, z: Scalar) -> Array:
        """Depth inside the cardiac silhouette, the pulmonary trunk standing out at its left shoulder."""
        depth = Anatomy.heart(self, x, y, z)
        if self.trunk <= 0:
            return depth
        left = self.heart_shift + 22.0 + 0.5 * self.trunk
        place = (x - left, y + 14.0, z - 0.555 * self.height)
        return np.maximum(depth, ellipsoid(place, (10.0 + 0.5 * self.trunk, 22.0, 24.0)))

    def bust(self, x: Scalar, z: Scalar) -> Array:
        """How far the breasts stand out at (x, z), in mm."""
        total = np.zeros(np.broadcast(x, z).shape, dtype=np.float32)
        for sign, radius in ((-1.0, self.breasts[0]), (1.0, self.breasts[1])):
            if radius > 0:
                across = (sign * x - (0.56 + 0.05 * self.droop) * self.half_width) / (1.15 * radius)
                along = z - (0.17 - 0.20 * self.droop) * self.height
                rise = np.where(along < 0, along / (0.75 * radius), along / ((1.6 + self.droop) * radius))
                full = np.clip(1 - across**2 - rise**2, 0, 1)
                total = np.maximum(total, 0.62 * radius * np.where(along < 0, np.sqrt(full), full))
        return np.asarray(total, dtype=np.float32)


def draw_varied(random: np.random.Generator, sex: str, age_years: int, *, heart_ratio: float) -> VariedAnatomy:
    """A chest of this sex and age, with a heart of about this share of the inner thoracic width."""
    plain = draw_anatomy(random, sex, age_years, heart_ratio=heart_ratio)
    size = plain.half_width / 138
    habitus = float(np.clip(random.gamma(1.9, 0.62), 0.12, 4.0))
    old = float(np.clip((age_years - 45) / 40, 0, 1))
    breasts = (0.0, 0.0)
    if sex == "F":
        full = float(np.clip(random.normal(44, 13) + 9 * habitus, 22, 92))
        each = [full * random.normal(1, 0.05) for _ in range(2)]
        if random.random() < 0.04:  # after a mastectomy
            each[int(random.integers(2))] = 0.0
        breasts = (float(each[0]), float(each[1]))
    pockets = tuple(
        (float(random.uniform(-1, 1) * 0.75 * plain.half_width), float(random.uniform(22, 85)), float(radius))
        for radius in random.uniform(9, 22, int(random.choice([0, 0, 1, 2, 4])))
    )
    stature = (1.755 if sex == "M" else 1.63) * (0.5 + 0.5 * plain.half_width / (138 if sex == "M" else 126))
    stature = float(np.clip(stature * random.normal(1, 0.025), 1.42, 2.05))
    shared = {name: getattr(plain, name) for name in Anatomy.__dataclass_fields__}
    shared |= {
        "half_width": plain.half_width * 1.06,
        "height": float(plain.height * random.normal(0.86, 0.05)),
        "mediastinum": float(np.clip(random.normal(21, 3.5) + 1.5 * habitus + 2 * old, 15, 32)),
        "apex_x": float(plain.apex_x * random.normal(1.02, 0.07)),
        "front": float(plain.front * random.normal(1, 0.06)),
        "heart_left": float(random.uniform(0.58, 0.76)),
        "fat": float(4 + 11 * habitus * (1.2 if sex == "F" else 1.0)),
        "muscle": float(random.uniform(9, 24) * (1.1 if sex == "M" else 0.85) * (1 - 0.25 * old)),
        "breast": max(breasts),
        "aorta": float(11.0 + age_years / 16 * random.uniform(0.5, 1.3)),
        "unfold": float(random.uniform(0, 5) + old * random.uniform(0, 16)),
        "vessel_scale": float(random.normal(1.08, 0.12)),
        "rib_slope": float(np.clip(random.normal(0.95, 0.16), 0.6, 1.4)),
        "curvature": float(random.normal(0, 14.0 if random.random() < 0.07 else 4.5)),
        "bone_gain": float(np.clip(random.normal(1.25 - age_years * 0.004, 0.12), 0.6, 1.5)),
        "spine_gain": float(random.uniform(0.35, 0.6)),
        "left_dome": float(-random.uniform(-4, 26)),
        "sulcus": float(random.uniform(20, 48)),
        "gastric_gas": float(random.uniform(9, 30)) if random.random() < 0.6 else 0.0,
    }
    return VariedAnatomy(
        **shared,
        taper=float(random.uniform(1.5, 2.4)),
        breasts=breasts,
        droop=float(np.clip(random.normal(0.3 + 0.4 * old, 0.25), 0, 1)),
        gland=float(np.clip(random.normal(0.5 - 0.3 * old, 0.15), 0.05, 0.8)),
        trunk=float(max(0.0, random.normal(4, 5))),
        rib_shift=tuple(float(each) for each in random.normal(0, 1.6 * size, RIB_PAIRS)),
        cartilage=float(np.clip(random.normal(old - 0.35, 0.25), 0, 1)),
        colon_gas=pockets,
        stature_m=stature,
        weight_kg=float(np.clip((18.5 + 5.6 * habitus) * stature**2, 38, 170)),
    )


@dataclass(frozen=True, slots=True)
class Pose:
    """How a patient stands or lies for one film: turn and lean in radians, offset in mm, breath 1 = usual depth."""

    turn: float
    lean: float
    offset: float
    breath: float


def draw_pose(random: np.random.Generator, *, is_upright: bool) -> Pose:
    """A pose for a film; who lies turns more and breathes in less."""
    spread = 1.0 if is_upright else 2.0
    turned = 2.2 if random.random() < 0.2 else 1.0  # one film in five is visibly rotated
    return Pose(
        turn=float(np.clip(random.normal(0, 0.035 * turned * spread), -0.32, 0.32)),
        lean=float(random.normal(0, 0.02 * spread)),
        offset=float(random.normal(0, 7 * spread)),
        breath=float(np.clip(random.normal(0.98 if is_upright else 0.87, 0.06), 0.72, 1.1)),
    )


def breathe_varied(
    usual: VariedAnatomy, random: np.random.Generator, pose: Pose, *, heart_factor: float, elevate: tuple[float, float]
) -> VariedAnatomy:
    """The same chest at one visit: this breath and heart size, domes lifted by volume loss (right, left; mm)."""
    stretch = pose.breath
    fill = stretch - 1
    return replace(
        usual,
        height=usual.height * stretch,
        half_width=usual.half_width * float(1 + 0.25 * fill + random.normal(0, 0.004)),
        front=usual.front * float(1 + 0.35 * fill),
        heart_width=usual.heart_width * heart_factor * float(1 - 0.5 * fill),
        heart_shift=usual.heart_shift + 0.3 * (elevate[1] - elevate[0]) + float(random.normal(0, 2)),
        mediastinum=usual.mediastinum * float(1 - 0.5 * fill),
        right_dome=usual.right_dome + elevate[0],
        left_dome=usual.left_dome + elevate[1] + float(random.normal(0, 3)),
        lung_hu=usual.lung_hu - 260 * fill,
        stretch=stretch,
    )


def gas_depth(anatomy: VariedAnatomy, x: Scalar, y: Scalar, z: Scalar) -> Array:
    """Depth inside the pockets of gas in the colon; far outside where there are none."""
    depth = np.full(np.broadcast(x, y, z).shape, -99.0, dtype=np.float32)
    for number, (across, below, radius) in enumerate(anatomy.colon_gas):
        top = anatomy.right_dome if across < 0 else anatomy.left_dome
        waves = 1 + 0.18 * np.sin((x - across) / 5.0 + number) * smoothstep(radius / 14.0)
        place = (x - across, y + 18.0 - 6.0 * number, z - (top - 8.0 - below))
        depth = np.maximum(depth, ellipsoid(place, (1.5 * radius, 1.0 * radius, 0.7 * radius)) * waves)
    return np.asarray(depth, dtype=np.float32)
