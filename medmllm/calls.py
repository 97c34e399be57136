"""Experts that the model calls before it answers, as in VILA-M3 (arXiv:2411.12915): offer, run, tell, ask again.

The brief of a question says who can be called and of what, one line for each expert: "expert cxr-anatomy(lung, heart)".
The model answers, or says `<cxr-anatomy(heart)>`. What the expert found is written into the brief as any finding is,
the call is offered no more, and the question is asked again. VILA-M3 runs one call in one round; here there may be
several, within limits, and no expert that fails can keep the model from answering.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from expert_models.finding import Finding, Region
from expert_models.ports import Expert
from medmllm import wording
from medmllm.answer import Asked, Mask
from medmllm.brief import finding_line
from medmllm.errors import Ungrounded
from medmllm.grammar import NOT_IN_A_CALL, Grammar
from medmllm.parse import Call, Reply, parse_reply
from medmllm.processor import Input
from medmllm.views import Frame

ROUNDS = 3  # in which experts are run
CALLS = 4  # of one question, in all its rounds
TOLD = re.compile(r"^f(\d+) ", re.MULTILINE)  # the id of a finding in a brief

LOG = logging.getLogger(__name__)

Offers = tuple[tuple[str, tuple[str, ...]], ...]  # (expert, what it can be called with), as a Grammar has them


class Caller(Protocol):
    """Runs one call."""

    def __call__(self, expert: str, argument: str, /) -> Sequence[Finding]:
        """What the expert of this name finds of what the argument names. It may raise anything."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A call that was run, and what was found, with the ids that the model was told; nothing where no answer came."""

    call: Call
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Consulted:
    """The last reply, which holds no call, with its masks, and the calls that were run before it, in order."""

    reply: Reply
    ran: tuple[Ran, ...] = ()
    masks: tuple[Mask, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All that the experts found, in the order in which it was told."""
        return tuple(finding for each in self.ran for finding in each.findings)


def consult(
    asked: Asked,
    question: Input,
    offers: Offers,
    call: Caller,
    frames: Sequence[Frame] = (),
    regions: Sequence[Region] = (),
) -> Consulted:
    """Ask; run the experts that are called, tell what they found, and ask again, until there is an answer.

    Experts are offered no more after ROUNDS rounds, after CALLS calls, when a call is made a second time, and when a
    reply cannot be read. An expert that fails, or finds nothing to say, is told as one that did not answer.
    frames, regions: as of `parse_reply`. Raises Ungrounded when the reply without experts cannot be read.
    """
    known = dict(offers)
    left = offers
    ran: list[Ran] = []
    rounds = 0
    while True:
        answered = asked.answers([offered(question, left)])[0]
        try:
            reply = parse_reply(answered.text, known if left else {}, frames, regions)
        except Ungrounded:
            if not left:
                raise
            left = ()
            continue
        if not reply.calls:
            return Consulted(reply, tuple(ran), answered.masks)
        made = {each.call for each in ran}
        new = [each for each in reply.calls if each not in made][: CALLS - len(ran)]
        for each in new:
            question, found = heard(question, each, _run(each, call))
            ran.append(Ran(each, found))
        rounds += 1
        is_over = rounds == ROUNDS or len(ran) == CALLS or len(new) < len(reply.calls)
        left = () if is_over else without(left, new)


def offers_of(experts: Iterable[Expert]) -> Offers:
    """How experts are offered: by their tag's name, for each concept that they are asked about, in running text.

    Names that cannot stand in a call are left out.
    """
    made = []
    for expert in experts:
        nouns = dict.fromkeys(wording.noun(each) for each in expert.concepts)
        arguments = tuple(each for each in nouns if not NOT_IN_A_CALL.search(each.replace(" ", "")))
        if arguments and not NOT_IN_A_CALL.search(expert.tag.name):
            made.append((expert.tag.name, arguments))
    return tuple(made)


def without(offers: Offers, calls: Iterable[Call]) -> Offers:
    """The offers but for these calls."""
    gone = {(each.expert, each.argument) for each in calls}
    left = ((name, tuple(each for each in arguments if (name, each) not in gone)) for name, arguments in offers)
    return tuple((name, arguments) for name, arguments in left if arguments)


def offered(question: Input, offers: Offers) -> Input:
    """The question with a line for each expert that can be called, held to what may then be answered.

    ValueError for names and arguments that cannot stand in a call.
    """
    grammar = Grammar("answer", experts=offers, regions=len(question.regions))
    lines = [f"expert {name}({', '.join(arguments)})" for name, arguments in offers]
    return replace(_with(question, lines), grammar=grammar)


def heard(question: Input, call: Call, findings: Sequence[Finding]) -> tuple[Input, tuple[Finding, ...]]:
    """The question with what an expert found, a line each, or that it did not answer; and the findings as numbered."""
    first = max((int(each) for each in TOLD.findall(question.text)), default=0) + 1
    numbered = tuple(replace(each, id=f"f{number}") for number, each in enumerate(findings, first))
    lines = [finding_line(each) for each in numbered] or [f"{call.expert}({call.argument}) did not answer"]
    return _with(question, lines), numbered


def call_text(call: Call) -> str:
    """As the model writes it: "<cxr-anatomy(heart)>"."""
    return f"<{call.expert}({call.argument})>"


def found_before(findings: Sequence[Finding]) -> Caller:
    """Answers calls from what the experts of `offers_of` have found already, so that nothing is examined twice."""

    def call(expert: str, argument: str, /) -> Sequence[Finding]:
        return [each for each in findings if each.expert.name == expert and wording.noun(each.concept) == argument]

    return call


def _run(call: Call, caller: Caller) -> Sequence[Finding]:
    try:
        return caller(call.expert, call.argument)
    except Exception as exc:  # whatever it is, the model is told, and answers without it
        LOG.error("the expert %s failed when it was called: %s", call.expert, type(exc).__name__)
        return ()


def _with(question: Input, lines: Sequence[str]) -> Input:
    """With more lines before the last one, which is the task."""
    *before, task = question.text.split("\n")
    return replace(question, text="\n".join([*before, *lines, task]))
