"""Row by row against the table of ACR Lung-RADS v2022 (November 2022); Christensen et al., JACR 2024;21:473-488.

Each case names the cell or the note of the table that it was read from (docs/guidelines.md says by way of what).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expert_models.guidelines.lung_rads import Completeness, Exam, lung_rads
from expert_models.guidelines.lung_rads_table import ROWS
from expert_models.guidelines.nodule import (
    AirwayLevel,
    Category,
    CystChange,
    CystForm,
    Morphology,
    Nodule,
    NoduleType,
    Status,
    mean_diameter_mm,
    rounded,
    status_since,
)

EXAM = Exam(is_screening=True, completeness=Completeness.COMPLETE, has_other_finding=False)
BASELINE, NEW, GROWING = Status.BASELINE, Status.NEW, Status.GROWING
SLOW, ENLARGED, STABLE = Status.SLOWLY_GROWING, Status.ENLARGED, Status.STABLE


def _nodule(kind: NoduleType, status: Status | None, mm: float | None = None, **more: Any) -> Nodule:
    given_or_not: dict[str, Any] = {"morphology": Morphology.ORDINARY, "is_suspicious": False} | more
    return Nodule(type=kind, status=status, mean_mm=mm, **given_or_not)


def solid(status: Status | None, mm: float | None = None, **more: Any) -> Nodule:
    return _nodule(NoduleType.SOLID, status, mm, **more)


def part(status: Status | None, mm: float, solid_mm: float | None = None, **more: Any) -> Nodule:
    return _nodule(NoduleType.PART_SOLID, status, mm, solid_mm=solid_mm, **more)


def glass(status: Status | None, mm: float) -> Nodule:
    return _nodule(NoduleType.GROUND_GLASS, status, mm)


def airway(status: Status, level: AirwayLevel) -> Nodule:
    return Nodule(type=NoduleType.AIRWAY, status=status, airway_level=level, is_suspicious=False)


def cyst(status: Status, form: CystForm, change: CystChange | None = None, **more: Any) -> Nodule:
    return Nodule(type=NoduleType.CYST, status=status, cyst_form=form, cyst_change=change, is_suspicious=False, **more)


def node(status: Status, mm: float) -> Nodule:
    return solid(status, mm, morphology=Morphology.JUXTAPLEURAL)


def before(category: str, months: float, **more: Any) -> dict[str, Any]:
    return {"prior_category": Category(category), "months_since_prior": months} | more


PROXIMAL, SUBSEGMENTAL = AirwayLevel.PROXIMAL, AirwayLevel.SUBSEGMENTAL
THICK, MULTI = CystForm.THICK_WALLED, CystForm.MULTILOCULAR

# (cell of the table, nodule, row)
PUBLISHED = [
    ("1: calcification or fat", solid(None, morphology=Morphology.BENIGN), "LR-1-benign-features"),
    # category 2
    ("2: juxtapleural <10 mm", node(BASELINE, 9.9), "LR-2-juxtapleural"),
    ("2: juxtapleural <10 mm", node(NEW, 9.9), "LR-2-juxtapleural"),
    ("2: solid <6 mm baseline", solid(BASELINE, 5.9), "LR-2-solid-baseline"),
    ("2: solid new <4 mm", solid(NEW, 3.9), "LR-2-solid-new"),
    ("2: part-solid <6 mm baseline", part(BASELINE, 5.9), "LR-2-part-solid-baseline"),
    ("2: non-solid <30 mm baseline", glass(BASELINE, 29.9), "LR-2-ground-glass-small"),
    ("2: non-solid <30 mm new", glass(NEW, 29.9), "LR-2-ground-glass-small"),
    ("2: non-solid <30 mm growing", glass(GROWING, 29.9), "LR-2-ground-glass-small"),
    ("2: non-solid >=30 mm stable", glass(STABLE, 30.0), "LR-2-ground-glass-indolent"),
    ("2: non-solid >=30 mm slowly growing", glass(SLOW, 30.0), "LR-2-ground-glass-indolent"),
    ("2: airway subsegmental", airway(BASELINE, SUBSEGMENTAL), "LR-2-airway-subsegmental"),
    ("2: airway subsegmental", airway(NEW, SUBSEGMENTAL), "LR-2-airway-subsegmental"),
    ("2: airway subsegmental", airway(STABLE, SUBSEGMENTAL), "LR-2-airway-subsegmental"),
    ("2: category 3 stable at 6 months", solid(STABLE, 7.0, **before("3", 6)), "LR-2-from-3"),
    ("2: category 3 stable at 6 months", cyst(STABLE, MULTI, **before("3", 7)), "LR-2-from-3"),
    ("2: 4B proven benign", solid(STABLE, 20, **before("4B", 3, is_proven_benign=True)), "LR-2-proven-benign"),
    ("note 5: thresholds for what enlarges", solid(STABLE, 7.0, **before("2", 12)), "LR-2-from-2"),
    # category 3
    ("3: solid 6 to <8 baseline", solid(BASELINE, 6.0), "LR-3-solid-baseline"),
    ("3: solid 6 to <8 baseline", solid(BASELINE, 7.9), "LR-3-solid-baseline"),
    ("note 5: crossed a threshold", solid(ENLARGED, 6.3), "LR-3-solid-baseline"),
    ("3: solid new 4 to <6", solid(NEW, 4.0), "LR-3-solid-new"),
    ("3: solid new 4 to <6", solid(NEW, 5.9), "LR-3-solid-new"),
    ("3: part-solid >=6, solid <6 baseline", part(BASELINE, 6.0, 5.9), "LR-3-part-solid-baseline"),
    ("3: part-solid new <6", part(NEW, 5.9, 2.0), "LR-3-part-solid-new"),
    ("3: non-solid >=30 baseline", glass(BASELINE, 30.0), "LR-3-ground-glass-large"),
    ("3: non-solid >=30 new", glass(NEW, 30.0), "LR-3-ground-glass-large"),
    ("note 5: crossed a threshold", glass(ENLARGED, 30.5), "LR-3-ground-glass-large"),
    ("3: cystic component grows", cyst(GROWING, THICK, CystChange.CAVITY), "LR-3-cyst-cavity-grows"),
    ("3: 4A stable at 3 months", solid(STABLE, 9.0, **before("4A", 3)), "LR-3-from-4A"),
    ("3: 4A stable at 3 months", part(STABLE, 9.0, 7.0, did_solid_grow=False, **before("4A", 4)), "LR-3-from-4A"),
    ("3: 4A stable at 3 months", cyst(STABLE, THICK, **before("4A", 3)), "LR-3-from-4A"),
    # category 4A
    ("4A: solid 8 to <15 baseline", solid(BASELINE, 8.0), "LR-4A-solid-baseline"),
    ("4A: solid 8 to <15 baseline", solid(BASELINE, 14.9), "LR-4A-solid-baseline"),
    ("4A: juxtapleural of 10 mm is a solid nodule", node(BASELINE, 10.0), "LR-4A-solid-baseline"),
    ("4A: solid growing <8", solid(GROWING, 7.9), "LR-4A-solid-growing"),
    ("4A: solid growing <8", solid(GROWING, 5.0), "LR-4A-solid-growing"),
    ("4A: juxtapleural that grows is a solid nodule", node(GROWING, 7.0), "LR-4A-solid-growing"),
    ("4A: solid new 6 to <8", solid(NEW, 6.0), "LR-4A-solid-new"),
    ("4A: solid new 6 to <8", solid(NEW, 7.9), "LR-4A-solid-new"),
    ("4A: part-solid, solid 6 to <8 baseline", part(BASELINE, 12, 6.0), "LR-4A-part-solid-baseline"),
    ("4A: part-solid, solid 6 to <8 baseline", part(BASELINE, 12, 7.9), "LR-4A-part-solid-baseline"),
    ("4A: growing solid component <4", part(GROWING, 9, 3.9, did_solid_grow=True), "LR-4A-part-solid-component"),
    ("4A: new solid component <4", part(STABLE, 9, 3.9, did_solid_grow=True), "LR-4A-part-solid-component"),
    ("4A: new solid component <4", part(NEW, 6.0, 3.9), "LR-4A-part-solid-component"),
    ("4A: airway segmental baseline", airway(BASELINE, PROXIMAL), "LR-4A-airway-proximal"),
    ("note 11: airway segmental", airway(NEW, PROXIMAL), "LR-4A-airway-proximal"),
    ("4A: thick-walled cyst", cyst(BASELINE, THICK), "LR-4A-cyst-thick-walled"),
    ("4A: thick-walled cyst", cyst(NEW, THICK), "LR-4A-cyst-thick-walled"),
    ("4A: multilocular at baseline", cyst(BASELINE, MULTI), "LR-4A-cyst-multilocular"),
    ("4A: became multilocular", cyst(GROWING, MULTI, CystChange.BECAME_MULTILOCULAR), "LR-4A-cyst-became-multilocular"),
    # category 4B
    ("4B: solid >=15 baseline", solid(BASELINE, 15.0), "LR-4B-solid-baseline"),
    ("4B: solid new >=8", solid(NEW, 8.0), "LR-4B-solid-new-growing"),
    ("4B: solid growing >=8", solid(GROWING, 8.0), "LR-4B-solid-new-growing"),
    ("4B: solid component >=8 baseline", part(BASELINE, 12, 8.0), "LR-4B-part-solid-baseline"),
    ("4B: new solid component >=4", part(NEW, 9, 4.0), "LR-4B-part-solid-component"),
    ("4B: growing solid component >=4", part(GROWING, 9, 4.0, did_solid_grow=True), "LR-4B-part-solid-component"),
    ("4B: airway segmental stable", airway(STABLE, PROXIMAL), "LR-4B-airway-proximal"),
    ("4B: airway segmental growing", airway(GROWING, PROXIMAL), "LR-4B-airway-proximal"),
    ("4B: wall grows", cyst(GROWING, THICK, CystChange.WALL), "LR-4B-cyst-wall-grows"),
    ("4B: multilocular grows", cyst(GROWING, MULTI, CystChange.CAVITY), "LR-4B-cyst-grows"),
    ("4B: loculation or opacity", cyst(GROWING, MULTI, CystChange.DENSER), "LR-4B-cyst-denser"),
    ("note 8: slow growth, solid", solid(SLOW, 7.0), "LR-4B-slow-growth"),
    ("note 8: slow growth, part-solid", part(SLOW, 7.0), "LR-4B-slow-growth"),
]  # fmt: skip


@pytest.mark.parametrize(("cell", "nodule", "row"), PUBLISHED)
def test_the_published_table(cell: str, nodule: Nodule, row: str) -> None:
    answer = lung_rads(EXAM, [nodule])
    assert answer.row is not None, (cell, answer.sentence)
    assert answer.row.id == row, cell
    assert answer.category == row.split("-")[1]


@pytest.mark.parametrize(
    ("completeness", "row", "words"),
    [
        (Completeness.AWAITS_PRIOR, "LR-0-prior", "Compare with the prior"),
        (Completeness.NOT_COVERED, "LR-0-coverage", "Additional screening CT"),
        (Completeness.INFLAMMATORY, "LR-0-inflammatory", "1 to 3 months"),
    ],
)
def test_category_0(completeness: Completeness, row: str, words: str) -> None:
    answer = lung_rads(Exam(True, completeness), [Nodule()])
    assert answer.row is not None
    assert (answer.row.id, answer.category) == (row, "0")
    assert words in answer.sentence


def test_every_row_is_in_the_tests() -> None:
    elsewhere = {"LR-0-prior", "LR-0-coverage", "LR-0-inflammatory", "LR-1-none", "LR-4X-features"}
    assert {case[2] for case in PUBLISHED} | elsewhere == set(ROWS)


# The management column
@pytest.mark.parametrize(
    ("category", "words"),
    [
        ("1", ["12 months"]),
        ("2", ["12 months"]),
        ("3", ["6 months"]),
        ("4A", ["3 months", "PET/CT may be considered", "8 mm"]),
        ("4B", ["Diagnostic chest CT", "PET/CT may be considered", "tissue sampling", "referral"]),
        ("4X", ["Diagnostic chest CT", "PET/CT may be considered", "tissue sampling", "referral"]),
    ],
)
def test_the_management_of_each_category(category: str, words: list[str]) -> None:
    rows = [row for row in ROWS.values() if row.category == category and row.id != "LR-4B-airway-proximal"]
    assert rows
    assert all(word in row.management for row in rows for word in words)
    assert "Referral" in ROWS["LR-4B-airway-proximal"].management


# The volumes beside the diameters: 34, 113, 268, 524, 1,767 and 14,137 mm3
@pytest.mark.parametrize(
    ("kind", "status", "morphology", "mm3", "categories"),
    [
        (NoduleType.SOLID, NEW, Morphology.ORDINARY, 34, ("2", "3")),
        (NoduleType.SOLID, NEW, Morphology.ORDINARY, 113, ("3", "4A")),
        (NoduleType.SOLID, NEW, Morphology.ORDINARY, 268, ("4A", "4B")),
        (NoduleType.SOLID, BASELINE, Morphology.ORDINARY, 113, ("2", "3")),
        (NoduleType.SOLID, BASELINE, Morphology.ORDINARY, 268, ("3", "4A")),
        (NoduleType.SOLID, BASELINE, Morphology.ORDINARY, 1767, ("4A", "4B")),
        (NoduleType.SOLID, GROWING, Morphology.ORDINARY, 268, ("4A", "4B")),
        (NoduleType.SOLID, BASELINE, Morphology.JUXTAPLEURAL, 524, ("2", "4A")),
        (NoduleType.GROUND_GLASS, BASELINE, Morphology.ORDINARY, 14137, ("2", "3")),
    ],
)
def test_volumes(
    kind: NoduleType, status: Status, morphology: Morphology, mm3: float, categories: tuple[str, str]
) -> None:
    one = Nodule(type=kind, status=status, morphology=morphology, volume_mm3=mm3 - 1, is_suspicious=False)
    assert lung_rads(EXAM, [one]).category == categories[0]
    assert lung_rads(EXAM, [replace(one, volume_mm3=mm3)]).category == categories[1]


@pytest.mark.parametrize(("mm3", "category"), [(112, "3"), (113, "4A"), (267, "4A"), (268, "4B")])
def test_volumes_of_the_solid_component_at_baseline(mm3: float, category: str) -> None:
    one = Nodule(type=NoduleType.PART_SOLID, status=BASELINE, volume_mm3=900, solid_volume_mm3=mm3,
                 morphology=Morphology.ORDINARY, is_suspicious=False)  # fmt: skip
    assert lung_rads(EXAM, [one]).category == category


# Note 14: features beside size make a category 3 or 4 nodule 4X; note 15: modifier S for categories 0 to 4
def test_suspicious_features_and_the_modifier() -> None:
    spiculated = solid(BASELINE, 7.0, is_suspicious=True)
    answer = lung_rads(replace(EXAM, has_other_finding=True), [spiculated])
    assert answer.category == "4XS"
    assert answer.notes == ("without suspicious features it would be LR-3-solid-baseline",)
    assert lung_rads(EXAM, [solid(BASELINE, 5.0, is_suspicious=True)]).category == "2"
    assert lung_rads(Exam(True, Completeness.AWAITS_PRIOR, True), []).category == "0S"
    assert "modifier S" in lung_rads(replace(EXAM, has_other_finding=None), []).notes[0]


# Note 1: the nodule of the highest degree of suspicion
def test_the_highest_category_leads() -> None:
    nodules = [glass(BASELINE, 28.0), solid(BASELINE, 9.0), solid(BASELINE, 8.5), node(BASELINE, 9.5)]
    answer = lung_rads(EXAM, [replace(each, id=f"f{number}") for number, each in enumerate(nodules, 1)])
    assert (answer.category, answer.nodule_id) == ("4A", "f2")
    assert {each.name for each in answer.inputs if each.name.startswith("nodule")} >= {"nodule f2: mean diameter"}
    one_unknown = [replace(solid(BASELINE, 9.0), id="a"), replace(solid(None, 9.0), id="b")]
    assert lung_rads(EXAM, one_unknown).missing == ("nodule b: status",)


def test_no_nodule_and_what_is_not_classified_is_category_1() -> None:
    answer = lung_rads(EXAM, [])
    assert answer.row is not None
    assert (answer.row.id, answer.category) == ("LR-1-none", "1")
    # Note 12: thin-walled unilocular cysts are benign and not classified
    thin = lung_rads(EXAM, [Nodule(type=NoduleType.CYST, cyst_form=CystForm.THIN_WALLED)])
    assert thin.category == "1"
    assert "not classified" in thin.notes[0]


@pytest.mark.parametrize(
    ("nodule", "word"),
    [
        (glass(GROWING, 31), "ground-glass"),
        (airway(GROWING, SUBSEGMENTAL), "subsegmental"),
        (part(GROWING, 9, 5, did_solid_grow=False), "solid component did not"),
        (solid(STABLE, 9, **before("3", 5)), "6 months"),
        (solid(STABLE, 9, **before("4A", 2)), "3 months"),
        (solid(STABLE, 16, **before("4B", 3, is_proven_benign=False)), "not proven benign"),
        (solid(STABLE, 16, **before("4X", 3)), "4X"),
        (cyst(NEW, MULTI), "multilocular"),
    ],
)
def test_where_the_table_is_silent_the_answer_says_so(nodule: Nodule, word: str) -> None:
    assert word in lung_rads(EXAM, [nodule]).reason


def test_lung_rads_is_for_screening() -> None:
    assert "screening" in lung_rads(Exam(is_screening=False), [solid(BASELINE, 7)]).reason
    assert lung_rads(Exam(), [Nodule(mean_mm=7)]).missing == (
        "screening", "completeness", "nodule type", "morphology", "status",
    )  # fmt: skip


# Note 4: both axes and their mean to one decimal. (7.4 + 5.9) / 2 = 6.65, reported as 6.7
def test_rounding() -> None:
    assert rounded(mean_diameter_mm(7.4, 5.9), 1) == 6.7
    assert lung_rads(EXAM, [solid(BASELINE, mean_diameter_mm(6.1, 5.8))]).category == "3"  # 5.95 is 6.0
    assert lung_rads(EXAM, [solid(BASELINE, 5.94)]).category == "2"
    with pytest.raises(ValueError, match="no axes"):
        mean_diameter_mm(5, 7)


# Note 6: growth is more than 1.5 mm within 12 months
@pytest.mark.parametrize(
    ("prior_mm", "now_mm", "months", "status"),
    [
        (6.0, 7.6, 12, GROWING),
        (6.0, 7.5, 12, None),
        (6.0, 7.6, 13, None),
        (6.0, 6.0, 6, STABLE),
        (6.0, 5.0, 24, STABLE),
    ],
)
def test_growth(prior_mm: float, now_mm: float, months: float, status: Status | None) -> None:
    assert status_since(prior_mm, now_mm, months) is status


def _maybe(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([None, *values])


MM = (3.9, 4.0, 5.9, 6.0, 7.9, 8.0, 9.9, 14.9, 15.0, 29.9, 30.0)
NODULES = st.builds(
    lambda mm, share, **rest: Nodule("x", mean_mm=mm, solid_mm=mm * share if mm and share else None, **rest),
    mm=_maybe(*MM), share=_maybe(0.3, 0.9), type=_maybe(*NoduleType), morphology=_maybe(*Morphology),
    status=_maybe(*Status), did_solid_grow=_maybe(True, False), airway_level=_maybe(*AirwayLevel),
    cyst_form=_maybe(*CystForm), cyst_change=_maybe(*CystChange), prior_category=_maybe(*Category),
    months_since_prior=_maybe(2, 3, 6), is_proven_benign=_maybe(True, False), is_suspicious=_maybe(True, False),
)  # fmt: skip
EXAMS = st.builds(Exam, _maybe(True, True, False), _maybe(Completeness.COMPLETE, *Completeness), _maybe(True, False))
FIELD = {
    "nodule type": "type", "mean diameter": "mean_mm", "solid component": "solid_mm", "morphology": "morphology",
    "status": "status", "growth of the solid component": "did_solid_grow", "airway level": "airway_level",
    "form of the cyst": "cyst_form", "change of the cyst": "cyst_change", "prior category": "prior_category",
    "months since the prior": "months_since_prior", "proven benign": "is_proven_benign",
    "suspicious features": "is_suspicious",
}  # fmt: skip
SPARE = Nodule("x", NoduleType.SOLID, 9.0, None, 3.0, None, Morphology.ORDINARY, STABLE, True, PROXIMAL, THICK,
               CystChange.WALL, Category.SUSPICIOUS, 6, True, False)  # fmt: skip


@given(EXAMS, NODULES, NODULES)
@settings(max_examples=800, deadline=None)
def test_every_combination_has_one_answer_and_what_is_unknown_never_mattered(
    exam: Exam, one: Nodule, other: Nodule
) -> None:
    """Answer refuses to be anything but a row, or what is missing, or a reason. What is not known, and not said to be
    missing, changes no row; and giving what is said to be missing leads to a row or a reason."""
    answer = lung_rads(exam, [one])
    for _ in range(6):
        if not answer.missing:
            break
        names = [FIELD[name] for name in answer.missing if name in FIELD]
        assert all(getattr(one, name) is None for name in names), "only what is not known is missing"
        one = replace(one, **{name: getattr(SPARE, name) for name in names})
        exam = Exam(
            True if "screening" in answer.missing else exam.is_screening,
            Completeness.COMPLETE if "completeness" in answer.missing else exam.completeness,
            exam.has_other_finding,
        )
        answer = lung_rads(exam, [one])
    assert not answer.missing
    if answer.row is not None:
        facts = [name for name in FIELD.values() if not name.endswith("_mm") and getattr(one, name) is None]
        more = {name: getattr(other, name) for name in facts}
        assert lung_rads(exam, [replace(one, **more)]).row == answer.row
