"""No sentence leaves without grounding or a mark that says so: over a thousand reports by models that say anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from exams_by_hand import film, lesion

from app.results.text import as_text
from app.results.words import doubts_of
from dicom_io.study import Study
from medmllm.adapters.scripted import ScriptedModel
from medmllm.report import Report, Section, Sentence
from medmllm.template import TemplateWriter
from medmllm.train.exams import Exam
from medmllm.train.told import told
from medmllm.train.truth import CONCEPTS, comparisons_of, findings_of, study_of
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
    """Up to three lesions of any kind on either side, each with some course, and up to one that is gone."""
    kinds = random.choice(KINDS, size=int(random.integers(4)), replace=False)
    sides = [None if kind == "edema" else str(random.choice(["left", "right"])) for kind in kinds]
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


def answer_of(random: Random, said: Sequence[Sentence], ids: Sequence[str]) -> tuple[str, set[str]]:
    """Lines of what is true and of what is not, cited rightly and wrongly, and which of them are false of one side."""
    lines, false = [], set()
    for each in said:
        if each.section not in (Section.FINDINGS, Section.IMPRESSION):
            continue
        grounding = each.grounding
        cited = " ".join((*grounding.finding_ids, *grounding.comparison_ids, *grounding.evidence_ids))
        text, choice = each.text, random.random()
        is_of_a_side = ("left" in text.split()) is not ("right" in text.split())
        if choice < 0.25 and is_of_a_side and grounding.finding_ids:
            text = mirrored(each)
            false.add(text)
        elif choice < 0.4:
            cited = str(random.choice(ids)) if ids else "-"
        elif choice < 0.5:
            corners = np.sort(random.integers(0, 1000, (2, 2)), axis=0).T.tolist()
            text = f"{text}<box>[[{corners[0][0]},{corners[1][0]},{corners[0][1]},{corners[1][1]}]]</box>"
            cited = "-"
        elif choice < 0.6:
            cited = ""
        lines.append(f"{each.section} | {text} | {cited}")
    lines += [str(each) for each in random.choice(NONSENSE, size=int(random.integers(4)))]
    random.shuffle(lines)
    return "\n".join(lines), false


def checked(report: Report, study: Study) -> Counter[str]:
    """How many sentences are grounded, and how many are marked; each is one of both, and rests on what is there."""
    counted: Counter[str] = Counter()
    known = {each.uid: each for each in study.series}
    for prior in study.priors:
        known |= {each.uid: each for each in prior.series}
    shown = as_text(report)
    for sentence in report.sentences:
        assert sentence.is_grounded or doubts_of(sentence), sentence
        for region in sentence.grounding.regions:
            box, shape = region.box, known[region.series_uid].volume.shape
            assert all(0 <= low < high <= most for low, high, most in zip(box.start, box.stop, shape, strict=True))
        counted["grounded" if sentence.is_grounded else "marked"] += 1
    assert shown.count("!!") >= counted["marked"]
    return counted


def test_every_sentence_of_a_thousand_reports_is_grounded_or_marked() -> None:
    counted: Counter[str] = Counter()
    for number in range(REPORTS):
        random = np.random.default_rng([number, 61])
        exam = drawn(random)
        study = study_of(exam)
        findings = findings_of(exam.now, study.series[0].uid)
        given, seen, comparisons = told(findings, comparisons_of(exam, findings), random)
        all_true = TemplateWriter().write(study, (*given, *seen), comparisons, ())
        ids = [each.id for each in (*given, *comparisons)]
        answers, false = zip(*(answer_of(random, all_true.sentences, ids) for _ in range(2)), strict=True)
        model = (ScriptedModel if number % 2 else Adding)(answers, name="tiny")
        report = MllmWriter(model, TemplateWriter()).write(study, given, comparisons, ())
        counted += checked(report, study)
        counted["by the model"] += report.writer != "template"
        counted["false"] += len(set().union(*false))
        wrong = {each.text for each in report.sentences if each.is_grounded} & set().union(*false)
        assert not wrong - {each.text for each in all_true.sentences}, (number, wrong)
    assert counted["by the model"] > REPORTS / 2
    assert counted["false"] > REPORTS / 2
    assert counted["grounded"] > REPORTS
