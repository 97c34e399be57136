"""`wetread listen` is killed three times while 50 studies are sent to it; nothing that it acknowledged is lost.

The sender does what a modality does: it sends again whatever was not acknowledged, and nothing else.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from threading import Thread

import numpy as np
import pydicom
import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from app.adapters.database.engine import Database
from app.adapters.database.tables import jobs
from dicom_io.errors import PeerError
from dicom_io.query import DicomPeer

STUDIES = 50
IN_SOME = 3  # images of every fifth study; the others have one
KILLED_AFTER = (10, 30, 50)  # acknowledged images
QUIET_S = 2.0


class Sender(Thread):
    """Sends each file until it is acknowledged, and remembers that."""

    def __init__(self, files: list[Path], peer: DicomPeer) -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[Path] = []
        self.failures = 0
        self._files = files
        self._peer = peer

    def run(self) -> None:
        for file in self._files:
            while True:
                try:
                    self._peer.store([file])
                except PeerError:
                    self.failures += 1
                    time.sleep(0.05)
                else:
                    self.acknowledged.append(file)
                    break


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed <socket")  # pynetdicom's, of refused connections, whenever gc comes
def test_a_listener_killed_three_times_loses_nothing_that_it_acknowledged(
    tmp_path: Path, free_port: int, wait: Callable[[Callable[[], bool], float, str], None]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    files = write_studies(tmp_path / "sent")
    sender = Sender(files, DicomPeer("WETREAD", "127.0.0.1", free_port, "XRAY"))
    listener = listen(home, free_port)
    sender.start()
    for after in KILLED_AFTER:
        wait(lambda after=after: len(sender.acknowledged) >= after, 120, f"{after} images are acknowledged")  # type: ignore[misc]
        listener.send_signal(signal.SIGKILL)
        listener.wait(30)
        listener = listen(home, free_port)
    sender.join(120)
    assert not sender.is_alive()
    assert sender.failures >= len(KILLED_AFTER)
    assert sender.acknowledged == files
    spool = home / "spool"
    wait(lambda: not list(spool.glob("*/*.dcm")), 120, "the spool is empty")
    listener.send_signal(signal.SIGTERM)
    assert listener.wait(30) == 0

    kept = Counter(pydicom.dcmread(path).SOPInstanceUID for path in (home / "archive").rglob("*.dcm"))
    assert kept == {pydicom.dcmread(file).SOPInstanceUID: 1 for file in files}
    assert not (home / "refused").exists()
    database = Database(f"sqlite:///{home / 'wetread.db'}")
    with database.reading() as connection:
        made = Counter(connection.scalars(sa.select(jobs.c.study_uid)))
    database.close()
    assert made == {pydicom.dcmread(file).StudyInstanceUID: 1 for file in files}


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listen(home: Path, port: int) -> subprocess.Popen[bytes]:
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("WETREAD_")},
        "WETREAD_HOME": str(home),
        "WETREAD_LISTEN_PORT": str(port),
        "WETREAD_QUIET_S": str(QUIET_S),
    }
    with (home / "listen.log").open("ab") as log:
        return subprocess.Popen([Path(sys.executable).with_name("wetread"), "listen"], env=variables, stderr=log)


def write_studies(folder: Path) -> list[Path]:
    """Radiographs of 4 by 4 pixels, in the order in which they are sent."""
    folder.mkdir()
    files = []
    for study in range(STUDIES):
        for image in range(IN_SOME if study % 5 == 0 else 1):
            file = folder / f"{study}-{image}.dcm"
            file.write_bytes(radiograph(study, image))
            files.append(file)
    return files


def radiograph(study: int, image: int) -> bytes:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = DigitalXRayImageStorageForPresentation
    made.SOPInstanceUID = generate_uid(entropy_srcs=["instance", str(study), str(image)])
    made.StudyInstanceUID = generate_uid(entropy_srcs=["study", str(study)])
    made.SeriesInstanceUID = generate_uid(entropy_srcs=["series", str(study)])
    made.PatientID, made.Modality = f"P-{study}", "DX"
    made.StudyDate, made.StudyTime = "20260131", "081500"
    made.Rows = made.Columns = 4
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation = 15, 0
    made.PixelData = np.full((4, 4), study * 10 + image, dtype="<u2").tobytes()
    buffer = BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
