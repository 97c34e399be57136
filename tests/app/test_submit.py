"""A study that came in: one job for one state of it, on the worklist, in the audit trail, and sent to the queue."""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom.data import get_testdata_file

from app.bootstrap import Program, open_program
from app.jobs import JobState
from app.orders import Order
from app.settings import Settings
from app.submit import submit

CT_SMALL = Path(str(get_testdata_file("CT_small.dcm")))


def opened(home: Path, queue_url: str = "huey+memory:") -> tuple[Program, str]:
    program = open_program(Settings(home=home, queue_url=queue_url, vectors_url="memory:", embedder_url="hashing:"))
    return program, program.archive.ingest([CT_SMALL]).study_uids[0]


def test_a_study_submitted_twice_is_one_job_and_both_are_audited(tmp_path: Path) -> None:
    program, uid = opened(tmp_path)
    first, second = submit(program, uid, "pacs"), submit(program, uid, "rest")
    assert first.id == second.id
    assert [(entry.actor, entry.detail["job"]) for entry in program.audit.entries()] == [
        ("rest", first.id),
        ("pacs", first.id),
    ]
    assert [row.job_id for row in program.worklist.rows()] == [first.id]
    assert uid not in str(program.audit.entries())


def test_a_study_that_has_grown_is_another_job(tmp_path: Path) -> None:
    program, uid = opened(tmp_path)
    first = submit(program, uid, "pacs")
    dataset = pydicom.dcmread(CT_SMALL)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.7"
    dataset.save_as(tmp_path / "more.dcm")
    program.archive.ingest([tmp_path / "more.dcm"])
    assert submit(program, uid, "pacs").id != first.id


def test_an_order_that_came_later_is_another_job(tmp_path: Path) -> None:
    program, _ = opened(tmp_path)
    dataset = pydicom.dcmread(CT_SMALL)
    dataset.AccessionNumber, dataset.StudyInstanceUID = "A1", "2.25.8"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.9"
    dataset.save_as(tmp_path / "ordered.dcm")
    program.archive.ingest([tmp_path / "ordered.dcm"])
    first = submit(program, "2.25.8", "pacs")
    program.orders.put(Order("A1", indication="haemoptysis"))
    assert submit(program, "2.25.8", "pacs").id != first.id


def test_a_queue_that_is_away_costs_no_job(tmp_path: Path) -> None:
    program, uid = opened(tmp_path, "huey+redis://127.0.0.1:1/0")
    job = submit(program, uid, "pacs")
    assert program.jobs.get(job.id).state is JobState.WAITING
