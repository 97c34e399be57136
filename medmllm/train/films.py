"""Real films as exams: their outlines, and the diseases that readers or reports name. And exams to be scored on.

A film has no earlier one here. What a pack does not say is not known: an outline that covers nothing, a lesion without
a side.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dicom_io.phantom.lesion import LesionKind
from expert_models.chest_radiograph import ChestRadiograph
from expert_models.evaluate import phantom_seeds
from expert_models.evaluate_radiographs import is_held_out, outlined
from expert_models.ports import Expert
from expert_models.preprocess import Letterbox
from expert_models.train.phantoms import HELD_OUT
from expert_models.train.radiographs import Labelled, opened, real_radiographs
from medmllm.train.exams import EXPOSURES, SIDE, Drawn, Exam, Film, exams, keep, read

FIRST = HELD_OUT - 100_000  # the numbers of real films lie above those of the patients that are trained on
NAMED = {  # columns of cxr_nih, and what a phantom would have
    "Nodule": LesionKind.NODULE,
    "Mass": LesionKind.MASS,
    "Consolidation": LesionKind.CONSOLIDATION,
    "Infiltration": LesionKind.CONSOLIDATION,
    "Pneumonia": LesionKind.CONSOLIDATION,
    "Effusion": LesionKind.EFFUSION,
    "Pneumothorax": LesionKind.PNEUMOTHORAX,
    "Atelectasis": LesionKind.ATELECTASIS,
    "Edema": LesionKind.EDEMA,
}
BOXED = {"Lung Opacity": LesionKind.CONSOLIDATION, "Infiltrate": LesionKind.CONSOLIDATION} | NAMED
PACK_SIDE = 512  # of the pictures that the boxes of cxr_nih are drawn on

Mask = npt.NDArray[np.bool_]


def held_out_exams(source: str, kept: Path, limit: int | None = None) -> Iterator[Exam]:
    """Exams to score a model on: one of each seed of "phantom:START-STOP", or a folder's films with drawn outlines.

    kept: where drawn patients are kept. ValueError, in one sentence, for a source that is neither.
    """
    if source.startswith("phantom:"):
        yield from islice(exams(phantom_seeds(source)[:limit], kept), 0, None, EXPOSURES)
        return
    pack = Path(source) / "cxr_anatomy"
    if not (pack / "index.csv").is_file():
        raise ValueError(f"{source} is neither a range phantom:START-STOP nor a folder with the pack cxr_anatomy")
    drawn = islice(real_radiographs(pack, is_held_out), limit)
    yield from (anatomy_exam(each, FIRST + number) for number, each in enumerate(drawn))


def anatomy_exam(labelled: Labelled, seed: int) -> Exam:
    """A film of cxr_anatomy with what was drawn on it; of its diseases nothing is known."""
    masks = [mask & known for mask, known in zip(labelled.masks, labelled.known, strict=True)]
    return _exam(seed, labelled.view, labelled.picture, masks, (), None)


def training_films(packs: Path, kept: Path) -> Iterator[Exam]:
    """Training films of cxr_nih with the lungs and heart that the packaged expert outlines; others are left out."""
    pack, expert = packs / "cxr_nih", ChestRadiograph()
    boxes: dict[str, list[dict[str, str]]] = {}
    for each in _rows(pack / "boxes.csv"):
        boxes.setdefault(each["file"], []).append(each)
    kept.mkdir(parents=True, exist_ok=True)
    rows = [row for row in _rows(pack / "index.csv") if not is_held_out(row["split"])]
    for number, row in enumerate(rows):
        path = kept / f"film-{number}.npz"
        if not path.is_file():
            exam = labelled_exam(pack, row, boxes.get(row["file"], ()), expert, FIRST + number)
            if exam is None:
                continue
            keep(exam, path)
        yield read(path)


def labelled_exam(
    pack: Path, row: Mapping[str, str], boxes: Sequence[Mapping[str, str]], expert: Expert, seed: int
) -> Exam | None:
    """A row of cxr_nih with its labels; those that were boxed have places and sides. None where no lungs are seen."""
    picture = opened(pack / row["file"])
    unknown = np.zeros((3, *picture.shape), bool)
    shown = Labelled(row["file"], row["patient"], row["view"], "", picture, unknown, (False, False, False))
    masks, ratio = outlined(expert, shown)
    lungs = masks["right lung"], masks["left lung"]
    if not (lungs[0].any() and lungs[1].any()):
        return None
    lesions: list[tuple[Drawn, Mask]] = []
    for each in boxes:
        if kind := BOXED.get(each["label"]):
            mask = _boxed(each, picture.shape)
            side = "right" if (mask & lungs[0]).sum() >= (mask & lungs[1]).sum() else "left"
            lesions.append((_drawn(f"box {len(lesions)}", kind, side), mask))
    placed = {each.kind for each, _ in lesions}
    for column, kind in NAMED.items():
        if row[column] == "1" and kind not in placed:
            placed.add(kind)
            lesions.append((_drawn(column, kind, None), np.zeros(picture.shape, bool)))
    return _exam(seed, row["view"], picture, [*lungs, masks["heart"]], lesions, ratio)


def _drawn(name: str, kind: LesionKind, side: str | None) -> Drawn:
    return Drawn(name, kind.value, side, None, 0.0, 0.0, None)


def _exam(
    seed: int,
    view: str,
    picture: npt.NDArray[np.float32],
    anatomy: Sequence[Mask],
    lesions: Sequence[tuple[Drawn, Mask]],
    ratio: float | None,
) -> Exam:
    """The film laid whole into the square of an exam."""
    box = Letterbox((picture.shape[0], picture.shape[1]), (SIDE, SIDE))
    outlines = np.stack([box.lay(each.astype(np.float32)) > 0.5 for each in (*anatomy, *(mask for _, mask in lesions))])
    laid = np.round(np.clip(box.lay(picture), 0, 1) * 255).astype(np.uint8)
    return Exam(seed, 0, None, Film(view, laid, outlines, tuple(each for each, _ in lesions), ratio), ())


def _boxed(drawn: Mapping[str, str], shape: tuple[int, ...]) -> Mask:
    mask = np.zeros(shape, bool)
    x0, x1 = (round(float(drawn[name]) * shape[1] / PACK_SIDE) for name in ("x0", "x1"))
    y0, y1 = (round(float(drawn[name]) * shape[0] / PACK_SIDE) for name in ("y0", "y1"))
    mask[max(0, y0) : y1, max(0, x0) : x1] = True
    return mask


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
