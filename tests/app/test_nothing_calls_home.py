"""A whole run under an audit hook: no name is looked up, nobody but this machine is spoken to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

GUARD = """
import sys

def guard(event, arguments):
    if event == "socket.getaddrinfo" and arguments[0] not in (None, "localhost", "127.0.0.1", "::1", b"localhost"):
        print("ESCAPE looked up a host", file=sys.stderr)
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        if isinstance(address, tuple) and address[0] not in ("localhost", "127.0.0.1", "::1"):
            print("ESCAPE reached for a host", file=sys.stderr)

sys.addaudithook(guard)
"""

CHATTY = """
import socket
from contextlib import suppress

class Chatty:
    def __init__(self, device): pass
    def prepare(self):
        with suppress(OSError):
            socket.create_connection(("192.0.2.1", 9), timeout=0.01)
"""


def guarded(code: str, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code under the guard, and every Python process that it starts: each begins with sitecustomize."""
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard/sitecustomize.py").write_text(GUARD)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WETREAD_", "HF_"))}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=kept | {"PYTHONPATH": f"{tmp_path / 'guard'}{os.pathsep}{ROOT}"},
    )


def test_the_guard_catches_a_look_up(tmp_path: Path) -> None:
    code = "import socket\ntry: socket.create_connection(('192.0.2.1', 9), timeout=0.01)\nexcept OSError: pass"
    assert "ESCAPE" in guarded(code, tmp_path).stderr


def test_the_guard_watches_the_process_of_the_experts(tmp_path: Path) -> None:
    (tmp_path / "chatty.py").write_text(CHATTY)
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from expert_models.isolated import ExpertProcess, Limits\n"
        "from expert_models.recipe import Recipe\n"
        "from expert_models.wire import CarriedMasks\n"
        "process = ExpertProcess(Limits())\n"
        "process.ask(Recipe('chatty', 'chatty:Chatty'), 'cpu', None, CarriedMasks())\n"
        "process.close()\n"
    )
    assert "ESCAPE" in guarded(code, tmp_path).stderr


@pytest.mark.slow
@pytest.mark.timeout(1200)  # on two slow cores that others use as well
def test_the_demo_speaks_to_nobody_and_logs_no_patient(tmp_path: Path) -> None:
    run = guarded("from app.cli import main; main()", tmp_path, "demo", "--out", "demo")
    assert run.returncode == 0, run.stderr
    assert "ESCAPE" not in run.stderr
    assert "PHANTOM^" not in run.stderr + run.stdout
    for kind in ("xray", "ct"):
        names = {path.name for path in (tmp_path / "demo" / kind).iterdir()}
        assert {"report.json", "report.html", "report.pdf", "report-sr.dcm", "report-fhir.json"} <= names
        assert any(name.startswith("report-seg") for name in names)
    for heading in ("INDICATION", "TECHNIQUE", "COMPARISON", "FINDINGS", "IMPRESSION"):
        assert run.stdout.upper().count(heading) >= 2
