"""Every database that the suites run over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from app.adapters.database.engine import Database


@pytest.fixture(params=["sqlite://", "sqlite:///{folder}/wetread.db", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind; on PostgreSQL one of its own, made and dropped around the test."""
    if request.param != "postgresql":
        database = Database(request.param.format(folder=tmp_path))
        yield database
        database.close()
        return
    server = sa.make_url(request.getfixturevalue("postgres_url"))
    name = f"test_{uuid4().hex[:12]}"
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    database = Database(server.set(database=name).render_as_string(hide_password=False))
    yield database
    database.close()
    with admin.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name}"))
    admin.dispose()
