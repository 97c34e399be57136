"""The language of medmllm/grammar.py once more, read by hand, to hold the other to it: no automaton, no Lark."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

NUMBER = re.compile(r"0|[1-9][0-9]{0,2}")
TAG = re.compile(r"<ref>([^<>|\n]*)</ref>|<box>\[([^<>]*)\]</box>|<SEG>|<region ([1-9][0-9]*)>")
FIRST = re.compile(r'(?:[0-9“"][0-9“" .,×]*)?(.)', re.DOTALL)


def is_report(text: str, ids: Collection[str], regions: int = 0) -> bool:
    sections = []
    for line in text.split("\n"):
        parts = line.split(" | ")
        if len(parts) != 3 or "|" in "".join(parts):
            return False
        section, sentence, cited = parts
        sections.append(section)
        if not is_text(sentence, regions) or not (sentence.startswith("<ref>") or opens(sentence)):
            return False
        names = cited.split(" ")
        is_cited = all(name in ids for name in names) and len(names) <= len(ids)
        if not (is_cited or (cited == "-" and "<box>" in sentence)):
            return False
    found = sections.count("findings")
    return 0 < found < len(sections) and sections == ["findings"] * found + ["impression"] * (len(sections) - found)


def is_answer(text: str, experts: dict[str, list[str]], regions: int = 0) -> bool:
    calls = re.findall(r"<[^<>]*>", text)
    allowed = {f"<{name}({argument})>" for name, arguments in experts.items() for argument in arguments}
    if text and "".join(calls) == text and set(calls) <= allowed:
        return True
    return bool(text) and not text[0].isspace() and is_text(text, regions)


def is_text(text: str, regions: int) -> bool:
    at = 0
    while at < len(text):
        if text[at] == "<":
            tag = TAG.match(text, at)
            if tag is None or not is_tag(tag, regions):
                return False
            at = tag.end()
        elif not is_plain(text, at):
            return False
        else:
            at += 1
    return True


def is_tag(tag: re.Match[str], regions: int) -> bool:
    words, boxes, number = tag.groups()
    if words is not None:
        is_id = re.fullmatch(r"[fceFCE]\d+\s*", words)
        return opens(words) and not is_id and all(is_plain(words, at) for at in range(len(words)))
    if boxes is not None:
        return boxes.startswith("[") and boxes.endswith("]") and all(map(is_box, boxes[1:-1].split("],[")))
    return number is None or int(number) <= regions


def is_box(box: str) -> bool:
    numbers = box.split(",")
    if len(numbers) != 4 or not all(NUMBER.fullmatch(each) for each in numbers):
        return False
    x1, y1, x2, y2 = map(int, numbers)
    return x1 <= x2 and y1 <= y2


def is_plain(text: str, at: int) -> bool:
    if text[at] in "|<>" or unicodedata.category(text[at]) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return False
    return text[at] != "[" or (at + 1 < len(text) and text[at + 1] not in "[<" and not text[at + 1].isspace())


def opens(text: str) -> bool:
    first = FIRST.match(text)
    return first is not None and unicodedata.category(first.group(1)).startswith("L")
