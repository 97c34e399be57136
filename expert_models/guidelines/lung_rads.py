"""ACR Lung-RADS v2022: nodules on low-dose CT made to screen for lung cancer. The rows are in lung_rads_table.

Readings of ours where the table leaves a choice: a nodule that crossed a size threshold without growth as defined
(note 5) takes the baseline rows; a stable category 2 nodule stays in category 2; a new part-solid nodule is category 3
under 6 mm in all, and from there on judged by its solid component, which is new. Where the table has no row (a
ground-glass nodule of 30 mm that grows fast, say) the answer says so.

Left out: growth in mm3 (the table's "> 2 mm³" is the volume of a ball of 1.5 mm, not a change of volume that could be
measured), category 4B in place of 0 for what looks more like cancer than infection (note 10), airway secretions (note
11), the prevalences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from expert_models.guidelines.answer import Answer, MissingInputs, NoRow, NotClassified, Questions, Row
from expert_models.guidelines.lung_rads_table import ROWS, SOURCE
from expert_models.guidelines.nodule import (
    AirwayLevel,
    Category,
    CystChange,
    CystForm,
    Morphology,
    Nodule,
    NoduleType,
    Size,
    Status,
    rounded,
)

RANK = {category: rank for rank, category in enumerate(Category)}
FIRST_SEEN = (Status.BASELINE, Status.NEW)
STEPS = {  # category of a stable lesion before, the months after which it steps down, and its row then
    Category.PROBABLY_BENIGN: (6, "LR-2-from-3"),
    Category.SUSPICIOUS: (3, "LR-3-from-4A"),
}


class Completeness(StrEnum):
    """Whether the CT can be categorized. INFLAMMATORY: findings suggest an inflammatory or infectious process."""

    COMPLETE = "complete"
    AWAITS_PRIOR = "awaits-prior"
    NOT_COVERED = "not-covered"
    INFLAMMATORY = "inflammatory"


@dataclass(frozen=True, slots=True)
class Exam:
    """The screening CT. has_other_finding: one of significance that is no lung cancer (modifier S). None: not known."""

    is_screening: bool | None = None
    completeness: Completeness | None = None
    has_other_finding: bool | None = None


INCOMPLETE = {
    Completeness.AWAITS_PRIOR: "LR-0-prior",
    Completeness.NOT_COVERED: "LR-0-coverage",
    Completeness.INFLAMMATORY: "LR-0-inflammatory",
}


def lung_rads(exam: Exam, nodules: Sequence[Nodule]) -> Answer:
    """The row of the nodule of the highest category (note 1), or what is missing, or why no row applies.

    nodules: every one; none means that there is none. Diameters lead; where volumes would lead to another row, a note
    says so. Raises ValueError where ids are not their own.
    """
    if len({each.id for each in nodules}) < len(nodules):
        raise ValueError("several nodules need ids of their own")
    questions = Questions()
    notes = [] if exam.has_other_finding is not None else ["whether modifier S applies is not known"]
    try:
        row, leading = _of_exam(exam, nodules, questions, notes)
    except MissingInputs as exc:
        return Answer(SOURCE, missing=tuple(exc.names), inputs=tuple(questions.used))
    except NoRow as exc:
        return Answer(SOURCE, reason=str(exc), inputs=tuple(questions.used))
    by_volume = [each.without_diameters() for each in nodules]
    if by_volume != list(nodules):
        other = lung_rads(exam, by_volume)
        if other.row != row:
            notes.append(f"by volume: {other.row.id if other.row else other.sentence}")
    modifier = "S" if exam.has_other_finding else ""
    return Answer(SOURCE, row, (), "", tuple(questions.used), tuple(notes), leading, modifier)


def _of_exam(exam: Exam, nodules: Sequence[Nodule], questions: Questions, notes: list[str]) -> tuple[Row, str]:
    if exam.is_screening is False:
        raise NoRow("Lung-RADS is for screening; the Fleischner guideline is for incidental nodules")
    about = [f"nodule {each.id}: " if len(nodules) > 1 else "" for each in nodules]
    if exam.completeness in (None, Completeness.COMPLETE):
        _ask_basics(exam, nodules, about, questions)
    questions.ask("screening", exam.is_screening)
    completeness = questions.ask("completeness", exam.completeness)
    if completeness is not Completeness.COMPLETE:
        return ROWS[INCOMPLETE[completeness]], ""
    answers = []
    missing: list[str] = []
    for nodule, name in zip(nodules, about, strict=True):
        own = Questions(name)
        try:
            answers.append((_of_nodule(nodule, own, notes), nodule, own))
        except MissingInputs as exc:
            missing += exc.names
        except NoRow as exc:
            raise NoRow(f"{name}{exc}") from exc
        except NotClassified:
            notes.append(f"{name}a thin-walled unilocular cyst is not classified")
    if missing:
        raise MissingInputs(missing)
    if not answers:
        return ROWS["LR-1-none"], ""
    row, nodule, own = max(answers, key=lambda each: (RANK[_category(each[0])], each[1].about_mm))
    questions.used += own.used
    return row, nodule.id


def _category(row: Row) -> Category:
    if row.category is None:
        raise ValueError(f"the row {row.id} has no category")
    return row.category


def _ask_basics(exam: Exam, nodules: Sequence[Nodule], about: Sequence[str], questions: Questions) -> None:
    """What is needed in any case, at once."""
    wanted: dict[str, object] = {"screening": exam.is_screening, "completeness": exam.completeness}
    for nodule, name in zip(nodules, about, strict=True):
        wanted[f"{name}nodule type"] = nodule.type
        if nodule.type in (NoduleType.AIRWAY, NoduleType.CYST):
            continue
        wanted[f"{name}morphology"] = nodule.morphology
        if nodule.morphology is not Morphology.BENIGN:
            wanted[f"{name}mean diameter"] = nodule.size
            small = nodule.size is not None and nodule.size.below(30, 14137, 1)
            if nodule.type is not NoduleType.GROUND_GLASS or not small:
                wanted[f"{name}status"] = nodule.status
    questions.ask_all(wanted)


def _of_nodule(nodule: Nodule, ask: Questions, notes: list[str]) -> Row:
    """One nodule's row; 4X where a category 3 or 4 has more that raises suspicion."""
    row = _without_features(nodule, ask)
    if RANK[_category(row)] < RANK[Category.PROBABLY_BENIGN]:
        return row
    if not ask.ask("suspicious features", nodule.is_suspicious):
        return row
    notes.append(f"{ask.about}without suspicious features it would be {row.id}")
    return ROWS["LR-4X-features"]


def _without_features(nodule: Nodule, ask: Questions) -> Row:
    kind = ask.ask("nodule type", nodule.type)
    if kind is NoduleType.CYST:
        return _cyst(nodule, ask)
    if kind is NoduleType.AIRWAY:
        return _airway(nodule, ask)
    if ask.ask("morphology", nodule.morphology) is Morphology.BENIGN:
        return ROWS["LR-1-benign-features"]
    size = ask.ask("mean diameter", nodule.size)
    if kind is NoduleType.GROUND_GLASS:
        return _ground_glass(nodule, size, ask)
    status = ask.ask("status", nodule.status)
    if status is Status.SLOWLY_GROWING:
        return ROWS["LR-4B-slow-growth"]
    if kind is NoduleType.SOLID:
        return _solid(nodule, size, status, ask)
    return _part_solid(nodule, size, status, ask)


def _solid(nodule: Nodule, size: Size, status: Status, ask: Questions) -> Row:
    if nodule.morphology is Morphology.JUXTAPLEURAL and status in FIRST_SEEN and size.below(10, 524, 1):
        return ROWS["LR-2-juxtapleural"]
    if status is Status.STABLE:
        return _stepped(nodule, ask)
    if status is Status.NEW and size.below(8, 268, 1):
        return ROWS[f"LR-{'2' if size.below(4, 34, 1) else '3' if size.below(6, 113, 1) else '4A'}-solid-new"]
    if status in (Status.NEW, Status.GROWING):
        return ROWS["LR-4A-solid-growing" if size.below(8, 268, 1) else "LR-4B-solid-new-growing"]
    if size.below(6, 113, 1):
        return ROWS["LR-2-solid-baseline"]
    part = "3" if size.below(8, 268, 1) else "4A" if size.below(15, 1767, 1) else "4B"
    return ROWS[f"LR-{part}-solid-baseline"]


def _part_solid(nodule: Nodule, size: Size, status: Status, ask: Questions) -> Row:
    is_small = size.below(6, 113, 1)
    if status is Status.NEW and is_small:
        return ROWS["LR-3-part-solid-new"]
    if status is Status.BASELINE and is_small:
        return ROWS["LR-2-part-solid-baseline"]
    if _is_component_new_or_growing(nodule, status, ask):
        if not ask.ask("solid component", nodule.solid_size).below(4, 34, 1):
            return ROWS["LR-4B-part-solid-component"]
        if is_small:
            raise NoRow("the table has no row for a part-solid nodule under 6 mm whose solid component under 4 mm grew")
        return ROWS["LR-4A-part-solid-component"]
    if status is Status.STABLE:
        return _stepped(nodule, ask)
    if status is Status.GROWING:
        raise NoRow("the table has no row for a part-solid nodule that grew while its solid component did not")
    if is_small:
        return ROWS["LR-2-part-solid-baseline"]
    solid = ask.ask("solid component", nodule.solid_size)
    part = "3" if solid.below(6, 113, 1) else "4A" if solid.below(8, 268, 1) else "4B"
    return ROWS[f"LR-{part}-part-solid-baseline"]


def _is_component_new_or_growing(nodule: Nodule, status: Status, ask: Questions) -> bool:
    if status in FIRST_SEEN:
        return status is Status.NEW
    return ask.ask("growth of the solid component", nodule.did_solid_grow)


def _ground_glass(nodule: Nodule, size: Size, ask: Questions) -> Row:
    if size.below(30, 14137, 1):
        return ROWS["LR-2-ground-glass-small"]
    status = ask.ask("status", nodule.status)
    if status in (Status.STABLE, Status.SLOWLY_GROWING):
        return ROWS["LR-2-ground-glass-indolent"]
    if status is Status.GROWING:
        raise NoRow("the table has no row for a ground-glass nodule of 30 mm or more that grew by more than 1.5 mm")
    return ROWS["LR-3-ground-glass-large"]


def _airway(nodule: Nodule, ask: Questions) -> Row:
    ask.ask_all({"airway level": nodule.airway_level, "status": nodule.status})
    level, status = ask.ask("airway level", nodule.airway_level), ask.ask("status", nodule.status)
    if level is AirwayLevel.PROXIMAL:
        return ROWS["LR-4A-airway-proximal" if status in FIRST_SEEN else "LR-4B-airway-proximal"]
    if status in (*FIRST_SEEN, Status.STABLE):
        return ROWS["LR-2-airway-subsegmental"]
    raise NoRow("the table has no row for a subsegmental airway nodule that grew")


def _cyst(nodule: Nodule, ask: Questions) -> Row:
    form = ask.ask("form of the cyst", nodule.cyst_form)
    if form is CystForm.THIN_WALLED:
        raise NotClassified
    status = ask.ask("status", nodule.status)
    if status is Status.STABLE:
        return _stepped(nodule, ask)
    if status is Status.BASELINE or (status is Status.NEW and form is CystForm.THICK_WALLED):
        return ROWS[f"LR-4A-cyst-{form.value}"]
    if status is Status.GROWING:
        change = ask.ask("change of the cyst", nodule.cyst_change)
        found = {
            (CystForm.THICK_WALLED, CystChange.CAVITY): "LR-3-cyst-cavity-grows",
            (CystForm.THICK_WALLED, CystChange.WALL): "LR-4B-cyst-wall-grows",
            (CystForm.MULTILOCULAR, CystChange.BECAME_MULTILOCULAR): "LR-4A-cyst-became-multilocular",
            (CystForm.MULTILOCULAR, CystChange.CAVITY): "LR-4B-cyst-grows",
            (CystForm.MULTILOCULAR, CystChange.DENSER): "LR-4B-cyst-denser",
        }.get((form, change))
        if found:
            return ROWS[found]
        raise NoRow(f"the table has no row for a {form.value} cyst with the change {change.value!r}")
    raise NoRow(f"the table has no row for a {form.value} cyst that is {status.value}")


def _stepped(nodule: Nodule, ask: Questions) -> Row:
    """A stable or smaller lesion, by its category before: 3 becomes 2, 4A becomes 3, 4B becomes 2 if proven benign."""
    before = ask.ask("prior category", nodule.prior_category)
    if before is Category.BENIGN:
        return ROWS["LR-2-from-2"]
    if before is Category.VERY_SUSPICIOUS:
        if ask.ask("proven benign", nodule.is_proven_benign):
            return ROWS["LR-2-proven-benign"]
        raise NoRow("the table has no row for a stable category 4B lesion that was not proven benign")
    if before not in STEPS:
        raise NoRow(f"the table has no row for a stable lesion that was category {before.value}")
    months, row_id = STEPS[before]
    if rounded(ask.ask("months since the prior", nodule.months_since_prior), 0) < months:
        raise NoRow(f"a stable category {before.value} lesion steps down at {months} months, not before")
    return ROWS[row_id]
