"""Reports in a database, every version kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from app.errors import BadSetting, StorageFailed
from app.results.record import REPORT_JSON
from medmllm.report import Report

metadata = sa.MetaData()

reports = sa.Table(
    "reports",
    metadata,
    sa.Column("study_uid", sa.String(64), primary_key=True),  # VR UI holds at most 64 characters (PS3.5 table 6.2-1)
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("writer", sa.String(200), nullable=False),
    sa.Column("body", sa.Text, nullable=False),  # REPORT_JSON
)


class DatabaseReports:
    """Implements app.ports.Reports over any SQLAlchemy URL. Opens nothing until it is used."""

    def __init__(self, url: str) -> None:
        try:
            self._engine = sa.create_engine(url)
        except ArgumentError as exc:
            raise BadSetting("database_url is not a database URL") from exc
        except ImportError as exc:
            raise BadSetting(f"database_url needs a driver that is not installed: {exc.name}") from exc
        self._is_ready = False

    def save(self, report: Report) -> None:
        """Keep a new version of the study's report."""
        newest = sa.select(sa.func.max(reports.c.version)).where(reports.c.study_uid == report.study_uid)
        with self._connection() as connection:
            version = (connection.scalar(newest) or 0) + 1
            connection.execute(
                reports.insert().values(
                    study_uid=report.study_uid,
                    version=version,
                    written_at=datetime.now(UTC),
                    writer=report.writer,
                    body=REPORT_JSON.dump_json(report).decode(),
                )
            )

    def load(self, study_uid: str) -> Report:
        """The newest version; KeyError when there is none."""
        newest = sa.select(reports.c.body).where(reports.c.study_uid == study_uid)
        with self._connection() as connection:
            body = connection.scalar(newest.order_by(reports.c.version.desc()).limit(1))
        if body is None:
            raise KeyError("no report on this study")
        return REPORT_JSON.validate_json(body)

    def close(self) -> None:
        """Let the connections go."""
        self._engine.dispose()

    @contextmanager
    def _connection(self) -> Iterator[sa.Connection]:
        try:
            if not self._is_ready:
                metadata.create_all(self._engine)
                self._is_ready = True
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as exc:
            cause = str(getattr(exc, "orig", None) or type(exc).__name__).splitlines()[0]
            raise StorageFailed(f"the database of reports does not work: {cause}") from exc
