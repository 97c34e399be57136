"""What is due is sent, tried again, or dropped."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.presentation import StoragePresentationContexts

from app.accounts import Account, Scope
from app.bootstrap import Program, open_program
from app.errors import BadSetting, StorageFailed
from app.outgoing import DeliveryState
from app.pacs.batch import parse_query
from app.pacs.deliver import deliver_due, reason_to_drop
from app.settings import Settings
from app.signing import sign
from medmllm.report import Report, Section, Sentence


class Store:
    """A Storage SCP that remembers. answers: by modality, where it is not success."""

    def __init__(self) -> None:
        self.received: list[pydicom.Dataset] = []
        self.answers: dict[str, int] = {}
        ours = AE("STORE")
        for context in StoragePresentationContexts:
            ours.add_supported_context(str(context.abstract_syntax), [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        ours.add_supported_context("1.2.840.10008.5.1.4.1.1.66.4", ExplicitVRLittleEndian)
        self.server = ours.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self.store)])
        self.url = f"dicom://STORE@127.0.0.1:{self.server.server_address[1]}"

    def store(self, event: evt.Event) -> int:
        status = self.answers.get(event.dataset.Modality, 0x0000)
        if status == 0x0000:
            self.received.append(event.dataset)
        return status


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    yield store
    store.server.shutdown()


def nobody() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"dicom://NOBODY@127.0.0.1:{probe.getsockname()[1]}"


def draft(uid: str, text: str) -> Report:
    return Report(uid, (Sentence(text, Section.FINDINGS),), (), (), (), "template")


def test_the_newest_version_is_sent_where_it_can_be(
    store: Store, film: Callable[..., bytes], uid: Callable[[str], str], tmp_path: Path
) -> None:
    away = nobody()
    program = here(tmp_path, results_to=f"{store.url}, {away}")
    program.archive.ingest([("film", film())])
    for text in ("The first draft.", "The second draft."):
        report = draft(uid("study"), text)
        program.parts.reports.save(report)
        program.parts.outbox.announce(report)
    assert deliver_due(program) == 1
    states = {(each.version, each.destination): each for each in program.deliveries.of_study(uid("study"))}
    assert {key: each.state for key, each in states.items()} == {
        (1, store.url): DeliveryState.DROPPED,
        (1, away): DeliveryState.DROPPED,
        (2, store.url): DeliveryState.SENT,
        (2, away): DeliveryState.WAITING,
    }
    assert states[1, store.url].reason == "version 2 has taken its place"
    assert "does not answer" in states[2, away].reason
    assert {each.Modality for each in store.received} >= {"SR", "DOC"}
    assert {each.StudyInstanceUID for each in store.received} == {uid("study")}
    assert deliver_due(program) == 0  # the other one is not due yet
    [entry] = [each for each in program.audit.entries() if each.action == "results delivered"]
    assert entry.detail["version"] == 2


def test_a_destination_that_is_no_longer_one(
    program: Program, film: Callable[..., bytes], uid: Callable[[str], str], tmp_path: Path
) -> None:
    program.archive.ingest([("film", film())])
    report = draft(uid("study"), "A draft.")
    sent_by = here(tmp_path, results_to=nobody())
    sent_by.parts.reports.save(report)
    sent_by.parts.outbox.announce(report)
    assert deliver_due(replace(sent_by, versions=NoVersions())) == 0
    [delivery] = sent_by.deliveries.of_study(uid("study"))
    assert (delivery.state, delivery.reason) == (DeliveryState.DROPPED, "there is no report on this study")


class DeadAudit:
    """A trail that cannot be written."""

    def record(self, actor: str, action: str, study_key: str = "", **detail: str | int) -> None:
        raise StorageFailed("the database does not work: it is away")

    def entries(self, *, study_key: str | None = None, limit: int = 1000) -> tuple[Any, ...]:
        return ()

    def broken_at(self) -> int | None:
        return None


class NoVersions:
    """Versions of which there are none."""

    def history(self, study_uid: str) -> tuple[Any, ...]:
        return ()


def announced(program: Program, film: bytes, study_uid: str) -> Report:
    program.archive.ingest([("film", film)])
    report = draft(study_uid, "A draft.")
    program.parts.reports.save(report)
    program.parts.outbox.announce(report)
    return report


def test_an_object_that_is_not_taken_holds_up_no_other(
    store: Store, film: Callable[..., bytes], uid: Callable[[str], str], tmp_path: Path
) -> None:
    program = here(tmp_path, results_to=store.url)
    store.answers = {"DOC": 0xA900}
    announced(program, film(), uid("study"))
    assert deliver_due(program) == 1
    [delivery] = program.deliveries.of_study(uid("study"))
    assert delivery.state is DeliveryState.SENT
    assert "does not take Encapsulated PDF Storage (0xA900)" in delivery.reason
    assert "SR" in {each.Modality for each in store.received}, "it comes after the PDF"


def test_an_object_that_is_not_taken_now_is_tried_again(
    store: Store, film: Callable[..., bytes], uid: Callable[[str], str], tmp_path: Path
) -> None:
    program = here(tmp_path, results_to=store.url)
    store.answers = {"DOC": 0xA700}
    announced(program, film(), uid("study"))
    assert deliver_due(program) == 0
    [delivery] = program.deliveries.of_study(uid("study"))
    assert delivery.state is DeliveryState.WAITING
    assert "out of resources" in delivery.reason
    assert "SR" in {each.Modality for each in store.received}


def test_a_draft_never_takes_the_place_of_a_signed_report(
    store: Store, film: Callable[..., bytes], uid: Callable[[str], str], tmp_path: Path
) -> None:
    program = here(tmp_path, results_to=store.url, organization="Test Hospital")
    announced(program, film(), uid("study"))
    ada = Account("ada", "Dr. Ada Lovelace", frozenset({Scope.SIGN}))
    with pytest.raises(StorageFailed):  # the process or the database dies right after the signature is kept
        sign(replace(program, audit=DeadAudit()), uid("study"), ada, 1)
    later = draft(uid("study"), "A draft, after the order was changed.")
    program.parts.reports.save(later)
    program.parts.outbox.announce(later)
    assert deliver_due(program) == 2
    states = {each.version: each.state for each in program.deliveries.of_study(uid("study"))}
    assert states == {1: DeliveryState.DROPPED, 2: DeliveryState.SENT, 3: DeliveryState.SENT}
    series = {each.SeriesDescription for each in store.received if each.Modality == "SR"}
    assert len(series) == 2, "one of drafts, one of signed reports"


def test_a_password_stays_in_the_settings_and_may_change(
    film: Callable[..., bytes], uid: Callable[[str], str], tmp_path: Path
) -> None:
    port = nobody().rpartition(":")[2]
    before = here(tmp_path, results_to=f"dicomweb+http://ada:old-secret@127.0.0.1:{port}/dicom-web")
    announced(before, film(), uid("study"))
    after = here(tmp_path, results_to=f"dicomweb+http://ada:new-secret@127.0.0.1:{port}/dicom-web")
    assert deliver_due(after) == 0
    [delivery] = after.deliveries.of_study(uid("study"))
    assert delivery.state is DeliveryState.WAITING
    assert delivery.destination == f"dicomweb+http://ada@127.0.0.1:{port}/dicom-web"
    assert b"old-secret" not in (tmp_path / "home" / "wetread.db").read_bytes()
    elsewhere = here(tmp_path, results_to="")
    assert "does not name" in reason_to_drop(elsewhere, delivery)


@pytest.mark.parametrize(
    ("setting", "url", "said"),
    [
        ("results_to", "ftp://x", "results_to names the backend 'ftp'"),
        ("results_to", "dicom://PACS@host", "results_to: a PACS is written"),
        ("pacs_url", "dicomweb+http://u:secret@", "pacs_url: a DICOMweb server is written"),
        ("pacs_url", "dicom://PACS@host:99999", "pacs_url: "),
        ("pacs_url", "dicom://P%C3%84CS@host:104", "pacs_url: a PACS is written"),
        ("results_to", "dicomweb+https://ada:secret/part@host/dicom-web", "results_to: its port is no number"),
    ],
)
def test_a_wrong_url_is_found_at_the_start(setting: str, url: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=said) as caught:
        here(tmp_path, **{setting: url})
    assert "secret" not in str(caught.value)


def test_queries() -> None:
    assert parse_query("pacs:StudyDate=20260101-20260131,ModalitiesInStudy=CR") == {
        "StudyDate": "20260101-20260131",
        "ModalitiesInStudy": "CR",
    }
    for wrong in ("pacs:", "pacs:StudyDate=", "pacs:Nonsense=1", "pacs:StudyDate"):
        with pytest.raises(BadSetting):
            parse_query(wrong)


def here(tmp_path: Path, **settings: Any) -> Program:
    return open_program(Settings(home=tmp_path / "home", embedder_url="hashing:", vectors_url="memory:", **settings))
