"""The Storage SCP, called by dcmtk and by pynetdicom: what it acknowledges is on the disk, whole."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless
from pynetdicom import build_context
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE

from dicom_io.dimse import entity
from dicom_io.errors import PeerRefused
from dicom_io.listen import Listener, Received
from dicom_io.query import DicomPeer

TITLE = "WETREAD"


class Shelf:
    """A keeper: moves what was received to a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.received: list[Received] = []
        self.failure: OSError | None = None
        folder.mkdir()

    def __call__(self, received: Received) -> None:
        if self.failure is not None:
            raise self.failure
        received.path.rename(self.folder / f"{received.sha256}.dcm")
        self.received.append(received)

    def files(self) -> list[bytes]:
        return sorted(path.read_bytes() for path in self.folder.iterdir())


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf")


@pytest.fixture
def listen(tmp_path: Path, shelf: Shelf) -> Iterator[Callable[..., DicomPeer]]:
    """Starts a listener with these options and gives a client that calls it."""
    started: list[Listener] = []

    def start(caller: str = "MODALITY", **options: Any) -> DicomPeer:
        listener = Listener(TITLE, tmp_path / "incoming", shelf, port=0, **options)
        port = listener.start()
        started.append(listener)
        return DicomPeer.at(f"dicom://{TITLE}@127.0.0.1:{port}", caller)

    yield start
    for listener in started:
        listener.stop(0.5)


def dcmtk(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    if shutil.which(program) is None:
        pytest.skip(f"{program} of dcmtk is not installed")
    return subprocess.run(
        [program, *words], env={**os.environ, "TCP_NODELAY": "1"}, text=True, capture_output=True, timeout=60
    )


def parts(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "incoming").iterdir()]


def test_what_storescu_sends_is_kept_whole(listen: Any, shelf: Shelf, make: Any, tmp_path: Path) -> None:
    files = make.save(tmp_path / "sent", *make.ct_series([0.0, 2.0]), make.dx(), make.report(make.item("TEXT")))
    address = ["-aec", TITLE, "127.0.0.1", str(listen().port)]
    sent = dcmtk("storescu", *address, *map(str, files))
    assert sent.returncode == 0, sent.stderr
    assert len(shelf.received) == 4
    for path in shelf.folder.iterdir():  # the meta information is ours, the dataset theirs
        kept, original = (
            pydicom.dcmread(path),
            next(
                dataset
                for dataset in map(pydicom.dcmread, files)
                if dataset.SOPInstanceUID in path.read_bytes().decode("latin1")
            ),
        )
        assert kept == original
        assert kept.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert kept.file_meta.MediaStorageSOPInstanceUID == kept.SOPInstanceUID
        assert dcmtk("dcmdump", "-q", "+E", str(path)).returncode == 0
        assert {each.study_uid for each in shelf.received} == {original.StudyInstanceUID}
    assert not any(each.is_retrieved for each in shelf.received)
    assert parts(tmp_path) == []


def test_sent_twice_in_a_compressed_syntax_makes_the_same_file(
    listen: Any, shelf: Shelf, make: Any, tmp_path: Path
) -> None:
    dataset = make.ct()
    dataset.compress(RLELossless, generate_instance_uid=False)
    files = make.save(tmp_path / "sent", dataset)
    peer = listen()
    peer.store(files)
    peer.store(files)
    assert len(shelf.received) == 2
    assert len(shelf.files()) == 1
    kept = pydicom.dcmread(BytesIO(shelf.files()[0]))
    assert kept.file_meta.TransferSyntaxUID == RLELossless
    assert kept.PixelData == dataset.PixelData


def test_only_those_may_call_who_are_named_and_only_by_its_name(listen: Any) -> None:
    peer = listen(callers=["CT1", "MODALITY"])
    peer.echo()
    address = ["127.0.0.1", str(peer.port)]
    assert dcmtk("echoscu", "-aet", "CT1", "-aec", TITLE, *address).returncode == 0
    assert dcmtk("echoscu", "-aet", "CT2", "-aec", TITLE, *address).returncode != 0
    assert dcmtk("echoscu", "-aet", "CT1", "-aec", "SOMEBODY", *address).returncode != 0
    with pytest.raises(PeerRefused, match="rejects the association"):
        DicomPeer(TITLE, "127.0.0.1", peer.port, "CT2").echo()


def test_a_dataset_that_is_not_what_the_request_says(
    listen: Any, shelf: Shelf, make: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    peer = listen()
    good = make.encode(make.ct(PatientName="Secret^Name"))
    uid = pydicom.dcmread(BytesIO(good)).SOPInstanceUID.encode()
    other_instance = (
        good[: good.rindex(uid)]
        + uid[:-1]
        + (b"1" if uid.endswith(b"0") else b"0")
        + good[good.rindex(uid) + len(uid) :]
    )
    start = good.index(b"\x08\x00\x08\x00")  # Image Type, the first element of this dataset
    cases = {
        b"garbage": (good[:start] + b"\xff" * 400, "0xC000"),
        b"cut short": (good[:-10], "0xC000"),
        b"another instance": (other_instance, "0xA900"),
        b"no study": (make.encode(make.ct(StudyInstanceUID=None)), "0xA900"),
    }
    for name, (data, status) in cases.items():
        path = tmp_path / f"{name.decode()}.dcm"
        path.write_bytes(data)
        with pytest.raises(PeerRefused, match=status):
            peer.store([path])
    assert shelf.files() == []
    assert parts(tmp_path) == []
    assert "Secret" not in caplog.text
    assert "1.2.826" not in caplog.text
    assert caplog.text.count("an instance was refused") == 4


def full(path: Path) -> BinaryIO:
    path.touch()
    return open("/dev/full", "wb", buffering=0)  # noqa: PTH123


def test_a_full_disk_is_out_of_resources(listen: Any, shelf: Shelf, make: Any, tmp_path: Path) -> None:
    files = make.save(tmp_path / "sent", *make.ct_series([0.0, 2.0]))
    with pytest.raises(PeerRefused, match="0xA700"):
        listen(opened=full).store(files)
    shelf.failure = OSError(28, "No space left on device")
    peer = listen()
    with pytest.raises(PeerRefused, match="0xA700"):
        peer.store(files)
    assert parts(tmp_path) == []
    shelf.failure = None
    peer.store(files)
    assert len(shelf.files()) == 2


def test_what_comes_by_our_own_c_move_is_told_apart(listen: Any, shelf: Shelf, make: Any, tmp_path: Path) -> None:
    [file] = make.save(tmp_path / "sent", make.ct())
    peer = listen()
    association = entity("PACS").associate(
        peer.host, peer.port, [build_context(CTImageStorage, ExplicitVRLittleEndian)], TITLE
    )
    for originator in (TITLE, "ANOTHER"):
        assert association.send_c_store(file, originator_aet=originator, originator_id=1).Status == 0
    association.release()
    assert [each.is_retrieved for each in shelf.received] == [True, False]


def test_a_sender_that_goes_away_leaves_nothing(listen: Any, shelf: Shelf, make: Any, tmp_path: Path) -> None:
    peer = listen()
    association = entity("MODALITY").associate(
        peer.host, peer.port, [build_context(CTImageStorage, ExplicitVRLittleEndian)], TITLE
    )
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = CTImageStorage, "1.2.3"
    request.DataSet = BytesIO(bytes(100_000))
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    fragments = list(message.encode_msg(1, 10_000))
    for fragment in fragments[: len(fragments) // 2]:
        association.dul.send_pdu(fragment)
    until = time.monotonic() + 10
    while not parts(tmp_path) and time.monotonic() < until:
        time.sleep(0.01)
    assert parts(tmp_path) != []
    association.abort()
    while parts(tmp_path) and time.monotonic() < until:
        time.sleep(0.01)
    assert parts(tmp_path) == []
    assert shelf.files() == []


def test_nonsense_on_the_port_ends_only_its_own_connection(listen: Any) -> None:
    peer = listen()
    for nonsense in (b"GET / HTTP/1.1\r\n\r\n", b"\x01\0" + b"\x7f\xff\xff\xff" + b"\0" * 64, b"\x01\0\0\0\0\4abcd"):
        with socket.create_connection((peer.host, peer.port), timeout=10) as connection:
            connection.sendall(nonsense)
            try:
                while connection.recv(4096):  # an A-ABORT, perhaps, then the end
                    pass
            except ConnectionResetError:
                pass
    for _ in range(40):  # more than there may be associations at once
        socket.create_connection((peer.host, peer.port), timeout=10).close()
    until = time.monotonic() + 10
    while True:
        try:
            peer.echo()
            break
        except PeerRefused:
            assert time.monotonic() < until
            time.sleep(0.1)
