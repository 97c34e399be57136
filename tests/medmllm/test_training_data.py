"""Exams and the tasks drawn from them: what is said is what is true, and can be read back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from dicom_io.study import Request
from expert_models import codes
from expert_models.finding import Change, Presence
from expert_models.train.phantoms import HELD_OUT
from medmllm.brief import REGION, brief
from medmllm.parse import parse
from medmllm.processor import Input, corners
from medmllm.template import TemplateWriter
from medmllm.tokens import SEG
from medmllm.train.exams import Exam, exams
from medmllm.train.tasks import NO_CHEST, TASKS, draw_task
from medmllm.train.truth import comparisons_of, findings_of, study_of

SEEDS = range(HELD_OUT + 1, HELD_OUT + 4)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Exam]:
    folder = tmp_path_factory.mktemp("exams")
    first = list(exams(SEEDS, folder))
    again = list(exams(SEEDS, folder))  # now from the files
    for one, other in zip(first, again, strict=True):
        assert (one.seed, one.days, one.now.lesions, one.gone) == (
            other.seed,
            other.days,
            other.now.lesions,
            other.gone,
        )
        assert np.array_equal(one.now.picture, other.now.picture)
        assert np.array_equal(one.then.outlines, other.then.outlines)
    return first


def answered(exam: Exam, task: str) -> Input:
    """The first input of this task that holds the film and not noise."""
    inputs = (draw_task(exam, number, True, task) for number in range(99))
    return next(each for each in inputs if NO_CHEST not in (each.answer or ""))


def test_findings_are_the_lesions_that_were_drawn(drawn: Sequence[Exam]) -> None:
    for exam in drawn:
        findings = findings_of(exam.now, "1")
        present = {(e.concept.meaning, e.side and e.side.value) for e in findings if e.presence is Presence.PRESENT}
        for lesion in exam.now.lesions:
            if lesion.kind not in ("cardiomegaly",):
                names = {meaning.lower() for meaning, side in present if side == lesion.side}
                assert any(lesion.kind in name for name in names), (lesion, names)
        enlarged = next(each for each in findings if each.concept == codes.CARDIOMEGALY)
        limit = {"PA": 0.5, "AP": 0.55}[exam.now.view]
        assert (enlarged.presence is Presence.PRESENT) == (exam.now.cardiothoracic_ratio > limit)


def test_comparisons_say_what_was_drawn(drawn: Sequence[Exam]) -> None:
    told = [each for exam in drawn for each in comparisons_of(exam, findings_of(exam.now, f"{exam.seed}.1.1"))]
    drawn_changes = [e.change for exam in drawn for e in exam.now.lesions if e.change and e.kind != "cardiomegaly"]
    assert [
        each.change.value for each in told if each.tracking_uid != "heart" and each.change is not Change.RESOLVED
    ] == (drawn_changes)
    assert sum(each.change is Change.RESOLVED for each in told if each.tracking_uid != "heart") == sum(
        each.kind != "cardiomegaly" for exam in drawn for each in exam.gone
    )


def test_the_brief_has_a_marker_for_every_region_and_no_identifier(drawn: Sequence[Exam]) -> None:
    exam = drawn[0]
    study = study_of(exam)
    findings = findings_of(exam.now, study.series[0].uid)
    told = brief(study, findings, comparisons_of(exam, findings), ())
    assert told.text.count(REGION) == len(told.regions) == sum(len(each.regions) for each in findings)
    assert study.uid not in told.text
    assert study.patient_key not in told.text
    assert "2020" not in told.text


def test_what_a_requester_types_ends_no_line_and_marks_nothing(drawn: Sequence[Exam]) -> None:
    request = Request("cough <picture>\nreport f9 KEY77", "", "ACC5")
    study = replace(study_of(drawn[0], with_prior=False), patient_key="KEY77", request=request)
    told = brief(study, (), (), ())
    (line,) = [each for each in told.text.split("\n") if each.startswith("indication")]
    assert line.startswith("indication cough ‹picture› report f9")
    assert "KEY77" not in told.text
    assert told.text.count("<picture>") == len(told.pictures) == 1


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("with_prior", [True, False])
def test_an_input_fits_its_markers_and_is_drawn_alike_again(drawn: Sequence[Exam], task: str, with_prior: bool) -> None:
    for exam in drawn:
        one, again = (draw_task(exam, 5, with_prior, task) for _ in range(2))
        assert (one.text, one.answer) == (again.text, again.answer)
        assert one.text.count(REGION) == len(one.regions)
        assert (one.answer or "").count(SEG) == len(one.segments)
        assert (one.priors[0] is not None) == with_prior


def test_reports_without_experts_say_the_same_as_with_them(drawn: Sequence[Exam]) -> None:
    """The words of both are read back by the parser; sentences of the unaided one rest on boxes, the others on ids."""
    for exam in drawn:
        study = study_of(exam)
        findings = findings_of(exam.now, study.series[0].uid)
        comparisons = comparisons_of(exam, findings)
        known = [*(each.id for each in findings), *(each.id for each in comparisons)]
        aided = next(
            x for n in range(99) if (x := draw_task(exam, n, True, "report")).answer and NO_CHEST not in x.answer
        )
        answer = parse(aided.answer or "", known, [])
        assert not answer.problems
        full = TemplateWriter().write(study, findings, comparisons, ())
        written = [each.text for each in full.sentences if each.section in ("findings", "impression")]
        assert [each.text for each in answer.sentences] == [text for text in written if text in (aided.answer or "")]
        unaided = next(
            x for n in range(99) if (x := draw_task(exam, n, True, "unaided")).answer and NO_CHEST not in x.answer
        )
        lines = (unaided.answer or "").split("\n")
        assert all(line.endswith(" | -") and "<box>[[" in line for line in lines)
        assert not re.search(r"\bf\d", unaided.answer or "")
        assert "ratio" not in (unaided.answer or "")
        assert unaided.text.count(REGION) == 0


def test_a_place_that_is_asked_for_is_the_drawn_one(drawn: Sequence[Exam]) -> None:
    found = 0
    for exam in drawn:
        for number in range(12):
            each = draw_task(exam, number, None, "where")
            if not each.segments:
                continue
            found += 1
            x0, y0, x1, y1 = map(int, re.findall(r"\d+", re.search(r"<box>\[\[(.*?)\]", each.answer or "")[1]))  # type: ignore[index]
            true = np.array(corners(each.segments[0].mask)) * 999
            assert np.abs(true - [x0, y0, x1, y1]).max() <= 1
    assert found > 5


def test_noise_has_one_right_answer(drawn: Sequence[Exam]) -> None:
    answers = [draw_task(drawn[0], number, None, "ask").answer or "" for number in range(150)]
    silent = [each for each in answers if NO_CHEST.lower() in each.lower()]
    assert 2 <= len(silent) <= 25  # six in a hundred are no films
