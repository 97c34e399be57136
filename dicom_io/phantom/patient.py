"""A synthetic patient: drawn from a seed, visit by visit, with every organ and lesion known.

Same seed, same options: the same bytes. Lengths are mm, volumes mL, and positions are DICOM patient space (LPS).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull, QhullError

from dicom_io.phantom.anatomy import Anatomy, breathe, draw_anatomy
from dicom_io.phantom.canvas import Canvas, Points, Texture
from dicom_io.phantom.courses import draw_illness, run_course
from dicom_io.phantom.detail import fine_strands
from dicom_io.phantom.devices import Device, DeviceKind, carina, draw_device_kinds, place_devices
from dicom_io.phantom.lesion import Change, Lesion, LesionKind, LesionPlan, draw_kinds, plan_lesions
from dicom_io.phantom.pathology import Scene, paint_lesion
from dicom_io.phantom.scene import Chest, lay_out, least_vessel, paint_chest
from dicom_io.phantom.skeleton import Posture
from dicom_io.phantom.strands import Strands
from dicom_io.phantom.varied import VariedAnatomy, breathe_varied, draw_pose, draw_varied
from dicom_io.phantom.vessels import Trees, grow_trees
from dicom_io.study import Geometry

__all__ = ["Change", "Lesion", "LesionKind", "Patient", "Visit", "draw_patient"]

FIRST_DAY = datetime(2021, 1, 4, 8, 0)
STAYING = (DeviceKind.PACEMAKER, DeviceKind.STERNAL_WIRES)
PAINT_ORDER = (
    LesionKind.EFFUSION,
    LesionKind.PNEUMOTHORAX,
    LesionKind.EDEMA,
    LesionKind.CONSOLIDATION,
    LesionKind.ATELECTASIS,
    LesionKind.MASS,
    LesionKind.NODULE,
)


@dataclass(frozen=True, slots=True, eq=False)
class Visit:
    """One visit, drawn.

    hu: (slices, rows, columns) int16 HU, slices from the feet up. structures: bool masks of the same shape, named
    right_lung, left_lung, heart (the silhouette: pericardium and roots of the great vessels), aorta, liver, abdomen
    (all below the diaphragm), mediastinum (between the lungs' medial borders as outlined on films), ribs, spine,
    clavicles, scapulae, sternum, airways (the lumen of trachea and main bronchi). A lung is its tissue, diseased or
    not, without pleural air or fluid. changes: what became of each lesion since the visit before, by tracking id.
    strands: what a film shows finer than the voxels, and devices: what was put into the patient (neither is in hu);
    both of varied patients only. carina_mm: (3,) LPS, where the trachea parts.
    """

    hu: npt.NDArray[np.int16]
    geometry: Geometry
    structures: Mapping[str, npt.NDArray[np.bool_]]
    lesions: tuple[Lesion, ...]
    acquired_on: datetime
    changes: Mapping[str, str]
    is_upright: bool
    carina_mm: Points
    strands: tuple[Strands, ...] = ()
    devices: tuple[Device, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Patient:
    """A synthetic patient. visits: oldest first."""

    seed: int
    sex: str  # "M" or "F"
    age_years: int  # at the last visit
    visits: tuple[Visit, ...]
    stature_m: float | None = None  # known of varied patients
    weight_kg: float | None = None


@dataclass(frozen=True, slots=True)
class _Plan:
    """All that is drawn from the seed, before any grid."""

    sex: str
    age_years: int
    usual: Anatomy
    chests: tuple[Anatomy, ...]
    poses: tuple[tuple[float, float, float], ...]  # turn (radians), lean, lateral offset (mm)
    postures: tuple[Posture, ...]
    lesions: tuple[LesionPlan, ...]
    days: tuple[datetime, ...]
    trees: Trees
    texture_seed: int
    arms_down: bool
    devices: tuple[tuple[DeviceKind, ...], ...]  # at each visit


def draw_patient(
    seed: int,
    *,
    visits: int = 1,
    spacing_mm: float | tuple[float, float, float] = 2.0,
    kinds: Collection[LesionKind] | None = None,
    upright: bool = True,
    variety: bool = False,
    arms_down: bool | None = None,
    devices: Collection[DeviceKind] | None = None,
) -> Patient:
    """Draw the patient of this seed.

    spacing_mm: voxel size, or (slice, row, column). The same seed on another grid is the same patient.
    kinds: None draws them (often none, sometimes several); a collection gives exactly those, each present in the last
    visit unless it has resolved there (only with visits > 1). upright: False lays fluid and air as in a supine patient.
    arms_down: None is as for the usual film or CT, down when upright; a supine film has the arms down too.
    variety: another patient of that seed, from a wider range of bodies, poses and breaths, with devices. devices:
    which, at every visit; None draws them as on films of outpatients (upright) or of a ward (lying), where tubes and
    lines come and go between visits.
    Raises ValueError for a seed below 0, no visit, a spacing outside 0.4 to 8 mm, or impossible kinds.
    """
    spacing = (spacing_mm,) * 3 if isinstance(spacing_mm, int | float) else tuple(spacing_mm)
    if seed < 0:
        raise ValueError(f"a seed is 0 or more, got {seed}")
    if visits < 1:
        raise ValueError(f"a patient has at least one visit, got {visits}")
    if len(spacing) != 3 or not all(0.4 <= each <= 8.0 for each in spacing):
        raise ValueError(f"spacing_mm is 0.4 to 8 mm along each of three axes, got {spacing_mm}")
    if devices and not variety:
        raise ValueError("devices are drawn in varied patients: ask for variety=True")
    arms = upright if arms_down is None else arms_down
    plan = _plan_varied(seed, visits, kinds, upright, arms, devices) if variety else _plan_patient(seed, visits, kinds)
    plan = replace(plan, arms_down=arms)
    texture = Texture(np.random.default_rng(plan.texture_seed))
    drawn = tuple(_draw_visit(plan, number, seed, spacing, texture, upright) for number in range(visits))
    usual = plan.usual
    body = (usual.stature_m, usual.weight_kg) if isinstance(usual, VariedAnatomy) else (None, None)
    return Patient(seed, plan.sex, plan.age_years, drawn, *body)


def _plan_patient(seed: int, visits: int, kinds: Collection[LesionKind] | None) -> _Plan:
    who, what, when, how = (np.random.default_rng([seed, stream]) for stream in range(4))
    sex = "M" if who.random() < 0.52 else "F"
    age_years = int(np.clip(who.normal(58, 17), 20, 92))
    wanted = draw_kinds(what) if kinds is None else [LesionKind(kind) for kind in kinds]
    usual = draw_anatomy(who, sex, age_years, heart_ratio=float(np.clip(who.normal(0.445, 0.035), 0.38, 0.50)))
    lesions = plan_lesions(what, usual, visits, wanted)
    chests, poses, postures, days = [], [], [], []
    day = FIRST_DAY + timedelta(days=int(when.integers(0, 1200)), minutes=int(when.integers(0, 600)))
    hold = Posture(float(how.uniform(4, 34)), float(how.uniform(2, 26)))
    for number in range(visits):
        factor = _heart_factor(lesions, usual, number)
        chests.append(breathe(usual, how, heart_factor=factor, elevate=_lifted(lesions, number)))
        poses.append((float(how.normal(0, 0.035)), float(how.normal(0, 0.016)), float(how.normal(0, 5))))
        postures.append(
            Posture(hold.scapula_out_mm + float(how.normal(0, 3)), hold.clavicle_rise_mm + float(how.normal(0, 3)))
        )
        days.append(day)
        day += timedelta(days=int(when.integers(2, 220)), minutes=int(when.integers(-120, 120)))
    trees = grow_trees(np.random.default_rng([seed, 4]), usual, leaves=650)
    return _Plan(
        sex, age_years, usual, tuple(chests), tuple(poses), tuple(postures), lesions, tuple(days), trees,
        int(how.integers(2**31)), True, ((),) * visits,
    )  # fmt: skip


def _plan_varied(
    seed: int,
    visits: int,
    kinds: Collection[LesionKind] | None,
    upright: bool,
    arms_down: bool,
    devices: Collection[DeviceKind] | None,
) -> _Plan:
    who, what, when, how, with_what = (np.random.default_rng([seed, 20 + stream]) for stream in range(5))
    sex = "M" if who.random() < 0.52 else "F"
    age_years = int(np.clip(who.normal(57, 19), 16, 96))
    illness, wanted = draw_illness(what)
    if kinds is not None:
        wanted = [LesionKind(kind) for kind in kinds]
    usual = draw_varied(who, sex, age_years, heart_ratio=float(np.clip(who.normal(0.45, 0.042), 0.36, 0.52)))
    lesions = plan_lesions(what, usual, visits, wanted)
    chests, poses, postures = [], [], []
    days = [FIRST_DAY + timedelta(days=int(when.integers(0, 1200)), minutes=int(when.integers(0, 600)))]
    for _ in range(1, visits):
        pause = illness.days if kinds is None else (2, 220)
        days.append(days[-1] + timedelta(days=int(when.integers(*pause)), minutes=int(when.integers(-120, 120))))
    if kinds is None:
        lesions = run_course(what, illness, lesions, days)
    hold = Posture(float(how.uniform(-6, 34) if upright else how.uniform(-14, 10)), float(how.uniform(-6, 28)))
    for number in range(visits):
        lifted = _lifted(lesions, number)
        pose = draw_pose(how, is_upright=upright or not arms_down)
        factor = _heart_factor(lesions, usual, number)
        chests.append(breathe_varied(usual, how, pose, heart_factor=factor, elevate=lifted))
        poses.append((pose.turn, pose.lean, pose.offset))
        postures.append(
            Posture(hold.scapula_out_mm + float(how.normal(0, 3)), hold.clavicle_rise_mm + float(how.normal(0, 3)))
        )
    place = "PA" if upright else "AP SUPINE"
    has = tuple(draw_device_kinds(with_what, place) if devices is None else [DeviceKind(each) for each in devices])
    trees = grow_trees(np.random.default_rng([seed, 24]), usual, leaves=900)
    kept = [tuple(k for k in has if devices or k in STAYING or with_what.random() < 0.8) for _ in range(visits)]
    return _Plan(
        sex, age_years, usual, tuple(chests), tuple(poses), tuple(postures), lesions, tuple(days), trees,
        int(how.integers(2**31)), arms_down, tuple(kept),
    )  # fmt: skip


def _lifted(lesions: tuple[LesionPlan, ...], visit: int) -> tuple[float, float]:
    """How far collapsed lung lifts the right and the left dome at this visit, in mm."""
    lifted = [0.0, 0.0]
    for lesion in lesions:
        if lesion.kind is LesionKind.ATELECTASIS and lesion.volume_ml[visit] > 0:
            lifted[0 if lesion.side == "right" else 1] += 5.0 if lesion.style == "plate" else 12.0
    return lifted[0], lifted[1]


def _heart_factor(lesions: tuple[LesionPlan, ...], usual: Anatomy, visit: int) -> float:
    """How much wider than usual the heart is at this visit."""
    for lesion in lesions:
        if lesion.kind is LesionKind.CARDIOMEGALY and lesion.volume_ml[visit] > 0:
            last = max(lesion.volume_ml)
            ratio = last * (lesion.volume_ml[visit] / last) ** (1 / 3)
            return float(ratio / (usual.heart_width / (2 * usual.half_width)))
    return 1.0


def _canvas(plan: _Plan, number: int, seed: int, spacing: tuple[float, ...]) -> Canvas:
    """A grid that holds the chest from the upper abdomen to the neck, skin to skin up to 42 cm."""
    chest = plan.chests[number]
    turn, lean, offset = plan.poses[number]
    low, high = 0.5 * plan.usual.height - 234.0, 0.5 * plan.usual.height + 198.0
    half = min(plan.usual.shoulder + 8, 214.0)
    wall = plan.usual.fat + plan.usual.muscle + 34
    front = plan.usual.front + wall + 0.7 * plan.usual.breast
    sizes = np.array([high - low, front + plan.usual.back + wall, 2 * half])
    shape = np.ceil(sizes / np.array(spacing)).astype(int)
    origin = (offset, 0.0, -0.5 * chest.height)
    affine = np.zeros((4, 4))
    affine[3, 3] = 1.0
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing
    affine[0, 3] = -(shape[2] - 1) / 2 * spacing[2]
    affine[1, 3] = -front
    affine[2, 3] = low - 0.5 * plan.usual.height
    frame = f"2.25.{(seed + 1) * 1_000_003 + number + 7_919_000_000_000_000}"
    return Canvas(Geometry(affine, frame), (int(shape[0]), int(shape[1]), int(shape[2])), turn, lean, origin)


def _draw_visit(
    plan: _Plan, number: int, seed: int, spacing: tuple[float, ...], texture: Texture, upright: bool
) -> Visit:
    canvas = _canvas(plan, number, seed, spacing)
    chest = replace(plan.chests[number], arms_down=plan.arms_down)
    congested = any(p.kind is LesionKind.EDEMA and p.volume_ml[number] > 0 for p in plan.lesions)
    congestion = 1.3 if congested else 1.0
    planned = lay_out(
        chest, plan.usual, plan.trees, plan.postures[number],
        is_upright=upright, congestion=congestion, finest=canvas.voxel,
    )  # fmt: skip
    needs_air = any(p.kind in (LesionKind.CONSOLIDATION, LesionKind.ATELECTASIS) for p in plan.lesions)
    scene, structures = paint_chest(canvas, planned, texture, keep_airways=needs_air)
    lesions = []
    present = [lesion for lesion in plan.lesions if lesion.volume_ml[number] > 0]
    for lesion in sorted(present, key=lambda each: PAINT_ORDER.index(each.kind) if each.kind in PAINT_ORDER else -1):
        if lesion.kind is LesionKind.CARDIOMEGALY:
            box, mask = canvas.whole, structures["heart"]
        else:
            box, mask = paint_lesion(scene, lesion, lesion.volume_ml[number])
        lesions.append(_measured(lesion, canvas.geometry, box, mask))
    structures["right_lung"] &= scene.lung
    structures["left_lung"] &= scene.lung
    hu = np.empty(canvas.shape, dtype=np.int16)
    for slab in canvas.slabs():
        at = slice(slab.first, slab.first + slab.shape[0])
        noise = 8.0 * texture.at(slab, slab.whole, float(canvas.spacing.min()), 0.6)
        hu[at] = np.clip(np.rint(scene.hu[at] + noise * (scene.hu[at] > -999)), -1024, 3071)
    varied = isinstance(chest, VariedAnatomy)
    for mask in structures.values():
        mask.flags.writeable = False
    hu.flags.writeable = False
    changes = {
        lesion.tracking_id: change.value
        for lesion in plan.lesions
        if number > 0 and (change := lesion.changes[number - 1]) is not None
    }
    order = {lesion.tracking_id: place for place, lesion in enumerate(plan.lesions)}
    return Visit(
        hu=hu,
        geometry=canvas.geometry,
        structures=MappingProxyType(structures),
        lesions=tuple(sorted(lesions, key=lambda each: order[each.tracking_id])),
        acquired_on=plan.days[number],
        changes=MappingProxyType(changes),
        is_upright=upright,
        carina_mm=canvas.to_patient(carina(chest)[None])[0],
        strands=_strands(scene, planned, plan.trees, lesions, congestion) if varied else (),
        devices=place_devices(seed, number, chest, canvas, plan.devices[number]),
    )


def _strands(
    scene: Scene, chest: Chest, trees: Trees, lesions: Collection[Lesion], congestion: float
) -> tuple[Strands, ...]:
    """Bones and vessels as tubes, vessels where air surrounds them."""
    air = scene.lung.copy()
    for lesion in lesions:
        if lesion.kind not in (LesionKind.EDEMA, LesionKind.CARDIOMEGALY) and lesion.attenuation in (None, "solid"):
            air[lesion.box] &= ~lesion.mask
    least = least_vessel(chest.anatomy, scene.canvas.voxel)
    return fine_strands(scene.canvas, chest, trees, air, least, chest.anatomy.vessel_scale * congestion)


def _measured(
    plan: LesionPlan, geometry: Geometry, box: tuple[slice, slice, slice], mask: npt.NDArray[np.bool_]
) -> Lesion:
    """Crop a mask to itself and measure it."""
    spans = []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(k for k in range(3) if k != axis)))
        spans.append(slice(int(hit[0]), int(hit[-1]) + 1))
    cropped = mask[tuple(spans)].copy()
    cropped.flags.writeable = False
    start = tuple(int(outer.start) + span.start for outer, span in zip(box, spans, strict=True))
    long_mm, short_mm = _axes(cropped[int(np.argmax(cropped.sum(axis=(1, 2))))], geometry.spacing_mm[1:])
    return Lesion(
        tracking_id=plan.tracking_id,
        kind=plan.kind,
        side=plan.side,
        lobe=plan.lobe,
        attenuation=plan.attenuation,
        long_axis_mm=long_mm,
        short_axis_mm=short_mm,
        volume_ml=float(np.count_nonzero(cropped)) * geometry.voxel_ml,
        start=(start[0], start[1], start[2]),
        mask=cropped,
    )


def _axes(area: npt.NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> tuple[float, float]:
    """Greatest extent of a mask in one slice (mm), pixel edges included, and its extent across that direction."""
    rows, columns = np.nonzero(area)
    centres = np.stack([rows, columns], axis=1).astype(np.float64)
    corners = np.concatenate([centres + shift for shift in ((-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5))])
    corners *= np.array(spacing_mm)
    try:
        hull = corners[ConvexHull(corners).vertices]
    except QhullError as error:
        raise ValueError("a lesion has no area in its largest slice") from error
    gaps = hull[:, None] - hull[None]
    length = np.linalg.norm(gaps, axis=-1)
    first, second = np.unravel_index(int(np.argmax(length)), length.shape)
    along = gaps[first, second] / length[first, second]
    across = hull @ np.array([-along[1], along[0]])
    return float(length.max()), float(np.ptp(across))
