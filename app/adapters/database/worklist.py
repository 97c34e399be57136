"""The studies that came in, with the state of their jobs and reports."""

from __future__ import annotations

import sqlalchemy as sa

from app.adapters.database.engine import Database
from app.adapters.database.tables import jobs, reports, studies
from app.jobs import JobState
from app.worklist import Arrival, WorkRow
from dicom_io.study import Modality


class DatabaseWorklist:
    """Implements app.ports.Worklist."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, arrival: Arrival) -> None:
        """Note a study that came in, or what it has become; when it first came in stays."""
        values = {
            "study_key": arrival.study_key,
            "patient_key": arrival.patient_key,
            "acquired_on": arrival.acquired_on,
            "modalities": "\\".join(arrival.modalities),
            "instances": arrival.instances,
        }
        with self._database.writing() as connection:
            self._database.alone(connection, studies)
            same = studies.c.study_uid == arrival.study_uid
            if connection.execute(studies.update().where(same).values(**values)).rowcount == 0:
                connection.execute(
                    studies.insert().values(study_uid=arrival.study_uid, arrived_at=arrival.arrived_at, **values)
                )

    def uid_of(self, study_key: str) -> str:
        """The Study Instance UID behind a keyed hash; KeyError when no such study came in."""
        with self._database.reading() as connection:
            uid = connection.scalar(sa.select(studies.c.study_uid).where(studies.c.study_key == study_key))
        if uid is None:
            raise KeyError("no such study")
        return str(uid)

    def rows(self, limit: int = 100, *, before: int = 0) -> tuple[WorkRow, ...]:
        """The studies that came in last, newest first, after leaving out the first `before` of them."""
        return self._rows(
            _rows().order_by(studies.c.arrived_at.desc(), studies.c.study_uid).limit(limit).offset(before)
        )

    def row(self, study_uid: str) -> WorkRow:
        """The row of one study; KeyError when it never came in."""
        found = self._rows(_rows().where(studies.c.study_uid == study_uid))
        if not found:
            raise KeyError("no such study")
        return found[0]

    def _rows(self, statement: sa.Select[tuple[object, ...]]) -> tuple[WorkRow, ...]:
        with self._database.reading() as connection:
            return tuple(_row(row) for row in connection.execute(statement))


def _rows() -> sa.Select[tuple[object, ...]]:
    """Every study with its newest job, its newest report, and the number of the newest signed one."""
    newest_job = (
        sa.select(jobs.c.id)
        .where(jobs.c.study_uid == studies.c.study_uid)
        .order_by(jobs.c.created_at.desc())
        .limit(1)
        .correlate(studies)
        .scalar_subquery()
    )
    versions = sa.select(sa.func.max(reports.c.version)).where(reports.c.study_uid == studies.c.study_uid)
    newest_version = versions.correlate(studies).scalar_subquery()
    newest_signed = versions.where(reports.c.is_draft.is_(False)).correlate(studies).scalar_subquery()
    newest_report = sa.and_(reports.c.study_uid == studies.c.study_uid, reports.c.version == newest_version)
    joined = studies.outerjoin(jobs, jobs.c.id == newest_job).outerjoin(reports, newest_report)
    return sa.select(
        studies,
        jobs.c.id.label("job_id"),
        jobs.c.state,
        jobs.c.stage,
        jobs.c.reason,
        reports.c.version,
        reports.c.is_draft,
        reports.c.author,
        newest_signed.label("signed_version"),
    ).select_from(joined)


def _row(row: sa.Row[tuple[object, ...]]) -> WorkRow:
    fields = row._mapping
    arrival = Arrival(
        study_uid=fields["study_uid"],
        study_key=fields["study_key"],
        patient_key=fields["patient_key"],
        acquired_on=fields["acquired_on"],
        modalities=tuple(Modality(each) for each in fields["modalities"].split("\\")),
        instances=fields["instances"],
        arrived_at=fields["arrived_at"],
    )
    return WorkRow(
        arrival,
        job_id=fields["job_id"] or "",
        job_state=JobState(fields["state"]) if fields["state"] else None,
        stage=fields["stage"] or "",
        reason=fields["reason"] or "",
        version=fields["version"] or 0,
        is_draft=True if fields["is_draft"] is None else fields["is_draft"],
        author=fields["author"] or "",
        signed_version=fields["signed_version"] or 0,
    )
