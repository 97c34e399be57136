"""Jobs in a database: the truth about them. Every change of state is one statement that says what it expects."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import sqlalchemy as sa

from app.adapters.database.engine import Database
from app.adapters.database.tables import jobs
from app.jobs import MOST_ATTEMPTS, Job, JobState


class DatabaseJobs:
    """Implements app.ports.Jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def submit(self, study_uid: str, content_hash: str, requested_by: str) -> tuple[Job, bool]:
        """The job of this study and content, and whether it is new. A failed job is made to wait once more."""
        now, same = datetime.now(UTC), sa.and_(jobs.c.study_uid == study_uid, jobs.c.content_hash == content_hash)
        with self._database.writing() as connection:
            if not self._database.is_sqlite:
                connection.execute(sa.text("LOCK TABLE jobs IN SHARE ROW EXCLUSIVE MODE"))
            row = connection.execute(sa.select(jobs).where(same)).one_or_none()
            if row is not None:
                if row._mapping["state"] == JobState.FAILED:
                    connection.execute(
                        jobs.update().where(same, jobs.c.state == JobState.FAILED).values(
                            state=JobState.WAITING, attempts=0, reason="", stage="", due_at=now, sent_at=None,
                            ended_at=None, requested_by=requested_by,
                        )
                    )  # fmt: skip
                    row = connection.execute(sa.select(jobs).where(same)).one()
                return _job(row), False
            connection.execute(
                jobs.insert().values(
                    id=uuid4().hex, study_uid=study_uid, content_hash=content_hash, state=JobState.WAITING,
                    created_at=now, due_at=now, requested_by=requested_by,
                )
            )  # fmt: skip
            return _job(connection.execute(sa.select(jobs).where(same)).one()), True

    def take(self, job_id: str, worker: str, lease_s: float) -> Job | None:
        """The job, for this worker alone until the lease ends; None when it is not to be had."""
        now = datetime.now(UTC)
        free = sa.or_(
            sa.and_(jobs.c.state == JobState.WAITING, jobs.c.due_at <= now),
            sa.and_(jobs.c.state == JobState.RUNNING, jobs.c.lease_until < now),
        )
        taken = (
            jobs.update()
            .where(jobs.c.id == job_id, free)
            .values(
                state=JobState.RUNNING, worker=worker, lease_until=now + timedelta(seconds=lease_s), started_at=now,
                stage="", attempts=jobs.c.attempts + 1,
            )
        )  # fmt: skip
        with self._database.writing() as connection:
            if connection.execute(taken).rowcount != 1:
                return None
            return _job(connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).one())

    def beat(self, job_id: str, worker: str, lease_s: float, stage: str = "") -> bool:
        """Renew the lease, and say the stage when it changed; False when the job is no longer this worker's."""
        values: dict[str, object] = {"lease_until": datetime.now(UTC) + timedelta(seconds=lease_s)}
        if stage:
            values["stage"] = stage
        return self._mine(job_id, worker, values)

    def finish(self, job_id: str, worker: str) -> None:
        """Its report is saved."""
        self._mine(job_id, worker, {"state": JobState.DONE, "ended_at": datetime.now(UTC), "reason": "", "stage": ""})

    def fail(self, job_id: str, worker: str, reason: str) -> None:
        """It cannot be done."""
        ended = {"state": JobState.FAILED, "ended_at": datetime.now(UTC), "reason": reason}
        self._mine(job_id, worker, ended)

    def postpone(self, job_id: str, worker: str, reason: str, delay_s: float) -> None:
        """Wait, and try again; it fails after as many attempts as are allowed."""
        if self.get(job_id).attempts >= MOST_ATTEMPTS:
            self.fail(job_id, worker, f"{reason} (given up after {MOST_ATTEMPTS} attempts)")
            return
        later = datetime.now(UTC) + timedelta(seconds=delay_s)
        self._mine(job_id, worker, {"state": JobState.WAITING, "reason": reason, "due_at": later, "sent_at": None})

    def sent(self, job_id: str) -> None:
        """The queue has taken its id, just now."""
        with self._database.writing() as connection:
            connection.execute(jobs.update().where(jobs.c.id == job_id).values(sent_at=datetime.now(UTC)))

    def overdue(self, resend_after_s: float) -> tuple[str, ...]:
        """Ids of jobs that should be sent to the queue."""
        now = datetime.now(UTC)
        lost = sa.and_(jobs.c.state == JobState.RUNNING, jobs.c.lease_until < now)
        due = sa.and_(
            jobs.c.state == JobState.WAITING,
            jobs.c.due_at <= now,
            sa.or_(jobs.c.sent_at.is_(None), jobs.c.sent_at <= now - timedelta(seconds=resend_after_s)),
        )
        with self._database.writing() as connection:
            connection.execute(
                jobs.update().where(lost, jobs.c.attempts >= MOST_ATTEMPTS).values(
                    state=JobState.FAILED, ended_at=now,
                    reason=f"given up: its workers ended {MOST_ATTEMPTS} times before they had done it",
                )
            )  # fmt: skip
            again = {"state": JobState.WAITING, "due_at": now, "sent_at": None, "worker": None}
            connection.execute(jobs.update().where(lost).values(**again))
            return tuple(connection.scalars(sa.select(jobs.c.id).where(due).order_by(jobs.c.created_at)))

    def get(self, job_id: str) -> Job:
        """KeyError when there is none."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).one_or_none()
        if row is None:
            raise KeyError("no such job")
        return _job(row)

    def newest_of(self, study_uid: str) -> Job | None:
        """The newest job of a study."""
        newest = sa.select(jobs).where(jobs.c.study_uid == study_uid).order_by(jobs.c.created_at.desc()).limit(1)
        with self._database.reading() as connection:
            row = connection.execute(newest).one_or_none()
        return None if row is None else _job(row)

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(jobs.c.state, sa.func.count()).group_by(jobs.c.state)).all()
        return {state.value: 0 for state in JobState} | {str(state): count for state, count in rows}

    def _mine(self, job_id: str, worker: str, values: dict[str, object]) -> bool:
        mine = sa.and_(jobs.c.id == job_id, jobs.c.worker == worker, jobs.c.state == JobState.RUNNING)
        with self._database.writing() as connection:
            return connection.execute(jobs.update().where(mine).values(**values)).rowcount == 1


def _job(row: sa.Row[tuple[object, ...]]) -> Job:
    fields = row._mapping
    return Job(
        id=fields["id"],
        study_uid=fields["study_uid"],
        content_hash=fields["content_hash"],
        state=JobState(fields["state"]),
        created_at=fields["created_at"],
        stage=fields["stage"],
        attempts=fields["attempts"],
        reason=fields["reason"],
        requested_by=fields["requested_by"],
        started_at=fields["started_at"],
        ended_at=fields["ended_at"],
    )
