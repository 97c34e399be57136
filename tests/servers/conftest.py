"""A real PACS: Orthanc with DIMSE and DICOMweb, which forwards to wetread what modalities send it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
FORWARD = """
function OnStoredInstance(instanceId, tags, metadata, origin)
  local wanted = { CR = true, DX = true, CT = true }
  if wanted[tags['Modality']] and origin['RequestOrigin'] == 'DicomProtocol' and origin['RemoteAet'] ~= 'WETREAD' then
    SendToModality(instanceId, 'wetread')
  end
end
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Orthanc:
    """One that runs. wetread_port: where it expects us, with the AE title WETREAD."""

    dicom_port: int
    http_port: int
    wetread_port: int

    @property
    def dicom_url(self) -> str:
        return f"dicom://ORTHANC@127.0.0.1:{self.dicom_port}"

    @property
    def web_url(self) -> str:
        return f"dicomweb+http://doctor:secret@127.0.0.1:{self.http_port}/dicom-web"

    def ask(self, path: str) -> object:
        answer = httpx.get(f"http://127.0.0.1:{self.http_port}{path}", auth=("doctor", "secret"), timeout=30)
        return answer.raise_for_status().json()

    def upload(self, file: Path) -> None:
        url = f"http://127.0.0.1:{self.http_port}/instances"
        httpx.post(url, content=file.read_bytes(), auth=("doctor", "secret"), timeout=30).raise_for_status()

    def count(self, of: str) -> int:
        """of: patients, studies, series or instances."""
        statistics = self.ask("/statistics")
        assert isinstance(statistics, dict)
        return int(statistics[f"Count{of.capitalize()}"])


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    """An empty Orthanc."""
    program = shutil.which("Orthanc")
    if program is None or not DICOMWEB.exists():
        pytest.skip("Orthanc or its DICOMweb plugin is not installed")
    running = Orthanc(free_port(), free_port(), free_port())
    folder = tmp_path / "orthanc"
    folder.mkdir()
    (folder / "forward.lua").write_text(FORWARD)
    (folder / "orthanc.json").write_text(
        json.dumps(
            {
                "StorageDirectory": str(folder / "storage"),
                "IndexDirectory": str(folder / "storage"),
                "HttpPort": running.http_port,
                "RemoteAccessAllowed": False,
                "AuthenticationEnabled": True,
                "RegisteredUsers": {"doctor": "secret"},
                "DicomPort": running.dicom_port,
                "DicomAet": "ORTHANC",
                "DicomModalities": {"wetread": ["WETREAD", "127.0.0.1", running.wetread_port]},
                "DicomAlwaysAllowStore": True,
                "DicomAlwaysAllowFind": True,
                "DicomAlwaysAllowGet": True,
                "DicomAlwaysAllowMove": True,
                "StableAge": 1,
                "Plugins": [str(DICOMWEB)],
                "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
                "LuaScripts": [str(folder / "forward.lua")],
            }
        )
    )
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [program, str(folder / "orthanc.json")],
            env=os.environ | {"TCP_NODELAY": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: answers(running), 60, "Orthanc answers")
        yield running
    finally:
        server.kill()  # an orderly end takes it seconds, and what it has stored goes with the folder
        server.wait(30)


def answers(orthanc: Orthanc) -> bool:
    try:
        return isinstance(orthanc.ask("/system"), dict)
    except httpx.HTTPError:
        return False


def wait_until(is_so: Callable[[], bool], seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(0.1)


@pytest.fixture
def wait() -> Callable[[Callable[[], bool], float, str], None]:
    return wait_until
