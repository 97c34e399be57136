"""Row by row against the table of MacMahon et al., Radiology 2017;284:228-243; managements as there, in our words.

Each case names the part of the table or the recommendation of the text that it was read from (docs/guidelines.md).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expert_models.guidelines.fleischner import ROWS, Patient, Risk, fleischner
from expert_models.guidelines.nodule import Morphology, Nodule, NoduleType

S, P, G = NoduleType.SOLID, NoduleType.PART_SOLID, NoduleType.GROUND_GLASS
LOW = Patient(60, Risk.LOW, has_known_cancer=False, is_immunosuppressed=False, is_screening=False)
HIGH = replace(LOW, risk=Risk.HIGH)
ANY = replace(LOW, risk=None)  # the table does not ask for the risk here


def nodule(kind: NoduleType, mm: float, solid_mm: float | None = None, **more: Any) -> Nodule:
    return Nodule(type=kind, mean_mm=mm, solid_mm=solid_mm, morphology=Morphology.ORDINARY, **more)


# (source, patient, type, mean mm, solid mm, several, what the table says: row, then words of its management)
PUBLISHED = [
    # Table, part A, single, <6 mm: rounded to 5 mm or less (text to recommendation 1: "those 5 mm or smaller")
    ("A single <6 low", LOW, S, 5.4, None, False, "FL-solid-single-lt6-low", ["No routine"]),
    ("A single <6 high", HIGH, S, 5.4, None, False, "FL-solid-single-lt6-high", ["12 months", "optional"]),
    # Table, part A, single, 6-8 mm
    ("A single 6-8 low", LOW, S, 5.9, None, False, "FL-solid-single-6to8-low", ["6 to 12", "then consider", "18"]),
    ("A single 6-8 low", LOW, S, 5.5, None, False, "FL-solid-single-6to8-low", []),
    ("A single 6-8 low", LOW, S, 6.0, None, False, "FL-solid-single-6to8-low", []),
    ("A single 6-8 high", HIGH, S, 7.9, None, False, "FL-solid-single-6to8-high", ["6 to 12", "then CT", "18 to 24"]),
    ("A single 6-8 high", HIGH, S, 8.0, None, False, "FL-solid-single-6to8-high", []),
    ("A single 6-8 high", HIGH, S, 8.4, None, False, "FL-solid-single-6to8-high", []),
    # Table, part A, single, >8 mm: the same for low and high risk
    ("A single >8 low", LOW, S, 8.5, None, False, "FL-solid-single-gt8", ["3 months", "PET/CT", "tissue sampling"]),
    ("A single >8 any", ANY, S, 9.0, None, False, "FL-solid-single-gt8", []),
    ("A single >8 any", ANY, S, 30.0, None, False, "FL-solid-single-gt8", []),
    # Table, part A, multiple: 6-8 mm and >8 mm read the same
    ("A multiple <6 low", LOW, S, 5.4, None, True, "FL-solid-multiple-lt6-low", ["No routine"]),
    ("A multiple <6 high", HIGH, S, 5.4, None, True, "FL-solid-multiple-lt6-high", ["12 months", "optional"]),
    ("A multiple 6-8 low", LOW, S, 6.0, None, True, "FL-solid-multiple-ge6-low", ["3 to 6", "then consider", "18"]),
    ("A multiple >8 low", LOW, S, 12.0, None, True, "FL-solid-multiple-ge6-low", []),
    ("A multiple 6-8 high", HIGH, S, 8.0, None, True, "FL-solid-multiple-ge6-high", ["3 to 6", "then CT", "18 to 24"]),
    ("A multiple >8 high", HIGH, S, 9.0, None, True, "FL-solid-multiple-ge6-high", []),
    # Table, part B, single ground-glass
    ("B ground-glass <6", ANY, G, 5.4, None, False, "FL-ground-glass-single-lt6", ["No routine"]),
    ("B ground-glass >=6", ANY, G, 5.5, None, False, "FL-ground-glass-single-ge6", ["6 to 12", "every 2 years", "5"]),
    # Table, part B, single part-solid, with recommendation 4 of the text for the solid component
    ("B part-solid <6", ANY, P, 5.4, None, False, "FL-part-solid-single-lt6", ["No routine"]),
    ("B part-solid >=6", ANY, P, 6.0, 5.4, False, "FL-part-solid-single-ge6-solid-lt6", ["3 to 6", "every year"]),
    ("Rec. 4, solid >=6", ANY, P, 20, 5.5, False, "FL-part-solid-single-ge6-solid-6to8", ["3 to 6", "suspicious"]),
    ("Rec. 4, solid >=6", ANY, P, 20, 8.4, False, "FL-part-solid-single-ge6-solid-6to8", []),
    ("Rec. 4, solid >8", ANY, P, 20, 8.5, False, "FL-part-solid-single-ge6-solid-gt8", ["PET/CT, biopsy or"]),
    # Table, part B, multiple
    ("B multiple <6", ANY, G, 5.4, None, True, "FL-subsolid-multiple-lt6", ["3 to 6", "2 and 4 years"]),
    ("B multiple >=6", ANY, P, 6.0, None, True, "FL-subsolid-multiple-ge6", ["3 to 6", "most suspicious"]),
]  # fmt: skip


@pytest.mark.parametrize(("source", "patient", "kind", "mm", "solid", "several", "row", "words"), PUBLISHED)
def test_the_published_table(
    source: str,
    patient: Patient,
    kind: NoduleType,
    mm: float,
    solid: float | None,
    several: bool,
    row: str,
    words: list[str],
) -> None:
    answer = fleischner(patient, [nodule(kind, mm, solid)], are_others=several)
    assert answer.row is not None, (source, answer.sentence)
    assert answer.row.id == row, source
    assert all(each in answer.sentence for each in words), answer.sentence


def test_every_row_is_in_the_test() -> None:
    assert {case[6] for case in PUBLISHED} | {"FL-lymph-node"} == set(ROWS)


# Table headers: <100, 100-250 and >250 mm3
@pytest.mark.parametrize(
    ("mm3", "row"), [(99, "single-lt6-low"), (100, "single-6to8-low"), (250, "single-6to8-low"), (251, "single-gt8")]
)
def test_volumes_take_the_place_of_diameters(mm3: float, row: str) -> None:
    one = Nodule(type=S, volume_mm3=mm3, morphology=Morphology.ORDINARY)
    answer = fleischner(LOW, [one], are_others=False)
    assert answer.row is not None
    assert answer.row.id == f"FL-solid-{row}"


def test_a_volume_that_leads_elsewhere_is_said() -> None:
    answer = fleischner(LOW, [nodule(S, 5.0, volume_mm3=120)], are_others=False)
    assert answer.row is not None
    assert answer.row.id == "FL-solid-single-lt6-low"
    assert answer.notes == ("by volume: FL-solid-single-6to8-low",)


# Text, "who the guidelines apply to": 35 years or older, no known cancer, no immunosuppression, no screening
@pytest.mark.parametrize(
    ("patient", "word"),
    [
        (Patient(age_years=34.9), "35"),
        (Patient(has_known_cancer=True), "cancer"),
        (Patient(is_immunosuppressed=True), "immunosuppressed"),
        (Patient(is_screening=True), "screening"),
    ],
)
def test_one_exclusion_is_enough(patient: Patient, word: str) -> None:
    answer = fleischner(patient, [Nodule()])
    assert word in answer.reason
    assert answer.sentence.startswith("not applicable: ")


def test_thirty_five_years_is_old_enough() -> None:
    assert fleischner(replace(LOW, age_years=35), [nodule(S, 7)], are_others=False).row is not None


def test_what_a_report_knows_today_names_what_is_missing() -> None:
    answer = fleischner(Patient(), [Nodule(mean_mm=7.0, volume_mm3=180)])
    assert answer.missing == (
        "age", "known cancer", "immunosuppression", "screening", "nodule type", "morphology", "other nodules", "risk",
    )  # fmt: skip
    assert fleischner(Patient(), [nodule(S, 7.0)]).missing[-2:] == ("other nodules", "risk")
    assert "risk" not in fleischner(Patient(), [nodule(G, 7.0)]).missing
    only_age = fleischner(replace(LOW, age_years=None), [nodule(S, 7.0)], are_others=False)
    assert only_age.sentence == "not applicable: age is not known"


def test_an_answer_says_what_it_rests_on() -> None:
    answer = fleischner(HIGH, [nodule(S, 7.0)], are_others=False)
    given = {each.name: each.value for each in answer.inputs}
    assert given["mean diameter"] == "7 mm"
    assert given["risk"] == "high"
    assert given["known cancer"] == "no"
    assert "10.1148/radiol.2017161659" in str(answer.source)


# Recommendations 2 and 5: several nodules "with at least one 6 mm or larger"
def test_of_several_nodules_of_one_kind_one_is_enough() -> None:
    answer = fleischner(LOW, [nodule(S, 6, id="a"), nodule(S, 7, id="b"), nodule(S, 5, id="c")])
    assert answer.row is not None
    assert (answer.row.id, answer.nodule_id) == ("FL-solid-multiple-ge6-low", "b")
    subsolid = fleischner(ANY, [nodule(G, 4, id="a"), nodule(P, 6, 2, id="b")])
    assert subsolid.row is not None
    assert subsolid.row.id == "FL-subsolid-multiple-ge6"


# Table, comments: "use most suspicious nodule as guide to management", and it need not be the largest
def test_solid_beside_subsolid_follows_the_dominant_nodule() -> None:
    both = [nodule(S, 12, id="a"), nodule(P, 9, 4, id="b")]
    assert fleischner(LOW, both).missing == ("most suspicious nodule",)
    rows = [fleischner(LOW, both, dominant_id=each).row for each in "ab"]
    assert [row.id for row in rows if row] == ["FL-solid-multiple-ge6-low", "FL-subsolid-multiple-ge6"]


def test_benign_nodules_and_lymph_nodes_do_not_count() -> None:
    node = Nodule("n", S, 8.0, morphology=Morphology.JUXTAPLEURAL)
    calcified = Nodule("c", morphology=Morphology.BENIGN)
    # Text, perifissural nodules: no follow-up "even if the average dimension exceeds 6 mm"
    alone = fleischner(LOW, [node, calcified])
    assert alone.row is not None
    assert alone.row.id == "FL-lymph-node"
    assert "calcification" in fleischner(LOW, [calcified]).reason
    beside = fleischner(LOW, [node, calcified, nodule(S, 7, id="s")], are_others=False)
    assert beside.row is not None
    assert (beside.row.id, beside.nodule_id) == ("FL-solid-single-6to8-low", "s")


def test_masses_airway_lesions_and_cysts_have_no_row() -> None:
    assert "mass" in fleischner(LOW, [nodule(S, 31)], are_others=False).reason
    assert "airway" in fleischner(LOW, [nodule(NoduleType.AIRWAY, 7)], are_others=False).reason
    assert "no nodule" in fleischner(LOW, []).reason


def test_contradictions_are_refused() -> None:
    with pytest.raises(ValueError, match="larger than the whole"):
        nodule(P, 7, 8)
    with pytest.raises(ValueError, match="ids"):
        fleischner(LOW, [nodule(S, 7), nodule(S, 5)])


MAYBE = st.sampled_from([None, True, False])
PATIENTS = st.builds(
    Patient,
    st.sampled_from([None, 34, 35, 80]),
    st.sampled_from([None, *Risk]),
    *[st.sampled_from([None, False, False, True])] * 3,
)
NODULES = st.builds(
    lambda kind, mm, share, morphology: Nodule(
        "x", kind, mm, None, mm * share if mm and share else None, None, morphology
    ),
    st.sampled_from([None, *NoduleType]),
    st.sampled_from([None, 3.0, 5.4, 5.5, 8.4, 8.5, 20.0, 31.0]),
    st.sampled_from([None, 0.2, 0.9]),
    st.sampled_from([None, *Morphology]),
)


@given(PATIENTS, NODULES, MAYBE, PATIENTS, NODULES, MAYBE)
@settings(max_examples=400, deadline=None)
def test_every_combination_has_one_answer_and_what_is_unknown_never_mattered(
    patient: Patient,
    one: Nodule,
    several: bool | None,
    other_patient: Patient,
    other: Nodule,
    other_several: bool | None,
) -> None:
    """An answer is a row, or missing, or a reason (Answer refuses anything else); filling in what was not known, and
    was not said to be missing, changes no row."""
    answer = fleischner(patient, [one], several)
    if answer.row is None:
        return
    filled = replace(patient, **{k: getattr(other_patient, k) for k in ("risk",) if getattr(patient, k) is None})
    more = {
        k: getattr(other, k)
        for k in ("type", "mean_mm", "morphology")
        if getattr(one, k) is None and not (k == "mean_mm" and one.solid_mm)
    }
    again = fleischner(filled, [replace(one, **more)], other_several if several is None else several)
    assert again.row == answer.row
