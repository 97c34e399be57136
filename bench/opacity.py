"""Opacity on real films: the findings expert beside a DenseNet121 trained from scratch on the same films.

    python bench/opacity.py --data ../shared/data [--steps 600]

The DenseNet121 is MONAI's, with one channel and films of 224 x 224 as torchxrayvision has it (Cohen et al., MIDL 2022,
arXiv:2111.00595); it learns opacity alone, from the training films that the expert learned from, each film with the
truth and the weight it has there, varied as there. Both are scored on the films of the validation patients that
radiologists read, and only on those that the expert assesses. Printed: the AUROC of each, and the difference film by
film, with a bootstrap over patients.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from monai.networks.nets.densenet import DenseNet121
from PIL import Image
from torch import nn
from torch.nn import functional

from expert_models.chest_findings import ChestFindings
from expert_models.evaluate import Metric, bootstrapped
from expert_models.evaluate_findings import ReadFilm, read_films
from expert_models.evaluate_radiographs import auroc
from expert_models.precision import half_precision, training_device
from expert_models.preprocess import network_input
from expert_models.train.cxr_findings import Group, Plan, as_group, drawn_batch
from expert_models.train.findings_films import LABELS, real_films, rows_of
from expert_models.train.findings_stages import Lungs

SIZE = (224, 224)
OPACITY = LABELS.index("opacity")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    arguments = parser.parse_args()
    pack = arguments.data / "cxr_nih"
    films = list(real_films(pack, rows_of(pack, held_out=False), Lungs()))
    groups = {name: as_group([film for film in films if film.cell.startswith(name)]) for name in ("read", "mined")}
    baseline = trained(groups, arguments.steps)
    with (pack / "index.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] != "train" and row["rsna"]]
    read = [film for film in read_films(ChestFindings(), pack, rows) if film.reading is not None]
    for metric in compared(read, np.array([score(baseline, pack / film.row["file"]) for film in read])):
        print(f"{metric.name:32} {metric.value:6.3f}   {metric.low:6.3f} to {metric.high:6.3f}   n {metric.n}")


def trained(groups: dict[str, Group], steps: int) -> nn.Module:
    """The DenseNet121 after this many batches of eight read and eight other films."""
    device = training_device()
    torch.manual_seed(1)
    network = DenseNet121(spatial_dims=2, in_channels=1, out_channels=1).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    plan = Plan(shares={"read": 8, "mined": 8})
    for step in range(steps):
        pictures, _, _, _, _, whole, weight, _ = (each.to(device) for each in drawn_batch(groups, plan, step))
        small = functional.interpolate(pictures, size=SIZE, mode="area")
        with half_precision(device):
            logits = network(small)[:, 0].float()
        each = functional.binary_cross_entropy_with_logits(logits, whole[:, OPACITY], reduction="none")
        loss = (each * weight[:, OPACITY]).sum() / weight[:, OPACITY].sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 25 == 0:
            print(f"step {step + 1}/{steps} loss {float(loss):.4f}", flush=True)
    return network.cpu().eval()


def score(network: nn.Module, film: Path) -> float:
    """The logit of an opacity on the picture in a file."""
    with Image.open(film) as image:
        picture = np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255)
    frame, _ = network_input(picture, SIZE)
    with torch.inference_mode():
        return float(network(torch.from_numpy(frame)[None, None]))


def compared(films: Sequence[ReadFilm], baseline: npt.NDArray[np.float64]) -> list[Metric]:
    """AUROC of the expert, of the baseline, and by how much the first is greater."""
    truth = np.array([film.row["rsna"] == "1" for film in films])
    ours = np.array([max(film.reading.scores["opacity"]) for film in films if film.reading])
    scored = {
        "expert/opacity/auroc": lambda index: auroc(truth[index], ours[index]),
        "densenet121/opacity/auroc": lambda index: auroc(truth[index], baseline[index]),
        "difference": lambda index: auroc(truth[index], ours[index]) - auroc(truth[index], baseline[index]),
    }
    patients = [film.row["patient"] for film in films]
    return [bootstrapped(name, value, patients) for name, value in scored.items()]


if __name__ == "__main__":
    main()
