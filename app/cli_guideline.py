"""Commands that read a guideline's table: measurements and facts in, its row or what is missing out."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from app.errors import BadSetting
from app.opening import print_json
from expert_models.guidelines.answer import Answer
from expert_models.guidelines.fleischner import Patient, Risk, fleischner
from expert_models.guidelines.lung_rads import Completeness, Exam, lung_rads
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
    status_since,
)

guideline_app = typer.Typer(help="What a guideline's table says of a lung nodule.", no_args_is_help=True)

Type = Annotated[NoduleType | None, typer.Option("--type", help="A cavitary nodule is solid.")]
MeanMm = Annotated[float | None, typer.Option("--mean-mm", help="Mean of long and short axis.")]
LongMm = Annotated[float | None, typer.Option("--long-mm", help="With --short-mm in place of --mean-mm.")]
ShortMm = Annotated[float | None, typer.Option("--short-mm", help="With --long-mm.")]
VolumeMm3 = Annotated[float | None, typer.Option("--volume-mm3", help="Counts where there is no diameter.")]
SolidMm = Annotated[float | None, typer.Option("--solid-mm", help="Solid component of a part-solid nodule.")]
SolidMm3 = Annotated[float | None, typer.Option("--solid-volume-mm3", help="The same as a volume.")]
Form = Annotated[
    Morphology | None,
    typer.Option("--morphology", help="benign: calcification or fat. juxtapleural: as an intrapulmonary lymph node."),
]
Screening = Annotated[bool | None, typer.Option("--screening/--no-screening", help="CT to screen for lung cancer.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


@guideline_app.command("fleischner")
def fleischner_command(
    kind: Type = None,
    mean_mm: MeanMm = None,
    long_mm: LongMm = None,
    short_mm: ShortMm = None,
    volume_mm3: VolumeMm3 = None,
    solid_mm: SolidMm = None,
    solid_volume_mm3: SolidMm3 = None,
    morphology: Form = None,
    several: Annotated[
        bool | None, typer.Option("--several/--single", help="Several: this is the largest, most suspicious one.")
    ] = None,
    age: Annotated[float | None, typer.Option("--age", min=0, max=130, help="In years.")] = None,
    risk: Annotated[Risk | None, typer.Option("--risk", help="Of lung cancer, as you judge it.")] = None,
    known_cancer: Annotated[bool | None, typer.Option("--known-cancer/--no-known-cancer")] = None,
    immunosuppressed: Annotated[bool | None, typer.Option("--immunosuppressed/--not-immunosuppressed")] = None,
    screening: Screening = None,
    as_json: AsJson = False,
) -> None:
    """Incidental nodules: the Fleischner Society's guideline of 2017."""
    mean = _mean(mean_mm, long_mm, short_mm)
    nodule = _nodule(Nodule(type=kind, morphology=morphology), mean, volume_mm3, solid_mm, solid_volume_mm3)
    patient = Patient(age, risk, known_cancer, immunosuppressed, screening)
    _show(fleischner(patient, [nodule], are_others=several), as_json)


@guideline_app.command("lung-rads")
def lung_rads_command(
    kind: Type = None,
    mean_mm: MeanMm = None,
    long_mm: LongMm = None,
    short_mm: ShortMm = None,
    volume_mm3: VolumeMm3 = None,
    solid_mm: SolidMm = None,
    solid_volume_mm3: SolidMm3 = None,
    morphology: Form = None,
    status: Annotated[Status | None, typer.Option("--status", help="Since the prior CT.")] = None,
    prior_mean_mm: Annotated[
        float | None, typer.Option("--prior-mean-mm", help="With --months: tells --status where sizes decide it.")
    ] = None,
    months: Annotated[float | None, typer.Option("--months", help="Since the prior CT.")] = None,
    prior_category: Annotated[Category | None, typer.Option("--prior-category", help="Of this nodule.")] = None,
    proven_benign: Annotated[bool | None, typer.Option("--proven-benign/--not-proven-benign")] = None,
    solid_grew: Annotated[
        bool | None, typer.Option("--solid-grew/--solid-stable", help="Grew: the solid component did, or is new.")
    ] = None,
    airway_level: Annotated[AirwayLevel | None, typer.Option("--airway-level")] = None,
    cyst_form: Annotated[CystForm | None, typer.Option("--cyst-form", help="Thick: 2 mm and more.")] = None,
    cyst_change: Annotated[CystChange | None, typer.Option("--cyst-change", help="What grew.")] = None,
    suspicious: Annotated[
        bool | None, typer.Option("--suspicious/--not-suspicious", help="Features beside size: 4X.")
    ] = None,
    no_nodule: Annotated[bool, typer.Option("--no-nodule", help="There is none.")] = False,
    completeness: Annotated[Completeness | None, typer.Option("--completeness", help="Of the CT: category 0.")] = None,
    other_finding: Annotated[
        bool | None, typer.Option("--other-finding/--no-other-finding", help="Significant, no lung cancer: modifier S.")
    ] = None,
    screening: Screening = None,
    as_json: AsJson = False,
) -> None:
    """Nodules on screening CT: ACR Lung-RADS v2022. Of several nodules, give the most suspicious one."""
    mean = _mean(mean_mm, long_mm, short_mm)
    if status is None and prior_mean_mm is not None and mean is not None and months is not None:
        status = _status_since(prior_mean_mm, mean, months)
    facts = Nodule(
        type=kind,
        morphology=morphology,
        status=status,
        did_solid_grow=solid_grew,
        airway_level=airway_level,
        cyst_form=cyst_form,
        cyst_change=cyst_change,
        prior_category=prior_category,
        is_proven_benign=proven_benign,
        is_suspicious=suspicious,
    )
    nodule = _nodule(facts, mean, volume_mm3, solid_mm, solid_volume_mm3, months)
    if no_nodule and nodule != Nodule():
        raise BadSetting("--no-nodule goes with no description of a nodule")
    exam = Exam(screening, completeness, other_finding)
    _show(lung_rads(exam, [] if no_nodule else [nodule]), as_json)


def _mean(mean_mm: float | None, long_mm: float | None, short_mm: float | None) -> float | None:
    if long_mm is None and short_mm is None:
        return mean_mm
    if mean_mm is not None or long_mm is None or short_mm is None:
        raise BadSetting("give --mean-mm, or both --long-mm and --short-mm")
    try:
        return mean_diameter_mm(long_mm, short_mm)
    except ValueError as exc:
        raise BadSetting(str(exc)) from exc


def _status_since(before_mm: float, now_mm: float, months: float) -> Status | None:
    try:
        return status_since(before_mm, now_mm, months)
    except ValueError as exc:
        raise BadSetting(str(exc)) from exc


def _nodule(
    facts: Nodule,
    mean_mm: float | None,
    volume_mm3: float | None,
    solid_mm: float | None,
    solid_volume_mm3: float | None,
    months: float | None = None,
) -> Nodule:
    """The nodule with its numbers. Raises BadSetting for those that no nodule can have."""
    try:
        return replace(
            facts,
            mean_mm=mean_mm,
            volume_mm3=volume_mm3,
            solid_mm=solid_mm,
            solid_volume_mm3=solid_volume_mm3,
            months_since_prior=months,
        )
    except ValueError as exc:
        raise BadSetting(str(exc)) from exc


def _show(answer: Answer, as_json: bool) -> None:
    if as_json:
        print_json(_as_json(answer))
        return
    from app.terminal import out

    if answer.row:
        category = f"category {answer.category}  " if answer.category else ""
        out.print(f"{category}{answer.row.words}  ({answer.row.id})", markup=False)
    out.print(answer.sentence, markup=False)
    for each in answer.inputs:
        out.print(f"  {each.name}: {each.value}", markup=False)
    for note in answer.notes:
        out.print(f"note: {note}", markup=False)
    out.print(f"{answer.source.name}: {answer.source}", markup=False)


def _as_json(answer: Answer) -> dict[str, object]:
    source = answer.source
    return {
        "guideline": source.name,
        "row": answer.row.id if answer.row else None,
        "words": answer.row.words if answer.row else None,
        "category": answer.category or None,
        "management": answer.row.management if answer.row else None,
        "missing": answer.missing,
        "reason": answer.reason or None,
        "inputs": {each.name: each.value for each in answer.inputs},
        "notes": answer.notes,
        "citation": str(source),
    }
