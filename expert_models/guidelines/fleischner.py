"""Fleischner Society 2017: incidental lung nodules on CT of adults.

MacMahon et al., Radiology 2017;284:228-243, doi:10.1148/radiol.2017161659. Its table, and from its text the solid
component of a part-solid nodule (recommendation 4) and nodules that look like intrapulmonary lymph nodes. What was
confirmed where is in docs/guidelines.md. Diameters are rounded to the whole millimetre, so "<6 mm" is 5 mm or less and
"6-8 mm" reaches to 8.4 mm; volumes are split at 100 and 250 mm3.

Left out: lower follow-up for suspicious nodules under 6 mm (the text leaves it to judgement), incomplete chest CTs,
and apical scars.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from expert_models.guidelines.answer import Answer, MissingInputs, NoRow, Questions, Row, Source
from expert_models.guidelines.nodule import Morphology, Nodule, NoduleType, Size

SOURCE = Source(
    name="Fleischner Society 2017",
    authors="MacMahon H, Naidich DP, Goo JM, et al.",
    title="Guidelines for Management of Incidental Pulmonary Nodules Detected on CT Images: From the Fleischner "
    "Society 2017",
    journal="Radiology 284:228-243",
    year=2017,
    doi="10.1148/radiol.2017161659",
)
LEAST_YEARS = 35
MOST_MM, MOST_MM3 = 30.0, 14137.0  # above, it is a mass (Hansell et al., Radiology 2008;246:697-722) and no nodule


class Risk(StrEnum):
    """Of lung cancer, as the reader judges it: LOW below 5 %, HIGH from there on (the guideline's own split)."""

    LOW = "low"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Patient:
    """Who was scanned. None: not known."""

    age_years: float | None = None
    risk: Risk | None = None
    has_known_cancer: bool | None = None
    is_immunosuppressed: bool | None = None
    is_screening: bool | None = None  # the CT was made to screen for lung cancer


_NONE = "No routine follow-up."
_OPTIONAL = "CT at 12 months is optional."

ROWS = {
    row.id: row
    for row in (
        Row("FL-solid-single-lt6-low", "One solid nodule under 6 mm (100 mm³), low risk", _NONE),
        Row("FL-solid-single-lt6-high", "One solid nodule under 6 mm (100 mm³), high risk", _OPTIONAL),
        Row("FL-solid-single-6to8-low", "One solid nodule of 6 to 8 mm (100 to 250 mm³), low risk",
            "CT at 6 to 12 months; then consider CT at 18 to 24 months."),
        Row("FL-solid-single-6to8-high", "One solid nodule of 6 to 8 mm (100 to 250 mm³), high risk",
            "CT at 6 to 12 months; then CT at 18 to 24 months."),
        Row("FL-solid-single-gt8", "One solid nodule over 8 mm (250 mm³), any risk",
            "Consider CT at 3 months, PET/CT, or tissue sampling."),
        Row("FL-solid-multiple-lt6-low", "Several solid nodules, all under 6 mm (100 mm³), low risk", _NONE),
        Row("FL-solid-multiple-lt6-high", "Several solid nodules, all under 6 mm (100 mm³), high risk", _OPTIONAL),
        Row("FL-solid-multiple-ge6-low", "Several solid nodules, one at least of 6 mm (100 mm³) or more, low risk",
            "CT at 3 to 6 months; then consider CT at 18 to 24 months."),
        Row("FL-solid-multiple-ge6-high", "Several solid nodules, one at least of 6 mm (100 mm³) or more, high risk",
            "CT at 3 to 6 months; then CT at 18 to 24 months."),
        Row("FL-ground-glass-single-lt6", "One ground-glass nodule under 6 mm (100 mm³)", _NONE),
        Row("FL-ground-glass-single-ge6", "One ground-glass nodule of 6 mm (100 mm³) or more",
            "CT at 6 to 12 months to see whether it persists; then CT every 2 years until 5 years."),
        Row("FL-part-solid-single-lt6", "One part-solid nodule under 6 mm (100 mm³)", _NONE),
        Row("FL-part-solid-single-ge6-solid-lt6",
            "One part-solid nodule of 6 mm (100 mm³) or more, solid component under 6 mm",
            "CT at 3 to 6 months to see whether it persists; if it is unchanged and the solid component stays under "
            "6 mm, CT every year for 5 years."),
        Row("FL-part-solid-single-ge6-solid-6to8",
            "One part-solid nodule of 6 mm (100 mm³) or more, solid component of 6 to 8 mm",
            "CT at 3 to 6 months to see whether it persists; if it does it is highly suspicious. PET/CT, biopsy or "
            "resection where its morphology is particularly suspicious or the solid component grows."),
        Row("FL-part-solid-single-ge6-solid-gt8",
            "One part-solid nodule of 6 mm (100 mm³) or more, solid component over 8 mm",
            "PET/CT, biopsy or resection; CT at 3 to 6 months may come first, to see whether it persists."),
        Row("FL-subsolid-multiple-lt6", "Several subsolid nodules, all under 6 mm (100 mm³)",
            "CT at 3 to 6 months; if they are stable, consider CT at 2 and 4 years."),
        Row("FL-subsolid-multiple-ge6", "Several subsolid nodules, one at least of 6 mm (100 mm³) or more",
            "CT at 3 to 6 months; after that as the most suspicious nodule demands."),
        Row("FL-lymph-node", "Solid nodules at the pleura, shaped like intrapulmonary lymph nodes, and no other",
            "No follow-up CT, even above 6 mm."),
    )
}  # fmt: skip

_SEVERAL = "the most suspicious nodule, which need not be the largest, guides management"


def fleischner(
    patient: Patient, nodules: Sequence[Nodule], are_others: bool | None = None, dominant_id: str | None = None
) -> Answer:
    """The row for these nodules, or what is missing, or why the guideline does not apply.

    nodules: all, or the largest and most suspicious of them, with ids of their own. are_others: whether there are
    nodules beside those described, asked where one is described. dominant_id: the most suspicious nodule, asked only
    where solid and subsolid nodules lie side by side. Diameters lead; where volumes would lead to another row, a note
    says so. Raises ValueError where ids are not their own.
    """
    if len({each.id for each in nodules}) < len(nodules):
        raise ValueError("several nodules need ids of their own")
    questions = Questions()
    notes: list[str] = []
    try:
        _must_apply(patient, nodules)
        row, nodule_id = _row(patient, nodules, are_others, dominant_id, questions, notes)
    except MissingInputs as exc:
        return Answer(SOURCE, missing=tuple(exc.names), inputs=tuple(questions.used))
    except NoRow as exc:
        return Answer(SOURCE, reason=str(exc), inputs=tuple(questions.used))
    by_volume = [each.without_diameters() for each in nodules]
    if by_volume != list(nodules):
        other = fleischner(patient, by_volume, are_others, dominant_id)
        if other.row != row:
            notes.append(f"by volume: {other.row.id if other.row else other.sentence}")
    return Answer(SOURCE, row, inputs=tuple(questions.used), notes=tuple(notes), nodule_id=nodule_id)


def _must_apply(patient: Patient, nodules: Sequence[Nodule]) -> None:
    """Raise NoRow where something that is known excludes the patient or leaves no nodule."""
    if patient.age_years is not None and patient.age_years < LEAST_YEARS:
        raise NoRow(f"the guideline is for adults of {LEAST_YEARS} years and more")
    if patient.has_known_cancer:
        raise NoRow("the guideline is not for patients with a known cancer")
    if patient.is_immunosuppressed:
        raise NoRow("the guideline is not for immunosuppressed patients")
    if patient.is_screening:
        raise NoRow("the guideline is not for lung cancer screening; Lung-RADS is")
    if not nodules:
        raise NoRow("there is no nodule")


def _row(
    patient: Patient,
    nodules: Sequence[Nodule],
    are_others: bool | None,
    dominant_id: str | None,
    questions: Questions,
    notes: list[str],
) -> tuple[Row, str]:
    """The row, and the nodule that led to it."""
    about = [f"nodule {each.id or number}: " if len(nodules) > 1 else "" for number, each in enumerate(nodules, 1)]
    _ask_basics(patient, nodules, are_others, about, questions)
    for name, value in _of_patient(patient).items():
        questions.ask(name, value)
    counted = [(each, name) for each, name in zip(nodules, about, strict=True) if _counts(each, name, questions)]
    if not counted:
        if all(each.morphology is Morphology.BENIGN for each in nodules):
            raise NoRow("the nodule has benign calcification or fat; the guideline is for indeterminate nodules")
        return ROWS["FL-lymph-node"], ""
    several = len(counted) > 1 or questions.ask("other nodules", are_others)
    family, nodule_id = _family(counted, dominant_id, questions)
    if several:
        notes.append(_SEVERAL)
        return _of_several(family, patient.risk, questions), nodule_id
    return _of_one(family[0], patient.risk, questions), nodule_id


def _of_patient(patient: Patient) -> dict[str, object]:
    return {
        "age": patient.age_years,
        "known cancer": patient.has_known_cancer,
        "immunosuppression": patient.is_immunosuppressed,
        "screening": patient.is_screening,
    }


def _ask_basics(
    patient: Patient, nodules: Sequence[Nodule], are_others: bool | None, about: Sequence[str], questions: Questions
) -> None:
    """Everything that is needed in any case, at once."""
    wanted = _of_patient(patient)
    may_count = 0
    for nodule, name in zip(nodules, about, strict=True):
        if nodule.morphology is not Morphology.BENIGN:
            wanted |= {f"{name}nodule type": nodule.type, f"{name}morphology": nodule.morphology}
            if not _is_lymph_node(nodule) and nodule.type not in (NoduleType.AIRWAY, NoduleType.CYST):
                wanted[f"{name}mean diameter"] = nodule.size
                may_count += 1
    if may_count == 1:
        wanted["other nodules"] = are_others
    if any(_may_need_risk(each) for each in nodules) and not any(_is_subsolid(each) for each in nodules):
        wanted["risk"] = patient.risk
    questions.ask_all(wanted)


def _is_subsolid(nodule: Nodule) -> bool:
    return nodule.type in (NoduleType.GROUND_GLASS, NoduleType.PART_SOLID)


def _may_need_risk(nodule: Nodule) -> bool:
    """Whether it may be a solid nodule of 8 mm or less that counts."""
    if nodule.morphology is Morphology.BENIGN or _is_lymph_node(nodule):
        return False
    return nodule.type in (None, NoduleType.SOLID) and (nodule.size is None or not _over_8(nodule.size))


def _is_lymph_node(nodule: Nodule) -> bool:
    return nodule.morphology is Morphology.JUXTAPLEURAL and nodule.type is NoduleType.SOLID


def _counts(nodule: Nodule, about: str, questions: Questions) -> bool:
    """Whether it is an indeterminate nodule. Raises NoRow for what the guideline is not about."""
    if questions.ask(f"{about}morphology", nodule.morphology) is Morphology.BENIGN:
        return False
    kind = questions.ask(f"{about}nodule type", nodule.type)
    if kind in (NoduleType.AIRWAY, NoduleType.CYST):
        raise NoRow(f"the guideline has no row for {kind.value} lesions")
    if _is_lymph_node(nodule):
        return False
    size = questions.ask(f"{about}mean diameter", nodule.size)
    if not size.below(MOST_MM + 1, MOST_MM3 + 1, 0):
        raise NoRow(f"the lesion is larger than {MOST_MM:g} mm, which is a mass and not a nodule")
    return True


def _family(
    counted: Sequence[tuple[Nodule, str]], dominant_id: str | None, questions: Questions
) -> tuple[list[Nodule], str]:
    """The solid or the subsolid nodules, whichever the dominant one belongs to, and the id of the leading one."""
    nodules = [each for each, _ in counted]
    solid = [each for each in nodules if each.type is NoduleType.SOLID]
    subsolid = [each for each in nodules if each.type is not NoduleType.SOLID]
    family = solid or subsolid
    if solid and subsolid:
        known = dominant_id if dominant_id in [each.id for each in nodules] else None
        dominant = questions.ask("most suspicious nodule", known)
        family = solid if dominant in [each.id for each in solid] else subsolid
        return family, dominant
    return family, max(family, key=lambda each: each.about_mm).id


def _under_6(size: Size | None) -> bool:
    return size is not None and size.below(6, 100, 0)


def _over_8(size: Size) -> bool:
    return not size.below(9, 251, 0)  # 8.4 mm is 8 mm, 250 mm3 is not over 250 mm3


def _of_several(family: Sequence[Nodule], risk: Risk | None, questions: Questions) -> Row:
    part = "lt6" if all(_under_6(each.size) for each in family) else "ge6"
    if family[0].type is NoduleType.SOLID:
        return ROWS[f"FL-solid-multiple-{part}-{questions.ask('risk', risk).value}"]
    return ROWS[f"FL-subsolid-multiple-{part}"]


def _of_one(nodule: Nodule, risk: Risk | None, questions: Questions) -> Row:
    size = questions.ask("mean diameter", nodule.size)
    if nodule.type is NoduleType.SOLID:
        if _over_8(size):
            return ROWS["FL-solid-single-gt8"]
        return ROWS[f"FL-solid-single-{'lt6' if _under_6(size) else '6to8'}-{questions.ask('risk', risk).value}"]
    if nodule.type is NoduleType.GROUND_GLASS or _under_6(size):
        kind = questions.ask("nodule type", nodule.type).value
        return ROWS[f"FL-{kind}-single-{'lt6' if _under_6(size) else 'ge6'}"]
    solid = questions.ask("solid component", nodule.solid_size)
    part = "lt6" if _under_6(solid) else "gt8" if _over_8(solid) else "6to8"
    return ROWS[f"FL-part-solid-single-ge6-solid-{part}"]
