"""The client side of DIMSE, against dcmtk's dcmqrscp and against a small PACS of pynetdicom that misbehaves."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ImplicitVRLittleEndian, RLELossless
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicom_io.dicomweb import DicomWebPeer
from dicom_io.errors import PeerRefused, PeerSilent
from dicom_io.listen import Listener, Received
from dicom_io.ports import Fetched
from dicom_io.query import DicomPeer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Inbox:
    """A keeper, and a taker of bytes."""

    def __init__(self) -> None:
        self.instances: list[Dataset] = []
        self.retrieved = 0

    def keep(self, received: Received) -> None:
        self.retrieved += received.is_retrieved
        self.take(received.path.read_bytes())

    def take(self, data: bytes) -> None:
        self.instances.append(pydicom.dcmread(BytesIO(data)))


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[tuple[int, Inbox]]:
    inbox = Inbox()
    listener = Listener("WETREAD", tmp_path / "incoming", inbox.keep, port=0)
    yield listener.start(), inbox
    listener.stop(0.5)


@pytest.fixture
def pacs(tmp_path: Path, listener: tuple[int, Inbox]) -> Iterator[int]:
    """dcmqrscp with the AE title QRSCP, which knows WETREAD as a destination; its port."""
    if shutil.which("dcmqrscp") is None:
        pytest.skip("dcmqrscp of dcmtk is not installed")
    port, folder = free_port(), tmp_path / "qr"
    folder.mkdir()
    (tmp_path / "dcmqrscp.cfg").write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        f"HostTable BEGIN\nus = (WETREAD, 127.0.0.1, {listener[0]})\nHostTable END\n"
        f"VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nQRSCP {folder} RW (9, 1024mb) ANY\nAETable END\n"
    )
    server = subprocess.Popen(
        ["dcmqrscp", "-c", str(tmp_path / "dcmqrscp.cfg")], env={**os.environ, "TCP_NODELAY": "1"}, cwd=tmp_path
    )
    peer = DicomPeer.at(f"dicom://QRSCP@127.0.0.1:{port}", "WETREAD")
    for _ in range(100):
        try:
            peer.echo()
            break
        except PeerSilent:
            time.sleep(0.1)
    yield port
    server.terminate()
    server.wait(10)


def test_a_study_goes_to_dcmqrscp_is_found_and_comes_back(
    pacs: int, listener: tuple[int, Inbox], make: Any, tmp_path: Path
) -> None:
    current = make.ct_series([0.0, 2.0, 4.0])
    other = make.dx(StudyInstanceUID="1.2.3.4", PatientID="P-2", StudyDate="20230512")
    peer = DicomPeer.at(f"dicom://QRSCP@127.0.0.1:{pacs}", "WETREAD")
    peer.store(make.save(tmp_path / "sent", *current, other))

    [found] = peer.find({"PatientID": "P-1"})
    assert found.uid == current[0].StudyInstanceUID
    assert found.acquired_on is not None
    assert found.acquired_on.isoformat() == "2024-01-31T08:15:00"
    assert {each.uid for each in peer.find({"StudyDate": "20230101-20231231"})} == {"1.2.3.4"}
    assert peer.find({"PatientID": "NOBODY"}) == ()

    _, inbox = listener
    assert peer.fetch(found.uid, inbox.take, 30) == Fetched(3, at_listener=True)
    assert inbox.retrieved == 3
    by_get = DicomPeer.at(f"dicom+get://QRSCP@127.0.0.1:{pacs}", "WETREAD")
    assert by_get.fetch("1.2.3.4", inbox.take, 30) == Fetched(1)
    sent = {each.SOPInstanceUID: each for each in [*current, other]}
    assert len(inbox.instances) == 4
    for each in inbox.instances:
        assert each == sent[each.SOPInstanceUID]


def test_a_destination_that_the_pacs_does_not_know(pacs: int, make: Any, tmp_path: Path) -> None:
    peer = DicomPeer("QRSCP", "127.0.0.1", pacs, "STRANGER")
    peer.store(make.save(tmp_path / "sent", make.ct()))
    with pytest.raises(PeerRefused, match="does not know our AE title as a destination"):
        peer.fetch(make.ct().StudyInstanceUID, Inbox().take, 30)


class BadPacs:
    """Answers what it is told to."""

    def __init__(self) -> None:
        self.stored: list[Dataset] = []
        self.pause_s = 0.0
        ours = AE("BAD")
        ours.add_supported_context(CTImageStorage, ImplicitVRLittleEndian)
        ours.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        ours.add_supported_context(StudyRootQueryRetrieveInformationModelMove)
        handlers = [(evt.EVT_C_STORE, self.store), (evt.EVT_C_FIND, self.find), (evt.EVT_C_MOVE, self.move)]
        self.server = ours.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.peer = DicomPeer("BAD", "127.0.0.1", self.server.server_address[1], "WETREAD")

    def store(self, event: evt.Event) -> int:
        self.stored.append(event.dataset)
        return 0xB000 if len(self.stored) == 1 else 0xA700

    def find(self, event: evt.Event) -> Iterator[tuple[int, None]]:
        yield 0xA700, None

    def move(self, event: evt.Event) -> Iterator[Any]:
        time.sleep(self.pause_s)
        yield None, None


@pytest.fixture
def bad() -> Iterator[BadPacs]:
    bad = BadPacs()
    yield bad
    bad.server.shutdown()


def test_uncompressed_images_go_as_implicit_vr_where_nothing_else_is_taken(
    bad: BadPacs, make: Any, tmp_path: Path
) -> None:
    first, second = make.ct_series([0.0, 2.0])
    bad.peer.store(make.save(tmp_path / "one", first))  # answered with a warning, which is a success
    assert bad.stored[0].PixelData == first.PixelData
    with pytest.raises(PeerRefused, match="0xA700"):
        bad.peer.store(make.save(tmp_path / "two", second))
    second.compress(RLELossless, generate_instance_uid=False)
    with pytest.raises(PeerRefused, match="0xA700"):  # which may be another time, so nothing is settled yet
        bad.peer.store(make.save(tmp_path / "three", second, first))
    assert len(bad.stored) == 3, "the one that is not taken holds up no other"
    bad.stored.clear()
    [declined] = bad.peer.store(make.save(tmp_path / "four", second, first))
    assert "does not take CT Image Storage as RLE Lossless" in declined


def test_failures_are_sentences(bad: BadPacs) -> None:
    with pytest.raises(PeerRefused, match="refused"):
        bad.peer.find({"PatientID": "P-1"})
    with pytest.raises(PeerRefused, match="does not offer"):
        DicomPeer("BAD", "127.0.0.1", bad.peer.port, "WETREAD").echo()
    with pytest.raises(PeerSilent, match="does not answer"):
        DicomPeer("NOBODY", "127.0.0.1", free_port(), "WETREAD").echo()
    with pytest.raises(PeerSilent, match="cannot be found"):
        DicomPeer("NOBODY", "no-such-host.invalid", 104, "WETREAD").echo()


def test_a_retrieval_ends_at_its_deadline(bad: BadPacs) -> None:
    bad.pause_s = 4.0
    started = time.monotonic()
    with pytest.raises(PeerSilent, match="in time"):
        bad.peer.fetch("1.2.3", Inbox().take, 0.5)
    assert time.monotonic() - started < 3.0


def test_urls() -> None:
    assert DicomPeer.at("dicom://MY_PACS@pacs.example:104", "US") == DicomPeer("MY_PACS", "pacs.example", 104, "US")
    assert DicomPeer.at("dicom+get://P%20Q@[::1]:11112", "US").name == "P Q at ::1:11112"
    for url in ("dicom://pacs:104", "dicom://A@pacs", "dicom://MORETHANSIXTEENCHARS@pacs:104", "dicom://A:pw@pacs:104"):
        with pytest.raises(ValueError, match="dicom://AETITLE@host:port"):
            DicomPeer.at(url, "US")
    assert DicomWebPeer("dicomweb+https://user:secret@pacs.example/dicom-web").name == "DICOMweb at pacs.example"
    for url in ("dicomweb://pacs/x", "dicomweb+ftp://pacs/x", "dicomweb+http:///x"):
        with pytest.raises(ValueError, match="a DICOMweb server is written"):
            DicomWebPeer(url)
