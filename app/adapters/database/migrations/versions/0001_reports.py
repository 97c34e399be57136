"""Reports with versions. The table may be there already, made before migrations were kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table of reports unless it is there."""
    if sa.inspect(op.get_bind()).has_table("reports"):
        return
    op.create_table(
        "reports",
        sa.Column("study_uid", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("written_at", sa.DateTime, nullable=False),
        sa.Column("writer", sa.String(200), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("reports")
