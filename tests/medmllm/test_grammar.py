"""The grammar against tables written by hand, a reader of the same language by hand, and the parser."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from grammar_by_hand import is_answer, is_box, is_report
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from expert_models.finding import Box
from expert_models.train.phantoms import HELD_OUT
from medmllm.constrain import WORK
from medmllm.grammar import Grammar, box_text
from medmllm.parse import parse
from medmllm.train.exams import exams
from medmllm.train.tasks import TASKS, draw_task
from medmllm.views import Frame, to_grid

IDS = ("f1", "f2", "f12", "c1", "e3")
EXPERTS = {"CXR": [""], "VISTA3D": ["hepatic tumor", "lung"]}
REPORT = Grammar("report", IDS, regions=12)
ANSWER = Grammar("answer", experts=tuple((name, tuple(arguments)) for name, arguments in EXPERTS.items()), regions=2)
END = "\nimpression | It is large. | f1"


class EveryByte:
    """A tokenizer of 256 bytes, so that what it may write is what the grammar says, byte by byte."""

    tokens = (*(bytes([each]) for each in range(256)), b"</s>")
    eos_token_id = 256
    bos_token_id = None

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode())


@cache
def automaton(grammar: Grammar) -> LLMatcher:
    limits = LLParserLimits(initial_lexer_fuel=WORK, step_lexer_fuel=WORK, max_lexer_states=WORK)
    known = LLTokenizer(TokenizerWrapper(EveryByte()))
    made = LLMatcher(known, LLMatcher.grammar_from_lark(grammar.lark()), limits=limits)
    assert not made.is_error(), made.get_error()
    return made


def read(grammar: Grammar, text: str) -> tuple[bool, LLMatcher]:
    """Whether every byte was allowed, and where that leads."""
    at = automaton(grammar).deep_copy()
    written = list(text.encode())
    return at.try_consume_tokens(written) == len(written), at


def accepts(grammar: Grammar, text: str) -> bool:
    is_allowed, at = read(grammar, text)
    return is_allowed and at.is_accepting()


def next_characters(grammar: Grammar, text: str) -> str:
    """The ASCII characters that may follow."""
    is_allowed, at = read(grammar, text)
    assert is_allowed
    mask = at.compute_bitmask()
    return "".join(chr(each) for each in range(128) if mask[each // 8] >> each % 8 & 1)


@pytest.mark.parametrize(
    "text",
    [
        "findings | The heart is large. | f1" + END,
        "findings | The heart is large. | f1 c1 e3\nfindings | Another. | f12" + END + END,
        "findings | The <ref>heart</ref><box>[[0,0,999,999],[10,2,10,2]]</box> is large. | -" + END,
        "findings | A box <box>[[1,2,3,4]]</box> and an id. | f2" + END,
        "findings | <ref>The heart</ref> <SEG> as in <region 12>. | f1" + END,
        "findings | 3 nodules, up to 9 × 7 mm (calibrated probability 48%) [1]; Überraschung ≥ 5 µm – ok. | f1" + END,
        "findings | “As cited.” | e3" + END,
    ],
)
def test_reports_that_are_accepted(text: str) -> None:
    assert accepts(REPORT, text)
    assert is_report(text, IDS, 12)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "findings | The heart is large. | f1",  # no impression
        END[1:],  # no findings
        END[1:] + "\nfindings | The heart is large. | f1",  # the other way round
        "findings | The heart is large. | f1" + END + "\n",
        "findings | The heart is large. | f3" + END,  # no such id
        "findings | The heart is large. | f1 f" + END,
        "findings | The heart is large. | f1  f2" + END,
        "findings | The heart is large. | f1 f1 f1 f1 f1 f1" + END,  # more than there are
        "findings | The heart is large. | -" + END,  # rests on nothing
        "findings | The <ref>heart</ref> is large. | -" + END,
        "findings | Box <box>[[1,2,3,4]]</box>. | - f1" + END,
        "findings | The heart is large.| f1" + END,
        "findings |  | f1" + END,
        "findings | <box>[[1,2,3,4]]</box> | f1" + END,  # no words
        "findings | (f1) | f1" + END,
        "findings | <ref>f1</ref> | f1" + END,
        "findings | The | heart. | f1" + END,
        "technique | The heart is large. | f1" + END,
        "findings | <region 0> A | f1" + END,
        "findings | A <region 13> | f1" + END,
        "findings | A <region 01> | f1" + END,
        "findings | A <seg> | f1" + END,
        "findings | A <CXR()> | f1" + END,
        "findings | A [[1,2,3,4]] | f1" + END,  # a box without tags is one to the parser
        "findings | A \u2028 b | f1" + END,
        "findings | A \u202e b | f1" + END,
        "findings | A <ref>b<ref>c</ref></ref> | f1" + END,
    ],
)
def test_reports_that_are_not(text: str) -> None:
    assert not accepts(REPORT, text)
    assert not is_report(text, IDS, 12)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("yes", True),
        ("2", True),
        ("no pleural effusion is seen", True),
        ("<ref>right lung</ref><box>[[100,33,450,200]]</box> <SEG>", True),
        ("<CXR()>", True),
        ("<VISTA3D(lung)><CXR()><VISTA3D(hepatic tumor)>", True),
        ("<region 2>", True),
        ("", False),
        (" yes", False),
        ("yes\nno", False),
        ("<CXR()> yes", False),
        ("yes <CXR()>", False),
        ("<CXR(lung)>", False),
        ("<VISTA3D()>", False),
        ("<VISTA3D(liver)>", False),
        ("<BRATS()>", False),
        ("<region 3>", False),
        ("a | b", False),
    ],
)
def test_answers(text: str, is_one: bool) -> None:
    assert accepts(ANSWER, text) is is_one
    assert is_answer(text, EXPERTS, 2) is is_one


@pytest.mark.parametrize(
    ("box", "is_one"),
    [
        ("[0,0,0,0]", True),
        ("[0,0,999,999]", True),
        ("[5,600,12,601]", True),
        ("[99,99,100,100]", True),
        ("[100,0,99,0]", False),
        ("[0,1,0,0]", False),
        ("[0,0,1000,1]", False),
        ("[00,0,1,1]", False),
        ("[01,0,1,1]", False),
        ("[0, 0,1,1]", False),
        ("[0,0,1]", False),
        ("[0,0,1,1,1]", False),
        ("[-1,0,1,1]", False),
        ("[0.5,0,1,1]", False),
        ("", False),
    ],
)
def test_boxes(box: str, is_one: bool) -> None:
    assert accepts(ANSWER, f"<box>[{box}]</box>") is is_one


def test_what_may_follow_digit_by_digit() -> None:
    start = "<box>[["
    assert next_characters(ANSWER, start) == "0123456789"
    assert next_characters(ANSWER, f"{start}0") == ","
    assert next_characters(ANSWER, f"{start}99") == ",0123456789"
    assert next_characters(ANSWER, f"{start}999") == ","
    assert next_characters(ANSWER, f"{start}999,7,") == "9"
    assert next_characters(ANSWER, f"{start}47,0,") == "123456789"  # 1 may become 10 of 100
    assert next_characters(ANSWER, f"{start}47,0,4") == "0123456789"  # 4 is less than 47, 40 may become 400
    assert next_characters(ANSWER, f"{start}47,0,46") == "0123456789"
    assert next_characters(ANSWER, f"{start}47,0,47") == ",0123456789"
    assert next_characters(ANSWER, f"{start}478,0,4") == "789"
    assert next_characters(REPORT, "findings | A | ") == "cef"
    assert next_characters(REPORT, "findings | A | f1") == "\n 2"
    assert next_characters(REPORT, "findings | A <box>[[1,2,3,4]]</box> | ") == "-cef"
    assert next_characters(REPORT, "findings | A <") == "Sbr"
    assert next_characters(ANSWER, "<") == "CSVbr"
    assert next_characters(Grammar("answer"), "<") == "Sbr"
    assert next_characters(Grammar("answer"), "<r") == "e"
    assert next_characters(Grammar("answer", regions=1), "<re") == "fg"


grid = st.integers(0, 1100)


@settings(deadline=None, max_examples=300)
@given(st.tuples(grid, grid, grid, grid))
def test_a_box_is_accepted_exactly_when_it_is_one(corners: tuple[int, int, int, int]) -> None:
    x1, y1, x2, y2 = corners
    is_one = max(corners) <= 999 and x1 <= x2 and y1 <= y2
    assert is_box(",".join(map(str, corners))) is is_one
    assert accepts(ANSWER, box_text([corners])) is is_one


PIECES = [
    "findings", "impression", " | ", "|", "\n", " ", "-", "f1", "f12", "c1", "f3", "<ref>", "</ref>", "<box>", "</box>",
    "[[", "]]", "[", "]", "],[", ",", "0", "7", "42", "999", "1000", "<SEG>", "<region 1>", "<region 13>", "<", ">",
    "The", "é", "漢", "5 ", "“", "(", "\t", "\u2028", "\u200b", "<CXR()>", "<VISTA3D(lung)>", "<VISTA3D(", "lung", ")>",
    "<ref>The heart</ref>", "<box>[[1,2,3,4]]</box>", "<box>[[4,2,3,4]]</box>",
    "findings | The heart | f1\n", "impression | It is | f12 c1", "\nimpression | 5 mm <box>[[0,0,7,9]]</box> | -",
]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@st.composite
def nearly(draw: st.DrawFn) -> str:
    """A report or an answer with nothing, or one thing, wrong with it."""
    words = st.lists(st.sampled_from([each for each in PIECES if "\n" not in each and "|" not in each]), max_size=4)
    sentence = words.map("".join).map("A".__add__)
    cited = st.sampled_from(["f1", "f12 c1", "-", "e3 f2 f1", "f3"])
    lines = draw(st.lists(st.tuples(sentence, cited), min_size=2, max_size=4))
    found = draw(st.integers(1, len(lines) - 1))
    text = "\n".join(f"{'findings' if at < found else 'impression'} | {a} | {b}" for at, (a, b) in enumerate(lines))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(PIECES)) + text[at + draw(st.integers(0, 2)) :]
    return text


@settings(deadline=None, max_examples=600)
@given(st.one_of(texts, nearly()))
def test_it_is_the_language_that_is_read_by_hand(text: str) -> None:
    assert accepts(REPORT, text) is is_report(text, IDS, 12)
    assert accepts(ANSWER, text) is is_answer(text, EXPERTS, 2)


@settings(deadline=None)
@given(data=st.data(), rows=st.integers(1, 4000), columns=st.integers(1, 4000))
def test_a_box_comes_back_through_the_text_within_one_unit(data: st.DataObject, rows: int, columns: int) -> None:
    boxes = []
    for _ in range(data.draw(st.integers(1, 3))):
        top, left = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
        bottom, right = data.draw(st.integers(top + 1, rows)), data.draw(st.integers(left + 1, columns))
        boxes.append(Box((3, top, left), (4, bottom, right)))
    tags = box_text([to_grid(each, (rows, columns)) for each in boxes])
    text = f"findings | The <ref>heart</ref>{tags} is large. | -" + END
    assert accepts(REPORT, text)
    sentence = parse(text, IDS, [Frame("1.2", "1.2.3", 3, (rows, columns))]).sentences[0]
    assert sentence.text == "The heart is large."
    found = [each.box for each in sentence.grounding.regions]
    unit = (1e-9, max(1.0, rows / 999) + 1e-9, max(1.0, columns / 999) + 1e-9)  # of the grid, at least one pixel
    for box in boxes:
        assert any(
            all(abs(a - b) <= most for a, b, most in zip(box.start + box.stop, e.start + e.stop, unit * 2, strict=True))
            for e in found
        )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"mode": "poem"}, "not of 'poem'"),
        ({"mode": "report", "ids": ("f1", "g1")}, "'g1' is not the id"),
        ({"mode": "answer", "experts": (("A B", ("",)),)}, "'A B' cannot be the name"),
        ({"mode": "answer", "experts": (("", ("",)),)}, "'' cannot be the name"),
        ({"mode": "answer", "experts": (("A", ("lung)",)),)}, "cannot be the argument"),
        ({"mode": "answer", "experts": (("A", ()),)}, "has no argument"),
    ],
)
def test_a_grammar_that_could_not_be_read_back_says_why(arguments: dict, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Grammar(**arguments)


def test_without_ids_every_sentence_rests_on_the_picture() -> None:
    bare = Grammar("report")
    box = "<box>[[0,0,9,9]]</box>"
    assert accepts(bare, f"findings | It {box}. | -\nimpression | It {box}. | -")
    assert not accepts(bare, f"findings | It {box}. | f1\nimpression | It {box}. | -")


def test_what_the_model_learns_to_say_is_of_the_grammar(tmp_path: Path) -> None:
    report = Grammar("report")  # of places alone: what experts said is not the model's to repeat
    exam = next(exams([HELD_OUT + 1], tmp_path))
    for task in TASKS:
        grammar = report if task in ("report", "unaided") else Grammar("answer")
        for number in range(12):  # some of them with noise instead of a film
            drawn = draw_task(exam, number, task=task)
            assert accepts(drawn.grammar or grammar, drawn.answer or ""), drawn.answer
