"""From the nodule network's scores to probabilities and an operating point, written into its card.

Measured on whole scans: phantom lungs of seeds from 900,000 with the nodules of held-out training patients pasted in,
each read with its nodules and a second time without them. Without those patients, phantoms with nodules of their own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from torch import nn

from dicom_io.phantom.patient import draw_patient
from dicom_io.study import Volume
from expert_models.card import Card, Score
from expert_models.ct_lungs import find_lungs
from expert_models.ct_nodules import CtNodules
from expert_models.ct_paste import Crop
from expert_models.evaluate_ct import SPACING_MM, Read, Scan, matched, pasted_scans, phantom_scans

Progress = Callable[[str], None]
FIRST_SEED = 900_000
FALSE_ALARMS = 0.01  # share of what is without a lesion that may be taken for a sign of it
LEAST_ALARM = 0.0  # a logit below which the network itself thinks the lesion less likely than not
PRESENT = 0.5  # calibrated: what is called present is more likely there than not


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Logistic curves of candidate and scan, the threshold of present, and where indeterminate begins."""

    candidate: tuple[float, float]  # slope, intercept
    scan: tuple[float, float]
    threshold: float
    least_listed: float


def calibrate(card: Card, network: nn.Module, crops: Sequence[Crop], count: int, progress: Progress) -> OperatingPoint:
    """Fit on `count` scans. ValueError when the network found no true or no false candidate to fit on.

    network: in evaluation mode. crops: nodules to paste; without any, phantoms with nodules of their own are read.
    A candidate is present from a probability of one half, and listed as indeterminate from where one false candidate
    per scan is left.
    """
    plain = {"candidate_slope": 1.0, "candidate_intercept": 0.0, "scan_slope": 1.0, "scan_intercept": 0.0}
    uncalibrated = replace(card, calibration=MappingProxyType({**card.calibration, **plain}))
    expert = CtNodules(card=uncalibrated, network=network)
    reads: list[Read] = []
    highest: list[tuple[float, bool]] = []
    for scan, without in _with_and_without(crops, count):
        marked, scan_probability = expert.mark(scan.volume, find_lungs(scan.volume))
        reads.append(matched(scan, marked))
        highest.append((_logit(scan_probability), bool(scan.nodules)))
        highest.append((_logit(expert.mark(without, find_lungs(without))[1]), False))
        progress(f"calibration scan {len(reads)} of {count}")
    true = [_logit(p) for each in reads for p in each.hit_scores if np.isfinite(p)]
    false = sorted((_logit(p) for each in reads for p in each.false_scores), reverse=True)
    if not true or not false:
        raise ValueError(f"{len(true)} true and {len(false)} false candidates are too few to calibrate on")
    slope, intercept = fitted([*true, *false], [True] * len(true) + [False] * len(false))
    cut = false[min(len(reads), len(false) - 1)]
    listed = float(1 / (1 + np.exp(-(slope * cut + intercept))))
    scan_curve = fitted([score for score, _ in highest], [label for _, label in highest])
    return OperatingPoint((slope, intercept), scan_curve, PRESENT, round(min(max(listed, 0.05), PRESENT - 0.01), 3))


def _with_and_without(crops: Sequence[Crop], count: int) -> Iterator[tuple[Scan, Volume]]:
    """Scans with known nodules, each with the same lungs without any."""
    if crops:
        for scan in pasted_scans(crops, count, first_seed=FIRST_SEED):
            yield scan, Volume(scan.visit.hu, scan.volume.geometry)
        return
    seeds = range(FIRST_SEED, FIRST_SEED + count)
    for seed, scan in zip(seeds, phantom_scans(seeds), strict=True):
        without = draw_patient(seed, kinds=(), spacing_mm=SPACING_MM, upright=False).visits[-1]
        yield scan, Volume(without.hu, without.geometry)


def alarm_over(without: Sequence[float]) -> float:
    """The score of a sign: what FALSE_ALARMS of the scores without the lesion reach, and no less than LEAST_ALARM."""
    return max(LEAST_ALARM, float(np.quantile(without, 1 - FALSE_ALARMS)))


def fitted(scores: Sequence[float], labels: Sequence[bool]) -> tuple[float, float]:
    """Slope and intercept of a logistic curve, by Newton's method with Platt's smoothed targets (Platt 1999).

    A slight ridge keeps the curve finite where the two classes do not overlap.
    """
    x = np.stack([np.asarray(scores, float), np.ones(len(scores))], axis=1)
    positive = int(np.sum(labels))
    high, low = (positive + 1) / (positive + 2), 1 / (len(labels) - positive + 2)
    target = np.where(labels, high, low)
    weights: npt.NDArray[np.float64] = np.zeros(2)
    for _ in range(50):
        guess = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        gradient = x.T @ (guess - target) + 1e-3 * weights
        hessian = (x * (guess * (1 - guess))[:, None]).T @ x + 1e-3 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        weights = weights - np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-6:
            break
    return float(weights[0]), float(weights[1])


def write_card(path: Path, weights: Path, point: OperatingPoint | None, scores: Sequence[Score] | None) -> None:
    """Put the sha256 of the weights, the operating point and the held-out scores into a card; the rest stays."""
    text = path.read_text(encoding="utf-8")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    values = {"sha256": f'"{digest}"'}
    if point is not None:
        values |= {
            "threshold": f"{point.threshold}",
            "indeterminate": f"[{point.least_listed}, {point.threshold}]",
            "candidate_slope": f"{point.candidate[0]:.4f}",
            "candidate_intercept": f"{point.candidate[1]:.4f}",
            "scan_slope": f"{point.scan[0]:.4f}",
            "scan_intercept": f"{point.scan[1]:.4f}",
        }
    for key, value in values.items():
        text, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
        if count != 1:
            raise ValueError(f"the card {path.name} has {count} lines {key!r} where one is needed")
    if scores is not None:
        text = text.split("\n[[scores]]")[0].rstrip() + "\n"
        for each in scores:
            text += (
                f'\n[[scores]]\nname = "{each.name}"\nvalue = {each.value:.4f}\nlow = {each.low:.4f}\n'
                f'high = {each.high:.4f}\nn = {each.n}\ndata = "{each.data}"\n'
            )
    path.write_text(text, encoding="utf-8")


def _logit(probability: float) -> float:
    probability = min(max(probability, 1e-9), 1 - 1e-9)
    return float(np.log(probability / (1 - probability)))
