"""Tubes, lines and implants of a varied patient: where each lies is known to the millimetre.

A device is one or more tubes along smooth paths. Which devices a patient has follows from how ill the film's view makes
them look (most of those who lie have some), not from the lesions: a drain may stay when the air has gone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from dicom_io.phantom.anatomy import Anatomy
from dicom_io.phantom.canvas import Canvas, Points, smooth_path
from dicom_io.phantom.strands import Strands, pieces

STEP_MM = 1.0
STEEL, LEAD_COIL, BARIUM, PLASTIC = 0.55, 0.30, 0.16, 0.012  # attenuation above that of tissue, 1 / mm, at 65 keV


class DeviceKind(StrEnum):
    """What can have been put into or onto a patient."""

    ENDOTRACHEAL_TUBE = "endotracheal_tube"
    NASOGASTRIC_TUBE = "nasogastric_tube"
    CENTRAL_LINE = "central_line"
    CHEST_DRAIN = "chest_drain"
    PACEMAKER = "pacemaker"
    STERNAL_WIRES = "sternal_wires"
    ECG_LEADS = "ecg_leads"


@dataclass(frozen=True, slots=True, eq=False)
class Device:
    """One device at one visit, in patient space (LPS).

    tip_mm: (3,) of the end that matters (the distal tip; of a pacemaker the lead in the ventricle), None where there
    is no such end. side: where it enters or sits, None for what is central. position: "proper", or what is wrong with
    it: "too_high", "right_main_bronchus", "oesophagus_only", "too_deep". reference_mm: (3,) of what the tip is judged
    by: the carina for a tube in the trachea, where the superior vena cava meets the atrium for a line.
    """

    tracking_id: str
    kind: DeviceKind
    side: str | None
    position: str
    tip_mm: Points | None
    reference_mm: Points | None
    strands: tuple[Strands, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A tube of a device in the body frame: path (N, 3) in mm, radius in mm, attenuation it adds in 1 / mm."""

    path: Points
    radius: float
    value: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A device in the body frame."""

    kind: DeviceKind
    side: str | None
    position: str
    tip: Points | None
    reference: Points | None
    parts: tuple[Part, ...]


def _by(point: Points, offset: Sequence[float]) -> Points:
    """A point (3,) moved by an offset (3,), mm."""
    return np.asarray(point + np.array(offset), dtype=np.float64)


def carina(anatomy: Anatomy) -> Points:
    """Where the trachea parts; (3,) body mm."""
    return np.array([0.5 * anatomy.heart_shift + 2, 12.0, 0.60 * anatomy.height])


def cavoatrial(anatomy: Anatomy) -> Points:
    """Where the superior vena cava meets the right atrium; (3,) body mm."""
    return np.array([-20.0 + anatomy.heart_shift, -6.0, 0.50 * anatomy.height])


SHARES = {  # of patients with each device, by view
    "PA": (0.0, 0.01, 0.05, 0.01, 0.06, 0.06, 0.02),
    "AP": (0.05, 0.10, 0.28, 0.06, 0.09, 0.11, 0.45),
    "AP SUPINE": (0.42, 0.42, 0.45, 0.10, 0.09, 0.12, 0.65),
    "LATERAL": (0.0, 0.01, 0.04, 0.01, 0.06, 0.06, 0.02),
}


def draw_device_kinds(random: np.random.Generator, view: str) -> list[DeviceKind]:
    """Which devices a patient has on a film of this view."""
    return [kind for kind, share in zip(DeviceKind, SHARES[view], strict=True) if random.random() < share]


def place_devices(
    seed: int, visit: int, anatomy: Anatomy, canvas: Canvas, kinds: Collection[DeviceKind]
) -> tuple[Device, ...]:
    """The devices of these kinds in this chest. The same seed gives the same ones; tips move a little by visit."""
    placed = []
    for kind in DeviceKind:
        if kind in kinds:
            build = BUILDERS[kind]
            number = list(DeviceKind).index(kind)
            who, move = np.random.default_rng([seed, 40, number]), np.random.default_rng([seed, 41, number, visit])
            plan = build(who, move, anatomy)
            placed.append(_placed(plan, canvas))
    return tuple(placed)


def _placed(plan: Plan, canvas: Canvas) -> Device:
    strands = []
    for part in plan.parts:
        middles, along = pieces(canvas.to_patient(part.path))
        same = np.full(len(along), 1.0)
        strands.append(Strands(middles, along, part.radius * same, part.value * same, drawn=False))
    tip, reference = (None if each is None else canvas.to_patient(each)[0] for each in (plan.tip, plan.reference))
    name = f"{plan.kind.value}-1"
    return Device(name, plan.kind, plan.side, plan.position, tip, reference, tuple(strands))


def _tube(path: npt.ArrayLike, radius: float, bore: float, stripe: float = 0.55) -> tuple[Points, tuple[Part, ...]]:
    """A plastic tube with a radiopaque stripe along its wall; its smoothed path and its parts."""
    line = smooth_path(path, STEP_MM)
    parts = [Part(line, radius, PLASTIC), Part(line, bore, -PLASTIC)]
    beside = line + np.array([0.75 * radius, 0.0, 0.0])
    parts.append(Part(beside, stripe, BARIUM))
    return line, tuple(parts)


def _endotracheal(random: np.random.Generator, move: np.random.Generator, anatomy: Anatomy) -> Plan:
    height, fork = anatomy.height, carina(anatomy)
    position = str(random.choice(["proper", "too_high", "right_main_bronchus"], p=[0.74, 0.12, 0.14]))
    above = {"proper": random.uniform(22, 58), "too_high": random.uniform(70, 95)}.get(position, 0.0)
    above = float(max(above + move.normal(0, 4), 16.0)) if position != "right_main_bronchus" else 0.0
    top = np.array([0.0, -2.0, 1.40 * height])
    neck = np.array([0.3 * anatomy.heart_shift, 4.0, 0.85 * height])
    path = [top, neck]
    if position == "right_main_bronchus":
        hilum = anatomy.hilum(-1.0) - np.array([-6.0, -6.0, 0.0])
        path += [_by(fork, [0, 0, 6.0]), fork + random.uniform(0.45, 0.75) * (hilum - fork)]
    else:
        reach = fork[2] + above
        share = np.clip((reach - fork[2]) / (neck[2] - fork[2]), 0, 1)
        end = fork + share * (neck - fork)
        end[2] = reach
        path = [top, neck, end] if reach < neck[2] - 8 else [top, end]
    line, parts = _tube(path, 5.0, 3.7, 0.7)
    return Plan(DeviceKind.ENDOTRACHEAL_TUBE, None, position, line[-1:], fork[None], parts)


def _nasogastric(random: np.random.Generator, move: np.random.Generator, anatomy: Anatomy) -> Plan:
    height, shift = anatomy.height, anatomy.heart_shift
    position = str(random.choice(["proper", "oesophagus_only"], p=[0.86, 0.14]))
    stomach = np.array([0.42 * anatomy.half_width, -14.0, anatomy.left_dome - 30.0])
    path = [
        np.array([random.uniform(-4, 4), 14.0, 1.40 * height]),
        np.array([3.0, 20.0, 0.85 * height]),
        np.array([0.5 * shift - 1, 26.0, 0.60 * height]),
        np.array([0.5 * shift + 4, 24.0, 0.30 * height]),
    ]
    if position == "proper":
        path += [
            np.array([16.0, 20.0, min(anatomy.left_dome, 0.0) - 16.0]),
            _by(stomach, [-6, 4, 0]),
            _by(stomach, [random.uniform(4, 18), -6, -18]),
            _by(stomach, [random.uniform(-30, 4), -16, -36 - random.uniform(0, 20)]),
        ]
    else:
        path[-1] = path[-1] + [0, 0, random.uniform(-0.12, 0.12) * height + move.normal(0, 3)]
    line, parts = _tube(path, float(random.uniform(1.7, 2.7)), 1.3, float(random.uniform(0.4, 0.7)))
    if random.random() < 0.4:  # a weighted or metal tip
        parts += (Part(line[-14:], 1.5, BARIUM),)
    return Plan(DeviceKind.NASOGASTRIC_TUBE, None, position, line[-1:], stomach[None], parts)


def _veins(anatomy: Anatomy, side: float, entry: str, random: np.random.Generator) -> list[Points]:
    """The way from where a line enters to the upper vena cava."""
    height, half = anatomy.height, anatomy.half_width
    front = float(anatomy.front_y(np.float32(0.83 * height)))
    if entry == "jugular":
        start = [np.array([side * 46.0, -14.0, 1.30 * height]), np.array([side * 36.0, -18.0, 1.05 * height])]
    elif entry == "subclavian":
        start = [
            np.array([side * (0.72 * half + random.uniform(0, 12)), front - 14, 0.77 * height]),
            np.array([side * 0.52 * half, front - 6, 0.84 * height]),
            np.array([side * 0.34 * half, front + 8, 0.88 * height]),
        ]
    else:  # from the arm
        start = [
            np.array([side * (anatomy.shoulder + 2), -4.0, 0.56 * height]),
            np.array([side * (anatomy.shoulder - 48), -6.0, 0.75 * height]),
            np.array([side * 0.66 * half, front + 2, 0.83 * height]),
            np.array([side * 0.36 * half, front + 8, 0.87 * height]),
        ]
    cross = [] if side < 0 else [np.array([14.0, -26.0, 0.80 * height])]
    return [*start, *cross, np.array([-19.0, -20.0, 0.755 * height])]


def _central_line(random: np.random.Generator, move: np.random.Generator, anatomy: Anatomy) -> Plan:
    side = float(random.choice([-1.0, 1.0], p=[0.65, 0.35]))
    entry = str(random.choice(["jugular", "subclavian", "arm"], p=[0.45, 0.25, 0.30]))
    junction = cavoatrial(anatomy)
    position = str(random.choice(["proper", "too_high", "too_deep"], p=[0.72, 0.14, 0.14]))
    above = {"proper": random.uniform(-8, 26), "too_high": random.uniform(44, 62), "too_deep": random.uniform(-48, -24)}
    tip = _by(junction, [float(random.normal(0, 2)), 0.0, above[position] + float(move.normal(0, 3))])
    path = _veins(anatomy, side, entry, random)
    level = tip[2] + 0.4 * (0.755 * anatomy.height - tip[2])
    path += [np.array([-21.0 + 0.5 * anatomy.heart_shift, -12.0, level]), tip]
    radius = float(random.uniform(0.9, 1.5))
    line = smooth_path(path, STEP_MM)
    parts = [Part(line, radius, float(random.uniform(0.05, 0.11)))]
    if entry == "subclavian" and random.random() < 0.4:  # the chamber of an implanted port under the skin
        at = line[0] + [side * 4, -8.0, -12.0]
        parts += _plate(at, 11.0, 9.0, 4.0, 0.10)
    name = {-1.0: "right", 1.0: "left"}[side]
    return Plan(DeviceKind.CENTRAL_LINE, name, position, line[-1:], junction[None], tuple(parts))


def _chest_drain(random: np.random.Generator, move: np.random.Generator, anatomy: Anatomy) -> Plan:
    side = float(random.choice([-1.0, 1.0]))
    height = anatomy.height
    enter = random.uniform(0.28, 0.46) * height
    wide = float(anatomy.outer(np.float32(enter)))
    high = random.random() < 0.6
    tip = np.array([side * random.uniform(44, 66), random.uniform(-30, 20), random.uniform(0.78, 0.9) * height])
    if not high:
        tip = np.array([side * random.uniform(40, 75), 48.0, random.uniform(0.02, 0.14) * height])
    tip[2] += move.normal(0, 4)
    middle = np.array([side * 0.80 * wide, -4.0, enter + (22.0 if high else 4.0)])
    path = [np.array([side * (wide + 75), -10.0, enter - 46]), np.array([side * (wide + 18), -8.0, enter - 8]), middle]
    if high:
        path.append(np.array([side * 0.72 * wide, -8.0, 0.6 * height]))
    line = smooth_path([*path, tip], STEP_MM)
    thick = float(random.uniform(2.4, 4.6))
    stripe = line + np.array([0.6 * thick, 0.0, 0.0])
    hole = len(line) - int(random.uniform(45, 75))  # the stripe is interrupted at the hole nearest the skin
    parts = (
        Part(line, thick, PLASTIC), Part(line, 0.7 * thick, -PLASTIC),
        Part(stripe[: max(hole - 5, 2)], 0.7, BARIUM), Part(stripe[hole:], 0.7, BARIUM),
    )  # fmt: skip
    return Plan(DeviceKind.CHEST_DRAIN, "right" if side < 0 else "left", "proper", line[-1:], None, parts)


def _plate(centre: Points, half_x: float, half_z: float, thick: float, value: float) -> list[Part]:
    """A rounded plate facing the front, as tubes side by side."""
    rows = []
    for across in np.arange(-half_x + 1.0, half_x, 2.0):
        tall = half_z * (1 - abs(across / half_x) ** 3.2) ** (1 / 3.2)
        ends = np.array([_by(centre, [across, 0, -tall]), _by(centre, [across, 0, tall])])
        steps = np.linspace(0, 1, max(3, int(2 * tall)))[:, None]
        rows.append(Part(ends[0] + steps * (ends[1] - ends[0]), 1.15, value * thick / 1.8))
    return rows


def _pacemaker(random: np.random.Generator, move: np.random.Generator, anatomy: Anatomy) -> Plan:
    side = float(random.choice([1.0, -1.0], p=[0.85, 0.15]))
    height, half, shift = anatomy.height, anatomy.half_width, anatomy.heart_shift
    level = float(random.uniform(0.70, 0.80)) * height
    front = float(anatomy.front_y(np.float32(level))) - 10.0 - 0.4 * anatomy.muscle
    box = np.array([side * float(random.uniform(0.60, 0.74)) * half, front, level])
    parts = _plate(box, float(random.uniform(20, 25)), float(random.uniform(17, 23)), 7.0, 0.55)
    parts += _plate(_by(box, [0, 0, 20]), 12.0, 5.0, 7.0, 0.03)  # the clear header with the plugs
    vein = [_by(box, [-side * 4, 0, 22]), np.array([side * 0.48 * half, front + 8, 0.87 * height])]
    vein += [np.array([side * 0.30 * half, front + 14, 0.89 * height])]
    cross = [] if side < 0 else [np.array([14.0, -26.0, 0.80 * height])]
    cava = [np.array([-19.0, -20.0, 0.755 * height]), np.array([-22.0 + shift, -10.0, 0.52 * height])]
    floor, wide = anatomy.heart_floor, anatomy.heart_width
    apex = [shift + float(random.uniform(0.30, 0.44)) * wide, -38.0, floor + float(random.uniform(12, 26))]
    ventricle = np.array(apex) + move.normal(0, 1.5, 3)
    atrium = np.array([-20.0 + shift, -22.0, floor + 30.0])
    valve = np.array([4.0 + shift, -34.0, floor + 14.0])
    right = smooth_path([*vein, *cross, *cava, atrium, valve, ventricle], STEP_MM)
    parts += [Part(right, 0.8, LEAD_COIL), Part(right[-3:], 1.1, STEEL)]
    if random.random() < 0.65:  # a second lead hooks into the atrial appendage
        hook = [np.array([-26.0 + shift, -18.0, 0.40 * height]), np.array([-14.0 + shift, -38.0, 0.44 * height])]
        atrial = smooth_path([*(_by(each, [1.5, 0, -3]) for each in vein), *cross, *cava, *hook], STEP_MM)
        parts += [Part(atrial, 0.8, LEAD_COIL), Part(atrial[-3:], 1.1, STEEL)]
    if random.random() < 0.25:  # a defibrillator's shock coil
        parts.append(Part(right[-75:-20], 1.6, STEEL))
    return Plan(DeviceKind.PACEMAKER, "left" if side > 0 else "right", "proper", right[-1:], None, tuple(parts))


def _sternal_wires(random: np.random.Generator, move: np.random.Generator, anatomy: Anatomy) -> Plan:
    parts = []
    for level in np.linspace(0.24, 0.80, int(random.integers(5, 8))) + random.normal(0, 0.012):
        z = level * anatomy.height
        y = float(anatomy.front_y(np.float32(z))) - 6.0
        half_x, half_z = random.uniform(8, 13), random.uniform(3, 6)
        angle = np.linspace(0, 2 * np.pi, 40)
        tilt = random.normal(0, 0.2)
        x = half_x * np.cos(angle) + random.normal(0, 1.5)
        loop = np.stack([x, y + 7 * np.sin(angle), z + half_z * np.sin(angle) + tilt * x], axis=1)
        twist = np.array([[random.uniform(-4, 4), y - 7, z], [random.uniform(-4, 4), y - 8, z + random.uniform(5, 9)]])
        parts += [Part(loop, 0.45, STEEL), Part(smooth_path(twist, STEP_MM), 0.8, STEEL)]
    return Plan(DeviceKind.STERNAL_WIRES, None, "proper", None, None, tuple(parts))


def _ecg_leads(random: np.random.Generator, move: np.random.Generator, anatomy: Anatomy) -> Plan:
    height, half = anatomy.height, anatomy.half_width
    spots = [(-0.85, 0.86), (0.85, 0.86), (0.92, 0.16), (-0.9, 0.12), (0.15, 0.45)]
    parts: list[Part] = []
    aside = random.choice([-1.0, 1.0]) * random.uniform(0.2, 1.4)
    gather = np.array([aside * half, 0.0, random.choice([-0.45, 1.35]) * height])
    metal = float(random.uniform(0.02, 0.30))
    for across, up in spots[: int(random.integers(3, 6))]:
        x = (across + move.normal(0, 0.08)) * half
        z = (up + move.normal(0, 0.05)) * height
        y = float(anatomy.front_y(np.float32(np.clip(z, 0, height)))) - anatomy.fat - anatomy.muscle - 12.0
        at = np.array([x, y, z])
        parts += _plate(at, 9.0, 9.0, 1.5, 0.012)
        parts += _plate(_by(at, [0, -2, 0]), 3.4, 3.4, 1.5, max(metal, 0.08))
        bend = at + (gather - at) * random.uniform(0.3, 0.6) + np.array([random.normal(0, 35), 0, random.normal(0, 30)])
        wire = smooth_path([at, _by(at, [random.normal(0, 12), -4, random.uniform(4, 20)]), bend, gather], STEP_MM)
        wire[:, 1] = np.minimum(wire[:, 1], y - 3)
        parts.append(Part(wire, float(random.uniform(0.5, 0.8)), metal))
    return Plan(DeviceKind.ECG_LEADS, None, "proper", None, None, tuple(parts))


BUILDERS = {
    DeviceKind.ENDOTRACHEAL_TUBE: _endotracheal,
    DeviceKind.NASOGASTRIC_TUBE: _nasogastric,
    DeviceKind.CENTRAL_LINE: _central_line,
    DeviceKind.CHEST_DRAIN: _chest_drain,
    DeviceKind.PACEMAKER: _pacemaker,
    DeviceKind.STERNAL_WIRES: _sternal_wires,
    DeviceKind.ECG_LEADS: _ecg_leads,
}
