"""What the structures expert tells: from which sign on a device is possible, and from where on a trachea is shifted.

An alarm is what hardly any film without the device reaches, phantom or real. Phantoms tell exactly who has one. The
real films are training films of cxr_nih that radiologists called normal: this network never saw them, and few of them
can have a device, so that a few may reach the alarm. A shift counts from what one phantom in twenty is wrong by.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from expert_models.card import Card
from expert_models.chest_structures import ChestStructures, alarm_of
from expert_models.evaluate_structures import phantom_cases
from expert_models.train.cxr_anatomy import Progress
from expert_models.train.radiographs import opened, rows_where

SEEDS = range(900_000, 900_100)
FALSE_ALARMS = {"phantoms": 0.01, "normal films": 0.02}  # share of those without the device that reach the alarm
LEAST_ALARM = 60.0  # pixels of the frame: a thin line of 6 cm
SHARE_OF_ERRORS = 0.95  # that lie below the least shift

Float32 = npt.NDArray[np.float32]


def calibrate(
    card: Card, network: nn.Module, data: Path | None, progress: Progress, seeds: Sequence[int] = SEEDS
) -> dict[str, float]:
    """The alarm of every device that has one in the card, and the least shift, each under its name there.

    data: a folder with the pack cxr_nih; without it phantoms alone. seeds: of the phantoms.
    """
    expert = ChestStructures(card=card, network=network)
    without: dict[str, dict[str, list[float]]] = {
        name: {kind: [] for kind in FALSE_ALARMS} for name in expert.told_devices
    }
    errors = [0.0]
    for number, case in enumerate(phantom_cases(seeds), 1):
        read = expert.read(case.picture)
        if isinstance(read, str):
            continue
        for name in without:
            if not case.masks[name].any():
                without[name]["phantoms"].append(read.score(name))
        shift = read.shift()
        if shift is not None and case.shift is not None:
            measured = (shift[1][1] - shift[0][1]) / read.box.scale
            errors.append(abs(measured - case.shift) * read.box.scale / read.width)
        if number % 20 == 0:
            progress(f"{number} of {len(seeds)} phantoms read")
    for picture in _normal_films(data):
        read = expert.read(picture)
        if not isinstance(read, str):
            for name in without:
                without[name]["normal films"].append(read.score(name))
    return {"least_shift": float(np.quantile(errors, SHARE_OF_ERRORS))} | {
        alarm_of(name): max(
            LEAST_ALARM, *(float(np.quantile(each, 1 - FALSE_ALARMS[kind])) for kind, each in kinds.items() if each)
        )
        for name, kinds in without.items()
    }


def _normal_films(data: Path | None) -> Iterator[Float32]:
    pack = data / "cxr_nih" if data else None
    if pack is not None and (pack / "index.csv").is_file():
        for row in rows_where(pack, lambda split: split == "train"):
            if row["rsna_class"] == "Normal":
                yield opened(pack / row["file"])
