"""The chest radiograph expert on labelled radiographs, by the same path as a DICOM file's pixels take.

Lungs Dice is of the union of both lungs, per radiograph; a lung that the annotator left out takes the radiograph out of
that figure, and of that of the lungs' areas, left over right. The cardiothoracic ratio's error is against the widths of
the drawn masks, read as the expert reads its own. An outline that the expert withholds, of the heart alone or of all,
scores a Dice of 0. Without a ratio a radiograph is left out of ratio and AUROC, and lowers the share assessed.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from dicom_io.study import Geometry, Modality, Series, Volume
from expert_models.codes import CARDIOMEGALY, CARDIOTHORACIC_RATIO, HEART, LUNG
from expert_models.evaluate import Metric, Progress, bootstrapped, mean_metric
from expert_models.finding import Finding, Side
from expert_models.measure import Mask, cardiothoracic_ratio, dice
from expert_models.ports import Expert
from expert_models.train.phantoms import phantom_radiograph
from expert_models.train.radiographs import Labelled, real_radiographs

PHANTOM_ROWS = 512
PHANTOM_SPACING_MM = 2.0


@dataclass
class MaskShelf:
    """Masks kept in memory for the length of an evaluation of one radiograph."""

    kept: dict[str, npt.NDArray[np.bool_]] = field(default_factory=dict)

    def save(self, mask: npt.NDArray[np.bool_]) -> str:
        """Keep a mask and return its key."""
        key = str(len(self.kept))
        self.kept[key] = mask
        return key

    def load(self, key: str) -> npt.NDArray[np.bool_]:
        """The mask of this key."""
        return self.kept[key]


def evaluate_packs(
    expert: Expert, source: Path, limit: int | None = None, progress: Progress | None = None
) -> list[Metric]:
    """The radiograph packs in a folder, `cxr_anatomy` (masks) and `cxr_nih` (labels), without their training rows."""
    metrics: list[Metric] = []
    if (source / "cxr_anatomy" / "index.csv").is_file():
        radiographs = islice(real_radiographs(source / "cxr_anatomy", is_held_out), limit)
        metrics += _anatomy(expert, radiographs, progress)
    if (source / "cxr_nih" / "index.csv").is_file():
        metrics += _labels(expert, islice(labelled_nih(source / "cxr_nih"), limit), progress)
    return metrics


def evaluate_phantoms(
    expert: Expert, seeds: Iterable[int], limit: int | None = None, progress: Progress | None = None
) -> list[Metric]:
    """The same figures on phantoms, whose masks and ratio are exact."""
    films = (phantom_radiograph(seed, PHANTOM_ROWS, PHANTOM_SPACING_MM) for seed in islice(seeds, limit))
    return _anatomy(expert, films, progress)


def as_series(picture: npt.NDArray[np.float32], view: str, name: str = "1") -> Series:
    """A picture (rows, columns) in [0, 1] as the one series of a radiograph without a stated pixel spacing."""
    return Series(
        uid=name,
        modality=Modality.DX,
        volume=Volume(np.ascontiguousarray(picture[None]), Geometry(np.eye(4), is_calibrated=False)),
        source=(name,),
        view=view or None,
        body_part="CHEST",
    )


def auroc(labels: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]) -> float:
    """Area under the ROC curve by ranks, ties counted half; nan when only one class is there."""
    positives, negatives = scores[labels], scores[~labels]
    if not positives.size or not negatives.size:
        return float("nan")
    difference = np.sign(positives[:, None] - negatives[None, :])
    return float((difference.mean() + 1) / 2)


def _anatomy(expert: Expert, radiographs: Iterable[Labelled], progress: Progress | None) -> list[Metric]:
    lungs: list[tuple[float, str]] = []
    hearts: list[tuple[float, str]] = []
    errors: list[tuple[float, str]] = []
    assessed: list[tuple[float, str]] = []
    areas: list[tuple[float, str]] = []
    for number, labelled in enumerate(radiographs, 1):
        masks, ratio = outlined(expert, labelled)
        truth = dict(zip(("right lung", "left lung", "heart"), labelled.masks, strict=True))
        both = labelled.known[0] and labelled.known[1]
        assessed.append((float(ratio is not None), labelled.patient))
        if both:
            union = truth["right lung"] | truth["left lung"]
            lungs.append((dice(masks["right lung"] | masks["left lung"], union), labelled.patient))
            if masks["right lung"].any() and masks["left lung"].any():
                areas.append((abs(_area_ratio(masks) - _area_ratio(truth)), labelled.patient))
        if labelled.known[2]:
            hearts.append((dice(masks["heart"], truth["heart"]), labelled.patient))
        if both and labelled.known[2] and ratio is not None:
            errors.append((abs(ratio - cardiothoracic_ratio(*labelled.masks)), labelled.patient))
        if progress and number % 10 == 0:
            progress(f"{number} radiographs outlined")
    named = {
        "cxr_anatomy/lungs/dice": lungs,
        "cxr_anatomy/heart/dice": hearts,
        "cxr_anatomy/ratio/abs_error": errors,
        "cxr_anatomy/lung_area_ratio/abs_error": areas,
        "cxr_anatomy/assessed": assessed,
    }
    return [mean_metric(name, *zip(*cases, strict=True)) for name, cases in named.items() if cases]


def _area_ratio(masks: Mapping[str, Mask]) -> float:
    return float(masks["left lung"].sum() / masks["right lung"].sum())


def outlined(expert: Expert, labelled: Labelled) -> tuple[dict[str, npt.NDArray[np.bool_]], float | None]:
    """The expert's masks, (rows, columns) each and empty where it gives none, and its ratio or None."""
    shelf = MaskShelf()
    findings = _examined(expert, as_series(labelled.picture, labelled.view), shelf)
    masks = {name: np.zeros(labelled.picture.shape, bool) for name in ("right lung", "left lung", "heart")}
    ratio = None
    for finding in findings:
        name = {
            (LUNG, Side.RIGHT): "right lung",
            (LUNG, Side.LEFT): "left lung",
            (HEART, None): "heart",
        }.get((finding.concept, finding.side))
        for region in finding.regions if name else ():
            if region.mask_key is not None:
                masks[name or ""][region.box.slices[1:]] = shelf.load(region.mask_key)[0]
        measured = finding.measurement(CARDIOTHORACIC_RATIO)
        ratio = measured.value if measured else ratio
    return masks, ratio


def _labels(expert: Expert, cases: Iterable[tuple[str, Series, bool]], progress: Progress | None) -> list[Metric]:
    labels: list[bool] = []
    scores: list[float] = []
    patients: list[str] = []
    for number, (patient, series, label) in enumerate(cases, 1):
        for finding in _examined(expert, series, MaskShelf()):
            if finding.concept == CARDIOMEGALY and finding.probability is not None:
                labels.append(label)
                scores.append(finding.probability)
                patients.append(patient)
        if progress and number % 10 == 0:
            progress(f"{number} labelled radiographs read")
    truth, guess = np.array(labels, dtype=bool), np.array(scores)
    if not truth.any() or truth.all():
        if progress:
            progress("cardiomegaly: one class only, so there is no AUROC")
        return []
    score: Callable[[npt.NDArray[np.int64]], float] = lambda index: auroc(truth[index], guess[index])  # noqa: E731
    return [bootstrapped("cxr_findings/cardiomegaly/auroc", score, patients)]


def _examined(expert: Expert, series: Series, shelf: MaskShelf) -> Iterable[Finding]:
    return () if expert.refuses(series) else expert.examine(series, shelf)


def labelled_nih(pack: Path) -> Iterator[tuple[str, Series, bool]]:
    """Patient, film and whether cardiomegaly was mined from its report, of the rows that are not for training."""
    with (pack / "index.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if is_held_out(row.get("split", ""))]
    for row in rows:
        with Image.open(pack / row["file"]) as image:
            picture = np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255)
        yield row["patient"], as_series(picture, row["view"]), row["Cardiomegaly"] == "1"


def is_held_out(split: str) -> bool:
    """Whether rows of this split may be scored."""
    return split != "train"
