"""What is true of an exam, in the nouns of the product: a study with its prior, findings, comparisons, and the report.

The prose is the template writer's on findings that are never wrong, so that a model learns to say what a reader of the
truth would say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from dicom_io.phantom.lesion import LesionKind
from dicom_io.study import Geometry, Modality, Series, Study, Volume
from expert_models import codes
from expert_models.finding import (
    Box,
    Change,
    Code,
    Comparison,
    ExpertTag,
    Finding,
    Measurement,
    Presence,
    Region,
    Side,
)
from medmllm.losses import COURSES, SIDES, UNKNOWN
from medmllm.processor import Outlines
from medmllm.train.exams import ANATOMY, Drawn, Exam, Film

TRUTH = ExpertTag("truth", "1")
CONCEPTS: dict[str, Code] = {
    LesionKind.NODULE: codes.LUNG_NODULE,
    LesionKind.MASS: codes.LUNG_MASS,
    LesionKind.CONSOLIDATION: codes.CONSOLIDATION,
    LesionKind.EFFUSION: codes.PLEURAL_EFFUSION,
    LesionKind.PNEUMOTHORAX: codes.PNEUMOTHORAX,
    LesionKind.CARDIOMEGALY: codes.CARDIOMEGALY,
    LesionKind.ATELECTASIS: codes.ATELECTASIS,
    LesionKind.EDEMA: codes.PULMONARY_EDEMA,
}
OUTLINED = (*ANATOMY, *(str(kind) for kind in CONCEPTS if kind != LesionKind.CARDIOMEGALY))  # by our own model
FOLLOWED = OUTLINED[len(ANATOMY) - 1 :]  # the heart and what comes after it: whether it is there, and what became of it
SIDED = tuple(each for each in FOLLOWED if each not in ("heart", LesionKind.EDEMA))
OUTLINES: dict[str, Any] = {"outlined": OUTLINED, "sided": SIDED, "followed": FOLLOWED}  # of WetreadConfig
SPOKEN = (*(each.split("_")[-1] for each in OUTLINED), "right", "left", "yes", *COURSES, "no")  # WetreadConfig's words
LIMITS = {"PA": 0.5, "AP": 0.55}  # of the cardiothoracic ratio
Picture = npt.NDArray[np.float32]
EPOCH = datetime(2020, 1, 1)


def study_of(exam: Exam, with_prior: bool = True) -> Study:
    """The film, and the one before it, if there is one, as its only prior."""

    def study(number: int, film: Film) -> Study:
        when = EPOCH + timedelta(days=exam.days * number)
        return Study(f"{exam.seed}.{number}", f"exam {exam.seed}", when, (_series(f"{exam.seed}.{number}.1", film),))

    now = study(1, exam.now)
    return replace(now, priors=(study(0, exam.then),)) if with_prior and exam.then else now


def pictures_of(exam: Exam, study: Study) -> tuple[list[Picture], list[Picture | None]]:
    """The film, and the one before it where the study has it, as the processor takes them."""
    return [_shown(exam.now)], [_shown(exam.then) if study.priors and exam.then else None]


@lru_cache(maxsize=256)
def _shown(film: Film) -> Picture:
    """One array for all that is asked of a film, so that a batch holds and encodes it once."""
    return film.picture.astype(np.float32) / np.float32(255)


def is_enlarged(film: Film) -> bool:
    """Whether the true ratio is known, and above the limit of the view."""
    return film.cardiothoracic_ratio is not None and film.cardiothoracic_ratio > LIMITS[film.view]


def findings_of(film: Film, series_uid: str) -> tuple[Finding, ...]:
    """Lungs and heart, every lesion that is there, and every kind that is not. Ids f1, f2 ..."""
    regions = [_region(series_uid, each) for each in film.outlines]
    anatomy = [
        Finding("f", code, Presence.PRESENT, TRUTH, side=side, regions=regions[number])
        for number, (code, side) in enumerate(((codes.LUNG, Side.RIGHT), (codes.LUNG, Side.LEFT), (codes.HEART, None)))
    ]
    ratio = film.cardiothoracic_ratio
    measured = () if ratio is None else (Measurement(codes.CARDIOTHORACIC_RATIO, ratio, codes.RATIO),)
    heart = Presence.PRESENT if is_enlarged(film) else Presence.ABSENT
    found = [Finding("f", codes.CARDIOMEGALY, heart, TRUTH, regions=regions[2], measurements=measured)]
    there = set()
    for lesion, region in zip(film.lesions, regions[len(ANATOMY) :], strict=True):
        if lesion.kind != LesionKind.CARDIOMEGALY:
            there.add(lesion.kind)
            found.append(_lesion(lesion, region))
    missing = [kind for kind in CONCEPTS if kind not in there and kind != LesionKind.CARDIOMEGALY]
    absent = [Finding("f", CONCEPTS[kind], Presence.ABSENT, TRUTH) for kind in missing]
    return tuple(replace(each, id=f"f{number}") for number, each in enumerate((*anatomy, *found, *absent), 1))


def comparisons_of(exam: Exam, findings: tuple[Finding, ...]) -> tuple[Comparison, ...]:
    """What became of every lesion, and of a heart that is or was too large; nothing without an earlier film."""
    if exam.then is None:
        return ()
    prior_uid = f"{exam.seed}.0"
    before = findings_of(exam.then, f"{prior_uid}.1")
    made: list[Comparison] = []

    def add(change: Change, name: str, now: Finding | None, then: Finding | None) -> None:
        made.append(Comparison(f"c{len(made) + 1}", change, prior_uid, name, now.id if now else None, then))

    lesions, earlier = _by_name(exam.now, findings), _by_name(exam.then, before)
    for drawn in exam.now.lesions:
        if drawn.change is None or drawn.name not in lesions:
            continue
        then = earlier.get(drawn.name)
        change = Change(drawn.change)
        if (then is None) == (change is Change.NEW):
            add(change, drawn.name, lesions[drawn.name], then)
    for drawn in exam.gone:
        if drawn.name in earlier:
            add(Change.RESOLVED, drawn.name, None, earlier[drawn.name])
    heart = next(each for each in findings if each.concept == codes.CARDIOMEGALY)
    was = next(each for each in before if each.concept == codes.CARDIOMEGALY)
    if is_enlarged(exam.now) and not is_enlarged(exam.then):
        add(Change.NEW, "heart", heart, None)
    elif is_enlarged(exam.then) and not is_enlarged(exam.now):
        add(Change.RESOLVED, "heart", None, was)
    elif is_enlarged(exam.now):
        became = _of_the_heart(exam, exam.then)
        if became is not None:
            add(became, "heart", heart, was)
    return tuple(made)


def _of_the_heart(exam: Exam, then: Film) -> Change | None:
    """Of one that is too large on both films: by the lesion that is behind it; None where its change is not known."""
    was, now = ([each for each in film.lesions if each.kind == LesionKind.CARDIOMEGALY] for film in (then, exam.now))
    if was and now:
        return Change(now[0].change) if now[0].change in (Change.LARGER, Change.STABLE, Change.SMALLER) else None
    return Change.LARGER if now else Change.SMALLER if was else Change.STABLE


def seen_on_either(exam: Exam, findings: Sequence[Finding]) -> set[Code]:
    """The kinds that the film shows or the one before it."""
    before = findings_of(exam.then, f"{exam.seed}.0.1") if exam.then else ()
    return {each.concept for each in (*findings, *before) if each.presence is Presence.PRESENT}


def outlines_of(exam: Exam, study: Study, findings: Sequence[Finding], comparisons: Sequence[Comparison]) -> Outlines:
    """Where each of OUTLINED lies on the film and on the study's prior, on which sides, and what became of it.

    What is told of the heart is told of its enlargement; of the lungs nothing is. Of a real film, which has no film
    before it, a lesion is known where readers boxed it and nowhere else, and on the other side it may be as well. The
    diseases of the exam have to be known: a kind that it does not name counts as absent.
    """
    is_real = exam.then is None
    prior = exam.then if study.priors else None
    now, now_known = _outlines(exam.now, is_real)
    then, then_known = _outlines(prior, is_real) if prior else (None, np.zeros(len(OUTLINED), bool))
    there = np.full((len(OUTLINED), SIDES), UNKNOWN)
    course = np.full(len(OUTLINED), UNKNOWN)
    before = findings_of(prior, f"{exam.seed}.0.1") if prior else ()
    for thing, name in enumerate(OUTLINED):
        concept = codes.CARDIOMEGALY if name == "heart" else CONCEPTS.get(name)
        if concept is None or (name == "heart" and exam.now.cardiothoracic_ratio is None):
            continue
        there[thing] = _sides(concept, findings, is_real)
        if prior:
            course[thing] = _course(concept, findings, before, comparisons)
    return Outlines(now, now_known, then, then_known, there, course)


def _outlines(film: Film, is_real: bool) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(K, rows, columns), and whether each is the whole truth: not where nothing is outlined, nor where boxes are."""
    masks = np.zeros((len(OUTLINED), *film.picture.shape), bool)
    known = np.ones(len(OUTLINED), bool)
    names = [*ANATOMY, *(each.kind for each in film.lesions)]
    for name, outline in zip(names, film.outlines, strict=True):
        if name in OUTLINED:
            thing = OUTLINED.index(name)
            masks[thing] |= outline
            known[thing] &= bool(outline.any()) and not (is_real and name not in ANATOMY)
    return masks, known


def _sides(concept: Code, findings: Sequence[Finding], is_real: bool) -> tuple[int, int, int]:
    """Whether it is on the right, on the left, and at all; of what has no side, at all."""
    present = [each for each in findings if each.concept == concept and each.presence is Presence.PRESENT]
    is_there = int(bool(present))
    if concept in (codes.CARDIOMEGALY, codes.PULMONARY_EDEMA) or any(each.side is None for each in present):
        return UNKNOWN, UNKNOWN, is_there
    elsewhere = UNKNOWN if is_real and present else 0
    right, left = (1 if any(each.side is side for each in present) else elsewhere for side in (Side.RIGHT, Side.LEFT))
    return right, left, is_there


def _course(
    concept: Code, findings: Sequence[Finding], before: Sequence[Finding], comparisons: Sequence[Comparison]
) -> int:
    """What became of all of a kind, as in losses.OutlineTargets; UNKNOWN where not all became the same."""
    known = {each.id: each for each in findings}
    subjects = [(each, known.get(each.finding_id or "") or each.prior_finding) for each in comparisons]
    of_kind = [each for each, subject in subjects if subject and subject.concept == concept]
    changes = {each.change.value for each in of_kind}
    present = {each.id for each in findings if each.concept == concept and each.presence is Presence.PRESENT}
    if len(changes) == 1 and present <= {each.finding_id for each in of_kind}:
        return COURSES.index(changes.pop())
    is_nowhere = not changes and not any(_is_there(concept, each) for each in (findings, before))
    return len(COURSES) if is_nowhere else UNKNOWN


def _is_there(concept: Code, findings: Sequence[Finding]) -> bool:
    return any(each.concept == concept and each.presence is Presence.PRESENT for each in findings)


def _by_name(film: Film, findings: Sequence[Finding]) -> dict[str, Finding]:
    """The finding of each lesion but the heart, which findings_of gives in the film's order."""
    diseases = set(CONCEPTS.values()) - {codes.CARDIOMEGALY}
    found = [each for each in findings if each.presence is Presence.PRESENT and each.concept in diseases]
    names = [each.name for each in film.lesions if each.kind != LesionKind.CARDIOMEGALY]
    return dict(zip(names, found, strict=True))


def _series(uid: str, film: Film) -> Series:
    picture = film.picture.astype(np.float32)[None] / np.float32(255)
    volume = Volume(picture, Geometry(np.eye(4), is_calibrated=False))
    return Series(uid, Modality.DX, volume, (f"{uid}.1",), view=film.view, body_part="CHEST")


def _region(series_uid: str, mask: npt.NDArray[np.bool_]) -> tuple[Region, ...]:
    """One region on the film, none for a lesion that lies beyond its edge."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return ()
    box = Box((0, int(rows[0]), int(columns[0])), (1, int(rows[-1]) + 1, int(columns[-1]) + 1))
    return (Region(series_uid, box, f"{series_uid}.1"),)


def _lesion(lesion: Drawn, regions: tuple[Region, ...]) -> Finding:
    return Finding(
        "f",
        CONCEPTS[lesion.kind],
        Presence.PRESENT,
        TRUTH,
        side=Side(lesion.side) if lesion.side else None,
        regions=regions,
    )
