"""A study has come in: note it on the worklist, make its job, and tell the queue."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256

import structlog

from app.bootstrap import Program
from app.errors import QueueUnavailable
from app.jobs import Job, JobState
from app.worklist import Arrival
from dicom_io.identity import study_key

log = structlog.get_logger()


def submit(program: Program, study_uid: str, requested_by: str) -> Job:
    """The job that reports on the study, and its order, as they are now; the same one when it was submitted before.

    The database knows the job before the queue does: a queue that does not answer only makes it wait until a worker
    looks for what is overdue. Raises KeyError when the archive has no such study.
    """
    job = job_of(program, study_uid, requested_by)
    if job.state is JobState.WAITING:
        try:
            program.queue.send(job.id)
        except QueueUnavailable as exc:
            log.warning("a job waits for the queue", job=job.id, reason=str(exc))
        else:
            program.jobs.sent(job.id)
    return job


def job_of(program: Program, study_uid: str, requested_by: str) -> Job:
    """The same without telling the queue, for those who run the job themselves."""
    note(program, study_uid)
    job, _ = program.jobs.submit(study_uid, content_of(program, study_uid), requested_by)
    program.audit.record(requested_by, "report requested", study_key(study_uid, program.secret), job=job.id)
    return job


def content_of(program: Program, study_uid: str) -> str:
    """What a report would be made from, as a sha256: the images, and the order if there is one.

    So an order that came late, or was changed, leads to a new report when one is asked for again.
    """
    images = program.archive.study_hash(study_uid)
    try:
        order = program.orders.get(program.archive.accession(study_uid))
    except KeyError:
        return images
    return sha256("\0".join([images, order.indication, order.procedure]).encode()).hexdigest()


def note(program: Program, study_uid: str) -> None:
    """Put the study on the worklist, as the archive has it. KeyError when it has no such study."""
    row = program.archive.row(study_uid)
    program.worklist.put(
        Arrival(
            study_uid=study_uid,
            study_key=study_key(study_uid, program.secret),
            patient_key=row.patient_key,
            acquired_on=row.acquired_on,
            modalities=row.modalities,
            instances=row.instances,
            arrived_at=datetime.now(UTC),
        )
    )
