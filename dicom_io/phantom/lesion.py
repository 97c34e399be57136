"""What is wrong with a synthetic patient: the lesions as drawn, and the plan that carries them through the visits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import pi

import numpy as np
import numpy.typing as npt

from dicom_io.phantom.anatomy import LOBES, Anatomy
from dicom_io.phantom.vessels import inside_lung


class LesionKind(StrEnum):
    """What can be wrong."""

    NODULE = "nodule"
    MASS = "mass"
    CONSOLIDATION = "consolidation"
    EFFUSION = "effusion"
    PNEUMOTHORAX = "pneumothorax"
    CARDIOMEGALY = "cardiomegaly"
    ATELECTASIS = "atelectasis"
    EDEMA = "edema"


class Change(StrEnum):
    """What became of a lesion since the visit before."""

    NEW = "new"
    LARGER = "larger"
    STABLE = "stable"
    SMALLER = "smaller"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, eq=False)
class Lesion:
    """One lesion at one visit, as drawn.

    side: "left", "right", or None for what is central or on both sides. lobe: "upper", "middle", "lower" or None.
    attenuation: "solid", "part_solid" or "ground_glass" for nodules and masses, else None.
    long_axis_mm, short_axis_mm: greatest extent in the axial slice of greatest area, and the extent across it.
    volume_ml: voxels of the mask times the voxel volume.
    start, mask: the mask's box in the CT grid (slice, row, column) and its voxels there.
    """

    tracking_id: str
    kind: LesionKind
    side: str | None
    lobe: str | None
    attenuation: str | None
    long_axis_mm: float
    short_axis_mm: float
    volume_ml: float
    start: tuple[int, int, int]
    mask: npt.NDArray[np.bool_]

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """The mask's place, as an index into the visit's voxels."""
        a, b, c = (slice(first, first + size) for first, size in zip(self.start, self.mask.shape, strict=True))
        return a, b, c

    def on_grid(self, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        """The mask on the whole grid of the visit (slices, rows, columns)."""
        whole = np.zeros(shape, dtype=bool)
        whole[self.box] = self.mask
        return whole


@dataclass(frozen=True, slots=True)
class LesionPlan:
    """A lesion before it is drawn: volume_ml[i] at visit i, 0 where it is absent; changes[i] from visit i to i + 1."""

    tracking_id: str
    kind: LesionKind
    side: str | None
    lobe: str | None
    attenuation: str | None
    centre_mm: tuple[float, float, float]  # in the usual body frame
    volume_ml: tuple[float, ...]
    changes: tuple[Change | None, ...]
    shape_seed: int
    style: str = ""  # "spiculated", "lobulated", "smooth"; "plate", "lobar"


GROWTH = {Change.LARGER: (1.6, 3.2), Change.STABLE: (0.97, 1.03), Change.SMALLER: (0.3, 0.6)}
HEART_GROWTH = {Change.LARGER: (1.25, 1.55), Change.STABLE: (0.98, 1.02), Change.SMALLER: (0.65, 0.8)}
CAP_ML = {
    LesionKind.NODULE: 14.0,
    LesionKind.MASS: 190.0,
    LesionKind.CONSOLIDATION: 300.0,
    LesionKind.EFFUSION: 1300.0,
    LesionKind.PNEUMOTHORAX: 1000.0,
    LesionKind.ATELECTASIS: 190.0,
    LesionKind.EDEMA: 1500.0,
}
WEIGHTS = {
    LesionKind.NODULE: 0.24,
    LesionKind.MASS: 0.09,
    LesionKind.CONSOLIDATION: 0.15,
    LesionKind.EFFUSION: 0.15,
    LesionKind.PNEUMOTHORAX: 0.08,
    LesionKind.CARDIOMEGALY: 0.12,
    LesionKind.ATELECTASIS: 0.09,
    LesionKind.EDEMA: 0.08,
}


def draw_kinds(random: np.random.Generator) -> list[LesionKind]:
    """Which kinds a patient has when nobody asks for any: none in two of five, else one to four."""
    if random.random() < 0.4:
        return []
    names = list(WEIGHTS)
    count = int(random.choice([1, 2, 3], p=[0.6, 0.28, 0.12]))
    drawn = [names[k] for k in random.choice(len(names), size=count, replace=False, p=list(WEIGHTS.values()))]
    if LesionKind.NODULE in drawn and random.random() < 0.35:
        drawn.append(LesionKind.NODULE)
    if LesionKind.EDEMA in drawn and LesionKind.EFFUSION not in drawn and random.random() < 0.4:
        drawn.append(LesionKind.EFFUSION)
    return drawn


def plan_lesions(
    random: np.random.Generator, anatomy: Anatomy, visits: int, kinds: Collection[LesionKind]
) -> tuple[LesionPlan, ...]:
    """One plan for each kind asked for (a kind given twice is planned twice), in the order of LesionKind."""
    pleural_side = str(random.choice(["left", "right"]))
    most = max((sum(each is kind for each in kinds) for kind in kinds if _is_pleural(kind)), default=0)
    pleural = ("", "one", "both")[min(most, 2)]
    taken: dict[LesionKind, int] = {}
    plans: list[LesionPlan] = []
    for kind in sorted(kinds, key=list(LesionKind).index):
        taken[kind] = taken.get(kind, 0) + 1
        if taken[kind] > _at_most(kind):
            raise ValueError(f"a patient has at most {_at_most(kind)} of the kind {kind.value}")
        number = taken[kind]
        plans.append(_plan(random, anatomy, visits, kind, number, pleural_side, pleural))
    return tuple(plans)


def _at_most(kind: LesionKind) -> int:
    if kind in (LesionKind.CARDIOMEGALY, LesionKind.EDEMA):
        return 1
    return 2 if _is_pleural(kind) else 12


def _is_pleural(kind: LesionKind) -> bool:
    return kind in (LesionKind.EFFUSION, LesionKind.PNEUMOTHORAX)


def _plan(
    random: np.random.Generator,
    anatomy: Anatomy,
    visits: int,
    kind: LesionKind,
    number: int,
    pleural_side: str,
    pleural: str,
) -> LesionPlan:
    other = "left" if pleural_side == "right" else "right"
    side: str | None = str(random.choice(["left", "right"]))
    if _is_pleural(kind):
        side = pleural_side if number == 1 else other
    elif kind in (LesionKind.CARDIOMEGALY, LesionKind.EDEMA):
        side = None
    elif pleural:
        side = other  # so that air or fluid never hides what is labelled
    volume, style, attenuation = _volume(random, kind)
    lobe: str | None = None
    centre = (0.0, 0.0, 0.0)
    if side is not None and not _is_pleural(kind):
        centre, lobe = _place(random, anatomy, kind, side, volume, style, keep_clear=pleural == "both")
    changes, factors = _course(random, visits, HEART_GROWTH if kind is LesionKind.CARDIOMEGALY else GROWTH)
    if _is_pleural(kind) and pleural == "both":
        volume = min(volume, 300.0 / max(factors))
    cap = CAP_ML.get(kind, np.inf) * (0.35 if lobe == "middle" and kind is not LesionKind.NODULE else 1.0)
    volume = min(volume, cap / max(factors))
    if kind is LesionKind.MASS:
        factors = [factor and max(factor, 15.0 / volume) for factor in factors]
        changes = _relabelled(changes, factors)
    return LesionPlan(
        tracking_id=f"{kind.value}-{number}",
        kind=kind,
        side=side,
        lobe=lobe,
        attenuation=attenuation,
        centre_mm=centre,
        volume_ml=tuple(volume * factor for factor in factors),
        changes=tuple(changes),
        shape_seed=int(random.integers(2**31)),
        style=style,
    )


def _volume(random: np.random.Generator, kind: LesionKind) -> tuple[float, str, str | None]:
    """Volume in mL at the visit of reference, style, attenuation. Cardiomegaly: the cardiothoracic ratio instead."""

    def between(low: float, high: float) -> float:
        return float(np.exp(random.uniform(np.log(low), np.log(high))))

    match kind:
        case LesionKind.NODULE:
            attenuation = str(random.choice(["solid", "part_solid", "ground_glass"], p=[0.7, 0.15, 0.15]))
            diameter = between(5, 28) if attenuation == "solid" else between(8, 28)
            return pi / 6 * diameter**3 / 1000, _outline(random), attenuation
        case LesionKind.MASS:
            return pi / 6 * between(33, 66) ** 3 / 1000, _outline(random), "solid"
        case LesionKind.CONSOLIDATION:
            return between(40, 280), "", None
        case LesionKind.EFFUSION:
            return between(120, 1100), "", None
        case LesionKind.PNEUMOTHORAX:
            return between(150, 800), "", None
        case LesionKind.ATELECTASIS:
            plate = random.random() < 0.4
            return (between(5, 16), "plate", None) if plate else (between(60, 180), "lobar", None)
        case LesionKind.EDEMA:
            return between(500, 1300), "", None
        case LesionKind.CARDIOMEGALY:
            return float(random.uniform(0.54, 0.66)), "", None


def _outline(random: np.random.Generator) -> str:
    return str(random.choice(["smooth", "lobulated", "spiculated"], p=[0.4, 0.35, 0.25]))


def _place(
    random: np.random.Generator,
    anatomy: Anatomy,
    kind: LesionKind,
    side: str,
    volume: float,
    style: str,
    *,
    keep_clear: bool,
) -> tuple[tuple[float, float, float], str]:
    """A centre in the usual body frame and its lobe."""
    sign = -1.0 if side == "right" else 1.0
    radius = (volume * 1000 * 6 / pi) ** (1 / 3) / 2
    if kind is LesionKind.ATELECTASIS and style == "lobar":
        return (sign * (anatomy.mediastinum + 14), 38.0, 0.04 * anatomy.height), "lower"
    margin = {LesionKind.NODULE: radius + 3, LesionKind.MASS: radius + 2}.get(kind, 12.0)
    points = inside_lung(random, anatomy, sign, 200, margin=float(min(margin, 30.0)))
    x, y, z = (points[:, k].astype(np.float32) for k in range(3))
    if keep_clear:  # of fluid below or behind, and of air above or in front
        high = (z > 0.35 * anatomy.height) & (z < 0.65 * anatomy.height) & (y > -25) & (y < 25)
        points = points[high] if high.any() else points
        x, y, z = (points[:, k].astype(np.float32) for k in range(3))
    if kind is LesionKind.ATELECTASIS:
        points = points[np.argsort(z)[:60]]  # plates lie low
    else:
        # Behind or in front of the heart's whole depth little can be seen on a film: keep most out of there.
        clear = anatomy.heart(x, y, z) < -(radius * 0.6)
        points = points[clear] if clear.any() else points
    centre = points[int(random.integers(len(points)))]
    at = anatomy.lobe(*(centre[k : k + 1].astype(np.float32) for k in range(3)))
    return (float(centre[0]), float(centre[1]), float(centre[2])), LOBES[int(at[0])][1]


def _course(
    random: np.random.Generator, visits: int, growth: dict[Change, tuple[float, float]]
) -> tuple[list[Change | None], list[float]]:
    """changes (visits - 1) and volume factors (visits), walked back from the last visit."""
    factors = [0.0] * visits
    changes: list[Change | None] = [None] * (visits - 1)
    last = visits - 1
    if visits > 1 and random.random() < 0.15:
        last -= 1
        changes[last] = Change.RESOLVED
    factors[last] = 1.0
    for visit in range(last, 0, -1):
        change = Change(str(random.choice(["new", "larger", "stable", "smaller"], p=[0.22, 0.26, 0.28, 0.24])))
        changes[visit - 1] = change
        if change is Change.NEW:
            break
        factors[visit - 1] = factors[visit] / float(random.uniform(*growth[change]))
    return changes, factors


def _relabelled(changes: Sequence[Change | None], factors: Sequence[float]) -> list[Change | None]:
    """The same changes, with stable where a limit on the size has taken the difference away."""
    result: list[Change | None] = []
    for change, before, after in zip(changes, factors[:-1], factors[1:], strict=True):
        grew = change in (Change.LARGER, Change.SMALLER) and abs(after / before - 1) < 0.2
        result.append(Change.STABLE if grew else change)
    return result
