"""`wetread demo`: a phantom patient, made, archived and reported on, as a user's own study would be."""

from __future__ import annotations

from pathlib import Path

from app.bootstrap import open_program
from app.errors import storage
from app.reporting import report_and_write
from app.settings import Settings
from app.terminal import counting, err, out
from dicom_io.archive import StudyRow
from dicom_io.phantom.write import write_patient


def run_demo(folder: Path, seed: int, settings: Settings) -> None:
    """Write the phantom's studies below FOLDER/dicom, report on its newest radiograph and its CT."""
    program = open_program(settings)
    with storage(folder):
        err.print(f"drawing phantom patient {seed}: two radiographs and a CT, as DICOM, in {folder / 'dicom'}")
        write_patient(seed, folder / "dicom")
    with counting("ingesting") as tick:
        ingested = program.archive.ingest([folder / "dicom"], progress=tick)
    newest: dict[str, StudyRow] = {}
    for row in program.archive.studies():
        if row.uid in ingested.study_uids:
            kind = "ct" if "CT" in row.modalities else "xray"
            if kind not in newest or row.acquired_on > newest[kind].acquired_on:
                newest[kind] = row
    for kind, title in (("xray", "CHEST RADIOGRAPH WITH A PRIOR"), ("ct", "CHEST CT")):
        out.rule(title)
        report_and_write(program, newest[kind].uid, folder / kind)
    out.rule()
    out.print(f"Open {folder / 'xray' / 'report.html'} and {folder / 'ct' / 'report.html'} in a browser.")
