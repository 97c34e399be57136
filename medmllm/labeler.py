"""Findings read out of report text by rule: of each sentence, what it states of which concept, side and change.

The rules of one sentence are medmllm.lexicon's, the verifier's own. Added here are the sentences, the sections that
state nothing (indication, history, comparison, technique), what is only remembered or asked for ("history of",
"evaluate for"), and what a change belongs to. Nothing is inferred: "the lungs are clear" denies no concept, "pneumonia"
is none of the concepts. "No new nodule" denies a nodule in its sentence, and does not outweigh one stated elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from expert_models import codes
from expert_models.finding import Change, Code, Side
from medmllm import lexicon
from medmllm.lexicon import Mention, Polarity

CONCEPTS: tuple[Code, ...] = tuple(lexicon.TERM_OF)
RANK = (
    Polarity.PRESENT,
    Polarity.UNCERTAIN,
    Polarity.ABSENT,
    Polarity.NOT_ASSESSED,
)  # what a text says, by its strongest

CODE_OF = {term: concept for concept, term in lexicon.TERM_OF.items()}
ORGAN = "the heart itself"
PATTERNS = {term: lexicon.COMPILED[term] for term in CODE_OF} | {
    "nodule": re.compile(r"\b(?:micro)?nodul(?:es?|arity)\b", re.IGNORECASE),  # "nodular" tells the shape of an opacity
    ORGAN: re.compile(r"\bheart\b(?! failure)|\bcardi(?:ac|omediastinal) (?:silhouette|shadow|contour|size)\b", re.I),
}

SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
HEADING = re.compile(
    r"\b(?P<silent>(?:clinical )?(?:indications?|history|information)|reason for (?:the )?(?:exam\w*|study)"
    r"|comparisons?|techniques?|procedure|exam(?:ination)?)\s*:|\b(?:findings?|impressions?|conclusions?|opinion|report)\s*:",
    re.IGNORECASE,
)
NOT_STATED = re.compile(  # before a term in its clause: it is remembered, or looked for
    r"\bhistory (?:of|for)\b|\bh/o\b|\bstatus post\b|\bs/p\b"
    r"|\b(?:evaluat\w+|assess|check|look|query) for\b|^\s*(?:rule out|r/o)\b",
    re.IGNORECASE,
)
NO_NEW = re.compile(r"\bno (?:new|further|additional)\b", re.IGNORECASE)
LIMIT = r"(?:borderline|(?:top|upper(?: limits? of)?) normal)"
HEART_AT_THE_LIMIT = re.compile(
    rf"\b{lexicon.HEART_WORDS}\b[^.;:]{{0,40}}?\b{LIMIT}\b|\b{LIMIT} (?:heart|cardiac)\b", re.IGNORECASE
)
NO_PRIOR = re.compile(
    r"\bno (?:relevant |available |previous |prior )*(?:comparison|priors?|stud(?:y|ies)|films?|exams?)\b[^.;]*", re.I
)
PREDICATE = re.compile(rf"\b(?:{lexicon.VERB}|remained)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Statement:
    """What one sentence states of one concept.

    concept: one of CONCEPTS, or codes.HEART where the heart is said to have changed and not what size it has. side:
    BILATERAL where both are named, None where none is. change: None where the sentence claims none of it.
    """

    concept: Code
    polarity: Polarity
    side: Side | None = None
    change: Change | None = None


def statements(text: str) -> list[Statement]:
    """Every statement of a text, sentence by sentence, in order."""
    return [each for sentence in sentences(text) for each in read_sentence(sentence)]


def labels(text: str) -> dict[Code, Polarity]:
    """What the text says of each concept that it names: present before uncertain before absent before not assessed.

    The order of its sentences does not matter, as long as none of them is a heading.
    """
    said: dict[Code, Polarity] = {}
    for each in statements(text):
        if each.concept in CONCEPTS:
            said[each.concept] = min(each.polarity, said.get(each.concept, each.polarity), key=RANK.index)
    return said


def sentences(text: str) -> Iterator[str]:
    """The sentences that can state something: those of silent sections are left out, up to the next heading."""
    is_silent, start = False, 0
    parts: list[str] = []
    for match in HEADING.finditer(text):
        parts += [] if is_silent else [text[start : match.start()]]
        is_silent, start = bool(match.group("silent")), match.end()
    parts += [] if is_silent else [text[start:]]
    for part in parts:
        yield from (each.strip() for each in SENTENCE_END.split(part) if each.strip())


def read_sentence(sentence: str) -> Iterator[Statement]:
    """The statements of one sentence, in the order of their words."""
    for mention in lexicon.mentions(sentence, PATTERNS):
        begin, end = lexicon.clause_of(sentence, mention.start, mention.stop)
        before = sentence[begin : mention.start]
        if NOT_STATED.search(before) and mention.polarity is not Polarity.UNCERTAIN:
            continue
        change = _change(sentence, begin, end, mention)
        if mention.term == ORGAN:
            if change is not None and not PATTERNS["cardiomegaly"].search(sentence[begin:end]):
                yield Statement(codes.HEART, Polarity.PRESENT, None, change)
            continue
        is_denied = mention.polarity is Polarity.PRESENT and bool(NO_NEW.search(before))
        polarity = Polarity.ABSENT if is_denied else mention.polarity
        yield Statement(CODE_OF[mention.term], polarity, _side(mention), None if is_denied else change)
    if HEART_AT_THE_LIMIT.search(sentence):
        yield Statement(codes.CARDIOMEGALY, Polarity.UNCERTAIN)
    elif lexicon.NORMAL_HEART.search(sentence):
        yield Statement(codes.CARDIOMEGALY, Polarity.ABSENT)


def changed_words(text: str) -> set[str]:
    """The words of a text that claim a change, lower case ("new", "larger"); denied ones and headings left out."""
    found = (lexicon.changes(each) for each in sentences(text))
    return {word.lower() for words in found for change, word in words if change is not None}


def compares(text: str) -> bool:
    """Whether a text speaks of an earlier study or of a change; that there is no prior may be said."""
    return any(lexicon.changes(NO_PRIOR.sub(" ", each)) for each in sentences(text))


def _side(mention: Mention) -> Side | None:
    named = lexicon.sides(mention.phrase)
    return next(iter(named)) if len(named) == 1 else Side.BILATERAL if named else None


def _change(sentence: str, begin: int, end: int, mention: Mention) -> Change | None:
    """Of the words in the mention's own phrase, else of the first that its clause says after it with a verb."""
    own = [change for change, _ in lexicon.changes(mention.phrase) if change is not None]
    if own:
        return own[0]
    after = sentence[mention.stop : end]
    if predicate := lexicon.PREDICATE_END.search(after):
        after = after[: predicate.start("end")]
    verb = PREDICATE.search(after)
    said = [change for change, _ in lexicon.changes(after[verb.start() :] if verb else "") if change is not None]
    return said[0] if said else None
