"""From an exam to instructions: reports, regions, questions, each as the input of the model and the answer to learn.

Every task is drawn from (seed, number), so a run can go on where it stopped. Reports come with the experts' findings
and without: without them nothing but the picture says what is there, and a sentence names the place that it rests on.
Some inputs hold noise or nothing instead of a film: then the only right answer is that there is no chest to report on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dicom_io.study import Study
from expert_models import codes
from expert_models.finding import Comparison, Finding, Presence, Region
from medmllm import wording
from medmllm.brief import REGION, Brief, brief
from medmllm.grammar import box_text
from medmllm.processor import Input, Place
from medmllm.report import Section, Sentence
from medmllm.template import TemplateWriter
from medmllm.tokens import SEG
from medmllm.train.exams import Exam
from medmllm.train.truth import comparisons_of, findings_of, study_of
from medmllm.views import to_grid

WRITTEN = (Section.FINDINGS, Section.IMPRESSION)
NO_CHEST = "The picture shows no chest to report on"
WHOLE = "<box>[[0,0,999,999]]</box>"
TASKS = {"report": 0.3, "unaided": 0.3, "name": 0.12, "where": 0.14, "ask": 0.14}
NO_FILM = 0.06  # of all inputs

Random = np.random.Generator


def draw_task(exam: Exam, number: int, with_prior: bool | None = None, task: str | None = None) -> Input:
    """One input with its answer. with_prior, task: None draws them; a task is one of TASKS."""
    random = np.random.default_rng([exam.seed, number, 97])
    task = task or str(random.choice(list(TASKS), p=list(TASKS.values())))
    with_prior = bool(random.random() < 0.6) if with_prior is None else with_prior
    study = study_of(exam, with_prior)
    findings = findings_of(exam.now, study.series[0].uid)
    comparisons = comparisons_of(exam, findings) if with_prior else ()
    if random.random() < NO_FILM:
        return _no_film(study, exam, random, task)
    match task:
        case "report":
            return _report(exam, study, findings, comparisons)
        case "unaided":
            return _unaided(exam, study, findings, comparisons)
        case "name":
            return _name(exam, study, findings, random)
        case "where":
            return _where(exam, study, findings, random)
        case "ask":
            return _ask(exam, study, findings, comparisons, random)
    raise ValueError(f"{task!r} is no task")


def _input(
    exam: Exam,
    study: Study,
    told: Brief,
    answer: str,
    regions: Sequence[Place] = (),
    segments: Sequence[Place] = (),
) -> Input:
    pictures, priors = _pictures(exam, study)
    return Input(told.text, pictures, priors, regions=regions, answer=answer, segments=segments)


def _pictures(exam: Exam, study: Study) -> tuple[list[npt.NDArray[np.float32]], list[npt.NDArray[np.float32] | None]]:
    now = exam.now.picture.astype(np.float32) / np.float32(255)
    then = exam.then.picture.astype(np.float32) / np.float32(255) if study.priors else None
    return [now], [then]


def _report(exam: Exam, study: Study, findings: Sequence[Finding], comparisons: Sequence[Comparison]) -> Input:
    written = TemplateWriter().write(study, findings, comparisons, ()).sentences
    lines = [
        f"{each.section} | {each.text} | {' '.join((*each.grounding.finding_ids, *each.grounding.comparison_ids))}"
        for each in written
        if each.section in WRITTEN and not each.grounding.attributes
    ]
    told = brief(study, findings, comparisons, ())
    regions = [_place(exam, each) for each in told.regions]
    return _input(exam, study, told, "\n".join(lines), regions=regions)


def _unaided(exam: Exam, study: Study, findings: Sequence[Finding], comparisons: Sequence[Comparison]) -> Input:
    """The same report without any expert: no number, no id, and every sentence with the place it speaks of."""
    bare = [replace(each, measurements=()) for each in findings if each.concept not in codes.ANATOMY]
    seen = [replace(each, prior_finding=_bare(each.prior_finding), growth=None) for each in comparisons]
    known = {each.id: each for each in findings}
    chest = tuple(region for each in findings if each.concept == codes.LUNG for region in each.regions)
    written = TemplateWriter().write(study, bare, seen, ()).sentences
    lines = [
        f"{each.section} | {_placed(each, known, chest, exam)} | -"
        for each in written
        if each.section in WRITTEN and not each.grounding.attributes
    ]
    return _input(exam, study, brief(study, (), (), (), "report"), "\n".join(lines))


def _bare(finding: Finding | None) -> Finding | None:
    return None if finding is None else replace(finding, measurements=())


def _placed(sentence: Sentence, known: dict[str, Finding], chest: Sequence[Region], exam: Exam) -> str:
    """The sentence with a box after what it speaks of; both lungs where it speaks of what is not there."""
    shape = exam.now.picture.shape
    for id_ in sentence.grounding.finding_ids:
        finding = known[id_]
        if finding.presence is Presence.ABSENT and not sentence.text.startswith("The heart"):
            continue  # a list of what is not there rests on all of the chest
        name = _name_in(sentence.text, finding)
        if finding.regions and name:
            return sentence.text.replace(name, f"<ref>{name}</ref>{_box(finding.regions, shape)}", 1)
    return f"{sentence.text.removesuffix('.')} <ref>in the chest</ref>{_box(chest, shape)}."


def _name_in(text: str, finding: Finding) -> str | None:
    names = [wording.thing(finding), wording.sided(finding), wording.noun(finding.concept)]
    names += [wording.upper_first(each) for each in names]
    if finding.concept == codes.CARDIOMEGALY:
        names = ["The heart", "the heart", "Cardiomegaly", "cardiomegaly"]
    return next((each for each in names if each in text), None)


def _name(exam: Exam, study: Study, findings: Sequence[Finding], random: Random) -> Input:
    """What is this region? The name of what it was drawn around."""
    shown = [each for each in findings if each.presence is Presence.PRESENT and each.regions]
    shown = [each for each in shown if each.concept != codes.CARDIOMEGALY]
    finding = shown[int(random.integers(len(shown)))]
    told = brief(study, (), (), (), f"what is {REGION}")
    return _input(exam, study, told, wording.thing(finding), regions=[_place(exam, finding.regions[0])])


def _where(exam: Exam, study: Study, findings: Sequence[Finding], random: Random) -> Input:
    """Where is it? A box and a mask, or that it is not there."""
    asked = findings[int(random.integers(len(findings)))]
    name = "heart" if asked.concept == codes.CARDIOMEGALY else wording.thing(asked)
    told = brief(study, (), (), (), f"where is the {name}")
    if not asked.regions:
        return _input(exam, study, told, f"no {name} is seen")
    answer = f"<ref>{name}</ref>{_box(asked.regions, exam.now.picture.shape)} {SEG}"
    return _input(exam, study, told, answer, segments=[_place(exam, asked.regions[0])])


def _ask(
    exam: Exam, study: Study, findings: Sequence[Finding], comparisons: Sequence[Comparison], random: Random
) -> Input:
    """Is it there, on which side, how many kinds, what became of it?"""
    diseases = [each for each in findings if each.concept not in codes.ANATOMY]
    asked = diseases[int(random.integers(len(diseases)))]
    noun = wording.noun(asked.concept)
    is_there = asked.presence is Presence.PRESENT
    match int(random.integers(3)):
        case 0:
            question, answer = f"is there {noun}", "yes" if is_there else "no"
        case 1:
            sides = sorted({each.side.value for each in diseases if each.concept == asked.concept and each.side})
            question = f"on which side is the {noun}"
            answer = " and ".join(sides) if sides else "on both sides" if is_there else f"there is no {noun}"
        case _:
            question = f"what became of the {noun}"
            answer = _became(asked, study, comparisons, {each.id: each for each in findings})
    return _input(exam, study, brief(study, (), (), (), question), answer)


def _became(asked: Finding, study: Study, comparisons: Sequence[Comparison], known: dict[str, Finding]) -> str:
    if not study.priors:
        return "there is no prior study to compare with"
    for each in comparisons:
        subject = known.get(each.finding_id or "") or each.prior_finding
        if subject is not None and subject.concept == asked.concept:
            return each.change.value
    return f"no {wording.noun(asked.concept)} is seen on either study"


def _no_film(study: Study, exam: Exam, random: Random, task: str) -> Input:
    """Noise, one grey, or a film cut into shuffled tiles, in the place of the film."""
    side = exam.now.picture.shape[0]
    kind = int(random.integers(3))
    if kind == 0:
        picture = random.random((side, side), dtype=np.float32)
    elif kind == 1:
        picture = np.full((side, side), random.random(), np.float32)
    else:
        tiles = exam.now.picture.reshape(8, side // 8, 8, side // 8).transpose(0, 2, 1, 3).reshape(64, side // 8, -1)
        shuffled = tiles[random.permutation(64)].reshape(8, 8, side // 8, side // 8).transpose(0, 2, 1, 3)
        picture = shuffled.reshape(side, side).astype(np.float32) / np.float32(255)
    lines = [f"findings | {NO_CHEST}{WHOLE}. | -", f"impression | {NO_CHEST}{WHOLE}. | -"]
    is_report = task in ("report", "unaided")
    told = brief(study, (), (), (), "report" if is_report else "is there pneumothorax")
    answer = "\n".join(lines) if is_report else NO_CHEST.lower()
    priors = _pictures(exam, study)[1]
    return Input(told.text, pictures=[picture], priors=priors, answer=answer)


def _place(exam: Exam, region: Region) -> Place:
    """The exam's own mask whose box this region is."""
    for outline in exam.now.outlines:
        rows, columns = np.flatnonzero(outline.any(axis=1)), np.flatnonzero(outline.any(axis=0))
        if rows.size and (rows[0], columns[0]) == region.box.start[1:] and rows[-1] + 1 == region.box.stop[1]:
            return Place(0, outline)
    raise ValueError("a region of another exam")


def _box(regions: Sequence[Region], shape: tuple[int, ...]) -> str:
    return box_text([to_grid(each.box, (shape[0], shape[1])) for each in regions])
