"""Patients as the model learns from them: a film, the one before it, and what is true of both.

Synthetic patients are drawn here; what no reader of a film could see is not true of it. Real films come from
medmllm/train/films.py. Drawing a patient takes seconds, so each is kept as one file (npz) in a folder and never drawn
twice.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby, product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dicom_io.phantom.lesion import Change, LesionKind
from dicom_io.phantom.patient import draw_patient
from dicom_io.phantom.project import Radiograph, radiograph

SIDE = 256  # rows and columns of a film
SPACING_MM = 3.0  # of the voxels that are projected
EXPOSURES = 2  # films of each visit: drawing the patient costs more than taking a film
ANATOMY = ("right_lung", "left_lung", "heart")
KINDS = tuple(LesionKind)
BACKWARDS = {Change.LARGER.value: Change.SMALLER.value, Change.SMALLER.value: Change.LARGER.value}
RAREST = 0.05  # of all: a kind that is rarer is not drawn more often for it
REAL = 0.25  # of what is drawn to learn from, where there are real films
RULES = 2  # of what is true of a film: exams that were kept under others are drawn anew

Progress = Callable[[str], None]
Mask = npt.NDArray[np.bool_]
Shares = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Drawn:
    """What is true of one lesion on one film. side: "right", "left" or None; change: since the visit before."""

    name: str
    kind: str
    side: str | None
    lobe: str | None
    long_axis_mm: float
    volume_ml: float
    change: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """picture: (SIDE, SIDE) in 8 bits; outlines: (3 + lesions, SIDE, SIDE): ANATOMY, then each lesion in order.

    An outline that covers nothing is not known. cardiothoracic_ratio: None where it is not known.
    """

    view: str
    picture: npt.NDArray[np.uint8]
    outlines: Mask
    lesions: tuple[Drawn, ...]
    cardiothoracic_ratio: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Exam:
    """Two visits of a patient, or one. gone: lesions seen on the first film and no more on the second.

    seed: of the synthetic patient; a number of its own for a real film. then: None where there is no earlier film.
    """

    seed: int
    days: int
    then: Film | None
    now: Film
    gone: tuple[Drawn, ...]


def kinds_of(seed: int) -> list[LesionKind]:
    """What the patient of this seed has: nothing in one of five, else one to three of the eight kinds."""
    random = np.random.default_rng([seed, 83])
    if random.random() < 0.2:
        return []
    count = int(random.choice([1, 2, 3], p=[0.45, 0.35, 0.2]))
    return [KINDS[each] for each in random.choice(len(KINDS), count, replace=False)]


def exams(seeds: Iterable[int], kept: Path, progress: Progress = lambda _: None) -> Iterator[Exam]:
    """EXPOSURES exams of each seed, drawn where the folder `kept` does not hold them yet."""
    kept.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds, 1):
        paths = [kept / f"{seed}-{each}-{RULES}.npz" for each in range(EXPOSURES)]
        if not all(path.is_file() for path in paths):
            for path, exam in zip(paths, _drawn(seed), strict=True):
                keep(exam, path)
        for path in paths:
            yield read(path)
        if number % 50 == 0:
            progress(f"{number} patients at hand")


def _drawn(seed: int) -> Iterator[Exam]:
    patient = draw_patient(seed, visits=2, kinds=kinds_of(seed), spacing_mm=SPACING_MM)
    then, now = patient.visits
    days = (now.acquired_on - then.acquired_on).days
    for number in range(EXPOSURES):
        views = np.random.default_rng([seed, number, 89]).choice(["PA", "AP"], 2, p=[0.7, 0.3])
        films = [
            radiograph(visit, view=str(view), rows=SIDE, seed=seed * 7 + 2 * number + at)
            for at, (visit, view) in enumerate(zip((then, now), views, strict=True))
        ]
        before, after = _film(films[0]), _film(films[1])
        yield exam_of(seed, days, before, after, now.changes)


def exam_of(seed: int, days: int, then: Film, now: Film, changes: Mapping[str, str]) -> Exam:
    """Two films of a patient. What is seen on one of them alone is new there or gone, whatever it was in the patient.

    changes: of the patient's lesions, by name.
    """
    before, here = ({each.name for each in film.lesions} for film in (then, now))
    lesions = tuple(
        replace(each, change=changes.get(each.name) if each.name in before else Change.NEW.value)
        for each in now.lesions
    )
    gone = tuple(each for each in then.lesions if each.name not in here)
    return Exam(seed, days, then, replace(now, lesions=lesions), gone)


def pairs(drawn: Iterable[Exam]) -> Iterator[Exam]:
    """Every two films of a synthetic patient; those of two visits in both orders: what grew then shrinks.

    What both films of one visit show is stable, as of a patient who comes back with nothing changed.

    drawn: exams of EXPOSURES films of each visit, those of a patient beside each other. A patient that is drawn gives
    ten exams instead of two; real films, and patients of one exam, stay as they are.
    """
    for _, of_patient in groupby(drawn, key=lambda exam: exam.seed):
        exams_ = list(of_patient)
        if len(exams_) < 2:
            yield from exams_
            continue
        days, visits = exams_[0].days, [[film for each in exams_ if (film := each.then)], [each.now for each in exams_]]
        changes = {
            lesion.name: lesion.change
            for each in exams_
            for lesion in each.now.lesions
            if lesion.change and lesion.change != Change.NEW
        }
        backwards = {name: BACKWARDS.get(change, change) for name, change in changes.items()}
        same = {lesion.name: Change.STABLE.value for films in visits for film in films for lesion in film.lesions}
        for then, now in product(*visits):
            yield exam_of(exams_[0].seed, days, then, now, changes)
            yield exam_of(exams_[0].seed, days, now, then, backwards)
        for films in visits:
            yield exam_of(exams_[0].seed, days, films[0], films[1], same)


def _film(film: Radiograph) -> Film:
    lesions = tuple(
        Drawn(
            each.tracking_id,
            each.kind.value,
            each.side,
            each.lobe,
            each.long_axis_mm,
            each.volume_ml,
            None,
        )
        for each in film.visible
    )
    outlines = np.stack([film.masks[name] for name in (*ANATOMY, *(each.name for each in lesions))])
    picture = np.round(film.image * 255).astype(np.uint8)
    return Film(film.view, picture, outlines, lesions, film.cardiothoracic_ratio)


def shares(at_hand: Sequence[Exam]) -> Shares:
    """How often to draw each exam, in sum 1: REAL of the draws take a real film, where there are both.

    Of either, half of the draws take any, half each kind of lesion as often as another; exams without a lesion are a
    kind, and what only the earlier film shows counts.
    """
    films = [[each for each in (exam.then, exam.now) if each is not None] for exam in at_hand]
    kinds = [{each.kind for film in of for each in film.lesions} or {""} for of in films]
    real = np.array([exam.then is None for exam in at_hand])
    made = np.zeros(len(at_hand))
    for group in (real, ~real):
        if group.any():
            within = np.flatnonzero(group)
            many = Counter(kind for number in within for kind in kinds[number])
            worth = {kind: 1 / max(count, RAREST * len(within)) for kind, count in many.items()}
            rare = np.array([sum(worth[kind] for kind in sorted(kinds[number])) for number in within])
            made[within] = (rare / rare.sum() + 1 / len(within)) / 2
    if real.any() and not real.all():
        made *= np.where(real, REAL, 1 - REAL)
    return made


def keep(exam: Exam, path: Path) -> None:
    """Write an exam as one npz; the file is whole at any time."""
    arrays: dict[str, Any] = {}
    told: dict[str, object] = {"seed": exam.seed, "days": exam.days, "gone": [asdict(each) for each in exam.gone]}
    for name, film in (("then", exam.then), ("now", exam.now)):
        if film is None:
            continue
        arrays[f"{name}_picture"] = film.picture
        arrays[f"{name}_outlines"] = np.packbits(film.outlines, axis=-1)
        told[name] = {
            "view": film.view,
            "ratio": film.cardiothoracic_ratio,
            "lesions": [asdict(each) for each in film.lesions],
        }
    partial = path.with_suffix(".partial.npz")
    np.savez_compressed(partial, told=np.frombuffer(json.dumps(told).encode(), dtype=np.uint8), **arrays)
    partial.replace(path)


def read(path: Path) -> Exam:
    """The exam that was kept."""
    with np.load(path) as arrays:
        told = json.loads(arrays["told"].tobytes())
        films = {
            name: Film(
                told[name]["view"],
                arrays[f"{name}_picture"],
                np.unpackbits(arrays[f"{name}_outlines"], axis=-1).astype(bool),
                tuple(Drawn(**each) for each in told[name]["lesions"]),
                told[name]["ratio"],
            )
            for name in ("then", "now")
            if name in told
        }
    gone = tuple(Drawn(**each) for each in told["gone"])
    return Exam(told["seed"], told["days"], films.get("then"), films["now"], gone)
