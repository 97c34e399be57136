"""The recipe of the attributes of nodules: linear functions fitted to the ratings of the training patients.

Every patient's nodules are rated once by functions that were fitted without that patient (ten folds by a hash of the
patient); on those ratings the thresholds are chosen. What ships is fitted on all training patients.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.optimize import minimize

from dicom_io.study import Volume
from expert_models import codes
from expert_models.card import read_card
from expert_models.ct_paste import read_ct, read_nifti
from expert_models.finding import Box, Code
from expert_models.nodule_attributes import MARKED, QUESTIONS, RATINGS, SUSPICIOUS, Heads, described, values_of

Progress = Callable[[str], None]
Float64 = npt.NDArray[np.float64]

FOLDS = 10
RIDGE = 0.01  # per weight, against the mean log-likelihood; 0.0001 and 0.001 were no better on the folds
PRECISION, LEAST = 0.9, 20  # a value is stated from where so large a share of at least so many are right
STEPS = tuple(round(0.5 + 0.05 * number, 2) for number in range(10))
NO_CALCIUM = 6  # LIDC's calcification: 1 to 5 are kinds of it
NAMES = {
    codes.GROUND_GLASS: "ground-glass",
    codes.PART_SOLID: "part-solid",
    codes.SOLID: "solid",
    codes.CALCIFIED: "calcified",
    codes.SPICULATED: "spiculated",
    codes.LOBULATED: "lobulated",
}


@dataclass(frozen=True, slots=True)
class Rated:
    """Nodules of a pack: statistics (nodules, statistics), and of each its row in the table."""

    statistics: Float64
    rows: tuple[dict[str, str], ...]

    def ratings(self, name: str) -> npt.NDArray[np.int64]:
        """The readers' ratings from 1 on; of calcification 1 without and 2 with calcium."""
        return ratings_of(self.rows, name)

    @property
    def patients(self) -> list[str]:
        """Whose each is."""
        return [row["patient"] for row in self.rows]


def table(pack: Path, *, training: bool) -> list[dict[str, str]]:
    """The rows of a folder laid out as ct_nodules: those whose split is "train", or all the others."""
    with (pack / "index.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if (row["split"] == "train") is training]


def marked(pack: Path, row: dict[str, str]) -> tuple[Volume, Box, npt.NDArray[np.bool_]]:
    """The CT around a row's nodule, and the readers' mask in its tight box."""
    volume, mask = read_ct(pack / row["file"]), read_nifti(pack / row["mask"])[0] > 0
    where = ndimage.find_objects(mask.astype(np.uint8))[0]
    start, stop = (tuple(int(getattr(each, end)) for each in where) for end in ("start", "stop"))
    return volume, Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2])), mask[where]


def ratings_of(rows: Sequence[dict[str, str]], name: str) -> npt.NDArray[np.int64]:
    """The readers' ratings from 1 on; of calcification 1 without and 2 with calcium."""
    values = np.array([int(row[name]) for row in rows])
    return np.where(values < NO_CALCIUM, 2, 1) if name == "calcification" else values


def train(data: Path, card: Path, progress: Progress) -> Heads:
    """Fit on the training rows of data/ct_nodules and bring the labels and calibration of the card up to date."""
    pack = data / "ct_nodules"
    rows = table(pack, training=True)
    rated = Rated(np.stack([described(*marked(pack, row)) for row in rows]), tuple(rows))
    progress(f"{len(rated.rows)} nodules of {len(set(rated.patients))} training patients")
    folds = [int(hashlib.sha256(each.encode()).hexdigest(), 16) % FOLDS for each in rated.patients]
    thresholds = chosen(rated, out_of_fold(rated, folds), progress)
    _write_labels(card, thresholds)
    return fitted(rated)


def fitted(rated: Rated) -> Heads:
    """One softmax of a linear function for each rating, with a ridge on its weights."""
    mean, scale = rated.statistics.mean(0), rated.statistics.std(0) + 1e-6
    inputs = (rated.statistics - mean) / scale
    weights = {name: _softmax(inputs, np.eye(count)[rated.ratings(name) - 1]) for name, count in RATINGS.items()}
    return Heads(mean, scale, weights)


def out_of_fold(rated: Rated, folds: Sequence[int]) -> dict[str, Float64]:
    """Each nodule's ratings by functions that never saw its patient: probabilities (nodules, ratings) by name."""
    fold = np.array(folds)
    found = {name: np.zeros((len(rated.rows), count)) for name, count in RATINGS.items()}
    for number in np.unique(fold):
        inside = fold == number
        rest = Rated(rated.statistics[~inside], tuple(row for row, out in zip(rated.rows, ~inside, strict=True) if out))
        for name, probabilities in fitted(rest).ratings(rated.statistics[inside]).items():
            found[name][inside] = probabilities
    return found


def chosen(rated: Rated, ratings: dict[str, Float64], progress: Progress) -> dict[Code, float]:
    """From which probability each value is stated; a value that is never right often enough is not among them."""
    each_values = [values_of({name: p[row] for name, p in ratings.items()}) for row in range(len(rated.rows))]
    right = agreement(rated.rows)
    thresholds: dict[Code, float] = {}
    for value, question in QUESTIONS.items():
        rivals = [other for other, asked in QUESTIONS.items() if asked == question]
        probability = np.array([values[value] for values in each_values])
        leads = np.array([max(rivals, key=values.__getitem__) == value for values in each_values])
        for step in STEPS:
            said = leads & (probability >= step)
            if said.sum() >= LEAST and right[value][said].mean() >= PRECISION:
                thresholds[value] = step
                progress(f"{NAMES[value]} from {step}: {right[value][said].mean():.3f} of {said.sum()} are right")
                break
        else:
            progress(f"{NAMES[value]} is not stated")
    suspicion = ratings["malignancy"][:, SUSPICIOUS - 1 :].sum(1)
    error = calibration_error(suspicion, rated.ratings("malignancy") >= SUSPICIOUS)
    progress(f"calibration error of the readers' suspicion, out of fold: {error:.3f}")
    return thresholds


def agreement(rows: Sequence[dict[str, str]]) -> dict[Code, npt.NDArray[np.bool_]]:
    """Of each value, whether the readers' rating allows it. A rating between two types of attenuation allows both."""
    texture = ratings_of(rows, "texture")
    return {
        codes.GROUND_GLASS: texture <= 2,
        codes.PART_SOLID: (texture >= 2) & (texture <= 4),
        codes.SOLID: texture >= 4,
        codes.CALCIFIED: ratings_of(rows, "calcification") == 2,
        codes.SPICULATED: ratings_of(rows, "spiculation") >= MARKED,
        codes.LOBULATED: ratings_of(rows, "lobulation") >= MARKED,
    }


def calibration_error(probability: Float64, truth: npt.NDArray[np.bool_], bins: int = 10) -> float:
    """Expected calibration error: the mean gap between stated and observed share, over bins of equal width."""
    place = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = [
        (place == each).sum() * abs(probability[place == each].mean() - truth[place == each].mean())
        for each in np.unique(place)
    ]
    return float(np.sum(gaps) / len(truth))


def _softmax(inputs: Float64, targets: Float64) -> Float64:
    """Weights (statistics + 1, ratings) of a multinomial logistic regression."""
    features, kinds = inputs.shape[1], targets.shape[1]

    def loss(flat: Float64) -> tuple[float, Float64]:
        weights = flat.reshape(features + 1, kinds)
        scores = inputs @ weights[:-1] + weights[-1]
        scores = scores - scores.max(1, keepdims=True)
        logarithms = scores - np.log(np.exp(scores).sum(1, keepdims=True))
        gap = (np.exp(logarithms) - targets) / len(inputs)
        slope = np.vstack([inputs.T @ gap + 2 * RIDGE * weights[:-1], gap.sum(0)])
        value = -(targets * logarithms).sum() / len(inputs) + RIDGE * (weights[:-1] ** 2).sum()
        return float(value), slope.ravel()

    start = np.zeros((features + 1) * kinds)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return np.asarray(found.x, dtype=np.float64).reshape(features + 1, kinds)


def _write_labels(card: Path, thresholds: dict[Code, float]) -> None:
    """Replace the labels of the card, which stand before its training data."""
    text = card.read_text(encoding="utf-8")
    labels = "".join(
        f'[[labels]]\nname = "{NAMES[value]}"\ncode = ["{value.value}", "{value.scheme}", "{value.meaning}"]\n'
        f"threshold = {threshold}\n\n"
        for value, threshold in thresholds.items()
    )
    text, count = re.subn(r"(?s)\[\[labels\]\].*?(?=\[\[training\]\])", labels, text, count=1)
    if count != 1:
        raise ValueError(f"the card {card.name} has no labels before its training data")
    card.write_text(text, encoding="utf-8")
    read_card(card)
