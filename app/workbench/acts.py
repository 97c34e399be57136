"""What a person does in the study's view: open, look at a version, edit, check, save, sign. One function for each."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from app.accounts import Scope
from app.workbench import editing
from app.workbench.desk import Desk
from app.workbench.editing import Sent
from app.workbench.reading import reading_html, strip_html
from app.workbench.session import Session
from app.workbench.viewer import Reading, described


@dataclass(frozen=True, slots=True)
class Act:
    """What the page is told: JSON of the parts that change. is_change: the worklist looks different now."""

    body: str
    is_change: bool = False


def answer(desk: Desk, secret: str | None, data: object) -> Act:
    """Do what the page asks for.

    Raises NotAllowed, Outdated, BadSetting and other AppErrors, KeyError when there is no such report, and ValueError
    for what cannot be done; each with one sentence.
    """
    if not isinstance(data, dict) or data.get("act") not in ACTS:
        raise ValueError("The page sent something that cannot be read. Load it again.")
    scope, do = ACTS[data["act"]]
    session = desk.session(secret, scope)
    body = editing.sent({name: value for name, value in data.items() if name != "act"})
    return do(desk, session, body)


def opened(desk: Desk, session: Session, body: Sent) -> Act:
    """The study with all its parts; that it was opened is audited first."""
    note_opened(desk, session, body.key)
    reading = desk.readings.of(body.key)
    return told(
        viewer=described(reading),
        strip=strip_html(reading.record, reading.version),
        reading=reading_html(desk.program, reading, session.account),
    )


def newest(desk: Desk, session: Session, body: Sent) -> Act:
    """The newest version, in view: also what leaves the editor."""
    return report_of(desk, session, current(desk, session, body))


def version(desk: Desk, session: Session, body: Sent) -> Act:
    """An older version, to look at."""
    reading = current(desk, session, body)
    history = desk.program.versions.history(reading.record.study.uid)
    chosen = next((each for each in history if each.number == body.number), None)
    if chosen is None:
        raise KeyError("no such version")
    desk.program.audit.record(session.account.name, "version opened", body.key, version=chosen.number)
    return told(
        strip=strip_html(reading.record, chosen),
        reading=reading_html(desk.program, reading, session.account, version=chosen),
    )


def edit(desk: Desk, session: Session, body: Sent) -> Act:
    """The editor over the newest version."""
    reading = current(desk, session, body)
    editor = editing.editor_of(reading.version.report)
    return told(reading=reading_html(desk.program, reading, session.account, editor=editor))


def check(desk: Desk, session: Session, body: Sent) -> Act:
    """The editor again, with what the checks have against each sentence; nothing is kept yet."""
    reading = current(desk, session, body)
    editing.same_version(reading, body)
    editor = editing.checked(reading, body)
    return told(reading=reading_html(desk.program, reading, session.account, editor=editor), changed=True)


def save(desk: Desk, session: Session, body: Sent) -> Act:
    """Keep the edit as a new draft."""
    reading = current(desk, session, body)
    made = editing.saved(desk.program, reading, session.account, body)
    after = desk.readings.of(body.key)
    return report_of(desk, session, after, f"Saved as version {made.number}, a draft.")


def sign(desk: Desk, session: Session, body: Sent) -> Act:
    """Sign what the person saw."""
    reading = current(desk, session, body)
    made = editing.signed(desk.program, reading, session.account, body)
    after = desk.readings.of(body.key)
    return report_of(desk, session, after, f"Signed. Version {made.number} is final.")


def current(desk: Desk, session: Session, body: Sent) -> Reading:
    """The study that is open, in its newest version; in a new session, after a log-in ended, it is opened anew."""
    if body.key not in session.opened:
        note_opened(desk, session, body.key)
    return desk.readings.of(body.key)


def note_opened(desk: Desk, session: Session, key: str) -> None:
    """Audit that the study is opened; from then on the session gets its images. Raises KeyError."""
    desk.program.worklist.uid_of(key)
    desk.program.audit.record(session.account.name, "study opened", key)
    session.opened.add(key)


def report_of(desk: Desk, session: Session, reading: Reading, said: str = "") -> Act:
    """The report pane and the line above it."""
    strip = strip_html(reading.record, reading.version)
    page = reading_html(desk.program, reading, session.account)
    return told(strip=strip, reading=page, places=reading.places(), said=said, is_change=bool(said))


def told(*, is_change: bool = False, **parts: object) -> Act:
    """The parts as JSON; a serial number lets the page see that it was answered, also when nothing else is new."""
    return Act(json.dumps({**parts, "serial": secrets.token_hex(4)}), is_change)


Do = Callable[[Desk, Session, Sent], Act]
ACTS: dict[str, tuple[Scope, Do]] = {
    "open": (Scope.READ, opened),
    "newest": (Scope.READ, newest),
    "cancel": (Scope.READ, newest),
    "version": (Scope.READ, version),
    "edit": (Scope.SIGN, edit),
    "check": (Scope.SIGN, check),
    "save": (Scope.SIGN, save),
    "sign": (Scope.SIGN, sign),
}
