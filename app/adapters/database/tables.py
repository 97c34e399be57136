"""The tables. A change needs a migration in migrations/versions and its number in HEAD; a test holds them together."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

HEAD = "0002"
UID = 64  # characters that VR UI holds at most (PS3.5 table 6.2-1)
KEY = 32  # hexadecimal digits of a keyed hash or of an id of ours


class Moment(sa.TypeDecorator[datetime]):
    """A point in time, kept as UTC without a zone, given back with it: SQLite knows no zones."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Aware in, naive UTC kept."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Naive UTC kept, aware out."""
        return None if value is None else value.replace(tzinfo=UTC)


metadata = sa.MetaData()

studies = sa.Table(
    "studies",
    metadata,
    sa.Column("study_uid", sa.String(UID), primary_key=True),
    sa.Column("study_key", sa.String(KEY), nullable=False, unique=True),
    sa.Column("patient_key", sa.String(KEY), nullable=False, index=True),
    sa.Column("acquired_on", sa.DateTime),  # in the time of the place, as DICOM states it
    sa.Column("modalities", sa.String(64), nullable=False),  # separated by backslashes, as DICOM does
    sa.Column("instances", sa.Integer, nullable=False),
    sa.Column("arrived_at", Moment, nullable=False, index=True),
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String(KEY), primary_key=True),
    sa.Column("study_uid", sa.String(UID), nullable=False),
    sa.Column("content_hash", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("stage", sa.String(32), nullable=False, default=""),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("requested_by", sa.String(200), nullable=False, default=""),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("started_at", Moment),
    sa.Column("ended_at", Moment),
    sa.Column("due_at", Moment, nullable=False),
    sa.Column("sent_at", Moment),  # to the queue; none: not yet, or not since it was made to wait again
    sa.Column("worker", sa.String(200)),
    sa.Column("lease_until", Moment),
    sa.UniqueConstraint("study_uid", "content_hash"),
)

reports = sa.Table(
    "reports",
    metadata,
    sa.Column("study_uid", sa.String(UID), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("written_at", Moment, nullable=False),
    sa.Column("writer", sa.String(200), nullable=False),
    sa.Column("body", sa.Text, nullable=False),  # REPORT_JSON
    sa.Column("author", sa.String(200), nullable=False, default=""),
    sa.Column("is_draft", sa.Boolean, nullable=False, default=True),
    sa.Column("job_id", sa.String(KEY), unique=True),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", sa.String(KEY), primary_key=True),
    sa.Column("study_uid", sa.String(UID), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("destination", sa.String(500), nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("due_at", Moment, nullable=False),
    sa.Column("sent_at", Moment),
    sa.Column("worker", sa.String(200)),
    sa.Column("lease_until", Moment),
    sa.UniqueConstraint("study_uid", "version", "destination"),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("study_key", sa.String(KEY), nullable=False, index=True),
    sa.Column("detail", sa.Text, nullable=False),  # JSON
    sa.Column("digest", sa.String(64), nullable=False),
)

accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("full_name", sa.String(200), nullable=False),
    sa.Column("scopes", sa.String(200), nullable=False),  # separated by spaces, as RFC 6749 section 3.3 does
    sa.Column("password", sa.String(300), nullable=False),  # app.accounts.hashed
    sa.Column("is_disabled", sa.Boolean, nullable=False, default=False),
)

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", sa.String(KEY), primary_key=True),
    sa.Column("label", sa.String(200), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("scopes", sa.String(200), nullable=False),
    sa.Column("study_uid", sa.String(UID)),
    sa.Column("expires_at", Moment),
    sa.Column("is_revoked", sa.Boolean, nullable=False, default=False),
)

orders = sa.Table(
    "orders",
    metadata,
    sa.Column("accession", sa.String(200), primary_key=True),
    sa.Column("indication", sa.Text, nullable=False),
    sa.Column("procedure", sa.Text, nullable=False),
    sa.Column("received_at", Moment, nullable=False),
)

idempotency = sa.Table(
    "idempotency",
    metadata,
    sa.Column("actor", sa.String(200), primary_key=True),
    sa.Column("key", sa.String(200), primary_key=True),
    sa.Column("request", sa.String(64), nullable=False),  # sha256 of what was asked
    sa.Column("job_id", sa.String(KEY), nullable=False),
    sa.Column("created_at", Moment, nullable=False),
)
