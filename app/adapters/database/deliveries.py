"""The outbox: which version is to be sent where, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
import structlog

from app.adapters.database.engine import Database
from app.adapters.database.tables import deliveries
from app.adapters.database.versions import DatabaseReports, note_deliveries
from app.outgoing import MOST_ATTEMPTS, Delivery, DeliveryState, pause_s
from dicom_io.identity import study_key
from medmllm.report import Report

log = structlog.get_logger()


class DatabaseOutbox:
    """Implements app.ports.Outbox: one delivery for each destination, and a log line under the study's keyed hash."""

    def __init__(
        self, database: Database, versions: DatabaseReports, destinations: Sequence[str], secret: bytes
    ) -> None:
        self._database = database
        self._versions = versions
        self._destinations = tuple(destinations)
        self._secret = secret

    def announce(self, report: Report) -> None:
        """Note where the newest version that holds this report is to go; what is noted already stays as it is."""
        numbers = [each.number for each in self._versions.history(report.study_uid) if each.report == report]
        if not numbers:
            raise ValueError("a report is announced after it was saved")
        with self._database.writing() as connection:
            note_deliveries(self._database, connection, report.study_uid, numbers[-1], self._destinations)
        log.info(
            "report saved",
            study=study_key(report.study_uid, self._secret),
            version=numbers[-1],
            writer=report.writer,
            sentences=len(report.sentences),
            findings=len(report.findings),
        )


class DatabaseDeliveries:
    """Implements app.ports.Deliveries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, worker: str, lease_s: float) -> Delivery | None:
        """The next delivery that is due, for this worker alone until the lease ends; None when nothing is due."""
        now = datetime.now(UTC)
        free = sa.and_(
            deliveries.c.state == DeliveryState.WAITING,
            deliveries.c.due_at <= now,
            sa.or_(deliveries.c.lease_until.is_(None), deliveries.c.lease_until < now),
        )
        first = sa.select(deliveries.c.id).where(free).order_by(deliveries.c.created_at, deliveries.c.version).limit(1)
        with self._database.writing() as connection:
            found = connection.scalar(first if self._database.is_sqlite else first.with_for_update(skip_locked=True))
            if found is None:
                return None
            connection.execute(
                deliveries.update()
                .where(deliveries.c.id == found)
                .values(
                    worker=worker,
                    lease_until=now + timedelta(seconds=lease_s),
                    attempts=deliveries.c.attempts + 1,
                )
            )
            return _delivery(connection.execute(sa.select(deliveries).where(deliveries.c.id == found)).one())

    def sent(self, delivery_id: str, remark: str = "") -> None:
        """It has arrived. remark: what of it the destination does not take."""
        self._set(delivery_id, state=DeliveryState.SENT, sent_at=datetime.now(UTC), reason=remark)

    def again(self, delivery_id: str, reason: str, delay_s: float) -> None:
        """It did not arrive: try again later; given up after as many attempts as app/outgoing.py says."""
        with self._database.reading() as connection:
            attempts = connection.scalar(sa.select(deliveries.c.attempts).where(deliveries.c.id == delivery_id))
        if (attempts or 0) >= MOST_ATTEMPTS:
            self.drop(delivery_id, f"{reason} (given up after {MOST_ATTEMPTS} attempts)")
            return
        delay = timedelta(seconds=max(delay_s, pause_s(attempts or 0)))
        self._set(delivery_id, reason=reason, due_at=datetime.now(UTC) + delay, lease_until=None)

    def drop(self, delivery_id: str, reason: str) -> None:
        """It is not to be sent any more, or never can be."""
        self._set(delivery_id, state=DeliveryState.DROPPED, reason=reason)

    def of_study(self, study_uid: str) -> tuple[Delivery, ...]:
        """Everything sent or to be sent of one study, oldest first."""
        every = sa.select(deliveries).where(deliveries.c.study_uid == study_uid)
        with self._database.reading() as connection:
            rows = connection.execute(every.order_by(deliveries.c.version, deliveries.c.destination)).all()
        return tuple(_delivery(row) for row in rows)

    def counts(self) -> dict[str, int]:
        """How many deliveries are in each state."""
        states = sa.select(deliveries.c.state, sa.func.count()).group_by(deliveries.c.state)
        with self._database.reading() as connection:
            rows = connection.execute(states).all()
        return {state.value: 0 for state in DeliveryState} | {str(state): count for state, count in rows}

    def _set(self, delivery_id: str, **values: object) -> None:
        with self._database.writing() as connection:
            connection.execute(deliveries.update().where(deliveries.c.id == delivery_id).values(**values))


def _delivery(row: sa.Row[tuple[object, ...]]) -> Delivery:
    fields = row._mapping
    return Delivery(
        id=fields["id"],
        study_uid=fields["study_uid"],
        version=fields["version"],
        destination=fields["destination"],
        state=DeliveryState(fields["state"]),
        attempts=fields["attempts"],
        reason=fields["reason"],
        sent_at=fields["sent_at"],
    )
