"""No sentence leaves without grounding, and none that a model alone stands for without its mark.

Over a thousand reports by models that say anything, cited and placed anyhow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from exams_by_hand import SIDE, film, lesion

from app.results.text import as_text
from app.results.words import SEEN
from dicom_io.study import Study
from expert_models.finding import Finding
from medmllm.adapters.scripted import ScriptedModel
from medmllm.grammar import box_text
from medmllm.report import Report, Section, Sentence
from medmllm.template import TemplateWriter
from medmllm.train.exams import Exam
from medmllm.train.told import told
from medmllm.train.truth import CONCEPTS, comparisons_of, findings_of, study_of
from medmllm.views import to_grid
from medmllm.write import MllmWriter

REPORTS = 1000
KINDS = [str(kind) for kind in CONCEPTS if kind != "cardiomegaly"]
COURSES = ("new", "larger", "stable", "smaller")
NONSENSE = (
    "findings | Everything else is fine. |",
    "findings | There is a mass in the left lung. |",
    "impression | The patient should see a doctor. | -",
    "findings | The heart is enlarged, 17 mm, since 1999. | f99",
    "no line of a report at all",
    "findings | Thule dule. | f1",
    "findings | <ref>A</ref><box>[[5,5,1,1]]</box> | -",
)

Random = np.random.Generator


class Adding(ScriptedModel):
    """The same model as one that reads briefs and adds."""

    @property
    def reads_prose(self) -> bool:
        return False


def drawn(random: Random) -> Exam:
    """Up to three lesions of any kind, each on the side of its place, with some course, and up to one that is gone."""
    kinds = random.choice(KINDS, size=int(random.integers(4)), replace=False)
    sides = [None if kind == "edema" else side for kind, side in zip(kinds, ("left", "right", "right"), strict=False)]
    courses = [str(random.choice(COURSES)) for _ in kinds]
    lesions = [lesion(kind, kind, side) for kind, side in zip(kinds, sides, strict=True)]
    now = [replace(each, change=course) for each, course in zip(lesions, courses, strict=True)]
    before = [each for each, course in zip(lesions, courses, strict=True) if course != "new"]
    missing = [kind for kind in KINDS if kind not in kinds]
    gone = [lesion("gone", str(random.choice(missing)), "left")] if len(before) < 3 and random.random() < 0.3 else []
    then = film(60, *before, *gone) if random.random() < 0.7 else None
    if then is None:
        return Exam(1, 0, None, film(90, *lesions), ())
    return Exam(1, 90, then, film(90, *now), tuple(gone))


def mirrored(sentence: Sentence) -> str:
    """The same of the other side."""
    sides = {"left": "right", "right": "left"}
    return " ".join(sides.get(word, word) for word in sentence.text.split(" "))


def placed(sentence: Sentence, findings: dict[str, Finding], text: str) -> str:
    """The text with the true box of what the sentence cites; without one where that has no place."""
    regions = [one for id_ in sentence.grounding.finding_ids for one in findings[id_].regions]
    return text + (box_text([to_grid(each.box, (SIDE, SIDE)) for each in regions]) if regions else "")


def answer_of(random: Random, report: Report, ids: Sequence[str]) -> tuple[str, set[str]]:
    """Lines of what is true and of what is not, cited and placed rightly and wrongly; and those on a false side."""
    lines, false = [], set()
    findings = {each.id: each for each in report.findings}
    for each in report.sentences:
        if each.section not in (Section.FINDINGS, Section.IMPRESSION):
            continue
        grounding = each.grounding
        cited = " ".join((*grounding.finding_ids, *grounding.comparison_ids, *grounding.evidence_ids))
        text, choice = each.text, random.random()
        is_of_a_side = ("left" in text.split()) is not ("right" in text.split())
        if choice < 0.3 and is_of_a_side and grounding.finding_ids:
            text = mirrored(each)
            false.add(text)
            if choice < 0.2:
                text, cited = placed(each, findings, text), "-"
        elif choice < 0.4:
            cited = str(random.choice(ids)) if ids else "-"
        elif choice < 0.6:
            text, cited = placed(each, findings, text), "-"
        elif choice < 0.7:
            cited = ""
        lines.append(f"{each.section} | {text} | {cited}")
    lines += [str(each) for each in random.choice(NONSENSE, size=int(random.integers(4)))]
    random.shuffle(lines)
    return "\n".join(lines), false


def checked(report: Report, study: Study) -> Counter[str]:
    """How many sentences rest on findings and the like, and how many on a place; each passes, and lies on a picture."""
    counted: Counter[str] = Counter()
    shapes = {series.uid: series.volume.shape for each in (study, *study.priors) for series in each.series}
    shown = " ".join(as_text(report).split())
    for sentence in report.sentences:
        assert sentence.is_grounded, sentence
        for region in sentence.grounding.regions:
            box, shape = region.box, shapes[region.series_uid]
            assert all(0 <= low < high <= most for low, high, most in zip(box.start, box.stop, shape, strict=True))
        grounding = sentence.grounding
        is_cited = grounding.finding_ids or grounding.comparison_ids or grounding.evidence_ids or grounding.attributes
        assert is_cited or f"{sentence.text} ({SEEN})" in shown, sentence
        counted["cited" if is_cited else "seen"] += 1
    assert shown.count(SEEN) == counted["seen"]
    return counted


def test_every_sentence_of_a_thousand_reports_is_grounded_and_marked_where_a_model_alone_saw_it() -> None:
    counted: Counter[str] = Counter()
    for number in range(REPORTS):
        random = np.random.default_rng([number, 61])
        exam = drawn(random)
        study = study_of(exam)
        findings = findings_of(exam.now, study.series[0].uid)
        given, seen, changes = told(findings, comparisons_of(exam, findings), random)
        all_true = TemplateWriter().write(study, (*given, *seen), changes, ())
        theirs = {each.id for each in given}
        comparisons = [each for each in changes if not each.finding_id or each.finding_id in theirs]
        ids = [*theirs, *(each.id for each in comparisons)]
        is_prose = bool(number % 2)
        answers, false = zip(*(answer_of(random, all_true, ids) for _ in range(2)), strict=True)
        model = (ScriptedModel if is_prose else Adding)(answers, name="tiny")
        report = MllmWriter(model, TemplateWriter()).write(study, given, comparisons, ())
        counted += checked(report, study)
        counted["by the model"] += report.writer != "template"
        sent = set[str]().union(*false[: len(model.prompts)])
        counted["false"] += len(sent)
        wrong = {each.text for each in report.sentences} & sent
        assert not wrong - {each.text for each in all_true.sentences}, (number, wrong)
    assert counted["by the model"] > REPORTS / 2
    assert counted["false"] > REPORTS / 2
    assert counted["cited"] > REPORTS
    assert counted["seen"] > REPORTS / 4
