"""Workers are killed in the middle of their jobs; at the end there is one report for each job, none lost, none twice.

With the real command, the real pipeline (on images so small that every expert says why it does not assess them), and
real servers. A worker is stopped before it is killed, so that it is certain to hold a job at that moment.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from app.adapters.celery_queue import CeleryQueue
from app.adapters.database.engine import Database
from app.adapters.database.jobs import DatabaseJobs
from app.adapters.database.tables import jobs, reports
from app.adapters.huey_queue import HueyQueue
from app.ports import Queue
from dicom_io.archive import FolderArchive
from dicom_io.identity import site_secret

STUDIES = 50
DONE_BEFORE_A_KILL = (0, 12, 25)
KILLED = len(DONE_BEFORE_A_KILL)


@pytest.fixture
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """(queue_url, database_url) of empty ones."""
    if request.param == "huey+sqlite, SQLite":
        return f"huey+sqlite://{tmp_path}/jobs.db", f"sqlite:///{tmp_path}/wetread.db"
    return f"celery+{request.getfixturevalue('rabbitmq_url')}", request.getfixturevalue("postgres_database")


@pytest.mark.slow
@pytest.mark.parametrize("urls", ["huey+sqlite, SQLite", "celery+amqp, PostgreSQL"], indirect=True)
def test_workers_killed_three_times_leave_one_report_for_each_job(urls: tuple[str, str], tmp_path: Path) -> None:
    queue_url, database_url = urls
    queue: Queue = CeleryQueue(queue_url) if queue_url.startswith("celery") else HueyQueue(queue_url)
    database = Database(database_url)
    store = DatabaseJobs(database)
    archive = FolderArchive(tmp_path / "archive", site_secret(tmp_path))
    archive.ingest((f"{number}.dcm", tiny_radiograph(number)) for number in range(STUDIES))
    for row in archive.studies():
        queue.send(store.submit(row.uid, archive.study_hash(row.uid), "test")[0].id)

    environment = os.environ | {
        "WETREAD_HOME": str(tmp_path),
        "WETREAD_QUEUE_URL": queue_url,
        "WETREAD_DATABASE_URL": database_url,
        "WETREAD_VECTORS_URL": "memory:",
        "WETREAD_EMBEDDER_URL": "hashing:",
        "WETREAD_LEASE_S": "3",
        "WETREAD_LOG_LEVEL": "info",
        "OMP_NUM_THREADS": "1",
    }
    with workers(environment, tmp_path, KILLED + 1) as at_work:
        for done in DONE_BEFORE_A_KILL:
            until(lambda done=done: store.counts()["done"] >= done, at_work)
            victim = stopped_with_a_job_in_hand(at_work, database)
            victim.kill()
            victim.wait()
            at_work.remove(victim)
        (last,) = at_work
        until(lambda: store.counts()["done"] == STUDIES, at_work)
        last.send_signal(signal.SIGTERM)
        assert last.wait(20) == 0

    assert store.counts() == {"waiting": 0, "running": 0, "done": STUDIES, "failed": 0}
    with database.reading() as connection:
        kept = connection.execute(sa.select(reports.c.study_uid, reports.c.version, reports.c.job_id)).all()
        attempts = connection.scalar(sa.select(sa.func.sum(jobs.c.attempts)))
    database.close()
    assert len(kept) == len({row.study_uid for row in kept}) == len({row.job_id for row in kept}) == STUDIES
    assert {row.version for row in kept} == {1}
    assert attempts >= STUDIES + KILLED


def tiny_radiograph(number: int) -> bytes:
    """A chest radiograph of 64 x 64, of a patient of its own."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID, dataset.StudyInstanceUID = generate_uid(), generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.PatientID, dataset.Modality, dataset.ImageType = f"P{number}", "DX", ["ORIGINAL", "PRIMARY"]
    dataset.StudyDate, dataset.StudyTime, dataset.BodyPartExamined = "20240131", "081500", "CHEST"
    dataset.ViewPosition, dataset.PatientOrientation = "PA", ["L", "F"]
    dataset.Rows = dataset.Columns = 64
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelData = np.random.default_rng(number).integers(0, 4096, (64, 64)).astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


@contextmanager
def workers(environment: dict[str, str], folder: Path, number: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many workers; they load all at once, for that takes the most time here. All are gone at the end."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for each in range(number):
            with (folder / f"worker-{each}.log").open("wb") as log:
                command = [str(Path(sys.executable).with_name("wetread")), "worker"]
                started.append(subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log))
        yield started.copy()
    finally:
        for worker in started:
            worker.kill()
            worker.wait()


def stopped_with_a_job_in_hand(at_work: list[subprocess.Popen[bytes]], database: Database) -> subprocess.Popen[bytes]:
    """Some worker, stopped at a moment when the database says that it has a job."""
    names = sa.select(jobs.c.worker).where(jobs.c.state == "running")

    def busy() -> list[subprocess.Popen[bytes]]:
        with database.reading() as connection:
            held_by = connection.scalars(names).all()
        return [each for each in at_work if any(f"-{each.pid}-" in name for name in held_by)]

    while True:
        until(lambda: bool(busy()), at_work)
        for each in busy():
            each.send_signal(signal.SIGSTOP)
            if each in busy():
                return each
            each.send_signal(signal.SIGCONT)


def until(is_so: Callable[[], bool], needed: list[subprocess.Popen[bytes]], within_s: float = 120) -> None:
    end = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < end, "it did not come about in time"
        assert all(each.poll() is None for each in needed), "a worker has ended"
        time.sleep(0.005)
