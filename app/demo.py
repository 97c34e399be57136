"""`wetread demo`: a phantom patient, made, archived and reported on, as a user's own study would be."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from app.bootstrap import open_program
from app.errors import storage
from app.pipeline import report_on
from app.reporting import hand_over
from app.settings import Settings
from app.terminal import counting, err, out, watcher
from dicom_io.archive import StudyRow
from dicom_io.phantom.patient import LesionKind
from dicom_io.phantom.write import write_patient
from dicom_io.study import Modality

SHOWN = (LesionKind.CARDIOMEGALY, LesionKind.NODULE)  # what the experts that ship can find on a film and on a CT


def run_demo(folder: Path, seed: int, settings: Settings) -> None:
    """Write the phantom's studies below FOLDER/dicom, report on its newest radiograph and its CT."""
    program = open_program(settings)
    with storage(folder):
        err.print(f"drawing phantom patient {seed}: two radiographs and a CT, as DICOM, in {folder / 'dicom'}")
        write_patient(seed, folder / "dicom", kinds=SHOWN)
    with counting("ingesting") as tick:
        ingested = program.archive.ingest([folder / "dicom"], progress=tick)
    rows = [row for row in program.archive.studies() if row.uid in ingested.study_uids]
    for kind, title, is_ct in (("xray", "CHEST RADIOGRAPH WITH A PRIOR", False), ("ct", "CHEST CT", True)):
        out.rule(title)
        uid = newest([row for row in rows if (Modality.CT in row.modalities) is is_ct])
        hand_over(program, report_on(uid, program.parts, watcher()), folder / kind)
    out.rule()
    out.print(f"Open {folder / 'xray' / 'report.html'} and {folder / 'ct' / 'report.html'} in a browser.")


def newest(rows: list[StudyRow]) -> str:
    """The uid of the study acquired last."""
    return max(rows, key=lambda row: row.acquired_on or datetime.min).uid
