"""Editing and signing: what a person does to a draft, as pure functions, and the two acts that keep it.

Nothing is overwritten: an edit and a signature are each a new version, made from the version that the person saw. A
signed report that is edited becomes a draft again, to be signed anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from app.accounts import Account, Scope
from app.errors import BadSetting, NotAllowed, Outdated
from app.versions import Version
from dicom_io.identity import study_key
from dicom_io.study import Study
from medmllm.report import Report, Section, Sentence, Signature
from medmllm.verify import check

if TYPE_CHECKING:
    from app.bootstrap import Program

LONGEST_SENTENCE = 2000  # characters


def edited(
    report: Report,
    texts: Mapping[int, str | None],
    added: Sequence[tuple[Section, str]] = (),
    study: Study | None = None,
) -> Report:
    """The report with some sentences reworded, taken out or added; a draft, whatever it was before.

    texts: position in report.sentences -> the new text, None to take the sentence out; a text that is not new changes
    nothing. A reworded sentence keeps what it rests on; an added one rests on nothing. Both are marked as a person's,
    and their checks are made again (medmllm.verify; `study` lets intervals be checked as well). Added sentences stand
    at the end of their section. Raises ValueError, with one sentence, for what cannot be done.
    """
    if unknown := sorted(set(texts) - set(range(len(report.sentences)))):
        raise ValueError(f"there is no sentence at position {unknown[0]}; the report has {len(report.sentences)}")
    written: list[Sentence] = []
    for section in Section:
        for position, sentence in enumerate(report.sentences):
            if sentence.section is section:
                text = texts.get(position, sentence.text)
                if text is not None:
                    written.append(reworded(sentence, text))
        written += [Sentence(cleaned(text), section, is_edited=True) for place, text in added if place is section]
    if not written:
        raise ValueError("a report needs at least one sentence")
    draft = replace(report, sentences=tuple(written), is_draft=True, signature=None)
    old = set(report.sentences)
    sentences = tuple(each if each in old else check(each, draft, study) for each in written)
    return replace(draft, sentences=sentences)


def reworded(sentence: Sentence, text: str) -> Sentence:
    """The sentence with another text, its checks still to be made; the same sentence when the text is the same."""
    if text.split() == sentence.text.split():
        return sentence
    return replace(sentence, text=cleaned(text), checks=(), is_edited=True)


def cleaned(text: str) -> str:
    """The text on one line. Raises ValueError when it is empty or longer than a sentence can be."""
    text = " ".join(text.split())
    if not text:
        raise ValueError("a sentence needs text; take it out if it is not wanted")
    if len(text) > LONGEST_SENTENCE:
        raise ValueError(f"a sentence has at most {LONGEST_SENTENCE} characters")
    return text


def signed(report: Report, account: Account, organization: str, now: datetime) -> Report:
    """The report with the account's signature. now: with its time zone.

    Raises NotAllowed, BadSetting when no organization is set, and Outdated when it is signed already.
    """
    allow(account)
    if not organization.strip():
        raise BadSetting("set `organization` before signing: the name of who answers for a report beside the person")
    if not report.is_draft:
        raise Outdated("the report is signed already")
    signature = Signature(account.full_name.strip(), organization.strip(), now)
    return replace(report, is_draft=False, signature=signature)


def allow(account: Account) -> None:
    """Raises NotAllowed unless the account may edit and sign."""
    if account.is_disabled or Scope.SIGN not in account.scopes:
        raise NotAllowed("this account may neither edit nor sign reports")


def save_edit(
    program: Program,
    study_uid: str,
    account: Account,
    after: int,
    texts: Mapping[int, str | None],
    added: Sequence[tuple[Section, str]] = (),
    study: Study | None = None,
) -> Version:
    """Keep an edit of version `after` as a new version; that version itself when nothing is changed.

    Raises NotAllowed, Outdated when a newer version exists, KeyError when there is no report, ValueError as `edited`.
    """
    allow(account)
    seen = version_seen(program, study_uid, after)
    report = edited(seen.report, texts, added, study)
    old = seen.report.sentences
    changed = sum(text is not None and text.split() != old[at].text.split() for at, text in texts.items())
    removed = sum(text is None for text in texts.values())
    if not (changed or removed or added):
        return seen
    return keep(program, report, account, after, "edit", {"edited": changed, "removed": removed, "added": len(added)})


def sign(program: Program, study_uid: str, account: Account, after: int) -> Version:
    """Sign version `after`: keep it as a new version that is no draft any more.

    Raises what `signed` raises, Outdated when a newer version exists, and KeyError when there is no report.
    """
    allow(account)
    seen = version_seen(program, study_uid, after)
    report = signed(seen.report, account, program.settings.organization, datetime.now().astimezone())
    return keep(program, report, account, after, "sign", {})


def version_seen(program: Program, study_uid: str, after: int) -> Version:
    """The version that the person saw, when it is still the newest one."""
    newest = program.versions.newest(study_uid)
    if newest.number != after:
        raise Outdated("the report was changed by somebody else meanwhile; open it again")
    return newest


def keep(
    program: Program, report: Report, account: Account, after: int, action: str, detail: Mapping[str, str | int]
) -> Version:
    """Save the version, note who made it, and tell those who wait for it."""
    version = program.versions.save_as(report, account.name, after=after)
    key = study_key(report.study_uid, program.secret)
    program.audit.record(account.name, action, key, version=version.number, **detail)
    program.parts.outbox.announce(report)
    return version
