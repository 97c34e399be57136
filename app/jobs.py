"""The noun of the queue: a job makes one report of one state of one study. What runs it is app/worker.py."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

MOST_ATTEMPTS = 5  # at one job, before it is given up


class JobState(StrEnum):
    """Where a job stands."""

    WAITING = "waiting"  # to be taken by a worker, from due_at on
    RUNNING = "running"  # taken; its worker renews the lease until it ends
    DONE = "done"  # the report is saved
    FAILED = "failed"  # it cannot be done, or was given up; reason says why


@dataclass(frozen=True, slots=True)
class Job:
    """One report to be made. It carries ids, never pixels: (study_uid, content_hash) is its key.

    content_hash: sha256 over the study's instances and its order (app.submit.content_of), so that a study sent twice is
    reported once, and one that has grown, or was asked for otherwise, is reported again. stage: the pipeline's, while
    it runs. reason: one sentence, without patient data.
    """

    id: str
    study_uid: str
    content_hash: str
    state: JobState
    created_at: datetime
    stage: str = ""
    attempts: int = 0
    reason: str = ""
    requested_by: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
