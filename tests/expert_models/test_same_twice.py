"""The same pictures in two processes: the same findings to the last bit, and the same as those that were kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.adapters.examinations import FINDINGS, FolderExaminations
from dicom_io.phantom.patient import draw_patient
from dicom_io.study import Geometry, Modality, Series, Volume
from expert_models.codes import EMPHYSEMA
from expert_models.isolated import ExpertProcess, Isolated, Limits
from expert_models.panel import Panel
from expert_models.recipe import Recipe
from expert_models.registry import PACKAGED
from expert_models.train.phantoms import HELD_OUT, phantom_radiograph

READERS = ("chest radiograph input", "chest radiograph", "chest CT lungs")


@pytest.fixture
def processes() -> Iterator[list[ExpertProcess]]:
    started = [ExpertProcess(Limits(seconds=300.0)) for _ in range(2)]
    yield started
    for each in started:
        each.close()


def experts(process: ExpertProcess) -> list[Isolated]:
    recipes = [Recipe(label, PACKAGED[label]) for label in READERS]
    return [Isolated(recipe.make("cpu"), recipe, "cpu", process) for recipe in recipes]


def test_two_processes_and_the_cache_agree_to_the_last_bit(
    processes: list[ExpertProcess], make: Any, tmp_path: Path
) -> None:
    film = phantom_radiograph(HELD_OUT + 4, rows=256, spacing_mm=4.0)
    visit = draw_patient(HELD_OUT + 5, spacing_mm=4.0).visits[-1]
    source = tuple(f"1.2.{number}" for number in range(len(visit.hu)))
    study = make.study(
        Series("1.1", Modality.DX, Volume(film.picture[None], Geometry(np.eye(4))), ("1.1.1",), view=film.view),
        Series("1.2", Modality.CT, Volume(np.ascontiguousarray(visit.hu), visit.geometry), source),
    )
    kept = FolderExaminations(tmp_path, 1)
    answers = []
    for process in (*processes, None):  # at last from what the second one left, with no process at all
        masks = make.masks() if not answers else answers[-1][1]
        panel = Panel(experts(process or ExpertProcess(Limits(seconds=0.001))), masks, kept if answers else None)
        answers.append((FINDINGS.dump_json(panel.examine(study)), masks))
    assert len({answer for answer, _ in answers}) == 1
    first = FINDINGS.validate_json(answers[0][0])
    assert {each.expert.name for each in first} == {"cxr-anatomy", "ct-lungs"}
    answered = [each for each in first if each.concept != EMPHYSEMA]  # of which thick slices tell nothing
    assert {each.presence.value for each in answered} <= {"present", "absent", "indeterminate"}
