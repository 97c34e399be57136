"""Reports in a database, every version kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import uuid4

import sqlalchemy as sa

from app.adapters.database.engine import Database
from app.adapters.database.tables import deliveries, reports
from app.errors import Outdated
from app.outgoing import DeliveryState, without_password
from app.ports import Reports
from app.results.record import REPORT_JSON
from app.versions import Version
from medmllm.report import Report


class DatabaseReports:
    """Implements app.ports.Versions. destinations: where each version goes, noted in the transaction that keeps it."""

    def __init__(self, database: Database, destinations: Sequence[str] = ()) -> None:
        self._database = database
        self._destinations = tuple(destinations)

    def save(self, report: Report) -> None:
        """Keep a new version of the study's report, written by the writer it names."""
        self._keep(report)

    def save_as(self, report: Report, author: str, *, after: int | None = None) -> Version:
        """Keep a version made by a person; Outdated when a newer one than `after` exists."""
        return self._keep(report, author=author, after=after)

    def of_job(self, job_id: str) -> Reports:
        """The same store for one job, which has one report whatever happens to its workers."""
        return _ReportsOfJob(self, job_id)

    def made_by(self, job_id: str) -> Version | None:
        """The version that a job has saved, if it has."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(reports).where(reports.c.job_id == job_id)).one_or_none()
        return None if row is None else _version(row)

    def load(self, study_uid: str) -> Report:
        """The newest version; KeyError when there is none."""
        return self.newest(study_uid).report

    def newest(self, study_uid: str) -> Version:
        """The newest version with its number and author; KeyError when there is none."""
        newest = sa.select(reports).where(reports.c.study_uid == study_uid).order_by(reports.c.version.desc()).limit(1)
        with self._database.reading() as connection:
            row = connection.execute(newest).one_or_none()
        if row is None:
            raise KeyError("no report on this study")
        return _version(row)

    def history(self, study_uid: str) -> tuple[Version, ...]:
        """Every version, oldest first."""
        every = sa.select(reports).where(reports.c.study_uid == study_uid).order_by(reports.c.version)
        with self._database.reading() as connection:
            return tuple(_version(row) for row in connection.execute(every))

    def keep_for(self, report: Report, job_id: str) -> None:
        """Keep a job's report unless it has one already."""
        if self.made_by(job_id) is None:
            self._keep(report, job_id=job_id)

    def _keep(
        self, report: Report, *, author: str = "", after: int | None = None, job_id: str | None = None
    ) -> Version:
        with self._database.writing() as connection:
            if not self._database.is_sqlite:  # numbers count without gaps: one writer at a time
                connection.execute(sa.text("LOCK TABLE reports IN SHARE ROW EXCLUSIVE MODE"))
            if job_id is not None:
                kept = connection.execute(sa.select(reports).where(reports.c.job_id == job_id)).one_or_none()
                if kept is not None:
                    return _version(kept)
            newest = connection.scalar(
                sa.select(sa.func.max(reports.c.version)).where(reports.c.study_uid == report.study_uid)
            )
            if after is not None and newest != after:
                raise Outdated("the report was changed by somebody else meanwhile; open it again")
            version = Version((newest or 0) + 1, report, datetime.now(UTC), author)
            connection.execute(
                reports.insert().values(
                    study_uid=report.study_uid,
                    version=version.number,
                    written_at=version.written_at,
                    writer=report.writer,
                    author=author,
                    is_draft=report.is_draft,
                    job_id=job_id,
                    body=REPORT_JSON.dump_json(report).decode(),
                )
            )
            note_deliveries(self._database, connection, report.study_uid, version.number, self._destinations)
        return version


def note_deliveries(
    database: Database, connection: sa.Connection, study_uid: str, version: int, destinations: Sequence[str]
) -> None:
    """Note that a version is to go to these URLs, which lose their passwords; what is noted already stays as it is."""
    if not destinations:
        return
    database.alone(connection, deliveries)
    now = datetime.now(UTC)
    for destination in map(without_password, destinations):
        key = {"study_uid": study_uid, "version": version, "destination": destination}
        if connection.scalar(sa.select(deliveries.c.id).filter_by(**key)) is None:
            row = {"id": uuid4().hex, "state": DeliveryState.WAITING, "created_at": now, "due_at": now}
            connection.execute(deliveries.insert().values(**key, **row))


class _ReportsOfJob:
    """Implements app.ports.Reports for one job."""

    def __init__(self, versions: DatabaseReports, job_id: str) -> None:
        self._versions = versions
        self._job_id = job_id

    def save(self, report: Report) -> None:
        """Keep the job's report; the first one stays."""
        self._versions.keep_for(report, self._job_id)

    def load(self, study_uid: str) -> Report:
        """The newest version of the study, whoever made it."""
        return self._versions.load(study_uid)


def _version(row: sa.Row[tuple[object, ...]]) -> Version:
    fields = row._mapping
    return Version(fields["version"], REPORT_JSON.validate_json(fields["body"]), fields["written_at"], fields["author"])
