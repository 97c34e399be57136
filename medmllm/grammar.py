"""The one grammar of what our own model writes, as a text in Lark's form; medmllm/constrain.py holds a model to it.

It is what medmllm/parse.py reads, without what that forgives. A report is lines "section | sentence | ids", findings
first, then impression; `-` stands for the ids of a sentence that rests on a `<box>` alone. An answer is one line of
text, or expert calls `<NAME(argument)>` and nothing else (VILA-M3). Text holds MedRegA's
`<ref>words</ref><box>[[x1,y1,x2,y2],...]</box>`, integers 0..999 of width and height with x1 <= x2 and y1 <= y2,
MedPLIB's `<SEG>`, and `<region k>` for the k-th region that was given. The language is regular: one terminal, so that
every state of it is one of a finite automaton.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Corners = tuple[int, int, int, int]  # (x1, y1, x2, y2), 0..999

DIGITS = 3
ID = re.compile(r"[fce][0-9]+")
NOT_IN_A_CALL = re.compile(r"[()<>|\s]")
# Never in text: what the structure is made of, what ends a line or is not seen, what a program may not know yet.
NEVER = r"|<>\p{C}\p{Zl}\p{Zp}\P{Age:10.0}"
OPENING = r"([0-9“\x22][0-9“\x22 .,×]*)?[\p{L}&&\p{Age:10.0}]"  # a letter, after a number or a quotation mark
# Two brackets in a row are a box whose tags are gone to the parser, so that plain text never holds them.
PLAIN = rf"[^\[{NEVER}]|\[[^\[\s{NEVER}]"
CHARACTERS = "findings impression | - \n <ref></ref><box>[,]</box><SEG><region 0123456789>"


@dataclass(frozen=True, slots=True)
class Grammar:
    """What may be said in one generation.

    mode: "report" or "answer". ids: of findings, comparisons and evidence ("f1", "c1", "e1"), for a report. experts:
    (name, its arguments) for an answer; an argument may be empty. regions: how many `<region>` were given, so that 1
    to that number exist. Raises ValueError for ids, names and arguments that the parser could not read back.
    """

    mode: Literal["report", "answer"]
    ids: tuple[str, ...] = ()
    experts: tuple[tuple[str, tuple[str, ...]], ...] = ()
    regions: int = 0

    def __post_init__(self) -> None:
        if self.mode not in ("report", "answer"):
            raise ValueError(f"a grammar is of a report or an answer, not of {self.mode!r}")
        if wrong := [each for each in self.ids if not ID.fullmatch(each)]:
            raise ValueError(f"{wrong[0]!r} is not the id of a finding, comparison or passage")
        for name, arguments in self.experts:
            if not name or NOT_IN_A_CALL.search(name):
                raise ValueError(f"{name!r} cannot be the name of an expert in a call")
            if wrong := [each for each in arguments if NOT_IN_A_CALL.search(each.replace(" ", ""))]:
                raise ValueError(f"{wrong[0]!r} cannot be the argument of an expert")
            if not arguments:
                raise ValueError(f"the expert {name} has no argument; one that takes none has the empty one")

    def lark(self) -> str:
        """The grammar in the Lark form that llguidance reads: one rule, one terminal."""
        tags = ["REF", "BOX", '"<SEG>"', *(_text(f"<region {each}>") for each in range(1, self.regions + 1))]
        lines = ['%llguidance {"no_forcing": true}', "start: WHOLE"]  # forcing would choose how words fall into tokens
        if self.mode == "report":
            resting = ['BOX PIECE* " | -"']
            if self.ids:
                id_ = f"({_either(_text(each) for each in self.ids)})"
                more = f'(" " {id_}){{0,{len(self.ids) - 1}}}' if len(self.ids) > 1 else ""
                resting.append(f'" | " {id_} {more}')
            lines += [
                r'WHOLE: FINDING ("\n" FINDING)* ("\n" IMPRESSION)+',
                'FINDING: "findings | " REST',
                'IMPRESSION: "impression | " REST',
                f"REST: (OPENING | REF) PIECE* ({_either(resting)})",
            ]
        else:
            calls = [_text(f"<{name}({argument})>") for name, arguments in self.experts for argument in arguments]
            lines.append(f"WHOLE: (VISIBLE | TAG) PIECE*{f' | ({_either(calls)})+' if calls else ''}")
        lines += [
            "PIECE: PLAIN | TAG",
            f"TAG: {_either(tags)}",
            f"PLAIN: /{PLAIN}/",
            rf"VISIBLE: /[^\[\s{NEVER}]|\[[^\[\s{NEVER}]/",
            f"OPENING: /{OPENING}/",
            'REF: "<ref>" WORDS "</ref>"',
            rf"WORDS: /({OPENING})({PLAIN})*/ & ~/[fceFCE]\d+\s*/",
            'BOX: "<box>[" CORNERS ("," CORNERS)* "]</box>"',
            'CORNERS: "[" QUAD "]"',
            f"QUAD: /{_ordered(f',{NUMBER},')},{NUMBER}/ & /{NUMBER},{_ordered(f',{NUMBER},')}/",
        ]
        return "\n".join(lines) + "\n"

    def characters(self) -> frozenset[str]:
        """Every character that the structure needs; a tokenizer that can write each of them is never at a loss."""
        calls = "".join(f"{name}({argument})" for name, arguments in self.experts for argument in arguments)
        return frozenset(CHARACTERS + "".join(self.ids) + calls)


def box_text(boxes: Sequence[Corners]) -> str:
    """Boxes in the one form that the grammar has for them: "<box>[[0,0,499,999]]</box>"."""
    return f"<box>[{','.join('[' + ','.join(map(str, each)) + ']' for each in boxes)}]</box>"


NUMBER = f"(0|[1-9][0-9]{{0,{DIGITS - 1}}})"


def _ordered(between: str, start: str = "") -> str:
    """A regular expression of two numbers that start with `start`, the second not below the first, `between` them.

    A tree of the first number's digits: wherever it ends, what may follow is `between` and a number at least as large.
    """
    digits = "123456789" if not start else "0123456789"
    branches = [f"{digit}({_ordered(between, start + digit)})" for digit in digits] if len(start) < DIGITS else []
    if start:
        return "|".join([f"{between}{_at_least(start)}", *branches])
    return f"({'|'.join([f'0{between}{NUMBER}', *branches])})"


def _at_least(number: str) -> str:
    """A regular expression of the integers from `number` to 999."""
    found = [number]
    for place, digit in enumerate(number):
        if digit != "9":
            found.append(f"{number[:place]}[{int(digit) + 1}-9][0-9]{{{len(number) - place - 1}}}")
    if len(number) < DIGITS:
        found.append(f"[1-9][0-9]{{{len(number)},{DIGITS - 1}}}")
    return f"({'|'.join(found)})"


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _either(choices: Iterable[str]) -> str:
    return " | ".join(choices)
