"""Questions beside experts: what is learned can be written, is read back, and is what the brief says."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest
from exams_by_hand import followed, healthy, real
from grammar_by_hand import is_answer

from medmllm.brief import PICTURE, REGION
from medmllm.constrain import Vocabulary
from medmllm.parse import Call, parse_reply
from medmllm.processor import Input
from medmllm.tokens import SEG, make_tokenizer
from medmllm.train.calling import ABSTAINS, KINDS, NOWHERE, draw_call
from medmllm.train.exams import Exam

EXAMS = (followed(), healthy(), real())
NUMBERS = range(60)
HEART = "<cxr-anatomy(heart)>"
ASKED_OF_THE_HEART = ("how wide", "cardiothoracic", "diameter")


def drawn(kind: str, exams: tuple[Exam, ...] = EXAMS) -> Iterator[Input]:
    for exam in exams:
        for number in NUMBERS:
            yield draw_call(exam, number, kind)


def task_of(given: Input) -> str:
    return given.text.rpartition("\n")[2]


def offered_in(given: Input) -> dict[str, list[str]]:
    """The offers as the brief has them, read by hand."""
    lines = re.findall(r"^expert ([^(\s]+)\(([^)]*)\)$", given.text, re.MULTILINE)
    return {name: arguments.split(", ") for name, arguments in lines}


def found_in(given: Input) -> list[str]:
    return re.findall(r"^f\d+ .*$", given.text, re.MULTILINE)


def right_call(given: Input) -> str:
    """Who knows, by the words of the question."""
    if any(each in task_of(given) for each in ASKED_OF_THE_HEART):
        return HEART
    thing = task_of(given).removeprefix("how likely is ").removeprefix("right ").removeprefix("left ")
    match = re.fullmatch(r"(.*?)( in the (?:right|left) lung)?", thing)
    assert match is not None
    noun = match[1]
    return f"<cxr-findings({f'lung {noun}' if noun in ('opacity', 'nodule', 'mass') else noun})>"


@pytest.mark.parametrize("kind", KINDS)
def test_every_target_is_of_its_grammar_and_offers_are_those_of_the_brief(kind: str) -> None:
    for given in drawn(kind):
        assert given.grammar is not None
        assert dict(given.grammar.experts) == {name: tuple(each) for name, each in offered_in(given).items()}
        assert is_answer(given.answer or "", offered_in(given)), given.answer
        assert given.text.count(PICTURE) == len(given.pictures) == len(given.priors)
        assert given.text.count(REGION) == 0
        assert (given.answer or "").count(SEG) == len(given.segments)
        ids = [line.split(" ")[0] for line in found_in(given)]
        assert ids == [f"f{number}" for number in range(1, len(ids) + 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_target_can_be_written_by_a_model_that_is_held_to_its_grammar(kind: str) -> None:
    some = [draw_call(exam, number, kind) for exam in EXAMS for number in range(5)]
    tokenizer = make_tokenizer([text for each in some for text in (each.text, each.answer or "")], size=400)
    vocabulary = Vocabulary(tokenizer)
    for given in some:
        assert given.grammar is not None
        matcher = vocabulary.matcher(given.grammar)
        tokens = tokenizer(given.answer, add_special_tokens=False)["input_ids"]
        assert matcher.try_consume_tokens(tokens) == len(tokens), given.answer
        assert matcher.is_accepting(), given.answer


def test_what_only_an_expert_knows_is_a_call_that_is_read_back_as_it_was_meant() -> None:
    called = set()
    for given in drawn("call"):
        assert given.answer == right_call(given)
        name, argument = (given.answer or "")[1:-2].split("(")
        reply = parse_reply(given.answer or "", offered_in(given))
        assert (reply.calls, reply.text, reply.problems) == ((Call(name, argument),), "", ())
        called.add((name, argument))
    assert {("cxr-anatomy", "heart"), ("cxr-findings", "pneumothorax"), ("cxr-findings", "lung opacity")} <= called


def test_what_was_told_is_repeated_from_the_line_that_says_it() -> None:
    quantities = {
        "cardiothoracic ratio": ("ratio", "relative"),
        "transverse cardiac diameter": ("cardiac", "heart"),
        "internal transverse thoracic diameter": ("thoracic", "chest"),
    }
    units = set()
    for given in drawn("told"):
        task, answer = task_of(given), given.answer or ""
        if task.startswith("how likely is "):
            thing = re.escape(task.removeprefix("how likely is "))
            (said,) = re.findall(rf"^f\d+ {thing} (?:indeterminate )?(\S+)$", given.text, re.MULTILINE)
        else:
            words = next(name for name, hints in quantities.items() if any(f" {each}" in task for each in hints))
            (said,) = re.findall(rf"(?:present|,) {words} ([\d.]+(?: mm| pixels)?)(?:,|$)", given.text, re.MULTILINE)
        assert answer == said
        assert right_call(given) not in [
            f"<{name}({argument})>" for name, arguments in offered_in(given).items() for argument in arguments
        ]
        units.add(answer.lstrip("0123456789."))
    assert units == {"", " mm", " pixels", "%", "present", "absent"}


def test_what_the_pictures_answer_is_answered_without_a_call() -> None:
    answers = set()
    for given in drawn("seen"):
        assert "<cxr" not in (given.answer or "")
        assert not found_in(given)
        answers.add((task_of(given), given.answer))
    assert ("is there pneumothorax", "no") in answers
    sides = {(task, answer) for task, answer in answers if task.startswith("on which side")}
    assert sides == {
        ("on which side is the pleural effusion", "left"),
        ("on which side is the lung nodule", "right"),
    }
    assert {task for task, _ in answers if task.startswith("where is")} == {
        "where is the heart",
        "where is the right lung",
        "where is the left lung",
    }
    of_real = {task_of(each) for each in drawn("seen", (real(),))}
    assert not any("heart" in each or "side" in each or "cardiomegaly" in each for each in of_real)
    assert all(offered_in(each) for each in drawn("seen"))


def test_what_nobody_measures_is_not_answered() -> None:
    nowhere = 0
    for given in drawn("unmeasured"):
        assert given.answer == ABSTAINS
        if task_of(given) in NOWHERE:
            nowhere += 1
            continue
        name, argument = right_call(given)[1:-2].split("(")
        assert argument not in offered_in(given).get(name, [])
        assert not any(f" {argument} " in f"{line} " for line in found_in(given))
    assert 40 <= nowhere <= 104  # 0.4 of 180, within about five standard deviations
    assert any(found_in(given) for given in drawn("unmeasured"))


def test_an_expert_that_did_not_answer_is_not_called_again() -> None:
    lines = set()
    for given in drawn("unanswered"):
        assert given.answer == ABSTAINS
        name, argument = right_call(given)[1:-2].split("(")
        assert argument not in offered_in(given).get(name, [])
        silent = f"{name}({argument}) did not answer" in given.text.split("\n")
        unread = any(" not assessed " in line for line in found_in(given))
        assert silent is not unread
        lines.add(silent)
    assert lines == {True, False}


def test_a_question_is_drawn_alike_again_and_its_kinds_as_often_as_they_should_be() -> None:
    exam = followed()
    kinds: dict[str, int] = {}
    for number in range(400):
        one, again = (draw_call(exam, number, with_prior=True) for _ in range(2))
        assert (one.text, one.answer, one.grammar) == (again.text, again.answer, again.grammar)
        answer = one.answer or ""
        kind = "call" if answer.startswith("<cxr") else "abstains" if answer == ABSTAINS else "other"
        kinds[kind] = kinds.get(kind, 0) + 1
    assert 100 <= kinds["call"] <= 180  # 0.35 of 400
    assert 48 <= kinds["abstains"] <= 112  # 0.2 of 400
    with pytest.raises(ValueError, match="no kind"):
        draw_call(exam, 0, "poem")


def test_the_film_before_is_shown_where_there_is_one() -> None:
    shown = draw_call(followed(), 3, "call", with_prior=True)
    then = followed().then
    assert then is not None
    assert np.allclose(shown.priors[0], then.picture / 255)
    assert np.allclose(shown.pictures[0], followed().now.picture / 255)
    assert "prior the study 3 months earlier" in shown.text
    assert draw_call(followed(), 3, "call").priors == [None]
    assert draw_call(real(), 3, "call", with_prior=True).priors == [None]
