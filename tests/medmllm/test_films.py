"""Real films as exams: what a pack says is known, what it does not say is not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dicom_io.study import Series
from expert_models import codes
from expert_models.finding import Box, Code, ExpertTag, Finding, Presence, Region, Side
from expert_models.ports import Masks
from expert_models.train.radiographs import Labelled
from medmllm.train.exams import SIDE
from medmllm.train.films import FIRST, NAMED, anatomy_exam, held_out_exams, labelled_exam

ROWS, COLUMNS = 100, 200  # laid into the square of an exam it has SIDE / 4 empty rows above and below


class Outliner:
    """Outlines the two lungs it was given, as boxes (top, left, bottom, right); nothing without them."""

    tag = ExpertTag("outliner", "1")
    concepts: tuple[Code, ...] = (codes.LUNG,)

    def __init__(self, *boxes: tuple[int, int, int, int]) -> None:
        self._boxes = boxes

    def refuses(self, series: Series) -> str | None:
        return None

    def examine(self, series: Series, masks: Masks) -> Sequence[Finding]:
        found = []
        for side, (top, left, bottom, right) in zip((Side.RIGHT, Side.LEFT), self._boxes, strict=False):
            key = masks.save(np.ones((1, bottom - top, right - left), bool))
            region = Region(series.uid, Box((0, top, left), (1, bottom, right)), "1", key)
            found.append(Finding("f1", codes.LUNG, Presence.PRESENT, self.tag, side=side, regions=(region,)))
        return found


LUNGS = Outliner((10, 20, 90, 90), (10, 110, 90, 180))


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    Image.fromarray(np.full((ROWS, COLUMNS), 128, np.uint8)).save(tmp_path / "film.png")
    return tmp_path


def row(*labels: str) -> dict[str, str]:
    return {"file": "film.png", "patient": "1", "view": "AP"} | {name: str(int(name in labels)) for name in NAMED}


def test_boxes_have_a_side_and_labels_have_none(pack: Path) -> None:
    """The box is in pixels of 512: 300..400 of 512 are columns 117..156 of 200, over the left lung."""
    box = {"label": "Lung Opacity", "x0": "300", "x1": "400", "y0": "128", "y1": "256"}
    exam = labelled_exam(pack, row("Pneumonia", "Effusion"), [box], LUNGS, FIRST)
    assert exam is not None
    assert exam.then is None
    assert [(e.kind, e.side) for e in exam.now.lesions] == [("consolidation", "left"), ("effusion", None)]
    consolidation, effusion = exam.now.outlines[3:]
    assert not effusion.any()
    columns, rows = np.flatnonzero(consolidation.any(axis=0)), np.flatnonzero(consolidation.any(axis=1))
    scale = SIDE / COLUMNS
    assert columns[0] == pytest.approx(117 * scale, abs=1)
    assert columns[-1] == pytest.approx(156 * scale, abs=1)
    assert rows[0] == pytest.approx(SIDE / 4 + 25 * scale, abs=1)  # 128 of 512 rows of a film of 100


def test_several_names_of_an_opacity_are_one_and_a_film_without_lungs_is_left_out(pack: Path) -> None:
    exam = labelled_exam(pack, row("Pneumonia", "Infiltration", "Consolidation"), (), LUNGS, FIRST)
    assert exam is not None
    assert [each.kind for each in exam.now.lesions] == ["consolidation"]
    assert not exam.now.outlines[2].any()  # the heart was not outlined
    assert labelled_exam(pack, row(), (), Outliner((10, 20, 90, 90)), FIRST) is None


def test_what_was_not_drawn_is_not_known() -> None:
    masks = np.ones((3, ROWS, COLUMNS), bool)
    exam = anatomy_exam(
        Labelled("a", "1", "PA", "", np.zeros((ROWS, COLUMNS), np.float32), masks, (True, True, False)), 7
    )
    assert [bool(each.any()) for each in exam.now.outlines] == [True, True, False]
    assert exam.now.cardiothoracic_ratio is None
    assert exam.now.lesions == ()


def test_a_source_that_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither a range phantom:START-STOP nor a folder"):
        list(held_out_exams(str(tmp_path), tmp_path))
