"""The structures expert on phantoms, where everything is known, and on real films with drawn airways and devices.

Real films are those of cxr_anatomy on which everything was drawn and from which this network learned neither airways
nor devices: the held-out ones, and those training films that show a device. (Of the latter the anatomy network, from
which this one starts, has seen the lungs.) Airways are scored on the held-out ones alone. A film that is not read
scores a Dice of 0 and tells no device.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from expert_models.chest_structures import DEVICES, ORGANS, ChestStructures, Structures
from expert_models.codes import LEFTWARD_SHIFT, RIGHTWARD_SHIFT, TIP_ABOVE_CARINA
from expert_models.evaluate import Metric, Progress, bootstrapped, mean_metric
from expert_models.evaluate_radiographs import MaskShelf, as_series, auroc, is_held_out
from expert_models.finding import Finding
from expert_models.measure import Mask, dice, middle_of_row, midpoint_between
from expert_models.preprocess import Letterbox
from expert_models.train.radiographs import drawn_bits, opened, rows_where
from expert_models.train.structure_films import DRAWN, FRAME, drawn_phantom, masks_of

PHANTOM_ROWS = 768  # twice the frame, so that the way back counts


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One film. masks: by the names of the card's labels, at the picture's resolution; what is missing is unknown.

    tip, shift: rows that an endotracheal tube ends above the carina, columns that the trachea lies to the left of the
    middle, None where there is none. mm: a pixel's size, 0 where it is not known.
    """

    patient: str
    view: str
    picture: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    masks: dict[str, Mask]
    is_held_out: bool = True
    carina: tuple[float, float] | None = None
    tip: float | None = None
    shift: float | None = None
    mm: float = 0.0


@dataclass
class Tally:
    """Values of one figure, each with its patient."""

    values: list[float] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)

    def add(self, value: float, patient: str) -> None:
        """One more case."""
        self.values.append(value)
        self.patients.append(patient)


def evaluate_structures(
    expert: ChestStructures, source: str, seeds: Iterable[int] = (), limit: int | None = None,
    progress: Progress | None = None,
) -> list[Metric]:  # fmt: skip
    """Every figure on phantoms of these seeds or, without seeds, on the pack cxr_anatomy in a folder."""
    cases = phantom_cases(seeds) if seeds else real_cases(Path(source) / "cxr_anatomy")
    tallies: dict[str, Tally] = {}
    scores: dict[str, list[tuple[float, bool, str]]] = {name: [] for name in DEVICES}
    for number, case in enumerate(islice(cases, limit), 1):
        read = expert.read(case.picture)
        known = None if isinstance(read, str) else read
        _outlines(known, case, tallies)
        findings = _findings(expert, case)
        _lengths(known, findings, case, tallies)
        for name in DEVICES:
            if name in case.masks:
                is_there = bool(case.masks[name].any())
                code = expert.card.label(name).code
                told = float(any(finding.concept == code for finding in findings))
                kind = "sensitivity" if is_there else "false_alarms"
                tallies.setdefault(f"{_named(name)}/{kind}", Tally()).add(told, case.patient)
                tallies.setdefault(f"devices/{kind}", Tally()).add(told, case.patient)
                scores[name].append((known.score(name) if known else 0.0, is_there, case.patient))
        if progress and number % 10 == 0:
            progress(f"{number} films read for structures")
    metrics = [
        mean_metric(f"cxr_structures/{name}", tally.values, tally.patients) for name, tally in sorted(tallies.items())
    ]
    return metrics + [
        _auroc(name, cases) for name, cases in scores.items() if len({there for _, there, _ in cases}) > 1
    ]


def phantom_cases(seeds: Iterable[int]) -> Iterator[Case]:
    """Phantoms as they are drawn for training, of other seeds and twice as fine."""
    for seed in seeds:
        film = drawn_phantom(seed, PHANTOM_ROWS)
        masks = {label_of(name): mask for name, mask in masks_of(film).items()}
        middle = midpoint_between(masks["right clavicle"], masks["left clavicle"])
        row = (middle[0] + film.carina[0]) / 2 if middle else 0.0
        column = middle_of_row(masks["airways"], row)
        tips = [tip for name, tip in film.tips.items() if name.startswith("endotracheal_tube")]
        yield Case(
            patient=str(seed),
            view=film.view,
            picture=film.image.astype(np.float32),
            masks=masks,
            carina=film.carina,
            tip=film.carina[0] - tips[0][0] if tips else None,
            shift=column - middle[1] if middle and column is not None else None,
            mm=film.spacing_mm,
        )


def real_cases(pack: Path) -> Iterator[Case]:
    """The films on which everything was drawn, but for those without a device that served for training."""
    if not (pack / "index.csv").is_file():
        return
    for row in rows_where(pack, lambda _: True):
        bits = drawn_bits(pack / row["mask"])
        has_device = bool((bits >> DRAWN["endotracheal_tube"]).any())
        if row["annotated"] == "all" and (is_held_out(row["split"]) or has_device):
            yield Case(
                patient=row["patient"],
                view=row["view"],
                picture=opened(pack / row["file"]),
                masks={label_of(name): bits >> bit & 1 == 1 for name, bit in DRAWN.items()},
                is_held_out=is_held_out(row["split"]),
            )


def label_of(channel: str) -> str:
    """The card's label of a channel of the training films."""
    return "ECG leads" if channel == "ecg_leads" else channel.replace("_", " ")


def _named(label: str) -> str:
    return label.lower().replace(" ", "_")


def _auroc(name: str, cases: list[tuple[float, bool, str]]) -> Metric:
    score, there, patients = zip(*cases, strict=True)
    truth, guess = np.array(there), np.array(score)
    return bootstrapped(
        f"cxr_structures/{_named(name)}/auroc", lambda index: auroc(truth[index], guess[index]), list(patients)
    )


def _outlines(read: Structures | None, case: Case, tallies: dict[str, Tally]) -> None:
    for name in ORGANS:
        if name in case.masks and case.is_held_out:
            mine = read.at_source(read.mask(name)) if read else np.zeros(case.picture.shape, bool)
            tallies.setdefault(f"{_named(name)}/dice", Tally()).add(dice(mine, case.masks[name]), case.patient)
    if read and "abdomen" in case.masks and case.mm:
        gap = _edge_gap(read.at_source(read.mask("abdomen")), case.masks["abdomen"])
        if gap is not None:
            tallies.setdefault("diaphragm/abs_error_mm", Tally()).add(gap * case.mm, case.patient)
    if read and case.carina and case.mm and (point := read.point("carina")):
        box = Letterbox((case.picture.shape[0], case.picture.shape[1]), FRAME)
        row, column = box.to_source(point)[0]
        off = float(np.hypot(row - case.carina[0], column - case.carina[1])) * case.mm
        tallies.setdefault("carina/abs_error_mm", Tally()).add(off, case.patient)


def _edge_gap(mine: Mask, true: Mask) -> float | None:
    """The mean distance in rows of the upper edges of two masks, over the columns that both have."""
    both = mine.any(axis=0) & true.any(axis=0)
    if not both.any():
        return None
    return float(np.abs(mine[:, both].argmax(axis=0) - true[:, both].argmax(axis=0)).mean())


def _findings(expert: ChestStructures, case: Case) -> tuple[Finding, ...]:
    series = as_series(case.picture, case.view)
    return () if expert.refuses(series) else tuple(expert.examine(series, MaskShelf()))


def _lengths(read: Structures | None, findings: tuple[Finding, ...], case: Case, tallies: dict[str, Tally]) -> None:
    measured = {each.code: each.value for finding in findings for each in finding.measurements}
    if case.tip is not None and TIP_ABOVE_CARINA in measured:
        error = abs(measured[TIP_ABOVE_CARINA] - case.tip) * case.mm
        tallies.setdefault("tip_above_carina/abs_error_mm", Tally()).add(error, case.patient)
    shift = measured.get(LEFTWARD_SHIFT, -measured[RIGHTWARD_SHIFT] if RIGHTWARD_SHIFT in measured else None)
    if case.shift is not None and shift is not None:
        error = abs(shift - case.shift) * case.mm
        tallies.setdefault("tracheal_shift/abs_error_mm", Tally()).add(error, case.patient)
