"""A language model's answer to sentences: tolerant of form, strict about references.

Form: one sentence per line, "section | sentence | ids". Thinking blocks and code fences are dropped, list marks and
tables' outer bars are forgiven. MedRegA's `<ref>name</ref><box>[[x1,y1,x2,y2]]</box>` is read wherever it stands, also
with its tags gone, and becomes a region of the picture it points into; names that are finding ids become references.
`<region 2>` is the second region that the model was given, each `<SEG>` a mask of its own (MedPLIB), and `-` in place
of the ids says that the sentence rests on its regions alone. The answer to a question is text with the same tags, or
expert calls `<NAME(argument)>` (VILA-M3). What our own model may write is stricter: medmllm/grammar.py.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from expert_models.finding import Region
from medmllm.errors import Ungrounded
from medmllm.report import Grounding, Section, Sentence
from medmllm.views import Frame, from_grid

SECTIONS = {
    "findings": Section.FINDINGS,
    "finding": Section.FINDINGS,
    "impression": Section.IMPRESSION,
    "impressions": Section.IMPRESSION,
    "conclusion": Section.IMPRESSION,
}
MOST_LINES = 200
MOST_OF_ANSWER = 100_000  # characters; a model that runs on is cut here

THOUGHT = re.compile(r"<(think|thinking|thought|reasoning)>.*?(?:</\1>|\Z)", re.IGNORECASE | re.DOTALL)
THOUGHT_END = re.compile(r"\A.*</(?:think|thinking|thought|reasoning)>", re.IGNORECASE | re.DOTALL)
FENCE = re.compile(r"^\s*(?:```|~~~)\w*\s*$", re.MULTILINE)
LIST_MARK = re.compile(r"^\s*(?:[-*•]\s+|\d+[.)]\s+)?")
SECTION_WORD = re.compile(r"^[\W_]*([A-Za-z]+)[\W_]*$")
ID = re.compile(r"\b[fce]\d+\b", re.IGNORECASE)
NUMBERS = r"\[\s*\d+(?:\.\d+)?\s*(?:,\s*\d+(?:\.\d+)?\s*){3}\]"
BOXES = rf"\[?\s*{NUMBERS}(?:\s*,\s*{NUMBERS})*\s*\]?"
GROUNDED = re.compile(
    rf"(?:<ref>(?P<ref>[^<]*)</ref>)?\s*<box>\s*(?P<boxes>{BOXES})\s*</box>"
    rf"|(?P<bare>\[\s*{NUMBERS}(?:\s*,\s*{NUMBERS})*\s*\])",
    re.IGNORECASE,
)
TAG = re.compile(r"</?(?:ref|box|region|p)>", re.IGNORECASE)
SEG = re.compile(r"<\s*SEG\s*>", re.IGNORECASE)
GIVEN = re.compile(r"<\s*region\s*(\d{1,4})\s*>", re.IGNORECASE)
CALL = re.compile(r"<\s*([^\s<>()|]+)\s*\(([^<>()|]*)\)\s*>")
PICTURE = re.compile(r"\b(?:picture|image)\s*(\d+)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was read of a report. problems: what was wrong with it, each fit to be shown to the model and to a person.

    segments: for each `<SEG>` in order, the index of the sentence that it stands in; None for a line without one.
    """

    sentences: tuple[Sentence, ...]
    problems: tuple[str, ...] = ()
    segments: tuple[int | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """An expert that the model asks for; the argument may be empty."""

    expert: str
    argument: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What was read of the answer to a question. With calls it is no answer yet: they are run, and it is asked again.

    regions: its boxes and the given regions it names; segments: how many `<SEG>` it holds. problems: as of an Answer.
    """

    text: str
    regions: tuple[Region, ...] = ()
    segments: int = 0
    calls: tuple[Call, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Read:
    """Text without its tags, and what they said. strangers: numbers of regions that were not given."""

    text: str
    regions: tuple[Region, ...]
    names: tuple[str, ...]
    segments: int
    strangers: tuple[str, ...]


def parse(
    answer: str, known_ids: Collection[str], frames: Sequence[Frame] = (), regions: Sequence[Region] = ()
) -> Answer:
    """The report's sentences in order; references to ids or regions that are not known are dropped and reported.

    frames: the pictures' planes, in the order they were shown; a box belongs to the first one unless the sentence
    names another ("picture 2"). regions: those the model was given, so that `<region 1>` is the first of them.
    Raises Ungrounded when no line can be read, or none cites anything known.
    """
    sentences: list[Sentence] = []
    problems: list[str] = []
    drawn: list[Sentence | None] = []
    for line in _lines(answer):
        sentence, problem = _sentence(line, known_ids, frames, regions)
        drawn += [sentence] * len(SEG.findall(line))
        if problem:
            problems.append(problem)
        if sentence:
            sentences.append(sentence)
    if not sentences:
        raise Ungrounded("no line of the answer has the form “section | sentence | ids”")
    if not any(sentence.grounding for sentence in sentences):
        raise Ungrounded("no sentence of the answer cites a finding, comparison or passage that exists")
    place = {sentence: number for number, sentence in enumerate(dict.fromkeys(sentences))}
    segments = tuple(place[each] if each else None for each in drawn)
    return Answer(tuple(place), tuple(dict.fromkeys(problems)), segments)


def parse_reply(
    answer: str,
    experts: Mapping[str, Collection[str]] = MappingProxyType({}),
    frames: Sequence[Frame] = (),
    regions: Sequence[Region] = (),
) -> Reply:
    """The answer to a question, or the experts that it asks for first; how many rounds of calls is the caller's to say.

    experts: the arguments that each one takes. Calls of others, and with other arguments, are dropped and reported.
    Raises Ungrounded when there is neither text nor a call.
    """
    known = {name.casefold(): name for name in experts}
    calls: list[Call] = []
    problems: list[str] = []

    def take(match: re.Match[str]) -> str:
        name = known.get(match.group(1).casefold())
        given = " ".join(match.group(2).strip("\"' ").split())
        if name is None:
            problems.append(f"there is no expert {match.group(1)}")
            return ""
        argument = next((each for each in experts[name] if each.casefold() == given.casefold()), None)
        if argument is None:
            problems.append(f"the expert {name} does not take “{given}”")
        else:
            calls.append(Call(name, argument))
        return ""

    read = _read(CALL.sub(take, " ".join(_said(answer).split())), frames, regions)
    text = _cleaned(read.text)
    if not (text or calls or read.segments or read.regions):
        raise Ungrounded("; ".join(problems) or "there is no answer")
    problems += [f"region {each} does not exist" for each in read.strangers]
    return Reply(text, read.regions, read.segments, tuple(dict.fromkeys(calls)), tuple(dict.fromkeys(problems)))


def _said(answer: str) -> str:
    """The answer without thinking aloud, and without fences."""
    text = THOUGHT.sub("", answer[:MOST_OF_ANSWER])
    return FENCE.sub("", THOUGHT_END.sub("", text))


def _lines(answer: str) -> list[str]:
    lines = [LIST_MARK.sub("", line).strip().strip("|").strip() for line in _said(answer).splitlines()]
    return [line for line in lines if "|" in line][:MOST_LINES]


def _sentence(
    line: str, known_ids: Collection[str], frames: Sequence[Frame], given: Sequence[Region]
) -> tuple[Sentence | None, str | None]:
    first, *middle = (part.strip() for part in line.split("|"))
    word = SECTION_WORD.match(first)
    section = SECTIONS.get(word.group(1).lower()) if word else None
    if section is None or not middle:
        return None, None  # a heading, a table's rule, or a section that is not the model's to write
    tail = middle[-1]
    has_ids = len(middle) > 1 and not re.sub(r"[\W_]|\b(?:and|ids?|none)\b", "", ID.sub("", tail), flags=re.IGNORECASE)
    words = " ".join(middle[:-1] if has_ids else middle)
    cited = [each.lower() for each in ID.findall(tail if has_ids else _references(words))]
    read = _read(words, frames, given)
    cited += [name for name in read.names if name in known_ids]
    text = _tidy(read.text)
    if not re.search(r"[^\W\d_]", text):
        return None, "a line has no sentence in it"
    known = [each for each in dict.fromkeys(cited) if each in known_ids]
    unknown = [each for each in dict.fromkeys(cited) if each not in known_ids]
    unknown += [f"region {each}" for each in read.strangers]
    grounding = Grounding(
        finding_ids=tuple(each for each in known if each.startswith("f")),
        comparison_ids=tuple(each for each in known if each.startswith("c")),
        evidence_ids=tuple(each for each in known if each.startswith("e")),
        regions=read.regions,
    )
    problem = f"“{text}” cites {', '.join(unknown)}, which does not exist" if unknown else None
    return Sentence(text, section, grounding), problem


def _references(text: str) -> str:
    """The parts of a sentence in brackets, where a model may put its references instead."""
    return " ".join(re.findall(r"[\[(]([^\])]*)[\])]", text))


def _read(text: str, frames: Sequence[Frame], given: Sequence[Region]) -> _Read:
    """The text with its tags read out: names stay as words, boxes and given regions become regions."""
    regions: list[Region] = []
    names: list[str] = []
    strangers: list[str] = []
    number = PICTURE.search(text)
    at = int(number.group(1)) - 1 if number else 0
    frame = frames[at] if 0 <= at < len(frames) else None

    def read(match: re.Match[str]) -> str:
        name = (match.group("ref") or "").strip()
        if name:
            names.append(name.lower())
        for numbers in re.findall(NUMBERS, match.group("boxes") or match.group("bare")):
            x0, y0, x1, y1 = (round(float(each)) for each in re.findall(r"\d+(?:\.\d+)?", numbers))
            if frame is not None and max(x0, y0, x1, y1) <= 1000:
                box = from_grid((x0, y0, x1, y1), frame.shape, frame.slice_index)
                regions.append(Region(frame.series_uid, box, frame.instance_uid))
        return "" if ID.fullmatch(name) else name

    def look_up(match: re.Match[str]) -> str:
        at = int(match.group(1))
        if 1 <= at <= len(given):
            regions.append(given[at - 1])
        else:
            strangers.append(f"{at}")
        return f"region {at}"

    text, segments = SEG.subn("", GROUNDED.sub(read, text))
    text = TAG.sub("", GIVEN.sub(look_up, text))
    return _Read(text, tuple(dict.fromkeys(regions)), tuple(names), segments, tuple(strangers))


def _tidy(text: str) -> str:
    """One line with one full stop, without references in brackets and marks of emphasis."""
    text = _cleaned(text)
    return text if not text or text[-1] in ".!?”" else f"{text}."


def _cleaned(text: str) -> str:
    text = re.sub(
        r"\s*[\[(]\s*(?:ids?:?\s*)?[fce]\d+(?:[\s,;]+(?:and\s+)?[fce]\d+)*\s*[\])]", "", text, flags=re.IGNORECASE
    )
    text = re.sub(r"\*\*|__|`", "", text)
    return re.sub(r"\s+([.,;:])", r"\1", " ".join(text.split())).strip()
