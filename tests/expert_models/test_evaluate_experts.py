from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from expert_models.codes import CARDIOMEGALY, CARDIOTHORACIC_RATIO, HEART, LUNG, RATIO
from expert_models.evaluate import Evaluation, Metric, bootstrapped, mean_metric, phantom_seeds
from expert_models.evaluate_radiographs import auroc, evaluate_packs
from expert_models.finding import Box, ExpertTag, Finding, Measurement, Presence, Region, Side

# right lung: columns 10-49, left lung: columns 70-109, heart: columns 40-79 of a picture of 120 x 120
DRAWN = {0: (slice(20, 100), slice(10, 50)), 1: (slice(20, 100), slice(70, 110)), 2: (slice(60, 100), slice(40, 80))}


def pack(folder: Path, rows: list[tuple[str, str, str]]) -> Path:
    """A cxr_anatomy pack of (name, split, classes)."""
    (folder / "cxr_anatomy").mkdir(parents=True)
    bits = np.zeros((120, 120), np.uint16)
    for bit, place in DRAWN.items():
        bits[place] |= 1 << bit
    with (folder / "cxr_anatomy" / "index.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "mask", "patient", "view", "classes", "split"])
        for name, split, classes in rows:
            Image.fromarray(np.full((120, 120), 90, np.uint8)).save(folder / "cxr_anatomy" / f"{name}.png")
            Image.fromarray(bits).save(folder / "cxr_anatomy" / f"{name}_mask.png")
            table.writerow([f"{name}.png", f"{name}_mask.png", name, "PA", classes, split])
    return folder


class Perfect:
    """Gives the drawn masks back, but for a heart that is half as high, and a ratio that is 0.02 too large."""

    tag = ExpertTag("perfect", "1")
    concepts = (LUNG, HEART)

    def __init__(self, answers: bool = True) -> None:
        self.answers, self.asked = answers, 0

    def refuses(self, series: Any) -> str | None:
        return None

    def examine(self, series: Any, masks: Any) -> list[Finding]:
        self.asked += 1
        if not self.answers:
            return [Finding("f1", LUNG, Presence.NOT_ASSESSED, self.tag, reason="no")]
        return [
            self._organ(series, masks, LUNG, Side.RIGHT, (20, 100, 10, 50)),
            self._organ(series, masks, LUNG, Side.LEFT, (20, 100, 70, 110)),
            self._organ(series, masks, HEART, None, (60, 80, 40, 80)),
        ]

    def _organ(self, series: Any, masks: Any, concept: Any, side: Any, edges: tuple[int, ...]) -> Finding:
        top, bottom, left, right = edges
        key = masks.save(np.ones((1, bottom - top, right - left), bool))
        region = Region(series.uid, Box((0, top, left), (1, bottom, right)), series.source[0], key)
        ratio = (Measurement(CARDIOTHORACIC_RATIO, 0.42, RATIO),) if concept == HEART else ()
        return Finding("f1", concept, Presence.PRESENT, self.tag, side=side, regions=(region,), measurements=ratio)


def by_name(metrics: list[Metric]) -> dict[str, tuple[float, int]]:
    return {each.name: (pytest.approx(each.value), each.n) for each in metrics}


@pytest.mark.parametrize("split", ["val", "test", ""])
def test_masks_are_scored_by_hand_and_training_rows_left_out(tmp_path: Path, split: str) -> None:
    everything = "right_lung|left_lung|cardiomediastinum"
    rows = [("a", split, everything), ("b", split, "right_lung|left_lung"), ("c", "train", everything)]
    expert = Perfect()
    metrics = evaluate_packs(expert, pack(tmp_path, rows))
    # Heart: 40 x 40 drawn, 20 x 40 found inside it: 2 * 800 / 2400. Ratio: 40 / 100 drawn, 0.42 found.
    assert by_name(metrics) == {
        "cxr_anatomy/lungs/dice": (1.0, 2),
        "cxr_anatomy/heart/dice": (2 / 3, 1),
        "cxr_anatomy/ratio/abs_error": (0.02, 1),
        "cxr_anatomy/lung_area_ratio/abs_error": (0.0, 2),
        "cxr_anatomy/assessed": (1.0, 2),
    }
    assert expert.asked == 2


def test_a_radiograph_that_was_not_assessed_counts_as_missed(tmp_path: Path) -> None:
    metrics = evaluate_packs(Perfect(answers=False), pack(tmp_path, [("a", "val", "right_lung|left_lung")]))
    assert by_name(metrics) == {"cxr_anatomy/lungs/dice": (0.0, 1), "cxr_anatomy/assessed": (0.0, 1)}


def test_a_lung_that_was_not_drawn_is_unknown_and_not_empty(tmp_path: Path) -> None:
    metrics = evaluate_packs(Perfect(), pack(tmp_path, [("a", "val", "left_lung|cardiomediastinum")]))
    assert set(by_name(metrics)) == {"cxr_anatomy/heart/dice", "cxr_anatomy/assessed"}


def test_labels_are_scored_from_the_experts_probability(tmp_path: Path) -> None:
    folder = tmp_path / "cxr_nih"
    folder.mkdir()
    levels = {"a": (10, 1), "b": (60, 0), "c": (100, 1), "d": (200, 1), "e": (30, 0)}
    with (folder / "index.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "patient", "view", "Cardiomegaly", "split"])
        for name, (level, label) in levels.items():
            Image.fromarray(np.full((150, 150), level, np.uint8)).save(folder / f"{name}.png")
            table.writerow([f"{name}.png", name, "PA", label, "val"])

    class Brightness(Perfect):
        def examine(self, series: Any, masks: Any) -> list[Finding]:
            mean = float(series.volume.voxels.mean())
            return [Finding("f1", CARDIOMEGALY, Presence.PRESENT, self.tag, probability=mean)]

    (metric,) = evaluate_packs(Brightness(), tmp_path)
    # Of the 3 x 2 pairs, the positives 100 and 200 win all four and 10 loses both.
    assert (metric.name, metric.value, metric.n) == ("cxr_findings/cardiomegaly/auroc", pytest.approx(4 / 6), 5)


def test_auroc_by_hand() -> None:
    assert auroc(np.array([True, False]), np.array([0.5, 0.5])) == 0.5
    assert auroc(np.array([True, True, False]), np.array([0.9, 0.2, 0.4])) == 0.5
    assert np.isnan(auroc(np.array([True]), np.array([0.3])))


def test_the_interval_is_over_patients_and_holds_the_mean() -> None:
    # One patient with many cases is one draw: two patients at 0 and 1 give every mean from 0 to 1.
    metric = mean_metric("x", [0.0] * 50 + [1.0] * 50, ["a"] * 50 + ["b"] * 50)
    assert (metric.value, metric.low, metric.high, metric.n) == (0.5, 0.0, 1.0, 100)
    # Of many patients the interval is near the normal one: 1.96 * 0.5 / sqrt(400).
    many = mean_metric("x", [0.0, 1.0] * 200, [str(i) for i in range(400)])
    assert many.high - many.low == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.1)
    with pytest.raises(ValueError, match="no case"):
        bootstrapped("x", lambda index: 0.0, [])


def test_the_json_of_an_evaluation() -> None:
    metric = Metric("cxr_anatomy/lungs/dice", 0.95, 0.94, 0.96, 18)
    assert Evaluation("experts", "folder", "0.1.0", (metric,)).as_json() == {
        "suite": "experts",
        "source": "folder",
        "version": "0.1.0",
        "metrics": [{"name": "cxr_anatomy/lungs/dice", "value": 0.95, "low": 0.94, "high": 0.96, "n": 18}],
    }


def test_a_range_of_seeds() -> None:
    assert phantom_seeds("phantom:1000000-1000003") == range(1000000, 1000003)
    for wrong in ("phantom:3-3", "phantom:5", "phantom:a-b", "phantom:5-3"):
        with pytest.raises(ValueError, match="START-STOP"):
            phantom_seeds(wrong)
