"""Scores of the comparison against a patient drawn by hand: nodules told right, told wrong, and not told of."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np

from dicom_io.phantom.lesion import Lesion, LesionKind
from dicom_io.phantom.patient import Visit
from expert_models.codes import LUNG_NODULE
from expert_models.evaluate_compare import Pair, Told, accuracy, told
from expert_models.evaluate_radiographs import MaskShelf
from expert_models.finding import Box, Change, Compared, Comparison, Finding

PLACES = {"nodule-1": (4, 4, 4), "nodule-2": (4, 12, 4), "nodule-3": (12, 4, 4), "nodule-4": (12, 12, 12)}


def visit(make: Any, names: list[str]) -> Visit:
    """Nodules of 8 mL, cubes of two voxels of 1 cm."""
    mask = np.ones((2, 2, 2), bool)
    kind = LesionKind.NODULE
    lesions = tuple(Lesion(name, kind, "right", None, "solid", 20, 20, 8.0, PLACES[name], mask) for name in names)
    volume = make.ct("1.2", 20).volume
    return Visit(volume.voxels, volume.geometry, {}, lesions, datetime(2025, 1, 1), {}, False, np.zeros(3))


def at(make: Any, name: str, number: int, uid: str) -> Finding:
    start = PLACES[name]
    box = Box(start, (start[0] + 2, start[1] + 2, start[2] + 2))
    finding: Finding = make.found(LUNG_NODULE, number=number, series_uid=uid, box=box)
    return finding


def test_what_was_said_of_each_lesion_is_found_by_its_place(make: Any) -> None:
    then = visit(make, ["nodule-1", "nodule-2", "nodule-4"])
    now = visit(make, ["nodule-1", "nodule-2", "nodule-3"])
    changes = dict(zip(PLACES, (Change.STABLE, Change.LARGER, Change.NEW, Change.RESOLVED), strict=True))
    prior = make.study(make.ct("1.9", 20), uid="2.0")
    study = replace(make.study(make.ct("1.2", 20)), priors=(prior,))
    pair = Pair("p", (then, now), changes, study, (), (), MaskShelf())
    findings = [at(make, "nodule-1", 1, "1.2"), at(make, "nodule-2", 2, "1.2")]  # the third was missed
    compared = Compared(
        (
            Comparison("c1", Change.STABLE, "2.0", "t1", "f1", at(make, "nodule-1", 1, "1.9")),
            Comparison("c2", Change.NEW, "2.0", "t2", "f2"),
            Comparison("c3", Change.RESOLVED, "2.0", "t3", None, at(make, "nodule-4", 3, "1.9")),
        )
    )
    assert [each.said for each in told(pair, findings, compared)] == [Change.STABLE, Change.NEW, None, Change.RESOLVED]


def test_accuracy_in_all_and_of_each_class() -> None:
    of = [
        (Change.STABLE, Change.STABLE),
        (Change.STABLE, Change.LARGER),
        (Change.LARGER, Change.LARGER),
        (Change.NEW, None),
    ]
    metrics = accuracy("accuracy", [Told(f"p{k}", truth, said) for k, (truth, said) in enumerate(of)])
    assert {each.name: (each.value, each.n) for each in metrics} == {
        "compare/change/accuracy": (0.5, 4),
        "compare/change/accuracy/new": (0.0, 1),
        "compare/change/accuracy/larger": (1.0, 1),
        "compare/change/accuracy/stable": (0.5, 2),
    }
