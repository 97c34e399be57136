"""Which earlier studies are fetched, and what a PACS that fails costs: a sentence."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from app.bootstrap import Program
from app.pacs.priors import NO_SEARCH, REFUSED, SILENT, UNUSED, bring_priors, choose
from dicom_io.errors import PeerRefused, PeerSilent
from dicom_io.ports import Fetched, Keep, RemoteStudy

Film = Callable[..., bytes]
Word = Callable[[str], str]
DX, CT = frozenset(["DX"]), frozenset(["CT", "SR"])


class FakePacs:
    """Implements Peer with files in memory."""

    name = "FAKE"

    def __init__(self, *studies: RemoteStudy, files: Mapping[str, Sequence[bytes]] | None = None) -> None:
        self.studies = studies
        self.files = files or {}
        self.asked: list[dict[str, str]] = []
        self.fetched: list[str] = []
        self.fails: Exception | None = None
        self.pause_s = 0.0

    def echo(self) -> None:
        return

    def find(self, match: Mapping[str, str]) -> tuple[RemoteStudy, ...]:
        self.asked.append(dict(match))
        time.sleep(self.pause_s)
        return self.studies

    def fetch(self, study_uid: str, keep: Keep, deadline_s: float) -> Fetched:
        self.fetched.append(study_uid)
        for data in self.files.get(study_uid, ()):
            keep(data)
        if self.fails is not None:
            raise self.fails
        return Fetched(len(self.files.get(study_uid, ())))

    def store(self, files: Sequence[Path]) -> tuple[str, ...]:
        raise AssertionError("nothing is stored where priors are fetched")


def remote(uid: str, when: str | None, modalities: frozenset[str] = DX, **more: str) -> RemoteStudy:
    acquired_on = None if when is None else datetime.fromisoformat(when)
    return RemoteStudy(uid, more.get("patient_id", "P-1"), more.get("issuer", ""), acquired_on, modalities)


def test_the_same_kind_first_then_the_newest_and_only_what_is_earlier() -> None:
    now = datetime(2026, 1, 31, 8, 15)
    found = [
        remote("1.1", "2025-06-01T10:00:00", CT),
        remote("1.2", "2020-06-01T10:00:00"),
        remote("1.3", "2024-06-01T10:00:00", frozenset(["CR"])),
        remote("1.4", "2026-02-01T10:00:00"),  # later
        remote("1.5", "2026-01-31T00:00:00"),  # of the same day, at an unknown time
        remote("1.6", None),
        remote("1.7", "2025-12-01T10:00:00", frozenset(["US"])),
        remote("1.8", "2025-11-01T10:00:00", frozenset()),  # does not say what it is
        remote("1.9", "2026-01-31T08:15:00"),  # itself
    ]
    chosen = choose(found, "1.9", now, is_film=True, most=9)
    assert [each.uid for each in chosen] == ["1.3", "1.2", "1.8", "1.1"]
    assert [each.uid for each in choose(found, "1.9", now, is_film=False, most=2)] == ["1.1", "1.8"]


def test_what_the_archive_lacks_is_fetched(program: Program, film: Film, uid: Word) -> None:
    program.archive.ingest([("current", film()), ("known", film("known", StudyDate="20250101"))])
    old = film("old", StudyDate="20240101")
    pacs = FakePacs(
        remote(uid("known"), "2025-01-01T08:15:00"),
        remote(uid("old"), "2024-01-01T08:15:00"),
        remote(uid("older"), "2023-01-01T08:15:00"),  # priors = 2, and two are newer
        remote("1.2.3", "2025-06-01T10:00:00", issuer="ANOTHER"),
        remote("1.2.4", "2025-06-01T10:00:00", patient_id="P-10"),
        files={uid("old"): [old]},
    )
    assert bring_priors(program, uid("study"), pacs) == ()
    assert bring_priors(program, uid("study"), pacs) == ()  # and again: everything is there
    assert pacs.asked[:1] == [{"PatientID": "P-1", "IssuerOfPatientID": ""}]
    assert pacs.fetched == [uid("old")]
    study = program.archive.load(uid("study"))
    assert [each.uid for each in study.priors] == [uid("known"), uid("old")]
    assert program.jobs.newest_of(uid("old")) is None


def test_a_pacs_that_fails_costs_a_sentence_and_leaves_no_half_study(program: Program, film: Film, uid: Word) -> None:
    program.archive.ingest([("current", film())])
    pacs = FakePacs(remote(uid("old"), "2024-01-01T08:15:00"), files={uid("old"): [film("old", StudyDate="20240101")]})
    for exc, said in ((PeerSilent("away"), SILENT), (PeerRefused("no"), REFUSED), (OSError(28, "disk full"), "")):
        pacs.fails = exc
        assert bring_priors(program, uid("study"), pacs) == ((said,) if said else ())
        assert [row.uid for row in program.archive.studies()] == [uid("study")]
        assert list((program.settings.home / "spool").rglob("*.dcm")) == []


def test_a_prior_that_does_not_come_or_cannot_be_used_is_said(program: Program, film: Film, uid: Word) -> None:
    program.archive.ingest([("current", film())])
    colour = film("old", StudyDate="20240101", PhotometricInterpretation="RGB", SamplesPerPixel=3)
    for files in ([], [colour]):  # sent to a listener that works elsewhere; or of no use
        pacs = FakePacs(remote(uid("old"), "2024-01-01T08:15:00"), files={uid("old"): files})
        assert bring_priors(program, uid("study"), pacs) == (UNUSED,)


def test_nothing_is_fetched_after_the_deadline(program: Program, film: Film, uid: Word) -> None:
    program.archive.ingest([("current", film())])
    pacs = FakePacs(remote(uid("old"), "2024-01-01T08:15:00"))
    pacs.pause_s = 0.2
    hurried = program.settings.model_copy(update={"prior_deadline_s": 0.1})
    assert bring_priors(replace(program, settings=hurried), uid("study"), pacs) == (SILENT,)
    assert pacs.fetched == []


@pytest.mark.parametrize(("patient_id", "said"), [("P*", (NO_SEARCH,)), ("P?1", (NO_SEARCH,)), ("UNKNOWN", ())])
def test_an_id_that_would_match_others_is_not_searched_for(
    program: Program, film: Film, uid: Word, patient_id: str, said: tuple[str, ...]
) -> None:
    program.archive.ingest([("current", film(PatientID=patient_id))])
    pacs = FakePacs(remote(uid("old"), "2024-01-01T08:15:00", patient_id=patient_id))
    assert bring_priors(program, uid("study"), pacs) == said
    assert pacs.asked == []
