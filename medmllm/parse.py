"""A language model's answer to sentences: tolerant of form, strict about references.

Form: one sentence per line, "section | sentence | ids". Thinking blocks and code fences are dropped, list marks and
tables' outer bars are forgiven. MedRegA's `<ref>name</ref><box>[[x1,y1,x2,y2]]</box>` is read wherever it stands, also
with its tags gone, and becomes a region of the picture it points into; names that are finding ids become references.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

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
PICTURE = re.compile(r"\b(?:picture|image)\s*(\d+)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was read. problems: what was wrong with it, each fit to be shown to the model and to a person."""

    sentences: tuple[Sentence, ...]
    problems: tuple[str, ...] = ()


def parse(answer: str, known_ids: Collection[str], frames: Sequence[Frame] = ()) -> Answer:
    """The answer's sentences in order; references to ids that are not known are dropped and reported.

    frames: the pictures' planes, in the order they were shown; a box belongs to the first one unless the sentence
    names another ("picture 2"). Raises Ungrounded when no line can be read, or none cites anything known.
    """
    sentences: list[Sentence] = []
    problems: list[str] = []
    for line in _lines(answer):
        sentence, problem = _sentence(line, known_ids, frames)
        if problem:
            problems.append(problem)
        if sentence:
            sentences.append(sentence)
    if not sentences:
        raise Ungrounded("no line of the answer has the form “section | sentence | ids”")
    if not any(sentence.grounding for sentence in sentences):
        raise Ungrounded("no sentence of the answer cites a finding, comparison or passage that exists")
    return Answer(tuple(dict.fromkeys(sentences)), tuple(dict.fromkeys(problems)))


def _lines(answer: str) -> list[str]:
    text = THOUGHT.sub("", answer[:MOST_OF_ANSWER])
    text = FENCE.sub("", THOUGHT_END.sub("", text))
    lines = [LIST_MARK.sub("", line).strip().strip("|").strip() for line in text.splitlines()]
    return [line for line in lines if "|" in line][:MOST_LINES]


def _sentence(line: str, known_ids: Collection[str], frames: Sequence[Frame]) -> tuple[Sentence | None, str | None]:
    first, *middle = (part.strip() for part in line.split("|"))
    word = SECTION_WORD.match(first)
    section = SECTIONS.get(word.group(1).lower()) if word else None
    if section is None or not middle:
        return None, None  # a heading, a table's rule, or a section that is not the model's to write
    tail = middle[-1]
    has_ids = len(middle) > 1 and not re.sub(r"[\W_]|\b(?:and|ids?|none)\b", "", ID.sub("", tail), flags=re.IGNORECASE)
    words = " ".join(middle[:-1] if has_ids else middle)
    cited = [each.lower() for each in ID.findall(tail if has_ids else _references(words))]
    text, regions, names = _without_boxes(words, frames)
    cited += [name for name in names if name in known_ids]
    text = _tidy(text)
    if not re.search(r"[^\W\d_]", text):
        return None, "a line has no sentence in it"
    known = [each for each in dict.fromkeys(cited) if each in known_ids]
    unknown = [each for each in dict.fromkeys(cited) if each not in known_ids]
    grounding = Grounding(
        finding_ids=tuple(each for each in known if each.startswith("f")),
        comparison_ids=tuple(each for each in known if each.startswith("c")),
        evidence_ids=tuple(each for each in known if each.startswith("e")),
        regions=regions,
    )
    problem = f"“{text}” cites {', '.join(unknown)}, which does not exist" if unknown else None
    return Sentence(text, section, grounding), problem


def _references(text: str) -> str:
    """The parts of a sentence in brackets, where a model may put its references instead."""
    return " ".join(re.findall(r"[\[(]([^\])]*)[\])]", text))


def _without_boxes(text: str, frames: Sequence[Frame]) -> tuple[str, tuple[Region, ...], list[str]]:
    """The text with its region tags read out: names stay as words, boxes become regions."""
    regions: list[Region] = []
    names: list[str] = []
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

    return TAG.sub("", GROUNDED.sub(read, text)), tuple(regions), names


def _tidy(text: str) -> str:
    """One line with one full stop, without references in brackets and marks of emphasis."""
    text = re.sub(
        r"\s*[\[(]\s*(?:ids?:?\s*)?[fce]\d+(?:[\s,;]+(?:and\s+)?[fce]\d+)*\s*[\])]", "", text, flags=re.IGNORECASE
    )
    text = re.sub(r"\*\*|__|`", "", text)
    text = re.sub(r"\s+([.,;:])", r"\1", " ".join(text.split())).strip()
    return text if not text or text[-1] in ".!?”" else f"{text}."
