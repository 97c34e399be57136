"""From data to the findings network: films gathered, the network trained on them.

Phantoms are kept in the output folder once they are drawn, so that a run that was interrupted need not draw them again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from expert_models.card import packaged_card
from expert_models.chest_radiograph import CARD as ANATOMY
from expert_models.chest_radiograph import doubt_of_lungs
from expert_models.findings_network import FindingsNetwork
from expert_models.segment import Segmenter
from expert_models.train.checkpoint import Curve
from expert_models.train.cxr_findings import Plan, Progress, as_group, train
from expert_models.train.findings_films import (
    Film,
    Float32,
    Mask,
    from_phantom,
    known_film,
    phantom_film,
    real_films,
    rows_of,
    training_kinds,
)

PHANTOMS = range(1200)
RULES = 3  # of how a film is drawn and what is true of it: those that were kept under others are drawn anew
PHANTOM_ROWS = 448
SPACING_MM = (2.0, 2.7)  # of the phantoms' voxels: finer and coarser films


def train_findings(data: Path | None, out: Path, progress: Progress) -> tuple[FindingsNetwork, Curve]:
    """The network and its curve. Without data, or without the pack cxr_nih in it, phantoms alone are learned from."""
    plan = Plan()
    groups = {"phantom": as_group(list(phantoms(PHANTOMS, out / "phantoms", progress)))}
    pack = data / "cxr_nih" if data else None
    if pack is None or not (pack / "index.csv").is_file():
        progress("no real radiographs: training on phantoms alone")
        return train(groups, replace(plan, shares={"phantom": sum(plan.shares.values())}), out, progress)
    films = list(real_films(pack, rows_of(pack, held_out=False), Lungs()))
    for name in ("read", "mined"):
        groups[name] = as_group([film for film in films if film.cell.startswith(name)])
        progress(f"{len(groups[name].pictures)} real films whose opacities were {name}")
    return train(groups, plan, out, progress)


def phantoms(seeds: Iterable[int], kept: Path, progress: Progress) -> Iterator[Film]:
    """A film of each phantom of these seeds that can be drawn, drawn where the folder `kept` does not hold it yet."""
    kept.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds, 1):
        path = kept / f"{seed}-{RULES}.npz"
        if not path.is_file():
            spacing_mm = SPACING_MM[0] + (SPACING_MM[1] - SPACING_MM[0]) * (seed * 7 % 10) / 10
            try:
                film = from_phantom(seed, phantom_film(seed, PHANTOM_ROWS, spacing_mm, training_kinds(seed)))
            except ValueError as reason:  # so many lesions that one has no lung left to lie in
                progress(f"phantom {seed} is left out: {reason}")
                continue
            partial = path.with_suffix(".partial.npz")
            np.savez_compressed(partial, picture=film.picture, bits=film.bits, sides=film.sides)
            partial.replace(path)
        with np.load(path) as arrays:
            yield known_film(f"phantom {seed}", arrays["picture"], arrays["bits"], arrays["sides"])
        if number % 50 == 0:
            progress(f"{number} phantoms at hand")


class Lungs:
    """The lungs of a real film, as the packaged anatomy network outlines them."""

    def __init__(self) -> None:
        self._card = packaged_card(ANATOMY)
        self._segmenter = Segmenter(self._card)

    def __call__(self, picture: Float32) -> tuple[Mask, Mask] | None:
        """Right and left, (rows, columns); None where the anatomy is not plausible."""
        outlined = self._segmenter.segment(picture)
        if doubt_of_lungs(outlined, self._card.calibration):
            return None
        return outlined.masks["right lung"], outlined.masks["left lung"]
