"""What a varied patient suffers from, and how it goes: lesions of one disease change together, at its pace.

The paces are orders of magnitude that textbooks agree on (a pneumonia clears in weeks, fluid of heart failure in days,
a growing nodule doubles in one to a few hundred days); none is fitted to data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

import numpy as np

from dicom_io.phantom.lesion import Change, LesionKind, LesionPlan, draw_kinds

GONE_ML = {  # what is smaller is not drawn any more
    LesionKind.NODULE: 0.03,
    LesionKind.MASS: 15.0,
    LesionKind.CONSOLIDATION: 10.0,
    LesionKind.EFFUSION: 50.0,
    LesionKind.PNEUMOTHORAX: 40.0,
    LesionKind.ATELECTASIS: 3.0,
    LesionKind.EDEMA: 180.0,
    LesionKind.CARDIOMEGALY: 0.0,
}
STABLE, CLEAR = 1.04, 1.35  # volumes change by less than the one factor or more than the other, never in between


@dataclass(frozen=True, slots=True)
class Illness:
    """A disease: its share among patients, the days between its films, and how it goes.

    course: "grows", "clears", "swings" or "heals" (air: at once there, then less and less); "mixed" leaves each lesion
    the course it was planned with.
    """

    name: str
    share: float
    days: tuple[int, int]
    course: str


ILLNESSES = (
    Illness("none", 0.34, (2, 400), "mixed"),
    Illness("nodule", 0.08, (40, 400), "grows"),
    Illness("metastases", 0.06, (30, 180), "grows"),
    Illness("tumour", 0.07, (20, 200), "grows"),
    Illness("pneumonia", 0.14, (2, 45), "clears"),
    Illness("heart failure", 0.11, (1, 60), "swings"),
    Illness("air leak", 0.06, (1, 21), "heals"),
    Illness("effusion", 0.05, (2, 60), "swings"),
    Illness("collapse", 0.04, (1, 21), "clears"),
    Illness("several", 0.05, (2, 220), "mixed"),
)


def draw_illness(random: np.random.Generator) -> tuple[Illness, list[LesionKind]]:
    """A disease and the lesions it makes."""
    share = np.array([each.share for each in ILLNESSES])
    illness = ILLNESSES[int(random.choice(len(ILLNESSES), p=share / share.sum()))]
    some = random.random

    def also(kind: LesionKind, chance: float, most: int = 1) -> list[LesionKind]:
        return [kind] * int(random.integers(1, most + 1)) if some() < chance else []

    match illness.name:
        case "none":
            return illness, []
        case "nodule":
            return illness, also(LesionKind.NODULE, 1.0, 2)
        case "metastases":
            return illness, [LesionKind.NODULE] * int(random.integers(3, 9)) + also(LesionKind.EFFUSION, 0.25)
        case "tumour":
            more = also(LesionKind.ATELECTASIS, 0.3) + also(LesionKind.EFFUSION, 0.3) + also(LesionKind.NODULE, 0.3, 3)
            return illness, [LesionKind.MASS, *more]
        case "pneumonia":
            more = also(LesionKind.EFFUSION, 0.3) + also(LesionKind.ATELECTASIS, 0.15)
            return illness, [LesionKind.CONSOLIDATION] * int(
                random.choice([1, 2, 3, 4], p=[0.5, 0.25, 0.15, 0.1])
            ) + more
        case "heart failure":
            heart = also(LesionKind.CARDIOMEGALY, 0.75)
            wet = also(LesionKind.EDEMA, 0.7) + also(LesionKind.EFFUSION, 0.6, 2)
            return illness, heart + (wet or [LesionKind.EDEMA])
        case "air leak":
            return illness, [
                LesionKind.PNEUMOTHORAX,
                *also(LesionKind.EFFUSION, 0.15),
                *also(LesionKind.ATELECTASIS, 0.2),
            ]
        case "effusion":
            return illness, [LesionKind.EFFUSION] * int(random.integers(1, 3)) + also(LesionKind.ATELECTASIS, 0.3)
        case "collapse":
            return illness, [LesionKind.ATELECTASIS] * int(random.integers(1, 3))
        case _:
            return illness, draw_kinds(random)


def run_course(
    random: np.random.Generator, illness: Illness, lesions: Sequence[LesionPlan], days: Sequence[datetime]
) -> tuple[LesionPlan, ...]:
    """The lesions with volumes that follow the illness over the days of the visits; the largest stays as planned."""
    if illness.course == "mixed" or len(days) < 2:
        return tuple(lesions)
    since = np.array([(day - days[0]).total_seconds() / 86400 for day in days])
    shared = _curve(random, illness.course, since)
    result = []
    for lesion in lesions:
        own = shared * np.exp(random.normal(0, 0.10, len(since)))
        if illness.course == "grows" and lesion.kind in (LesionKind.NODULE, LesionKind.MASS):
            own = shared * np.exp(random.normal(0, 0.01, len(since)))
        result.append(_with_curve(lesion, own))
    return tuple(result)


def _curve(random: np.random.Generator, course: str, since: np.ndarray) -> np.ndarray:
    """Relative volume at each visit, (visits,), positive."""
    match course:
        case "grows":
            doubling = np.inf if random.random() < 0.35 else float(np.exp(random.uniform(np.log(35), np.log(400))))
            shrinks = -1.0 if random.random() < 0.15 else 1.0  # under treatment
            return np.asarray(2.0 ** (shrinks * since / doubling))
        case "clears":
            peak, pace = float(random.uniform(-4, 6)), float(random.uniform(4, 22))
            return np.asarray(np.where(since < peak, np.exp((since - peak) / 2.5), np.exp(-(since - peak) / pace)))
        case "heals":
            pace = float(random.uniform(2, 9))
            return np.asarray(np.exp(-since / pace))
        case _:
            return np.asarray(np.exp(np.cumsum(random.normal(0, 0.8, len(since)))))


def _with_curve(lesion: LesionPlan, curve: np.ndarray) -> LesionPlan:
    """The lesion with volumes along the curve, each step clearly a change or clearly none."""
    largest = max(lesion.volume_ml)
    volumes = [float(each) for each in curve / curve.max() * largest]
    if lesion.kind is LesionKind.CARDIOMEGALY:  # its volume is that of a ratio: a heart does not melt away
        volumes = [max(each, 0.45 * largest) for each in volumes]
    for visit in range(1, len(volumes)):
        before, now = volumes[visit - 1], volumes[visit]
        step = now / before
        strong = max(step, 1 / step)
        if strong < CLEAR:
            strong = 1.0 + (strong - 1) * 0.1 if strong < (1 + CLEAR) / 2 else CLEAR
            strong = min(strong, STABLE) if strong < CLEAR else strong
            volumes[visit] = before * (strong if step > 1 else 1 / strong)
    scale = largest / max(volumes)
    volumes = [each * scale for each in volumes]
    volumes = [each if each >= GONE_ML[lesion.kind] else 0.0 for each in volumes]
    changes = tuple(_change(before, after) for before, after in pairwise(volumes))
    return replace(lesion, volume_ml=tuple(volumes), changes=changes)


def _change(before: float, after: float) -> Change | None:
    if before == 0 or after == 0:
        return None if before == after else (Change.NEW if before == 0 else Change.RESOLVED)
    if max(after / before, before / after) <= STABLE + 1e-6:
        return Change.STABLE
    return Change.LARGER if after > before else Change.SMALLER
