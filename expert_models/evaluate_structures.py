"""The structures expert on phantoms, where everything is known, and on real films with drawn airways.

Real films are the held-out ones of cxr_anatomy on which everything was drawn. A film that is not read scores a Dice of
0. An error is of what was measured, and beside it stands which share was.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from expert_models.chest_structures import CARINA, DIAPHRAGM_FROM, ORGANS, RIBS, ChestStructures, Structures
from expert_models.evaluate import Metric, Progress, mean_metric
from expert_models.evaluate_radiographs import as_series, is_held_out
from expert_models.measure import Mask, dice, middle_of_row, midpoint_between
from expert_models.preprocess import Letterbox
from expert_models.train.radiographs import drawn_bits, opened, rows_where
from expert_models.train.structure_films import DEVICES, DRAWN, FRAME, drawn_phantom, masks_of

PHANTOM_ROWS = 768  # twice the frame, so that the way back counts


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One film. masks: by the names of the card's labels, at the picture's resolution; what is missing is unknown.

    shift: columns that the trachea lies to the left of the middle, None where that is not known. mm: a pixel's size, 0
    where it is not known.
    """

    patient: str
    view: str
    picture: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    masks: dict[str, Mask]
    carina: tuple[float, float] | None = None
    shift: float | None = None
    mm: float = 0.0


def evaluate_structures(
    expert: ChestStructures, cases: Iterable[Case], limit: int | None = None, progress: Progress | None = None
) -> list[Metric]:
    """Every figure on these films; none without a film."""
    figures: defaultdict[str, list[tuple[float, str]]] = defaultdict(list)
    for number, case in enumerate(islice(cases, limit), 1):
        read = None if expert.refuses(as_series(case.picture, case.view)) else expert.read(case.picture)
        known = None if isinstance(read, str) else read
        for name, value in (*_outlines(known, case), *_lengths(known, case)):
            figures[name].append((value, case.patient))
        if progress and number % 10 == 0:
            progress(f"{number} films read for structures")
    return [mean_metric(f"cxr_structures/{name}", *zip(*of, strict=True)) for name, of in sorted(figures.items())]


def phantom_cases(seeds: Iterable[int]) -> Iterator[Case]:
    """Phantoms as they are drawn for training, of other seeds and twice as fine."""
    for seed in seeds:
        film = drawn_phantom(seed, PHANTOM_ROWS)
        masks = {label_of(name): mask for name, mask in masks_of(film).items() if name not in DEVICES}
        middle = midpoint_between(masks["right clavicle"], masks["left clavicle"])
        row = (middle[0] + film.carina[0]) / 2 if middle else 0.0
        column = middle_of_row(masks["airways"], row)
        yield Case(
            patient=str(seed),
            view=film.view,
            picture=film.image.astype(np.float32),
            masks=masks,
            carina=film.carina,
            shift=column - middle[1] if middle and column is not None else None,
            mm=film.spacing_mm,
        )


def real_cases(pack: Path) -> Iterator[Case]:
    """The films that are not for training and on which everything was drawn."""
    if not (pack / "index.csv").is_file():
        return
    for row in rows_where(pack, is_held_out):
        if row["annotated"] == "all":
            bits = drawn_bits(pack / row["mask"])
            yield Case(
                patient=row["patient"],
                view=row["view"],
                picture=opened(pack / row["file"]),
                masks={"airways": bits >> DRAWN["airways"] & 1 == 1},
            )


def label_of(channel: str) -> str:
    """The card's label of a channel of the training films."""
    return channel.replace("_", " ")


def _outlines(read: Structures | None, case: Case) -> Iterator[tuple[str, float]]:
    for name in (*ORGANS, RIBS):
        if name in case.masks:
            overlap = dice(read.at_source(read.organ(name)), case.masks[name]) if read else 0.0
            yield f"{name.replace(' ', '_')}/dice", overlap
    if case.mm:
        true = case.masks[DIAPHRAGM_FROM]
        mine = read.at_source(read.part(DIAPHRAGM_FROM)) if read else np.zeros(true.shape, bool)
        both = mine.any(axis=0) & true.any(axis=0)
        yield "diaphragm/found", float(both.sum() / true.any(axis=0).sum())
        if both.any():
            off = np.abs(mine[:, both].argmax(axis=0) - true[:, both].argmax(axis=0)).mean()
            yield "diaphragm/abs_error_mm", float(off) * case.mm


def _lengths(read: Structures | None, case: Case) -> Iterator[tuple[str, float]]:
    """Of phantoms, where a pixel's size is known: how far off each place and length is, and whether there is one."""
    if not case.mm or case.carina is None:
        return
    box = Letterbox((case.picture.shape[0], case.picture.shape[1]), FRAME)
    point = read.centre(CARINA) if read else None
    yield "carina/found", float(point is not None)
    if point:
        yield "carina/abs_error_mm", float(np.hypot(*(box.to_source(point)[0] - case.carina))) * case.mm
    shift = read.shift() if read else None
    if case.shift is not None:
        yield "tracheal_shift/measured", float(shift is not None)
        if shift:
            start, stop = box.to_source(shift)
            yield "tracheal_shift/abs_error_mm", abs(float(stop[1] - start[1]) - case.shift) * case.mm
