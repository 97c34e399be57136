"""Exams and the tasks drawn from them: what is said is what is true, and can be read back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from exams_by_hand import film, followed, healthy, real
from exams_by_hand import lesion as lesion_of

from dicom_io.study import Request
from expert_models import codes
from expert_models.finding import Change, Comparison, Finding, Presence, Side
from expert_models.train.phantoms import HELD_OUT
from medmllm.brief import NO_CHEST, NOTHING_MORE, REGION, brief
from medmllm.losses import COURSES, UNKNOWN
from medmllm.parse import parse
from medmllm.processor import Input, Outlines, corners
from medmllm.report import Report
from medmllm.template import TemplateWriter
from medmllm.tokens import SEG
from medmllm.train.exams import Drawn, Exam, Film, exam_of, exams, keep, read
from medmllm.train.tasks import TASKS, draw_task, reported, what_became
from medmllm.train.told import told
from medmllm.train.truth import OUTLINED, TRUTH, comparisons_of, findings_of, outlines_of, study_of
from medmllm.train.varied import varied
from medmllm.verify import rests_on_places, verify
from medmllm.views import Frame

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


def test_what_experts_said_is_not_repeated(drawn: Sequence[Exam]) -> None:
    """Where they spoke of all nothing more is seen; the template's sentences are learned of what they left out."""
    for exam in drawn:
        study = study_of(exam)
        findings = findings_of(exam.now, study.series[0].uid)
        comparisons = comparisons_of(exam, findings)
        full = reported(exam, study, findings, (), comparisons)
        lines = [re.sub(r"<box>.*?</box>|</?ref>", "", line) for line in (full.answer or "").split("\n")]
        assert lines == [
            f"{section} | Nothing more is seen in the chest. | -" for section in ("findings", "impression")
        ]
        half = [each for each in findings if each.concept in {*codes.ANATOMY, codes.CARDIOMEGALY}]
        rest = [each for each in findings if each not in half]
        learned = parse(reported(exam, study, half, rest, ()).answer or "", (), [frame_of(exam)]).sentences
        written = TemplateWriter().write(study, rest, (), ()).sentences
        there = [each.text for each in written if each.section == "findings" and each.text.startswith("There is")]
        assert [each.text for each in learned if each.text.startswith("There is")] == there


def frame_of(exam: Exam) -> Frame:
    series = study_of(exam).series[0]
    return Frame(series.uid, series.source[0], 0, (exam.now.picture.shape[0], exam.now.picture.shape[1]))


def test_a_report_on_pictures_alone_has_a_place_for_every_sentence_and_no_number(drawn: Sequence[Exam]) -> None:
    for exam in drawn:
        alone = answered(exam, "unaided")
        lines = (alone.answer or "").split("\n")
        assert all(line.endswith(" | -") and "<box>[[" in line for line in lines)
        assert not re.search(r"\bf\d|ratio", alone.answer or "")
        assert alone.text.count(REGION) == 0


@pytest.mark.parametrize("number", range(8))
def test_what_is_learned_passes_every_check(drawn: Sequence[Exam], number: int) -> None:
    """Whatever experts speak of: each sentence cites what was told, or lies on a place, and no check fails."""
    for exam in drawn:
        study = study_of(exam, with_prior=number % 2 == 0)
        series = study.series[0]
        findings = findings_of(exam.now, series.uid)
        comparisons = comparisons_of(exam, findings) if study.priors else ()
        given, seen, changes = told(findings, comparisons, np.random.default_rng([exam.seed, number]))
        assert {each.id for each in given} & {each.id for each in seen} == set()
        learned = reported(exam, study, given, seen, changes)
        cited = {each.id for each in given} | set(re.findall(r"^c\d+", learned.text, re.MULTILINE))
        answer = parse(learned.answer or "", cited, [frame_of(exam)])
        assert not answer.problems
        assert all(rests_on_places(each) for each in answer.sentences)
        theirs = tuple(each for each in changes if each.id in cited)
        said = tuple(each for each in answer.sentences if not each.text.startswith(NOTHING_MORE))
        report = verify(Report(study.uid, said, given, theirs, (), "mllm:test"), study)
        assert [each.text for each in report.sentences if not each.is_grounded] == []


def test_experts_speak_of_some_things_or_all_with_doubts_and_by_side(drawn: Sequence[Exam]) -> None:
    """Of 200 draws a fifth has no expert, and each way of speaking is met."""
    exam = drawn[0]
    findings = findings_of(exam.now, "1")
    draws = [told(findings, (), np.random.default_rng(number)) for number in range(200)]
    silent = sum(not given for given, _, _ in draws)
    assert 15 <= silent <= 47  # 0.15 of 200, within three standard deviations, and those of "some" that drew nothing
    said = [each for given, _, _ in draws for each in given]
    assert {each.presence for each in said} == set(Presence)
    assert any(each.presence is Presence.ABSENT and each.side for each in said)
    for given, seen, _ in draws:
        read = [each for each in given if each.presence is not Presence.NOT_ASSESSED]
        concepts = {codes.CONSOLIDATION if e.concept == codes.LUNG_OPACITY else e.concept for e in read}
        assert not concepts & {each.concept for each in seen}
        assert concepts | {each.concept for each in seen} == {each.concept for each in findings}
        unread = [each.concept for each in given if each.presence is Presence.NOT_ASSESSED]
        assert len(set(unread)) == len(unread)
        assert set(unread) - {codes.LUNG_OPACITY} <= {each.concept for each in seen}


def test_a_varied_exam_is_the_same_patient_with_its_outlines_moved_along(drawn: Sequence[Exam]) -> None:
    exam = drawn[0]
    same, other = (varied(exam, np.random.default_rng(0)) for _ in range(2))
    assert np.array_equal(same.now.picture, other.now.picture)
    assert not np.array_equal(same.now.picture, exam.now.picture)
    assert [each.name for each in same.now.lesions] == [each.name for each in exam.now.lesions]
    right, left = same.now.outlines[0], same.now.outlines[1]
    assert np.flatnonzero(right.any(axis=0)).mean() < np.flatnonzero(left.any(axis=0)).mean()  # never mirrored
    inside, outside = same.now.picture[right | left].mean(), same.now.picture[same.now.outlines[2]].mean()
    assert inside < outside  # lungs are darker than the heart where the outlines say that they are


def test_a_film_without_an_earlier_one_is_asked_for_what_is_known_of_it(drawn: Sequence[Exam], tmp_path: Path) -> None:
    """A named disease without a place is never denied, and nothing is asked of a prior or of a side."""
    whole = drawn[0]
    unplaced = Drawn("label", "consolidation", None, None, 0.0, 0.0, None)
    outlines = np.concatenate([whole.now.outlines[:3], np.zeros((1, *whole.now.picture.shape), bool)])
    film = replace(whole.now, lesions=(unplaced,), outlines=outlines, cardiothoracic_ratio=None)
    exam = Exam(7, 0, None, film, ())
    keep(exam, tmp_path / "film.npz")
    again = read(tmp_path / "film.npz")
    assert again.then is None
    assert np.array_equal(again.now.outlines, outlines)
    answers = {(i.text, i.answer or "") for n in range(60) for t in TASKS for i in [draw_task(exam, n, None, t)]}
    assert all("prior" not in text.replace("no prior", "") for text, _ in answers)
    assert not any("no consolidation is seen" in answer for _, answer in answers)
    assert not any(text.endswith("side is the consolidation") for text, _ in answers)
    assert any("consolidation <ref>in the chest</ref>" in answer for _, answer in answers)


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


@pytest.mark.parametrize(
    ("was", "now", "change"),
    [("stable", "larger", "larger"), (None, "new", "larger"), ("stable", None, "smaller"), (None, None, "stable")],
)
def test_a_heart_too_large_on_both_films_changed_as_what_is_behind_it(
    was: str | None, now: str | None, change: str
) -> None:
    """A heart can be too large by its ratio without a lesion of it; then the lesion that came made it larger."""

    def of(state: str | None) -> Film:
        shown = film(30, *([lesion_of("h", "cardiomegaly", None, state)] if state else []))
        return replace(shown, cardiothoracic_ratio=0.6)

    exam = Exam(3, 9, of(was), of(now), ())
    made = comparisons_of(exam, findings_of(exam.now, "uid"))
    assert [(each.tracking_uid, each.change.value) for each in made] == [("heart", change)]


def test_of_what_changed_in_an_unknown_way_nobody_asks() -> None:
    """Seen on both films; asked is of everything else."""
    mass = lesion_of("m", "mass", "left")
    exam = Exam(3, 9, film(30, mass), film(40, mass), ())
    assert comparisons_of(exam, findings_of(exam.now, "uid")) == ()
    asked = {draw_task(exam, number, True, "became", is_film=True).text for number in range(60)}
    assert len(asked) == 7  # of eight kinds
    assert not any("mass" in each for each in asked)
    alone = {draw_task(exam, number, False, "became", is_film=True).text for number in range(60)}
    assert len(alone) == 8  # without a prior there is one right answer to all


def test_noise_has_one_right_answer(drawn: Sequence[Exam]) -> None:
    answers = [draw_task(drawn[0], number, None, "ask").answer or "" for number in range(150)]
    silent = [each for each in answers if NO_CHEST.lower() in each.lower()]
    assert 2 <= len(silent) <= 25  # six in a hundred are no films


def test_what_one_film_alone_shows_is_new_or_gone_there(drawn: Sequence[Exam]) -> None:
    """In the patient both nodules are only larger; the film shows one of them now, and the other then."""
    now = Drawn("came", "nodule", "right", None, 20.0, 4.0, None)
    then = Drawn("went", "nodule", "left", None, 20.0, 4.0, None)
    bare = [replace(film, outlines=film.outlines[:3]) for film in (drawn[0].then, drawn[0].now) if film]
    spot = np.zeros((1, *bare[0].picture.shape), bool)
    spot[0, 100:110, 60:70] = True
    films = [
        replace(film, lesions=(lesion,), outlines=np.concatenate([film.outlines, spot]))
        for film, lesion in zip(bare, (then, now), strict=True)
    ]
    exam = exam_of(1, 90, *films, {"came": "larger", "went": "larger"})
    assert [each.change for each in exam.now.lesions] == ["new"]
    assert [each.name for each in exam.gone] == ["went"]
    findings = findings_of(exam.now, study_of(exam).series[0].uid)
    said = {each.change for each in comparisons_of(exam, findings) if each.tracking_uid in ("came", "went")}
    assert said == {Change.NEW, Change.RESOLVED}
    assert "neither" not in (what_became(exam, codes.LUNG_NODULE).answer or "")
    assert what_became(exam, codes.LUNG_NODULE).answer in ("new", "resolved")


def test_a_resolved_consolidation_is_the_experts_who_speak_of_opacities(drawn: Sequence[Exam]) -> None:
    exam = next(each for each in drawn if each.then)
    study = study_of(exam)
    gone = replace(findings_of(exam.then, "1")[0], concept=codes.CONSOLIDATION, side=Side.RIGHT)
    others = [each for each in findings_of(exam.now, study.series[0].uid) if each.concept != codes.CONSOLIDATION]
    findings = (*others, Finding("f99", codes.CONSOLIDATION, Presence.ABSENT, TRUTH))
    comparison = Comparison("c1", Change.RESOLVED, f"{exam.seed}.0", "gone", None, gone)
    met = 0
    for number in range(60):
        given, seen, changes = told(findings, (comparison,), np.random.default_rng(number))
        if any(each.concept == codes.LUNG_OPACITY and each.presence is not Presence.NOT_ASSESSED for each in given):
            met += 1
            learned = reported(exam, study, given, seen, changes)
            assert "consolidation" not in (learned.answer or "")
            assert re.search(r"^c1 opacity in the right lung resolved", learned.text, re.MULTILINE)
    assert met > 10


def outlined(exam: Exam, with_prior: bool = True) -> Outlines:
    study = study_of(exam, with_prior)
    findings = findings_of(exam.now, study.series[0].uid)
    return outlines_of(exam, study, findings, comparisons_of(exam, findings) if study.priors else ())


def test_outlines_say_where_each_thing_is_and_what_became_of_it() -> None:
    """By hand: a left effusion grew, a right nodule came, a right pneumothorax went; the heart is of usual size."""
    made = outlined(followed())
    at = {name: OUTLINED.index(name) for name in OUTLINED}
    assert made.then is not None
    assert {name for name in OUTLINED if made.now[at[name]].any()} == {
        "right_lung", "left_lung", "heart", "effusion", "nodule",
    }  # fmt: skip
    assert made.then[at["pneumothorax"]].any()
    assert not made.then[at["nodule"]].any()
    assert made.now_known.all()
    assert made.then_known.all()
    assert made.there[at["effusion"]].tolist() == [0, 1, 1]
    assert made.there[at["nodule"]].tolist() == [1, 0, 1]
    assert made.there[at["pneumothorax"]].tolist() == [0, 0, 0]
    assert made.there[at["heart"]].tolist() == made.there[at["edema"]].tolist() == [UNKNOWN, UNKNOWN, 0]
    assert made.there[at["left_lung"]].tolist() == [UNKNOWN] * 3
    became = {"effusion": "larger", "nodule": "new", "pneumothorax": "resolved"}
    for name in ("effusion", "nodule", "pneumothorax", "mass", "edema", "heart"):
        expected = COURSES.index(became[name]) if name in became else len(COURSES)
        assert made.course[at[name]] == expected, name
    alone = outlined(followed(), with_prior=False)
    assert alone.then is None
    assert not alone.then_known.any()
    assert (alone.course == UNKNOWN).all()


def test_outlines_that_nobody_drew_are_not_known() -> None:
    made = outlined(real())
    at = {name: OUTLINED.index(name) for name in OUTLINED}
    assert not made.now_known[at["heart"]]
    assert made.there[at["heart"]].tolist() == [UNKNOWN] * 3
    assert made.now_known[at["left_lung"]]
    named = healthy().now
    nowhere = np.zeros((1, *named.picture.shape), bool)
    outlines = np.concatenate([named.outlines, nowhere])
    labelled = replace(named, lesions=(lesion_of("x", "effusion", None),), outlines=outlines)
    made = outlined(replace(real(), now=labelled))
    assert not made.now_known[at["effusion"]]
    assert made.there[at["effusion"]].tolist() == [UNKNOWN, UNKNOWN, 1]


def test_boxes_on_a_real_film_are_not_the_whole_truth() -> None:
    """A box says that it is there and on which side; not that the rest is free, nor that the other side is."""
    boxed = replace(followed(), then=None, gone=())
    made = outlined(boxed)
    effusion, mass, lung = (OUTLINED.index(each) for each in ("effusion", "mass", "left_lung"))
    assert (made.now_known[effusion], made.now_known[mass], made.now_known[lung]) == (False, True, True)
    assert made.there[effusion].tolist() == [UNKNOWN, 1, 1]
    assert made.there[mass].tolist() == [0, 0, 0]


def test_a_course_is_that_of_all_of_a_kind() -> None:
    """Two nodules, of which one grew: of the other nothing is known, so what became of nodules is not."""
    grew, other = lesion_of("a", "nodule", "left", "larger"), lesion_of("b", "nodule", "right")
    of_one = replace(followed(), then=film(60, grew), now=film(90, grew), gone=())
    of_two = replace(of_one, now=film(90, grew, other))
    nodule = OUTLINED.index("nodule")
    assert outlined(of_one).course[nodule] == COURSES.index("larger")
    assert outlined(of_two).course[nodule] == UNKNOWN


def test_all_that_is_asked_of_a_film_shares_it(drawn: Sequence[Exam]) -> None:
    films = [draw_task(drawn[0], 3, with_prior=True, task=task) for task in ("ask", "where", "call", "unaided")]
    assert len({id(each.pictures[0]) for each in films}) == 1
    assert len({id(each.priors[0]) for each in films}) == 1
    assert np.allclose(films[0].pictures[0] * 255, drawn[0].now.picture, atol=0.01)
