"""The audit trail in a table that only grows: the database refuses changes, and a chain of hashes would show them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import sqlalchemy as sa

from app.adapters.database.engine import Database
from app.adapters.database.tables import audit
from app.audit import Entry, chained


class DatabaseAudit:
    """Implements app.ports.Audit."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, actor: str, action: str, study_key: str = "", **detail: str | int) -> None:
        """Append an entry. detail: no names, dates or UIDs of patients."""
        with self._database.writing() as connection:
            if not self._database.is_sqlite:  # one at a time: each needs the one before it
                connection.execute(sa.text("LOCK TABLE audit IN EXCLUSIVE MODE"))
            newest = sa.select(audit.c.number, audit.c.digest).order_by(audit.c.number.desc()).limit(1)
            last = connection.execute(newest).one_or_none()
            number, before = (1, "") if last is None else (last[0] + 1, last[1])
            at = datetime.now(UTC)
            connection.execute(
                audit.insert().values(
                    number=number,
                    at=at,
                    actor=actor,
                    action=action,
                    study_key=study_key,
                    detail=json.dumps(detail, sort_keys=True),
                    digest=chained(before, number, at, actor, action, study_key, detail),
                )
            )

    def entries(self, *, study_key: str | None = None, limit: int = 1000) -> tuple[Entry, ...]:
        """The newest entries, newest first."""
        wanted = sa.select(audit).order_by(audit.c.number.desc()).limit(limit)
        if study_key is not None:
            wanted = wanted.where(audit.c.study_key == study_key)
        with self._database.reading() as connection:
            return tuple(_entry(row) for row in connection.execute(wanted))

    def broken_at(self) -> int | None:
        """The number of the first entry whose chain does not hold; None when all do."""
        before, expected = "", 1
        with self._database.reading() as connection:
            for row in connection.execute(sa.select(audit).order_by(audit.c.number)):
                entry = _entry(row)
                digest = chained(
                    before, entry.number, entry.at, entry.actor, entry.action, entry.study_key, entry.detail
                )
                if entry.number != expected or entry.digest != digest:
                    return expected
                before, expected = entry.digest, expected + 1
        return None


def _entry(row: sa.Row[tuple[object, ...]]) -> Entry:
    fields = row._mapping
    detail: dict[str, str | int] = json.loads(fields["detail"])
    return Entry(
        fields["number"],
        fields["at"],
        fields["actor"],
        fields["action"],
        fields["study_key"],
        detail,
        fields["digest"],
    )
