"""What is left of an answer that ran into the limit of its length, each case by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from medmllm.answer import Asker
from medmllm.grammar import Grammar
from medmllm.processor import Input, WetreadProcessor
from medmllm.tokens import END, make_tokenizer

FOUND = "findings | The heart is <ref>large</ref><box>[[1,2,30,40]]</box>. | f1"
MEANT = "impression | It is large. | f1"
REPORT = Grammar("report", ("f1", "f12"))
ANSWER = Grammar("answer", experts=(("CXR", ("",)), ("VISTA3D", ("lung", "liver/bile"))), regions=12)
TOKENIZER = make_tokenizer([FOUND, MEANT], size=300)


class Says:
    """A model that says one text, with an end or cut before it."""

    config = SimpleNamespace(slabs=0, seg_token_id=TOKENIZER.convert_tokens_to_ids("<SEG>"))
    decoder = None

    def __init__(self, text: str) -> None:
        self._ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]

    def eval(self) -> Says:
        return self

    def encode(self, images: object) -> None:
        return None

    def generate(self, *given: object, **how: object) -> torch.Tensor:
        return torch.tensor([self._ids])


@pytest.mark.parametrize(
    ("grammar", "said", "left"),
    [
        (REPORT, f"{FOUND}\n{MEANT}{END}", f"{FOUND}\n{MEANT}"),
        (REPORT, f"{FOUND}\n{MEANT}", FOUND),  # f1 may be the start of f12
        (REPORT, f"{FOUND}\n{FOUND}\nimpr", f"{FOUND}\n{FOUND}"),
        (REPORT, f"{FOUND}\n", FOUND),
        (REPORT, FOUND, ""),
        (REPORT, "", ""),
        (ANSWER, f"the heart{END}", "the heart"),
        (ANSWER, "the left lung is la", "the left lung is"),
        (ANSWER, "heart", ""),
        (ANSWER, "here <ref>heart</ref><box>[[1,2,30,40]]</box>", "here <ref>heart</ref><box>[[1,2,30,40]]</box>"),
        (ANSWER, "here <ref>heart</ref><box>[[1,2,30,4", "here <ref>heart</ref>"),
        (ANSWER, "here<box>[[1,2,30,40]]", "here"),
        (ANSWER, "here <ref>left lu", "here"),
        (ANSWER, "as in <region 1> and <region 1", "as in <region 1> and"),
        (ANSWER, "here <SEG>", "here <SEG>"),
        (ANSWER, "<CXR()><VISTA3D(liver/bile)><VISTA3D(lu", "<CXR()><VISTA3D(liver/bile)>"),
        (None, "the left lung is la", "the left lung is la"),
        (None, f"{FOUND}\n{MEANT}", FOUND),
    ],
)
def test_a_cut_answer_ends_with_what_is_whole(grammar: Grammar | None, said: str, left: str) -> None:
    asker = Asker(Says(said), WetreadProcessor(TOKENIZER))
    assert [each.text for each in asker.answers([Input("read", grammar=grammar)])] == [left]
