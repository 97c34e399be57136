"""The report on the screen: sentences that light what they rest on, findings, literature, history, files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.accounts import Account, Scope
from app.bootstrap import Program
from app.results import words
from app.results.record import Record
from app.results.report_html import patient_of, sections_of
from app.versions import Version
from app.workbench.session import ROOT
from app.workbench.viewer import Reading
from app.workbench.words import templates
from dicom_io.study import LeftOut
from medmllm.report import Section

MOST_ENTRIES = 200
TABS = (
    ("report", "Report"),
    ("findings", "Findings"),
    ("literature", "Literature"),
    ("history", "History"),
    ("files", "Files"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the editor. position: of the sentence it was in the report, None for a new one."""

    position: int | None
    text: str
    is_removed: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Editor:
    """The report while it is edited; verdict: what the last check came to."""

    rows: dict[Section, list[Row]] = field(default_factory=dict)
    verdict: str = ""


def strip_html(record: Record, version: Version) -> str:
    """The line that is always visible: draft or signed, and whose study it is."""
    page = templates().get_template("strip.html.j2")
    return page.render(report=version.report, number=version.number, patient=patient_of(record))


def reading_html(
    program: Program,
    reading: Reading,
    account: Account,
    *,
    version: Version | None = None,
    editor: Editor | None = None,
) -> str:
    """The report pane: the newest version, an older one, or the newest one in the editor."""
    record = reading.record
    chosen = version or reading.version
    report = chosen.report
    shown = record if version is None else Record(report, record.study, record.masks, record.sources)
    entries = None
    if Scope.AUDIT in account.scopes:
        entries = program.audit.entries(study_key=reading.key, limit=MOST_ENTRIES)
    return (
        templates()
        .get_template("reading.html.j2")
        .render(
            root=ROOT,
            key=reading.key,
            number=chosen.number,
            mode="view" if editor is None else "edit",
            tabs=TABS,
            report=report,
            sections=sections_of(shown),
            rows=rows_of(editor) if editor else [],
            verdict=editor.verdict if editor else "",
            tones=tones_of(reading),
            left_out=left_out_of(record),
            history=program.versions.history(record.study.uid),
            entries=entries,
            is_newest=chosen.number == reading.version.number,
            may_sign=Scope.SIGN in account.scopes,
            full_name=account.full_name,
            organization=program.settings.organization.strip(),
            patient=patient_of(record),
            doubtful=sum(bool(words.failures_of(each)) for each in report.sentences),
        )
    )


def rows_of(editor: Editor) -> list[dict[str, object]]:
    """The editor's lines by section; every section is there, so that a sentence can be added to it."""
    return [
        {"key": section.value, "title": words.SECTIONS[section], "rows": editor.rows.get(section, [])}
        for section in Section
    ]


def tones_of(reading: Reading) -> dict[str, str]:
    """The colour in which each finding is drawn, by its id."""
    found: dict[str, str] = {}
    for shown in reading.shown:
        for drawn in shown.drawn:
            if drawn.series_uids:
                for target in drawn.targets:
                    found.setdefault(target, drawn.tone)
    return found


def left_out_of(record: Record) -> Sequence[LeftOut]:
    """What of the study was not used, and why."""
    return [*record.study.left_out, *(each for series in record.study.series for each in series.left_out)]
