"""The report as plain text, for a terminal."""

from __future__ import annotations

import textwrap

from app.results.words import BANNER, SECTIONS, cited, doubts_of, mark_of, references_of, signed_by
from medmllm.report import Report, Section, Sentence


def as_text(report: Report, width: int = 100) -> str:
    """The whole report as plain text, wrapped to `width` columns.

    Each sentence ends with the ids it rests on; what failed a check is marked and says why. No patient identifiers.
    """
    lines = [f"*** {BANNER if report.signature is None else signed_by(report.signature)} ***", ""]
    for section in Section:
        sentences = report.section(section)
        if sentences:
            lines += [SECTIONS[section].upper(), *(line for each in sentences for line in said(each, width)), ""]
    if report.evidence:
        lines.append("LITERATURE")
        for evidence in report.evidence:
            lines += hanging(f"[{evidence.id}] ", cited(evidence.citation), width)
        lines.append("")
    if report.notices:
        lines += ["NOTICES", *(line for notice in report.notices for line in hanging("! ", notice, width)), ""]
    lines.append(f"Written by: {report.writer}")
    return "\n".join(lines)


def said(sentence: Sentence, width: int) -> list[str]:
    """One sentence with its references, and its doubts below it."""
    references = references_of(sentence)
    marks = f" [{', '.join(references)}]" if references else ""
    if mark := mark_of(sentence):
        marks += f" ({mark})"
    lines = hanging("- ", sentence.text + marks, width)
    for doubt in doubts_of(sentence):
        lines += hanging("  !! ", doubt, width)
    return lines


def hanging(mark: str, text: str, width: int) -> list[str]:
    """Text wrapped with its first line marked and the others indented below it; control characters are dropped."""
    printable = "".join(each if each.isprintable() else " " for each in text)
    return textwrap.wrap(
        printable, width, initial_indent=mark, subsequent_indent=" " * len(mark), break_on_hyphens=False
    )
