"""The chest expert on phantom CTs whose masks are exact: what it finds, on which side, and how large.

Phantoms carry effusion, pneumothorax, consolidation, nodules, masses and edema in turn. A case is one side of one
phantom. A plate of atelectasis below OPACITY_ML is neither a case with consolidation nor one without.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dicom_io.phantom.patient import LesionKind, Visit, draw_patient
from dicom_io.study import Modality, Series, Volume
from expert_models.codes import (
    CARDIOTHORACIC_RATIO,
    HEART,
    VOLUME,
)
from expert_models.ct_chest import CONCEPTS, CtChest
from expert_models.ct_chest_parts import FLOOR, LESIONS, SIDES
from expert_models.ct_chest_sizes import greatest_width
from expert_models.ct_grid import resample, upright_grid
from expert_models.ct_lungs import find_lungs
from expert_models.evaluate import Metric, bootstrapped, mean_metric, phantom_seeds
from expert_models.evaluate_ct_painted import evaluate_painted
from expert_models.evaluate_radiographs import MaskShelf, auroc
from expert_models.finding import Code, Finding, Presence, Side
from expert_models.measure import dice
from expert_models.train.ct_chest_scenes import truth_of

Progress = Callable[[str], None]
Mask = npt.NDArray[np.bool_]

SPACING_MM = (2.0, 1.5, 1.5)
SCANS = 30


@dataclass(frozen=True, slots=True)
class Case:
    """One label on one side of one phantom. score: a logit. volume_ml: true and found; nan where it was not told."""

    phantom: str
    label: str
    side: Side
    is_there: bool
    presence: Presence
    score: float
    dice: float
    volume_ml: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scores:
    """What one phantom gave: its cases, and (name, value) of everything else."""

    phantom: str
    cases: tuple[Case, ...]
    others: tuple[tuple[str, float], ...]


def evaluate_ct_chest(source: str, *, limit: int | None = None, progress: Progress | None = None) -> list[Metric]:
    """The metrics of one source of `wetread evaluate experts`: phantoms, or the real scans of its pack ct_chest.

    limit: at most so many phantoms. ValueError when a range of seeds is not one.
    """
    if source.startswith("phantom:"):
        return evaluate_chest(phantom_seeds(source)[: limit or SCANS], progress)
    return evaluate_painted(Path(source) / "ct_chest", progress)


def evaluate_chest(
    seeds: Sequence[int], progress: Progress | None = None, expert: CtChest | None = None
) -> list[Metric]:
    """The metrics of phantom CTs of these seeds. expert: another than the one that ships."""
    expert = expert or CtChest()
    scores: list[Scores] = []
    for number, seed in enumerate(seeds, start=1):
        scores.append(scored(phantom_visit(seed), f"phantom {seed}", expert))
        if progress:
            progress(f"chest CT {number} of {len(seeds)}")
    return metrics_of(scores)


def phantom_visit(seed: int) -> Visit:
    """The phantom of this seed."""
    random = np.random.default_rng([seed, 41])
    kinds = [LesionKind.EFFUSION] * int(random.choice(3, p=[0.45, 0.4, 0.15]))
    kinds += [LesionKind.PNEUMOTHORAX] * int(random.choice(3, p=[0.6, 0.35, 0.05]))
    kinds += [LesionKind.CONSOLIDATION] * int(random.random() < 0.5)
    for kind in (LesionKind.MASS, LesionKind.NODULE, LesionKind.EDEMA, LesionKind.CARDIOMEGALY):
        kinds += [kind] * int(random.random() < 0.2)
    return draw_patient(seed, kinds=kinds, spacing_mm=SPACING_MM, upright=False).visits[-1]


def scored(visit: Visit, name: str, expert: CtChest) -> Scores:
    """The expert's findings on one phantom beside the truth."""
    volume = Volume(visit.hu, visit.geometry)
    series = Series("1.2", Modality.CT, volume, tuple(f"1.2.{k}" for k in range(volume.shape[0])))
    shelf = MaskShelf()
    lungs = find_lungs(volume)
    parts = expert.look(volume, lungs) if lungs.sides else None
    findings = list(expert.findings(parts, series, shelf)) if parts else []
    findings += [expert.heart(parts, series, shelf)] if parts and parts.doubt is None else []
    truth = truth_of(visit)
    cases = []
    for label in LESIONS:
        for side in SIDES:
            there = truth[label] & truth[f"{side.value} thorax"]
            if label == "consolidation" and not there.any() and (truth["thin"] & truth[f"{side.value} thorax"]).any():
                continue
            score = parts.lesions[label, side].score if parts else FLOOR
            cases.append(_case(name, label, side, there, score, findings, series, shelf))
    others = [("assessed", float(parts is not None and parts.doubt is None))]
    others += _organ_scores(findings, truth, series, shelf)
    return Scores(name, tuple(cases), tuple(others))


def metrics_of(scores: Sequence[Scores]) -> list[Metric]:
    """Every score with its interval, phantoms drawn anew with all of their cases."""
    cases = [case for each in scores for case in each.cases]
    metrics: list[Metric] = []
    for label in LESIONS:
        mine = [case for case in cases if case.label == label]
        there = np.array([case.is_there for case in mine])
        if there.any() and not there.all():
            score = np.array([case.score for case in mine])
            owners = [case.phantom for case in mine]
            metrics.append(
                bootstrapped(f"ct_chest/{label}/auroc", _auroc_of(there, score), owners)
            )  # fmt: skip
        positive = [case for case in mine if case.is_there]
        if positive:
            owners = [case.phantom for case in positive]
            metrics.append(mean_metric(f"ct_chest/{label}/dice", [case.dice for case in positive], owners))
            told = [case for case in positive if np.isfinite(case.volume_ml[1])]
            if told:
                errors = [abs(case.volume_ml[1] / case.volume_ml[0] - 1) for case in told]
                metrics.append(mean_metric(f"ct_chest/{label}/volume/rel_error", errors, [e.phantom for e in told]))
    metrics += _decisions(cases)
    names = dict.fromkeys(name for each in scores for name, _ in each.others)
    for name in names:
        found = [(value, each.phantom) for each in scores for other, value in each.others if other == name]
        metrics.append(mean_metric(f"ct_chest/{name}", [value for value, _ in found], [owner for _, owner in found]))
    return metrics


def _auroc_of(there: Mask, score: npt.NDArray[np.float64]) -> Callable[[npt.NDArray[np.int64]], float]:
    return lambda index: auroc(there[index], score[index])


def _decisions(cases: Sequence[Case]) -> list[Metric]:
    """The share told of what is there, untold of what is not, and on the right side of what is on one."""
    metrics = []
    for label in LESIONS:
        for name, wanted in (("sensitivity", True), ("specificity", False)):
            mine = [case for case in cases if case.label == label and case.is_there is wanted]
            if mine:
                values = [float((case.presence is Presence.INDETERMINATE) is wanted) for case in mine]
                metrics.append(mean_metric(f"ct_chest/{label}/{name}", values, [case.phantom for case in mine]))
    pairs: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        pairs.setdefault((case.phantom, case.label), []).append(case)
    lonely = [pair for pair in pairs.values() if len(pair) == 2 and pair[0].is_there is not pair[1].is_there]
    if lonely:
        values = [float(max(pair, key=lambda each: each.score).is_there) for pair in lonely]
        metrics.append(mean_metric("ct_chest/laterality/accuracy", values, [pair[0].phantom for pair in lonely]))
    return metrics


def _case(
    name: str, label: str, side: Side, there: Mask, score: float, findings: Sequence[Finding], series: Series,
    shelf: MaskShelf,
) -> Case:  # fmt: skip
    finding = next((e for e in findings if e.concept == CONCEPTS[label] and e.side is side), None)
    true_ml = float(there.sum()) * series.volume.geometry.voxel_ml
    if finding is None:
        return Case(name, label, side, true_ml > 0, Presence.NOT_ASSESSED, score, 0.0, (true_ml, float("nan")))
    volume = finding.measurement(VOLUME)
    return Case(
        name, label, side, true_ml > 0, finding.presence, score,
        dice(_mask(finding, there.shape, shelf), there), (true_ml, volume.value if volume else float("nan")),
    )  # fmt: skip


def _mask(finding: Finding | None, shape: tuple[int, ...], shelf: MaskShelf) -> Mask:
    whole = np.zeros(shape, bool)
    if finding is not None and finding.regions and finding.regions[0].mask_key:
        whole[finding.regions[0].box.slices] = shelf.load(finding.regions[0].mask_key)
    return whole


def _organ_scores(
    findings: Sequence[Finding], truth: dict[str, Mask], series: Series, shelf: MaskShelf
) -> list[tuple[str, float]]:
    """Dice of the heart between the lowest and the highest slice of the lungs, and the error of its ratio."""
    inside = truth["right thorax"] | truth["left thorax"]
    planes = np.flatnonzero(inside.any((1, 2)))
    part = slice(int(planes[0]), int(planes[-1]) + 1)
    finding = next((e for e in findings if e.concept == HEART), None)
    scores = [("heart/dice", dice(_mask(finding, inside.shape, shelf)[part], truth["heart"][part]))]
    grid = upright_grid(series.volume, max(SPACING_MM))
    geometry = series.volume.geometry
    shapes = {"heart": truth["heart"], "chest": inside}
    exact = {name: signed(resample(mask.astype(np.float32), geometry, grid, fill=0.0)) for name, mask in shapes.items()}
    ratio = _value(findings, HEART, CARDIOTHORACIC_RATIO)
    heart, thorax = greatest_width(exact["heart"], grid), greatest_width(exact["chest"], grid)
    if ratio is not None and heart and thorax:
        scores.append(("ratio/abs_error", abs(ratio - heart.length_mm / thorax.length_mm)))
    return scores


def signed(share: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Shares of a voxel in [0, 1] as values that are above 0 inside, as `ct_chest_sizes` reads them."""
    return np.asarray(share - np.float32(0.5), dtype=np.float32)


def _value(findings: Sequence[Finding], concept: Code, code: Code, side: Side | None = None) -> float | None:
    for finding in findings:
        measurement = finding.measurement(code)
        if finding.concept == concept and finding.side is side and measurement:
            return measurement.value
    return None
