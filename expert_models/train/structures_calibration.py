"""From where on the structures expert tells a shift of the trachea, as a share of the lungs' width.

It is the larger of two figures: what one phantom in twenty is measured wrong by, and what one in twenty of the films
that radiologists called normal is measured at (training films of cxr_nih: the anatomy network, from which this one
starts, learned lungs and heart from every second of them, and nobody airways or clavicles). A trachea that lies off on
one of those is taken for an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from expert_models.card import Card
from expert_models.chest_structures import ChestStructures, Structures
from expert_models.evaluate_structures import phantom_cases
from expert_models.train.cxr_anatomy import Progress
from expert_models.train.radiographs import opened, rows_where

SEEDS = range(900_000, 900_100)
SHARE_BELOW = 0.95

Float32 = npt.NDArray[np.float32]


def calibrate(
    card: Card, network: nn.Module, data: Path | None, progress: Progress, seeds: Sequence[int] = SEEDS
) -> dict[str, float]:
    """The least shift, under its name in the card.

    data: a folder with the pack cxr_nih; without it phantoms alone. seeds: of the phantoms.
    """
    expert = ChestStructures(card=card, network=network)
    errors: list[float] = []
    normal: list[float] = []
    for number, case in enumerate(phantom_cases(seeds), 1):
        read = expert.read(case.picture)
        if not isinstance(read, str) and case.shift is not None and (shift := _shift(read)) is not None:
            errors.append(abs(shift - case.shift * read.box.scale / read.width))
        if number % 20 == 0:
            progress(f"{number} of {len(seeds)} phantoms read")
    for picture in _normal_films(data):
        read = expert.read(picture)
        if not isinstance(read, str) and (shift := _shift(read)) is not None:
            normal.append(abs(shift))
    progress(f"the trachea was measured on {len(errors)} phantoms and {len(normal)} normal films")
    return {"least_shift": max(float(np.quantile(each or [0.0], SHARE_BELOW)) for each in (errors, normal))}


def _shift(read: Structures) -> float | None:
    """How far the trachea lies to the left of the middle, as a share of the lungs' width."""
    shift = read.shift()
    return None if shift is None else (shift[1][1] - shift[0][1]) / read.width


def _normal_films(data: Path | None) -> Iterator[Float32]:
    pack = data / "cxr_nih" if data else None
    if pack is not None and (pack / "index.csv").is_file():
        for row in rows_where(pack, lambda split: split == "train"):
            if row["rsna_class"] == "Normal":
                yield opened(pack / row["file"])
