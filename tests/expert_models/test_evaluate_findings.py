from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from expert_models.card import packaged_card
from expert_models.chest_findings import CARD, ChestFindings
from expert_models.evaluate_findings import calibration_error, evaluate_films
from expert_models.findings_reader import Reading
from expert_models.preprocess import Letterbox
from expert_models.train.findings_films import DISEASES, LABELS

COLUMNS = ("file", "patient", "view", "rsna", "split", *dict.fromkeys(DISEASES))


class Brightness(ChestFindings):
    """Every label's score is the picture's mean grey, as a probability; opacity is at the right, at one place."""

    def __init__(self) -> None:
        values = dict.fromkeys(("opacity_slope", "effusion_slope"), 1.0)
        values |= dict.fromkeys(("opacity_intercept", "effusion_intercept"), 0.0)
        values |= dict.fromkeys(("opacity_absent", "effusion_absent"), 0.2)
        values |= dict.fromkeys((f"{name}_alarm" for name in LABELS[2:]), 99.0)
        values["map_threshold"] = 0.4
        super().__init__(card=replace(packaged_card(CARD), calibration=MappingProxyType(values)))

    def read(self, picture: Any) -> Reading | str:
        mean = float(picture.mean())
        if mean > 0.95:
            return "too bright"
        logit = float(np.log(mean / (1 - mean)))
        shown = np.zeros((64, 64), np.float32)
        shown[16:32, 0:16] = 0.9
        halves = np.zeros((2, 64, 64), bool)
        halves[0, :, :32] = halves[1, :, 32:] = True
        scores = dict.fromkeys(LABELS, (logit, -9.0))
        return Reading(scores, dict.fromkeys(LABELS, shown), 0.4, halves, Letterbox((256, 256), (64, 64)))


def pack(folder: Path, rows: Sequence[dict[str, str]], boxes: Sequence[tuple[str, ...]]) -> Path:
    (folder / "cxr_nih").mkdir(parents=True)
    with (folder / "cxr_nih" / "index.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, restval="0", extrasaction="ignore")
        table.writeheader()
        for number, row in enumerate(rows):
            name = f"{number}.png"
            # A little darker at the left: a picture that is all of one grey is refused.
            grey = np.tile((int(row["grey"]) + np.linspace(-8, 8, 256)).round().astype(np.uint8), (256, 1))
            Image.fromarray(grey).save(folder / "cxr_nih" / name)
            table.writerow({"file": name, "patient": name, "view": "PA", "rsna": "", "split": "val"} | row)
    with (folder / "cxr_nih" / "boxes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "label", "x0", "y0", "x1", "y1", "source"), *boxes])
    return folder


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    read = [{"grey": str(g), "rsna": str(int(g in (90, 110, 130, 150, 170)))} for g in range(50, 180, 20)]
    rows = [*read, {"grey": "245"}, {"grey": "120", "split": "train", "rsna": "1"}]
    rows += [{"grey": str(g), "Effusion": "1"} for g in (60, 80, 100, 120, 200)] + [{"grey": "140", "Pneumonia": "1"}]
    # Drawn in 512 pixels: rows 64-128 and columns 0-64 of the picture, where the map is; and as much beside it.
    drawn = [("2.png", "Lung Opacity", "0", "128", "128", "256", "rsna")]
    drawn += [("3.png", "Lung Opacity", "128", "128", "256", "256", "rsna")]
    folder = pack(tmp_path_factory.mktemp("packs"), rows, drawn)
    return {each.name: each for each in evaluate_films(Brightness(), folder)}


def test_opacity_is_scored_on_films_that_were_read(metrics: dict[str, Any]) -> None:
    # Opacity at 90, 110, 130, 150, 170 and none at 50, 70: all ten pairs are in order.
    assert (metrics["cxr_findings/opacity/auroc"].value, metrics["cxr_findings/opacity/auroc"].n) == (1, 7)
    assert metrics["cxr_findings/opacity/auroc/pa"].n == 7
    assert "cxr_findings/opacity/auroc/ap" not in metrics


def test_a_label_is_scored_among_all_and_among_the_sick(metrics: dict[str, Any]) -> None:
    # 60, 80, 100, 120, 200 against the pneumonia at 140: one of five pairs is in order.
    among_sick = metrics["cxr_findings/effusion/auroc_among_sick"]
    assert (among_sick.value, among_sick.n) == (pytest.approx(0.2), 6)
    # And against 50, 70, 90, 110, 130, 150, 170 of the films that were read: 1 + 2 + 3 + 4 + 7 more.
    among_all = metrics["cxr_findings/effusion/auroc"]
    assert (among_all.value, among_all.n) == (pytest.approx((1 + 17) / 40), 13)
    assert "cxr_findings/edema/auroc" not in metrics  # nobody has one


def test_what_was_not_assessed_is_counted(metrics: dict[str, Any]) -> None:
    assert (metrics["cxr_findings/assessed"].value, metrics["cxr_findings/assessed"].n) == (pytest.approx(13 / 14), 14)


def test_false_alarms_are_of_healthy_films(metrics: dict[str, Any]) -> None:
    # Healthy are those at 50 and 70: grey 50 of 255 is a probability of 0.196, absent; 70 is 0.27, indeterminate.
    assert (metrics["cxr_findings/false_alarms/present"].value, metrics["cxr_findings/false_alarms/present"].n) == (
        0,
        2,
    )
    assert metrics["cxr_findings/false_alarms/stated"].value == 0.5


def test_places_are_held_against_drawn_boxes(metrics: dict[str, Any]) -> None:
    # One box is the region itself, the other lies beside it.
    assert metrics["cxr_opacity/box/iou"].value == pytest.approx(0.5, abs=0.04)
    assert (metrics["cxr_opacity/box/hit"].value, metrics["cxr_opacity/box/hit"].n) == (0.5, 2)


def test_the_calibration_error_by_hand() -> None:
    # Bin 0.2: two films at 0.25, one has it: |0.5 - 1|. Bin 0.9: two at 0.95, both have it: |1.9 - 2|. Over 4 films.
    error = calibration_error(np.array([0.25, 0.25, 0.95, 0.95]), np.array([True, False, True, True]))
    assert error == pytest.approx((0.5 + 0.1) / 4)


def test_regions_are_held_against_drawn_ground_glass_and_consolidation(tmp_path: Path) -> None:
    """The map is rows 64 to 127 and columns 0 to 63 of the picture. One film's mask is the lower half of it: 2/3."""
    folder = tmp_path / "cxr_anatomy"
    folder.mkdir()
    grey = np.tile(np.linspace(100, 140, 256).astype(np.uint8), (256, 1))
    rows = {
        "half": ("val", "all", 16),
        "whole": ("val", "all", 32),
        "seen": ("train", "all", 16),
        "lungs": ("val", "", 16),
    }
    with (folder / "index.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ("file", "mask", "patient", "split", "annotated"))
        table.writeheader()
        for name, (split, annotated, bit) in rows.items():
            mask = np.zeros((256, 256), np.uint16)
            mask[96 if name == "half" else 64 : 128, :64] = bit
            Image.fromarray(grey).save(folder / f"{name}.png")
            Image.fromarray(mask).save(folder / f"{name}-mask.png")
            table.writerow(
                {"file": f"{name}.png", "mask": f"{name}-mask.png", "patient": name, "split": split}
                | {"annotated": annotated}
            )
    (metric,) = evaluate_films(Brightness(), tmp_path)
    assert (metric.name, metric.n) == ("cxr_opacity/mask/dice", 2)
    assert metric.value == pytest.approx((2 / 3 + 1) / 2, abs=0.04)
