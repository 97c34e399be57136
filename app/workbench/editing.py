"""Editing and signing on the screen: what the page sends is read strictly, checked, and kept as a new version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.accounts import Account
from app.bootstrap import Program
from app.errors import Outdated
from app.results.words import failures_of
from app.signing import edited, save_edit, sign
from app.versions import Version
from app.workbench.reading import Editor, Row
from app.workbench.viewer import Reading
from medmllm.report import Report, Section

MOST_ROWS = 300


class Line(BaseModel):
    """One line of the editor as the page sends it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    position: int | None = Field(ge=0)
    section: str
    text: str = Field(max_length=4000)
    removed: bool


class Sent(BaseModel):
    """What the page sends when a report is checked, saved or signed. number: the version that the person saw."""

    model_config = ConfigDict(extra="forbid", strict=True)

    key: str = Field(max_length=64)
    number: int = Field(ge=1)
    lines: list[Line] = Field(default_factory=list, max_length=MOST_ROWS)


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to become of the report, as app.signing takes it."""

    texts: Mapping[int, str | None]
    added: Sequence[tuple[Section, str]]


def sent(data: object) -> Sent:
    """Read what the page sent. Raises ValueError, with one sentence, when it is not what the page sends."""
    try:
        return Sent.model_validate(data)
    except ValidationError:
        raise ValueError("The page sent something that cannot be read. Load it again.") from None


def changes_of(body: Sent) -> Changes:
    """Texts by position, and new sentences by section. Raises ValueError for a section that does not exist."""
    texts = {
        line.position: None if line.removed or not line.text.strip() else line.text
        for line in body.lines
        if line.position is not None
    }
    added = [
        (Section(line.section), line.text)
        for line in body.lines
        if line.position is None and not line.removed and line.text.strip()
    ]
    return Changes(texts, added)


def same_version(reading: Reading, body: Sent) -> None:
    """Raises Outdated when the report has a newer version than the one that is being edited."""
    if reading.version.number != body.number:
        raise Outdated("the report was changed by somebody else meanwhile; copy your text, then open it again")


def editor_of(report: Report) -> Editor:
    """The editor over a report as it is."""
    rows: dict[Section, list[Row]] = {section: [] for section in Section}
    for position, sentence in enumerate(report.sentences):
        rows[sentence.section].append(Row(position, sentence.text, notes=failures_of(sentence)))
    return Editor(rows)


def checked(reading: Reading, body: Sent) -> Editor:
    """The editor with the texts as they were typed, and what is wrong with each. Raises ValueError as `edited`."""
    changes = changes_of(body)
    report = reading.version.report
    draft = edited(report, changes.texts, changes.added, reading.record.study)
    made = iter(draft.sentences)
    rows: dict[Section, list[Row]] = {section: [] for section in Section}
    for section in Section:
        for position, sentence in enumerate(report.sentences):
            if sentence.section is section:
                text = changes.texts.get(position, sentence.text)
                if text is None:
                    rows[section].append(Row(position, sentence.text, is_removed=True))
                else:
                    rows[section].append(Row(position, text, notes=failures_of(next(made))))
        new = [text for place, text in changes.added if place is section]
        rows[section] += [Row(None, text, notes=failures_of(next(made))) for text in new]
    wrong = sum(bool(row.notes) for each in rows.values() for row in each)
    some = f"{wrong} sentence{'s' if wrong != 1 else ''} did not pass every check."
    return Editor(rows, some if wrong else "Every check passed.")


def saved(program: Program, reading: Reading, account: Account, body: Sent) -> Version:
    """Keep the edit. Raises NotAllowed, Outdated, KeyError, ValueError as app.signing.save_edit."""
    same_version(reading, body)
    changes = changes_of(body)
    study = reading.record.study
    return save_edit(program, study.uid, account, body.number, changes.texts, changes.added, study)


def signed(program: Program, reading: Reading, account: Account, body: Sent) -> Version:
    """Sign the version that the person saw. Raises NotAllowed, BadSetting, Outdated, KeyError as app.signing.sign."""
    return sign(program, reading.record.study.uid, account, body.number)
