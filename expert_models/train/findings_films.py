"""Films for the findings network: phantoms with exact masks, and real films with readings, boxes and mined labels.

What is known of a film differs from label to label, so every statement has a weight: 0 says nothing, 1 is exact. A
label mined from reports counts for less than a reading, and a mined pneumonia is an opacity as often as radiologists
found one on films with that label.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from dicom_io.phantom.devices import draw_device_kinds
from dicom_io.phantom.lesion import LesionKind
from dicom_io.phantom.look import draw_look
from dicom_io.phantom.patient import draw_patient
from dicom_io.phantom.project import Radiograph, radiograph
from expert_models.findings_reader import halves_of_chest
from expert_models.preprocess import Letterbox
from expert_models.train.radiographs import in_frame, packed

FRAME = (384, 384)  # of the network's input, as its card says
LABELS = ("opacity", "effusion", "pneumothorax", "nodule", "mass", "atelectasis", "edema")  # in the card's order
SIDES = ("right", "left")
LUNGS = 2 + len(LABELS)  # the bit of a film that says where its lungs are
KINDS = {
    LesionKind.CONSOLIDATION: "opacity",
    LesionKind.EFFUSION: "effusion",
    LesionKind.PNEUMOTHORAX: "pneumothorax",
    LesionKind.NODULE: "nodule",
    LesionKind.MASS: "mass",
    LesionKind.ATELECTASIS: "atelectasis",
    LesionKind.EDEMA: "edema",
}
MINED = {  # columns of the pack that say the same as a label, without any reading behind them
    "effusion": "Effusion",
    "pneumothorax": "Pneumothorax",
    "nodule": "Nodule",
    "mass": "Mass",
    "atelectasis": "Atelectasis",
    "edema": "Edema",
}
TRAINED = {LesionKind.NODULE: 0.45, LesionKind.ATELECTASIS: 0.4}  # share of the training phantoms that have one
SEVERAL = {LesionKind.NODULE: 3, LesionKind.MASS: 2, LesionKind.CONSOLIDATION: 2, LesionKind.ATELECTASIS: 2}  # at most
OPAQUE = ("Pneumonia", "Infiltration", "Consolidation")  # columns that hint at an opacity
DISEASES = (*MINED.values(), *OPAQUE, "Cardiomegaly", "Emphysema", "Fibrosis", "Hernia", "Pleural_Thickening")

Uint16 = npt.NDArray[np.uint16]
Float32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Outlines = Callable[
    [Float32], tuple[Mask, Mask] | None
]  # right and left lung of a picture; None where no chest is seen


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """One framed film and what is known of it. H, W: the network's frame; K: the labels.

    picture: (H, W) in 8 bits. bits: (H, W); bits 0 and 1 are the right and the left half of the chest, bit 2 + k is
    where label k can be seen, and bit LUNGS, of real films alone, where the lungs are. sides: (K, 2) 0 or 1, and its
    weight. whole: (K) in [0, 1] for the film without its side, and its weight. drawn: (K) weight of the bits of label
    k. cell: films of every cell are drawn equally often.
    """

    name: str
    cell: str
    picture: npt.NDArray[np.uint8]
    bits: Uint16
    sides: Float32
    sides_weight: Float32
    whole: Float32
    whole_weight: Float32
    drawn: Float32


def phantom_kinds(seed: int) -> list[LesionKind]:
    """What the phantom of this seed has when findings are measured: none in four, else about two of eight.

    Unlike the phantom's own draw this gives enough of the rare kinds.
    """
    random = np.random.default_rng([seed, 4711])
    if random.random() < 0.25:
        return []
    return [kind for kind in LesionKind if random.random() < 0.24]


def training_kinds(seed: int) -> list[LesionKind]:
    """What a phantom has when findings are learned from it: more of every kind, and some kinds several times.

    Most nodules are too faint for a film, and a patient who has one may have three.
    """
    random = np.random.default_rng([seed, 4713])
    if random.random() < 0.2:
        return []
    kinds = [kind for kind in LesionKind if random.random() < TRAINED.get(kind, 0.3)]
    return [each for kind in kinds for each in [kind] * int(random.integers(1, 1 + SEVERAL.get(kind, 1)))]


def phantom_film(seed: int, rows: int, spacing_mm: float, kinds: Collection[LesionKind] | None = None) -> Radiograph:
    """A film of the phantom of this seed, varied for two seeds of three.

    kinds: what it has; None is `phantom_kinds`. What lies on its back is AP at the bedside.
    """
    random = np.random.default_rng([seed, 4712])
    is_varied = seed % 3 != 2
    view = str(random.permutation(["PA", "AP"])[0])
    if is_varied and random.random() < 0.25:
        view = "AP SUPINE"
    patient = draw_patient(
        seed, spacing_mm=spacing_mm, kinds=phantom_kinds(seed) if kinds is None else kinds,
        upright=view != "AP SUPINE", variety=is_varied, arms_down=True if is_varied else None,
        devices=draw_device_kinds(random, view) if is_varied else (),
    )  # fmt: skip
    look = draw_look(seed, view) if is_varied else None
    return radiograph(patient.visits[-1], view=view, rows=rows, seed=seed, look=look)


def from_phantom(seed: int, film: Radiograph) -> Film:
    """A phantom's film: its visible lesions are where their masks are."""
    masks = np.zeros((len(LABELS), *film.image.shape), bool)
    sides = np.zeros((len(LABELS), 2), np.float32)
    for lesion in film.visible:
        if lesion.kind in KINDS:
            label = LABELS.index(KINDS[lesion.kind])
            masks[label] |= film.masks[lesion.tracking_id]
            sides[label, [SIDES.index(lesion.side)] if lesion.side else [0, 1]] = 1
    picture, box = in_frame(film.image.astype(np.float32), FRAME)
    halves = _halves(film.masks["right_lung"], film.masks["left_lung"], box)
    laid = [box.lay(mask.astype(np.float32)) > _least(mask, box) for mask in masks]
    return known_film(f"phantom {seed}", picture, packed([*halves, *laid]), sides)


def known_film(name: str, picture: npt.NDArray[np.uint8], bits: Uint16, sides: Float32) -> Film:
    """A film about which everything is known."""
    labels = len(LABELS)
    return Film(
        name=name,
        cell="phantom",
        picture=picture,
        bits=bits,
        sides=sides,
        sides_weight=np.ones((labels, 2), np.float32),
        whole=sides.max(axis=1),
        whole_weight=np.zeros(labels, np.float32),  # said by the sides already
        drawn=np.ones(labels, np.float32),
    )


def real_films(pack: Path, wanted: Sequence[Mapping[str, str]], lungs: Outlines) -> Iterator[Film]:
    """Rows of a cxr_nih pack as films; those whose lungs `lungs` does not outline are left out.

    wanted: rows of the index. Opacity: radiologists' readings with their boxes where the row has one, else how often
    radiologists found one on training films with or without OPAQUE labels. Other labels: mined, or surely absent on
    films that radiologists called normal.
    """
    boxes: dict[str, list[dict[str, str]]] = {}
    with (pack / "boxes.csv").open(encoding="utf-8", newline="") as file:
        for each in csv.DictReader(file):
            boxes.setdefault(each["file"], []).append(each)
    hint = opacity_by_hint(rows_of(pack, held_out=False))
    for row in wanted:
        with Image.open(pack / row["file"]) as image:
            source = np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255)
        outline = lungs(source)
        if outline is not None:
            yield _real(row, source, outline, boxes.get(row["file"], []), hint)


def rows_of(pack: Path, *, held_out: bool) -> list[dict[str, str]]:
    """Training rows of a cxr_nih pack: those of the patients that the network sees, or that calibration keeps."""
    with (pack / "index.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
    return [row for row in rows if is_held_out(row["patient"]) is held_out]


def is_held_out(patient: str) -> bool:
    """One training patient in five, by a hash of the patient, is kept for calibration."""
    return int(hashlib.sha256(patient.encode()).hexdigest(), 16) % 5 == 0


def opacity_by_hint(rows: Iterable[Mapping[str, str]]) -> tuple[float, float]:
    """How often radiologists found an opacity on films without and with an OPAQUE label."""
    read: tuple[list[bool], list[bool]] = ([], [])
    for row in rows:
        if row["rsna"]:
            read[_hints(row)].append(row["rsna"] == "1")
    without, with_hint = (sum(each) / len(each) if each else 0.5 for each in read)
    return without, with_hint


def _hints(row: Mapping[str, str]) -> bool:
    return any(row[column] == "1" for column in OPAQUE)


def _real(
    row: Mapping[str, str],
    source: Float32,
    lungs: tuple[Mask, Mask],
    boxes: Sequence[Mapping[str, str]],
    hint: tuple[float, float],
) -> Film:
    labels = len(LABELS)
    picture, box = in_frame(source, FRAME)
    halves = _halves(*lungs, box)
    field = box.lay((lungs[0] | lungs[1]).astype(np.float32)) > 0.5
    masks = np.zeros((labels, *FRAME), bool)
    sides, sides_weight = np.zeros((labels, 2), np.float32), np.zeros((labels, 2), np.float32)
    whole, weight = np.zeros(labels, np.float32), np.zeros(labels, np.float32)
    drawn = np.zeros(labels, np.float32)
    opacity = LABELS.index("opacity")
    if row["rsna"]:
        whole[opacity], weight[opacity], drawn[opacity] = float(row["rsna"]), 1.0, 0.5
        for each in boxes:
            if each["source"] == "rsna":
                masks[opacity] |= _boxed(each, source.shape, box)
        if row["rsna"] == "0" or masks[opacity].any():  # boxes of the challenge are complete: both sides are known
            sides[opacity] = [float((masks[opacity] & half).sum() > 20) for half in halves]
            sides_weight[opacity] = 0.5
    else:
        whole[opacity], weight[opacity] = hint[_hints(row)], 0.5
    for name, column in MINED.items():
        label = LABELS.index(name)
        whole[label] = float(row[column])
        weight[label] = 1.0 if row["rsna_class"] == "Normal" and row[column] == "0" else 0.5
    if row["rsna_class"] == "Normal" or not any(row[column] == "1" for column in DISEASES):
        drawn[whole < 0.1] = 0.5  # nothing to be seen anywhere
    read = f"read {row['rsna']}" if row["rsna"] else f"mined {_hints(row)}"
    return Film(
        Path(row["file"]).name, f"{read} {row['view']}", picture,
        packed([*halves, *masks, field]), sides, sides_weight, whole, weight, drawn,
    )  # fmt: skip


def _halves(right_lung: Mask, left_lung: Mask, box: Letterbox) -> Mask:
    return halves_of_chest(*(box.lay(lung.astype(np.float32)) > 0.5 for lung in (right_lung, left_lung)))


def _least(mask: Mask, box: Letterbox) -> float:
    """Half of a frame pixel must be covered, less where the mask would vanish."""
    return 0.5 if mask.sum() * box.scale**2 > 12 else 0.2


def _boxed(drawn: Mapping[str, str], source: tuple[int, ...], box: Letterbox) -> Mask:
    """A box of the pack, in pixels of 512 x 512, in the frame."""
    corners = np.array([[float(drawn["y0"]), float(drawn["x0"])], [float(drawn["y1"]), float(drawn["x1"])]])
    (top, left), (bottom, right) = box.to_frame(corners * np.array(source) / 512 - 0.5)
    mask = np.zeros(box.frame, bool)
    mask[max(0, round(top)) : round(bottom), max(0, round(left)) : round(right)] = True
    return mask
