"""The chest X-ray findings expert on real films it never saw, and on phantoms whose every lesion is known.

Real films are the rows of cxr_nih that are not for training. A film's probability of a label is that of the stronger
side. Opacity is scored against radiologists' readings; every other label against labels mined from reports, where at
least LEAST_POSITIVES films have it, once among all films and once among those with any label: in this pack other
findings occur on sick films only, and who knows sick from healthy would pass for one who knows effusions.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from dicom_io.phantom.lesion import Lesion, LesionKind
from expert_models.chest_findings import SIDES, ChestFindings
from expert_models.codes import CARDIOMEGALY
from expert_models.evaluate import Metric, Progress, bootstrapped, mean_metric
from expert_models.evaluate_radiographs import MaskShelf, as_series, auroc, is_held_out
from expert_models.finding import Finding, Presence
from expert_models.findings_reader import Reading
from expert_models.measure import dice
from expert_models.ports import Expert
from expert_models.train.findings_films import DISEASES, KINDS, MINED, phantom_film
from expert_models.train.radiographs import drawn_bits, opened, rows_where

LEAST_POSITIVES = 5
OPAQUE_BITS = 0b110000  # ground glass and consolidation in the masks of cxr_anatomy
BINS = 10  # of the calibration error, equally wide
PHANTOM_ROWS = 512
PHANTOM_SPACING_MM = 2.0
STATED = (Presence.PRESENT, Presence.INDETERMINATE)

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Score = Callable[[npt.NDArray[np.int64]], float]
Boxes = list[tuple[float, float, float, float]]  # top, left, bottom, right


@dataclass(frozen=True, slots=True)
class ReadFilm:
    """One real film as it was read. row: of the pack's index. reading: None where it was not assessed."""

    row: dict[str, str]
    reading: Reading | None
    findings: tuple[Finding, ...]
    overlap: float | None  # of the regions of opacity with the boxes that radiologists drew; None without such boxes
    hit: bool | None  # whether the strongest place lies in one of those boxes


def evaluate_films(
    expert: ChestFindings, source: Path, limit: int | None = None, progress: Progress | None = None
) -> list[Metric]:
    """Every figure on the packs cxr_nih and cxr_anatomy in a folder; none without them."""
    pack = source / "cxr_nih"
    drawn = _drawn_masks(expert, source / "cxr_anatomy", limit)
    if not (pack / "boxes.csv").is_file():
        return drawn
    with (pack / "index.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] != "train"]
    films = read_films(expert, pack, rows[:limit], progress)
    metrics = [mean_metric("cxr_findings/assessed", [float(f.reading is not None) for f in films], _patients(films))]
    assessed = [film for film in films if film.reading is not None]
    read = [film for film in assessed if film.row["rsna"]]
    metrics += _aurocs(expert, "opacity", "opacity/auroc", read, lambda row: row["rsna"] == "1")
    for view in ("PA", "AP"):
        of_view = [film for film in read if film.row["view"] == view]
        metrics += _aurocs(expert, "opacity", f"opacity/auroc/{view.lower()}", of_view, lambda row: row["rsna"] == "1")
    sick = [film for film in assessed if _is_sick(film.row)]
    for label, column in MINED.items():
        has: Callable[[dict[str, str]], bool] = lambda row, column=column: row[column] == "1"  # type: ignore[misc]  # noqa: E731
        metrics += _aurocs(expert, label, f"{label}/auroc", assessed, has)
        metrics += _aurocs(expert, label, f"{label}/auroc_among_sick", sick, has)
    metrics += _calibration_error(expert, assessed)
    healthy = [film for film in assessed if not _is_sick(film.row) and film.row["rsna"] != "1"]
    for name, presences in (("present", STATED[:1]), ("stated", STATED)):
        alarms = [float(any(each.presence in presences for each in film.findings)) for film in healthy]
        if healthy:
            metrics.append(mean_metric(f"cxr_findings/false_alarms/{name}", alarms, _patients(healthy)))
    boxed = [film for film in assessed if film.overlap is not None and film.hit is not None]
    if boxed:
        metrics.append(mean_metric("cxr_opacity/box/iou", [film.overlap or 0.0 for film in boxed], _patients(boxed)))
        metrics.append(mean_metric("cxr_opacity/box/hit", [float(film.hit or 0) for film in boxed], _patients(boxed)))
    return metrics + drawn


def _drawn_masks(expert: ChestFindings, pack: Path, limit: int | None) -> list[Metric]:
    """Dice of the regions of opacity with drawn ground glass and consolidation, on films that are not for training.

    The regions are those of the sides that would be stated, whatever the answer, as for boxes. A film that is not
    assessed scores 0.
    """
    if not (pack / "index.csv").is_file():
        return []
    overlaps: list[tuple[float, str]] = []
    for row in islice(rows_where(pack, is_held_out), limit):
        opaque = drawn_bits(pack / row["mask"]) & OPAQUE_BITS > 0
        if row["annotated"] == "all" and opaque.any():
            reading = expert.read(opened(pack / row["file"]))
            found = np.zeros(opaque.shape, bool)
            for mask in [] if isinstance(reading, str) else reading.regions("opacity", _stated_sides(expert, reading)):
                found |= mask
            overlaps.append((dice(found, opaque), row["patient"]))
    return [mean_metric("cxr_opacity/mask/dice", *zip(*overlaps, strict=True))] if overlaps else []


def read_films(
    expert: ChestFindings, pack: Path, rows: Sequence[dict[str, str]], progress: Progress | None = None
) -> list[ReadFilm]:
    """Rows of a cxr_nih pack, read by the expert's own path. Boxes are held against regions whatever was answered."""
    with (pack / "boxes.csv").open(encoding="utf-8", newline="") as file:
        drawn = [each for each in csv.DictReader(file) if each["source"] == "rsna"]
    films = []
    for number, row in enumerate(rows, 1):
        with Image.open(pack / row["file"]) as image:
            picture = np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255)
        series = as_series(picture, row["view"])
        reading = expert.read(picture) if expert.refuses(series) is None else ""
        if isinstance(reading, str):
            films.append(ReadFilm(row, None, (), None, None))
        else:
            scale = picture.shape[0] / 512
            boxes = [
                (float(b["y0"]) * scale, float(b["x0"]) * scale, float(b["y1"]) * scale, float(b["x1"]) * scale)
                for b in drawn
                if b["file"] == row["file"]
            ]
            overlap, hit = _placed(expert, reading, boxes, picture.shape) if boxes else (None, None)
            films.append(ReadFilm(row, reading, tuple(expert.findings(reading, series, MaskShelf())), overlap, hit))
        if progress and number % 20 == 0:
            progress(f"{number} of {len(rows)} films read")
    return films


def evaluate_findings_on_phantoms(
    expert: ChestFindings, heart: Expert, seeds: Iterable[int], limit: int | None = None,
    progress: Progress | None = None,
) -> list[Metric]:  # fmt: skip
    """AUROC of every finding that a phantom can have, and how often a finding that is stated has the right side.

    heart: the expert on cardiomegaly. Each phantom has `phantom_kinds`; two of three are varied. What no film could
    show does not count; a film that is not assessed counts as if nothing were seen in it.
    """
    truth: dict[str, list[bool]] = {kind.value: [] for kind in LesionKind}
    scores: dict[str, list[float]] = {kind.value: [] for kind in LesionKind}
    sides: list[tuple[float, str]] = []
    assessed: list[float] = []
    names: list[str] = []
    for seed in islice(seeds, limit):
        film = phantom_film(seed, PHANTOM_ROWS, PHANTOM_SPACING_MM)
        series = as_series(film.image.astype(np.float32), film.view)
        reading = expert.read(np.asarray(series.volume.voxels[0]))
        enlarged = [e.probability for e in heart.examine(series, MaskShelf()) if e.concept == CARDIOMEGALY]
        for kind in LesionKind:
            truth[kind.value].append(any(lesion.kind is kind for lesion in film.visible))
            if kind is LesionKind.CARDIOMEGALY:
                scores[kind.value].append(enlarged[0] if enlarged and enlarged[0] is not None else -np.inf)
            else:
                scores[kind.value].append(-np.inf if isinstance(reading, str) else max(reading.scores[KINDS[kind]]))
        if not isinstance(reading, str):
            found = list(expert.findings(reading, series, MaskShelf()))
            sides += [(float(right), str(seed)) for right in _sides_told(expert, reading, film.visible, found)]
        assessed.append(float(not isinstance(reading, str)))
        names.append(str(seed))
        if progress and len(names) % 10 == 0:
            progress(f"{len(names)} phantoms read")
    metrics = []
    for name, labels in truth.items():
        metrics += _auroc(f"panel/{name}/auroc", np.array(labels), np.array(scores[name]), names, least=1)
    if sides:
        metrics.append(mean_metric("panel/laterality/accuracy", *zip(*sides, strict=True)))
    return [*metrics, mean_metric("panel/assessed", assessed, names)]


def calibration_error(probability: Floats, truth: Bools) -> float:
    """Expected calibration error over BINS equally wide bins (Guo et al., ICML 2017, equation 3)."""
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    gaps = [abs(float(probability[bins == each].sum()) - float(truth[bins == each].sum())) for each in range(BINS)]
    return sum(gaps) / len(probability)


def _sides_told(
    expert: ChestFindings, reading: Reading, lesions: Sequence[Lesion], found: Sequence[Finding]
) -> list[bool]:
    """For each label that lies on one side alone and was stated: whether the strongest statement names that side."""
    right = []
    for label in expert.card.labels:
        true = {each.side for each in lesions if KINDS.get(each.kind) == label.name}
        stated = [each for each in found if each.concept == label.code and each.presence in STATED and each.side]
        if len(true) == 1 and None not in true and stated:
            strongest = max(stated, key=lambda each: reading.scores[label.name][SIDES.index(each.side or SIDES[0])])
            right.append(strongest.side is not None and strongest.side.value in true)
    return right


def _placed(expert: ChestFindings, reading: Reading, boxes: Boxes, shape: tuple[int, ...]) -> tuple[float, bool]:
    """Overlap (intersection over union) of the boxes of the regions with the drawn ones, and whether the peak hits."""
    drawn, found = np.zeros(shape, bool), np.zeros(shape, bool)
    for top, left, bottom, right in boxes:
        drawn[round(top) : round(bottom), round(left) : round(right)] = True
    for mask in reading.regions("opacity", _stated_sides(expert, reading)):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        found[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    side = int(np.argmax(reading.scores["opacity"]))
    shown = np.where(reading.halves[side], reading.maps["opacity"], 0)
    peak = np.array(np.unravel_index(int(np.argmax(shown)), shown.shape))
    row, column = np.clip(np.round(reading.box.to_source(peak)[0]).astype(int), 0, np.array(shape) - 1)
    union = (drawn | found).sum()
    return float((drawn & found).sum() / union), bool(drawn[row, column])


def _stated_sides(expert: ChestFindings, reading: Reading) -> list[int]:
    """The side where opacity is stronger, and the other where the expert does not call it absent."""
    scores, label = reading.scores["opacity"], expert.card.label("opacity")
    least = expert.card.calibration["opacity_absent"]
    return [
        side
        for side, score in enumerate(scores)
        if score == max(scores) or (expert.probability(label, score) or 0.0) >= least
    ]


def _aurocs(
    expert: ChestFindings, label: str, name: str, films: Sequence[ReadFilm], has: Callable[[dict[str, str]], bool]
) -> list[Metric]:
    truth = np.array([has(film.row) for film in films], dtype=bool)
    scores = np.array([_score(film, label) for film in films])
    return _auroc(f"cxr_findings/{name}", truth, scores, _patients(films), LEAST_POSITIVES)


def _auroc(name: str, truth: Bools, scores: Floats, patients: Sequence[str], least: int) -> list[Metric]:
    if truth.sum() < least or truth.all():
        return []
    return [bootstrapped(name, lambda index: auroc(truth[index], scores[index]), patients)]


def _calibration_error(expert: ChestFindings, films: Sequence[ReadFilm]) -> list[Metric]:
    """Of every calibrated label on every film where it is known, together."""
    cases = []
    for film in films:
        for label in expert.card.labels:
            probability = expert.probability(label, _score(film, label.name))
            known = film.row["rsna"] if label.name == "opacity" else film.row[MINED[label.name]]
            if probability is not None and known:
                cases.append((probability, known == "1", film.row["patient"]))
    if not cases:
        return []
    told, truth = np.array([each[0] for each in cases]), np.array([each[1] for each in cases])
    score: Score = lambda index: calibration_error(told[index], truth[index])  # noqa: E731
    return [bootstrapped("cxr_findings/ece", score, [each[2] for each in cases])]


def _score(film: ReadFilm, label: str) -> float:
    if film.reading is None:
        raise ValueError("a film that was not assessed has no score")
    return max(film.reading.scores[label])


def _is_sick(row: dict[str, str]) -> bool:
    return any(row[column] == "1" for column in DISEASES)


def _patients(films: Sequence[ReadFilm]) -> list[str]:
    return [film.row["patient"] for film in films]
