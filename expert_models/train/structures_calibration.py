"""From which score on a device is told as possible: the highest that films without one reach, phantoms and real ones.

Phantoms tell exactly who has a device. The real films are training films of cxr_nih that radiologists called normal:
this network never saw them, and few of them can have a device, so that a few of them may reach the alarm.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from expert_models.card import Card
from expert_models.chest_structures import DEVICES, ChestStructures
from expert_models.evaluate_structures import phantom_cases
from expert_models.train.cxr_anatomy import Progress
from expert_models.train.radiographs import opened, rows_where

SEEDS = range(900_000, 900_100)
FALSE_ALARMS = {"phantoms": 0.01, "normal films": 0.02}  # share of those without the device that reach the alarm
LEAST_ALARM = 0.5  # below which the network itself thinks it less likely than not

Float32 = npt.NDArray[np.float32]


def calibrate(card: Card, network: nn.Module, data: Path | None, progress: Progress) -> dict[str, float]:
    """The alarm of every device, under its name in the card. data: a folder with the pack cxr_nih; phantoms always."""
    expert = ChestStructures(card=card, network=network)
    without: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in FALSE_ALARMS} for name in DEVICES}
    for number, case in enumerate(phantom_cases(SEEDS), 1):
        for name, score in _scores(expert, case.picture).items():
            if not case.masks[name].any():
                without[name]["phantoms"].append(score)
        if number % 20 == 0:
            progress(f"{number} of {len(SEEDS)} phantoms read for alarms")
    for picture in _normal_films(data):
        for name, score in _scores(expert, picture).items():
            without[name]["normal films"].append(score)
    return {
        f"{name.lower().replace(' ', '_')}_alarm": max(
            LEAST_ALARM, *(float(np.quantile(each, 1 - FALSE_ALARMS[kind])) for kind, each in kinds.items() if each)
        )
        for name, kinds in without.items()
    }


def _scores(expert: ChestStructures, picture: Float32) -> dict[str, float]:
    """The score of every device; none where the picture is not read."""
    read = expert.read(picture)
    return {} if isinstance(read, str) else {name: read.score(name) for name in DEVICES}


def _normal_films(data: Path | None) -> Iterator[Float32]:
    pack = data / "cxr_nih" if data else None
    if pack is not None and (pack / "index.csv").is_file():
        for row in rows_where(pack, lambda split: split == "train"):
            if row["rsna_class"] == "Normal":
                yield opened(pack / row["file"])
