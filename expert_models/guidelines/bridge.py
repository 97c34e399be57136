"""From the findings of one chest CT to a guideline: what is measured is taken, what nobody measured stays missing.

No study tells its patient's risk, and no expert whether a nodule is harmless by its form; so from images alone the
answer is what is missing, and no sentence of a report rests on it. The page shows it in a box of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from expert_models.codes import (
    ATTENUATION_TYPE,
    GROUND_GLASS,
    LONG_AXIS,
    LUNG_MASS,
    LUNG_NODULE,
    MILLILITER,
    MILLIMETER,
    PART_SOLID,
    SHORT_AXIS,
    SOLID,
    SOLID_LONG_AXIS,
    VOLUME,
)
from expert_models.finding import Change, Code, Comparison, Finding, Presence
from expert_models.guidelines.answer import Answer, GuidelineError, MissingInputs, NoRow, Source
from expert_models.guidelines.fleischner import SOURCE as FLEISCHNER
from expert_models.guidelines.fleischner import Patient, fleischner
from expert_models.guidelines.lung_rads import Exam, lung_rads
from expert_models.guidelines.lung_rads_table import SOURCE as LUNG_RADS
from expert_models.guidelines.nodule import Nodule, NoduleType, Status, mean_diameter_mm, status_since

UNCONFIRMED = "the measurements are an expert's; no reader has confirmed them"
TYPES = {SOLID: NoduleType.SOLID, PART_SOLID: NoduleType.PART_SOLID, GROUND_GLASS: NoduleType.GROUND_GLASS}
Known = Mapping[str, Nodule]  # finding id -> what a reader says of it; its sizes are taken where none are measured


def fleischner_of(
    findings: Sequence[Finding], patient: Patient, known: Known | None = None, dominant_id: str | None = None
) -> Answer:
    """Fleischner 2017 on all nodules of the findings of one CT. Nodules go by the ids of their findings.

    Raises ValueError where what is known contradicts what was measured (a solid component larger than the nodule).
    """
    try:
        nodules = [_with_solid_part(each, findings) for each in nodules_of(findings, known or {})]
    except GuidelineError as exc:
        return _without_nodules(FLEISCHNER, exc)
    if any(each.concept == LUNG_MASS and each.presence is Presence.PRESENT for each in findings):
        return Answer(FLEISCHNER, reason="there is a mass, and the guideline is for nodules", notes=(UNCONFIRMED,))
    return _unconfirmed(fleischner(patient, nodules, are_others=False, dominant_id=dominant_id))


def lung_rads_of(
    findings: Sequence[Finding],
    exam: Exam,
    known: Known | None = None,
    comparisons: Sequence[Comparison] = (),
    months_since_prior: float | None = None,
) -> Answer:
    """Lung-RADS v2022 on all nodules and masses of the findings of one CT; comparisons: with one prior, so long ago."""
    try:
        nodules = nodules_of(findings, known or {}, comparisons, months_since_prior)
    except GuidelineError as exc:
        return _without_nodules(LUNG_RADS, exc)
    return _unconfirmed(lung_rads(exam, nodules))


def nodules_of(
    findings: Sequence[Finding],
    known: Known,
    comparisons: Sequence[Comparison] = (),
    months_since_prior: float | None = None,
) -> list[Nodule]:
    """The nodules and masses that are present. Raises NoRow (some not assessed) or MissingInputs (candidates)."""
    asked = [each for each in findings if each.concept in (LUNG_NODULE, LUNG_MASS)]
    if not any(each.concept == LUNG_NODULE or each.presence is Presence.PRESENT for each in asked):
        raise NoRow("no expert looked for lung nodules")
    for each in asked:
        if each.presence is Presence.NOT_ASSESSED:
            raise NoRow(f"lung nodules were not all assessed: {each.reason}")
    unsure = [f"nodule {each.id}: presence" for each in asked if each.presence is Presence.INDETERMINATE]
    if unsure:
        raise MissingInputs(unsure)
    by_finding = {each.finding_id: each for each in comparisons if each.finding_id}
    present = [each for each in asked if each.presence is Presence.PRESENT]
    return [
        _nodule(each, known.get(each.id, Nodule()), by_finding.get(each.id), months_since_prior) for each in present
    ]


def _nodule(finding: Finding, known: Nodule, comparison: Comparison | None, months: float | None) -> Nodule:
    mean_mm = _mean_mm(finding)
    volume_ml = _value(finding, VOLUME, MILLILITER)
    return replace(
        known,
        id=finding.id,
        type=known.type or _type(finding),
        mean_mm=mean_mm or known.mean_mm,
        volume_mm3=volume_ml * 1000 if volume_ml else known.volume_mm3,
        status=known.status or _status(mean_mm, comparison, months),
        months_since_prior=known.months_since_prior or (months if comparison else None),
    )


def _type(finding: Finding) -> NoduleType | None:
    stated = finding.attribute(ATTENUATION_TYPE)
    return TYPES.get(stated) if stated else None


def _with_solid_part(nodule: Nodule, findings: Sequence[Finding]) -> Nodule:
    """The nodule with its solid component as measured: by its largest diameter, which is what Fleischner measures.

    Lung-RADS takes a mean diameter, which nobody measured. A component longer than the nodule's mean stays missing.
    """
    finding = next(each for each in findings if each.id == nodule.id)
    solid_mm = _value(finding, SOLID_LONG_AXIS, MILLIMETER)
    if nodule.type is not NoduleType.PART_SOLID or nodule.solid_size is not None or solid_mm is None:
        return nodule
    return replace(nodule, solid_mm=solid_mm) if solid_mm <= (nodule.mean_mm or 0.0) else nodule


def _status(mean_mm: float | None, comparison: Comparison | None, months: float | None) -> Status | None:
    """NEW, or what the sizes decide: the comparison's own limits are those of repeatability, not of Lung-RADS."""
    if comparison is None:
        return None
    if comparison.change is Change.NEW:
        return Status.NEW
    before_mm = _mean_mm(comparison.prior_finding) if comparison.prior_finding else None
    return status_since(before_mm, mean_mm, months) if before_mm and mean_mm and months else None


def _mean_mm(finding: Finding) -> float | None:
    long_mm, short_mm = (_value(finding, code, MILLIMETER) for code in (LONG_AXIS, SHORT_AXIS))
    return mean_diameter_mm(long_mm, short_mm) if long_mm and short_mm else None


def _value(finding: Finding, code: Code, unit: Code) -> float | None:
    measured = finding.measurement(code)
    return measured.value if measured and measured.unit == unit and measured.value > 0 else None


def _without_nodules(source: Source, error: GuidelineError) -> Answer:
    if isinstance(error, MissingInputs):
        return Answer(source, missing=tuple(error.names), notes=(UNCONFIRMED,))
    return Answer(source, reason=str(error), notes=(UNCONFIRMED,))


def _unconfirmed(answer: Answer) -> Answer:
    return replace(answer, notes=(*answer.notes, UNCONFIRMED))
