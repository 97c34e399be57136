"""Experts that are called: what is told, how often, and that there is an answer in the end whatever they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from dicom_io.study import Series
from expert_models import codes
from expert_models.chest_findings import ChestFindings
from expert_models.chest_radiograph import ChestRadiograph
from expert_models.finding import Code, ExpertTag, Finding, Measurement, Presence, Side
from expert_models.ports import Masks
from medmllm.answer import Answered
from medmllm.calls import Offers, Ran, call_text, consult, found_before, heard, offered, offers_of
from medmllm.errors import Ungrounded
from medmllm.grammar import Grammar
from medmllm.parse import Call
from medmllm.processor import Input

OFFERS: Offers = (("anatomy", ("lung", "heart")), ("findings", ("pneumothorax",)))
QUESTION = Input("PA chest radiograph <picture>\nno prior\nhow wide is the heart", [np.zeros((4, 4), np.float32)])
TAG = ExpertTag("anatomy", "1")
HEART = Finding(
    "f1",
    codes.HEART,
    Presence.PRESENT,
    TAG,
    measurements=(Measurement(codes.CARDIAC_DIAMETER, 141.3, codes.MILLIMETER),),
)
AIR = tuple(
    Finding("f1", codes.PNEUMOTHORAX, presence, ExpertTag("findings", "1"), probability, side)
    for presence, probability, side in (
        (Presence.INDETERMINATE, 0.37, Side.RIGHT),
        (Presence.ABSENT, 0.01, Side.LEFT),
    )
)


class Replies:
    """Says one thing after another, and keeps what it was asked."""

    def __init__(self, *said: str) -> None:
        self._said = list(said)
        self.asked: list[Input] = []

    def answers(self, inputs: Sequence[Input]) -> list[Answered]:
        self.asked += inputs
        return [Answered(self._said.pop(0)) for _ in inputs]

    @property
    def last_lines(self) -> list[str]:
        return self.asked[-1].text.split("\n")


class Calling:
    """Calls another argument each time, and answers when no expert is left to it."""

    def __init__(self) -> None:
        self.times = 0

    def answers(self, inputs: Sequence[Input]) -> list[Answered]:
        self.times += 1
        is_offered = "\nexpert " in inputs[0].text
        return [Answered(f"<many({self.times})>" if is_offered else "I do not know")]


class Knows:
    """Finds what it was made with, for (expert, argument); of anything else it fails."""

    def __init__(self, found: Mapping[tuple[str, str], Sequence[Finding]]) -> None:
        self._found = found
        self.called: list[str] = []

    def __call__(self, expert: str, argument: str, /) -> Sequence[Finding]:
        self.called.append(f"{expert} {argument}")
        if (expert, argument) not in self._found:
            raise RuntimeError("the patient is called Doe")
        return self._found[expert, argument]


KNOWS: Mapping[tuple[str, str], Sequence[Finding]] = {
    ("anatomy", "heart"): (HEART,),
    ("findings", "pneumothorax"): AIR,
    ("anatomy", "lung"): (),
}


def test_an_answer_needs_no_call() -> None:
    model, experts = Replies("141 mm"), Knows(KNOWS)
    done = consult(model, QUESTION, OFFERS, experts)
    assert (done.reply.text, done.ran, done.findings, experts.called) == ("141 mm", (), (), [])
    (asked,) = model.asked
    assert asked.text == (
        "PA chest radiograph <picture>\nno prior\n"
        "expert anatomy(lung, heart)\nexpert findings(pneumothorax)\nhow wide is the heart"
    )
    assert asked.grammar == Grammar("answer", experts=OFFERS)
    assert asked.pictures is QUESTION.pictures


def test_what_an_expert_found_is_told_and_its_call_offered_no_more() -> None:
    model = Replies("<anatomy(heart)>", "<findings(pneumothorax)>", "141 mm")
    done = consult(model, QUESTION, OFFERS, Knows(KNOWS))
    assert done.reply.text == "141 mm"
    assert [(each.call, len(each.findings)) for each in done.ran] == [
        (Call("anatomy", "heart"), 1),
        (Call("findings", "pneumothorax"), 2),
    ]
    assert [each.id for each in done.findings] == ["f1", "f2", "f3"]
    assert model.asked[1].text.split("\n")[2:] == [
        "f1 heart present transverse cardiac diameter 141 mm",
        "expert anatomy(lung)",
        "expert findings(pneumothorax)",
        "how wide is the heart",
    ]
    assert model.last_lines[2:] == [
        "f1 heart present transverse cardiac diameter 141 mm",
        "f2 right pneumothorax indeterminate 37%",
        "f3 left pneumothorax absent",
        "expert anatomy(lung)",
        "how wide is the heart",
    ]
    assert model.asked[2].grammar == Grammar("answer", experts=(("anatomy", ("lung",)),))


def test_numbers_go_on_after_the_findings_that_were_told() -> None:
    told = Input("chest radiograph\nindication f40 or f7\nf2 heart present\nf9 lung absent\nc3 f2 larger\nask")
    given, found = heard(told, Call("findings", "pneumothorax"), AIR)
    assert [each.id for each in found] == ["f10", "f11"]
    assert given.text.split("\n")[-3:] == [
        "f10 right pneumothorax indeterminate 37%",
        "f11 left pneumothorax absent",
        "ask",
    ]


def test_after_three_rounds_the_model_has_to_answer() -> None:
    arguments = tuple(str(number) for number in range(1, 9))
    model, experts = Calling(), Knows({("many", each): (HEART,) for each in arguments})
    done = consult(model, QUESTION, (("many", arguments),), experts)
    assert (done.reply.text, model.times) == ("I do not know", 4)
    assert experts.called == ["many 1", "many 2", "many 3"]


def test_of_many_calls_at_once_four_are_run() -> None:
    arguments = tuple("abcdef")
    said = "".join(f"<many({each})>" for each in arguments)
    model, experts = Replies(said, "enough"), Knows({("many", each): (HEART,) for each in arguments})
    done = consult(model, QUESTION, (("many", arguments),), experts)
    assert experts.called == ["many a", "many b", "many c", "many d"]
    assert model.asked[1].grammar == Grammar("answer")
    assert model.last_lines[-1] == "how wide is the heart"
    assert "expert" not in model.asked[1].text
    assert done.reply.text == "enough"


def test_the_fourth_call_of_several_rounds_is_the_last() -> None:
    arguments = tuple("abcdef")
    model = Replies("<many(a)><many(b)><many(c)>", "<many(d)><many(e)>", "enough")
    experts = Knows({("many", each): (HEART,) for each in arguments})
    assert consult(model, QUESTION, (("many", arguments),), experts).reply.text == "enough"
    assert experts.called == ["many a", "many b", "many c", "many d"]


def test_no_call_is_run_twice() -> None:
    model, experts = Replies("<anatomy(heart)>", "<ANATOMY(heart)>", "141 mm"), Knows(KNOWS)
    done = consult(model, QUESTION, OFFERS, experts)
    assert experts.called == ["anatomy heart"]
    assert len(model.asked) == 3
    assert "expert" not in model.asked[2].text
    assert [line for line in model.last_lines if line.startswith("f")] == [
        "f1 heart present transverse cardiac diameter 141 mm"
    ]
    assert done.reply.text == "141 mm"


def test_an_expert_that_fails_or_says_nothing_is_told_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    for caller in (Knows({}), Knows({("anatomy", "lung"): ()})):
        model = Replies("<anatomy(heart)><anatomy(lung)>", "it cannot be measured here")
        done = consult(model, QUESTION, OFFERS, caller)
        assert done.reply.text == "it cannot be measured here"
        assert done.ran == (Ran(Call("anatomy", "heart")), Ran(Call("anatomy", "lung")))
        assert model.last_lines[2:] == [
            "anatomy(heart) did not answer",
            "anatomy(lung) did not answer",
            "expert findings(pneumothorax)",
            "how wide is the heart",
        ]
    assert "RuntimeError" in caplog.text
    assert "Doe" not in caplog.text + model.asked[-1].text


@pytest.mark.parametrize("said", ["", "<stranger(heart)>", "<anatomy(spleen)>"])
def test_what_cannot_be_read_is_asked_again_without_experts(said: str) -> None:
    model, experts = Replies(said, "141 mm"), Knows(KNOWS)
    assert consult(model, QUESTION, OFFERS, experts).reply.text == "141 mm"
    assert experts.called == []
    assert model.asked[1].text == QUESTION.text


def test_who_calls_on_when_nobody_is_left_has_no_answer() -> None:
    with pytest.raises(Ungrounded, match="there is no expert anatomy"):
        consult(Replies("<anatomy(heart)>", *["<anatomy(heart)>"] * 2), QUESTION, OFFERS, Knows(KNOWS))
    with pytest.raises(Ungrounded):
        consult(Replies(""), QUESTION, (), Knows(KNOWS))


class Named:
    """An expert with a name and concepts, which nobody asks."""

    def __init__(self, name: str, *concepts: Code) -> None:
        self.tag, self.concepts = ExpertTag(name, "1"), concepts

    def refuses(self, series: Series) -> str | None:
        return None

    def examine(self, series: Series, masks: Masks) -> Sequence[Finding]:
        return ()


def test_experts_are_offered_by_their_own_names() -> None:
    offers = dict(offers_of((ChestRadiograph(), ChestFindings())))
    assert offers["cxr-anatomy"] == ("lung", "heart", "cardiomegaly")
    assert {"pneumothorax", "pleural effusion", "lung opacity"} <= set(offers["cxr-findings"])
    odd = Code("1", "99TEST", "Low attenuation area (LAA-950)")
    assert offers_of((Named("a b", codes.LUNG), Named("a", odd, codes.LUNG, codes.LUNG), Named("b", odd))) == (
        ("a", ("lung",)),
    )


def test_an_expert_without_arguments_is_offered_as_it_is_called() -> None:
    given = offered(QUESTION, (("check", ("",)),))
    assert given.text.split("\n")[2] == f"expert {call_text(Call('check', ''))[1:-1]}" == "expert check()"
    with pytest.raises(ValueError, match="cannot be the name"):
        offered(QUESTION, (("a\nb", ("",)),))


def test_what_was_found_before_answers_calls() -> None:
    caller = found_before((HEART, *AIR))
    assert caller("anatomy", "heart") == [HEART]
    assert caller("findings", "pneumothorax") == list(AIR)
    assert caller("findings", "heart") == []
