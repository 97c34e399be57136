"""`wetread workbench`: the server with the workbench opened; with --demo, over a phantom in a folder of its own."""

from __future__ import annotations

import os
import secrets
import sys
import webbrowser
from pathlib import Path

from app.accounts import Account, Scope
from app.bootstrap import Program, open_program
from app.demo import SHOWN
from app.errors import storage
from app.rest.serve import serve
from app.settings import Settings
from app.submit import submit
from app.terminal import counting, err
from app.workbench.session import ROOT
from dicom_io.phantom.write import write_patient

SEED = 24
READER = Account("reader", "Dr. Demo Reader", frozenset(Scope))

# What the settings say of a hospital's systems does not hold for a demonstration: it keeps all in its folder, and
# fetches and sends nothing.
ALONE: dict[str, object] = {
    "database_url": "",
    "queue_url": "",
    "blobs_url": "",
    "vectors_url": "",
    "results_to": "",
    "pacs_url": "",
    "serve_host": "127.0.0.1",
    "organization": "Demo hospital",
}


def start(program: Program) -> None:
    """Serve until Ctrl-C or SIGTERM; a browser is opened where there is a screen."""

    def ready(address: str) -> None:
        err.print(f"  the workbench is at {address}{ROOT}/", markup=False)
        if has_screen():
            webbrowser.open(f"{address}{ROOT}/")

    serve(program, with_worker=True, ready=ready)


def start_demo(folder: Path, settings: Settings) -> None:
    """A phantom patient's films and CT are brought in as a user's would be; the account and its password are told."""
    program = open_program(settings)
    with storage(folder):
        if not (folder / "dicom" / "truth.json").is_file():
            err.print(f"drawing phantom patient {SEED}: two radiographs and a CT, as DICOM, in {folder / 'dicom'}")
            write_patient(SEED, folder / "dicom", kinds=SHOWN)
    with counting("ingesting") as tick:
        ingested = program.archive.ingest([folder / "dicom"], progress=tick)
    arrived = [row for row in program.archive.studies() if row.uid in ingested.study_uids]
    for row in reversed(arrived):  # oldest first, so that the newest stands at the top of the list
        submit(program, row.uid, READER.name)
    password = secrets.token_urlsafe(12)
    program.accounts.add(READER, password)
    err.print(f"  log in as [bold]{READER.name}[/bold] with the password [bold]{password}[/bold], shown this once")
    start(program)


def has_screen() -> bool:
    """Whether a browser would open in a window: in a terminal without one it would take the terminal."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
