"""From the findings network's scores to probabilities and alarms, on training patients that it never saw.

A label that enough films have becomes a probability by a logistic curve. It is absent below the probability that nine
in ten of the films with the finding reach. For the other labels a score is an alarm when at most one in a hundred of
the films without the finding reach it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from expert_models.card import Card
from expert_models.chest_findings import ChestFindings
from expert_models.evaluate_findings import ReadFilm, read_films
from expert_models.findings_network import FindingsNetwork
from expert_models.train.ct_calibration import alarm_over, fitted
from expert_models.train.cxr_findings import Progress
from expert_models.train.findings_films import MINED, rows_of

SENSITIVITY = 0.9  # share of the films with a finding on which it must not be called absent


def calibrate(card: Card, network: FindingsNetwork, pack: Path, progress: Progress) -> dict[str, float]:
    """The calibration values of the card, each under its name there. pack: cxr_nih.

    Which labels become probabilities is the card's to say: those with a slope; and which have an alarm. ValueError when
    one of the former has no positive or no negative film.
    """
    films = read_films(ChestFindings(card=card, network=network), pack, rows_of(pack, held_out=True), progress)
    values: dict[str, float] = {}
    for label in card.labels:
        cases = [(_score(film, label.name), known == "1") for film in films if (known := _known(film, label.name))]
        scores, truth = [score for score, _ in cases], [label for _, label in cases]
        if f"{label.name}_slope" in card.calibration:
            if not any(truth) or all(truth):
                raise ValueError(f"{label.name} cannot be calibrated: all {len(truth)} films have one answer")
            slope, intercept = fitted(scores, truth)
            lowest = float(np.quantile([score for score, has in cases if has], 1 - SENSITIVITY))
            absent = 1 / (1 + np.exp(-(slope * lowest + intercept)))
            values |= {f"{label.name}_slope": slope, f"{label.name}_intercept": intercept}
            values[f"{label.name}_absent"] = min(float(absent), label.threshold)
        elif f"{label.name}_alarm" in card.calibration:
            values[f"{label.name}_alarm"] = alarm_over([score for score, has in cases if not has])
    return values


def _known(film: ReadFilm, label: str) -> str:
    """ "1", "0", or "" where the film was not assessed or not read for this label."""
    if film.reading is None:
        return ""
    return film.row["rsna"] if label == "opacity" else film.row[MINED[label]]


def _score(film: ReadFilm, label: str) -> float:
    return max(film.reading.scores[label]) if film.reading else float("nan")
