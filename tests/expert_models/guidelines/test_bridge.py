from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from expert_models.codes import (
    ATTENUATION_TYPE,
    GROUND_GLASS,
    LONG_AXIS,
    LUNG_MASS,
    LUNG_NODULE,
    MILLILITER,
    MILLIMETER,
    PART_SOLID,
    PIXEL,
    SHORT_AXIS,
    SOLID_LONG_AXIS,
    VOLUME,
)
from expert_models.codes import SOLID as SOLID_TYPE
from expert_models.finding import Attribute, Change, Code, Comparison, ExpertTag, Finding, Measurement, Presence
from expert_models.guidelines.bridge import fleischner_of, lung_rads_of
from expert_models.guidelines.fleischner import ROWS as FLEISCHNER_ROWS
from expert_models.guidelines.fleischner import Patient, Risk
from expert_models.guidelines.lung_rads import Completeness, Exam
from expert_models.guidelines.lung_rads_table import ROWS as LUNG_RADS_ROWS
from expert_models.guidelines.nodule import Morphology, Nodule, NoduleType, Status

EXPERT = ExpertTag("ct-nodules", "1")
LOW = Patient(60, Risk.LOW, has_known_cancer=False, is_immunosuppressed=False, is_screening=False)
EXAM = Exam(is_screening=True, completeness=Completeness.COMPLETE, has_other_finding=False)
SOLID = Nodule(type=NoduleType.SOLID, morphology=Morphology.ORDINARY, is_suspicious=False)


def found(number: int = 1, long_mm: float = 8.0, short_mm: float = 6.0, ml: float = 0.18) -> Finding:
    measured = (
        Measurement(LONG_AXIS, long_mm, MILLIMETER),
        Measurement(SHORT_AXIS, short_mm, MILLIMETER),
        Measurement(VOLUME, ml, MILLILITER),
    )
    return Finding(f"f{number}", LUNG_NODULE, Presence.PRESENT, EXPERT, 0.9, measurements=measured)


def test_measurements_alone_give_what_is_missing_and_no_management() -> None:
    answer = fleischner_of([found()], Patient())
    assert answer.missing == (
        "age", "known cancer", "immunosuppression", "screening", "nodule type", "morphology", "risk",
    )  # fmt: skip
    assert lung_rads_of([found()], Exam()).missing == (
        "screening", "completeness", "nodule type", "morphology", "status",
    )  # fmt: skip


def test_what_a_reader_adds_completes_it() -> None:
    answer = fleischner_of([found()], LOW, {"f1": SOLID})
    assert answer.row is not None
    assert (answer.row.id, answer.nodule_id) == ("FL-solid-single-6to8-low", "f1")  # (8 + 6) / 2 = 7 mm
    assert "no reader has confirmed" in answer.notes[-1]
    two = fleischner_of([found(1), found(2, 5, 4, 0.05)], LOW, {"f1": SOLID, "f2": SOLID})
    assert two.row is not None
    assert two.row.id == "FL-solid-multiple-ge6-low"


def described(finding: Finding, value: Code, solid_mm: float | None = None) -> Finding:
    axis = () if solid_mm is None else (Measurement(SOLID_LONG_AXIS, solid_mm, MILLIMETER),)
    stated = (Attribute(ATTENUATION_TYPE, value, 0.9),)
    return replace(finding, measurements=(*finding.measurements, *axis), attributes=stated)


def test_the_type_that_an_expert_states_is_taken() -> None:
    known = {"f1": Nodule(morphology=Morphology.ORDINARY)}
    rows = {each: fleischner_of([described(found(), each)], LOW, known).row for each in (SOLID_TYPE, GROUND_GLASS)}
    assert {value: row.id for value, row in rows.items() if row} == {
        SOLID_TYPE: "FL-solid-single-6to8-low",
        GROUND_GLASS: "FL-ground-glass-single-ge6",
    }
    by_reader = fleischner_of([described(found(), GROUND_GLASS)], LOW, {"f1": SOLID}).row  # who knows better
    assert by_reader is not None
    assert by_reader.id == "FL-solid-single-6to8-low"


def test_the_solid_component_is_taken_where_it_was_measured() -> None:
    known = {"f1": Nodule(morphology=Morphology.ORDINARY, is_suspicious=False, status=Status.BASELINE)}
    measured = fleischner_of([described(found(), PART_SOLID, 5.0)], LOW, known).row
    assert measured is not None
    assert measured.id == "FL-part-solid-single-ge6-solid-lt6"
    assert fleischner_of([described(found(), PART_SOLID)], LOW, known).missing == ("solid component",)
    longer = described(found(), PART_SOLID, 7.5)  # than the mean of 8 and 6 mm
    assert fleischner_of([longer], LOW, known).missing == ("solid component",)
    # Lung-RADS takes the mean diameter of the solid component, and only its long axis was measured
    assert "solid component" in lung_rads_of([described(found(), PART_SOLID, 5.0)], EXAM, known).sentence


def test_what_was_not_seen_to_the_end_gives_no_row() -> None:
    rest = Finding("f2", LUNG_NODULE, Presence.NOT_ASSESSED, EXPERT, reason="two more candidates are not listed")
    assert "two more" in fleischner_of([found(), rest], LOW, {"f1": SOLID}).reason
    doubtful = replace(found(2), presence=Presence.INDETERMINATE)
    assert lung_rads_of([found(), doubtful], EXAM, {"f1": SOLID}).missing == ("nodule f2: presence",)
    assert "no expert" in lung_rads_of([], EXAM).reason
    mass = replace(found(3, 36, 20, 9.0), concept=LUNG_MASS)
    assert "mass" in fleischner_of([found(), mass], LOW, {"f1": SOLID, "f3": SOLID}).reason


def test_no_nodule_is_category_1_of_a_complete_screening_ct() -> None:
    absent = Finding("f1", LUNG_NODULE, Presence.ABSENT, EXPERT, 0.02)
    assert lung_rads_of([absent], EXAM).category == "1"
    assert lung_rads_of([absent], Exam()).missing == ("screening", "completeness")
    assert "no nodule" in fleischner_of([absent], LOW).reason


def test_the_prior_tells_the_status_where_sizes_decide_it() -> None:
    def compared(change: Change, before: Finding | None) -> Comparison:
        return Comparison("c1", change, "1.2.3", "2.25.1", "f1", before)

    now, known = [found()], {"f1": SOLID}  # 7 mm
    new = lung_rads_of(now, EXAM, known, [compared(Change.NEW, None)], 12)
    assert new.row is not None
    assert new.row.id == "LR-4A-solid-new"
    grown = lung_rads_of(now, EXAM, known, [compared(Change.LARGER, found(1, 5.0, 4.0))], 12)
    assert grown.row is not None
    assert grown.row.id == "LR-4A-solid-growing"  # 4.5 to 7.0 mm within 12 months
    slight = lung_rads_of(now, EXAM, known, [compared(Change.STABLE, found(1, 7.0, 6.0))], 12)
    assert slight.missing == ("status",)  # 6.5 to 7.0 mm may be slow growth
    stable = lung_rads_of(now, EXAM, known, [compared(Change.STABLE, found())], 6)
    assert stable.missing == ("prior category",)
    said = {"f1": replace(SOLID, status=Status.BASELINE)}
    assert lung_rads_of(now, EXAM, said, [compared(Change.NEW, None)], 12).category == "3"


def test_lengths_in_pixels_are_no_diameter() -> None:
    pixels = (Measurement(LONG_AXIS, 9, PIXEL), Measurement(SHORT_AXIS, 8, PIXEL))
    answer = fleischner_of([replace(found(), measurements=pixels)], LOW, {"f1": SOLID})
    assert answer.missing == ("mean diameter",)


def test_guidelines_need_no_numpy() -> None:
    code = "import sys, expert_models.guidelines.bridge; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_page_shows_every_row_as_the_tables_have_it() -> None:
    page = (Path(__file__).parents[3] / "docs" / "guidelines.md").read_text()
    for row in (*FLEISCHNER_ROWS.values(), *LUNG_RADS_ROWS.values()):
        assert f"{row.words} | {row.management} | `{row.id}` |" in page
