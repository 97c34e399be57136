"""The demo PACS of docker-compose.yml, run by a real Orthanc: images are forwarded, what we send is not."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import httpx
import pydicom
import pytest
import yaml
from pydicom.data import get_testdata_file

from dicom_io.listen import Listener, Received
from dicom_io.query import DicomPeer

ROOT = Path(__file__).parents[2]
WITHIN_S = 30.0


@dataclass
class Inbox:
    """Keeps what comes; a dicom_io.listen.Keeper."""

    folder: Path
    files: list[Path] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def keep(self, received: Received) -> None:
        with self.lock:
            self.files.append(received.path.replace(self.folder / f"{len(self.files)}.dcm"))


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[tuple[Inbox, int]]:
    box = Inbox(tmp_path)
    listener = Listener("WETREAD", tmp_path / "incoming", box.keep, port=0)
    yield box, listener.start()
    listener.stop()


@pytest.fixture
def pacs(inbox: tuple[Inbox, int], tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Orthanc as the compose file configures it, but for ports and folders; its DICOM and its HTTP port."""
    program, plugin = shutil.which("Orthanc"), Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
    if program is None or not plugin.exists():
        pytest.skip("Orthanc or its DICOMweb plugin is not installed")
    configs = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["configs"]
    settings = json.loads(configs["orthanc"]["content"])
    title, host, port = settings["DicomModalities"]["wetread"]
    assert (title, host, port) == ("WETREAD", "listener", 11112)
    assert settings["LuaScripts"] == ["/etc/orthanc/forward.lua"]
    (tmp_path / "forward.lua").write_text(configs["forward"]["content"])
    dicom, http = free_port(), free_port()
    settings |= {
        "DicomPort": dicom,
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "DicomModalities": {"wetread": [title, "127.0.0.1", inbox[1]]},
        "LuaScripts": [str(tmp_path / "forward.lua")],
        "StorageDirectory": str(tmp_path / "storage"),
        "IndexDirectory": str(tmp_path / "storage"),
        "Plugins": [str(plugin)],
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    server = subprocess.Popen(
        [program, str(tmp_path / "orthanc.json")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + WITHIN_S
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{http}/system").raise_for_status()
                break
            except httpx.HTTPError:
                assert time.monotonic() < until, "Orthanc did not start with the compose file's configuration"
                time.sleep(0.1)
        yield dicom, http
    finally:
        server.terminate()
        server.wait(WITHIN_S)


def test_images_are_forwarded_and_what_we_send_is_not(
    inbox: tuple[Inbox, int], pacs: tuple[int, int], tmp_path: Path
) -> None:
    dicom, http = pacs
    image = Path(str(get_testdata_file("CT_small.dcm")))
    ours = tmp_path / "ours.dcm"
    dataset = pydicom.dcmread(image)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.1"
    dataset.save_as(ours)
    DicomPeer("ORTHANC", "127.0.0.1", dicom, "WETREAD").store([ours])
    DicomPeer("ORTHANC", "127.0.0.1", dicom, "CT1").store([image])
    until = time.monotonic() + WITHIN_S
    while not inbox[0].files and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(0.5)  # had ours been forwarded too, it would have come first
    came = [pydicom.dcmread(file).SOPInstanceUID for file in inbox[0].files]
    assert came == [pydicom.dcmread(image).SOPInstanceUID]
    answer = httpx.get(f"http://127.0.0.1:{http}/dicom-web/studies", headers={"Accept": "application/dicom+json"})
    assert len(answer.raise_for_status().json()) == 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
