"""The connection to the database, its schema brought up to date at first use, and its errors in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from threading import Lock, RLock

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from app.adapters.database.tables import HEAD
from app.errors import BadSetting, StorageFailed

MIGRATIONS = Path(__file__).with_name("migrations")
WRITES = "wetread_writes"  # an execution option: this transaction will write


class Database:
    """One database URL. Opens nothing until it is used; safe in many threads and many processes at once."""

    def __init__(self, url: str) -> None:
        try:
            parsed = sa.make_url(url)
            self._is_sqlite = parsed.get_backend_name() == "sqlite"
            self._is_memory = self._is_sqlite and parsed.database in (None, "", ":memory:")
            self._engine = self._open(parsed)
        except ArgumentError as exc:
            raise BadSetting("database_url is not a database URL") from exc
        except ImportError as exc:
            raise BadSetting(f"database_url needs a driver that is not installed: {exc.name}") from exc
        self._is_current = False
        self._upgrading = Lock()
        self._alone: AbstractContextManager[object] = RLock() if self._is_memory else nullcontext()

    def _open(self, url: sa.URL) -> sa.Engine:
        if not self._is_sqlite:
            return sa.create_engine(url, pool_pre_ping=True)
        if self._is_memory:  # one connection, lent to one thread at a time: another would be another database
            engine = sa.create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
        else:
            engine = sa.create_engine(url, connect_args={"timeout": 30})
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """A transaction that only reads. Raises StorageFailed."""
        return self._transaction(writes=False)

    def writing(self) -> AbstractContextManager[sa.Connection]:
        """A transaction that writes; on SQLite it waits for its turn at the start, never in the middle."""
        return self._transaction(writes=True)

    @property
    def is_sqlite(self) -> bool:
        """False for a server, whose tables need locks of their own where an order matters."""
        return self._is_sqlite

    def alone(self, connection: sa.Connection, table: sa.Table) -> None:
        """Let no other transaction write to the table until this one ends: what it looks for will still be so.

        SQLite has one writer at a time anyhow; on a server two that both find nothing would both insert.
        """
        if not self._is_sqlite:
            connection.execute(sa.text(f"LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE"))

    def close(self) -> None:
        """Let the connections go."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self, *, writes: bool) -> Iterator[sa.Connection]:
        try:
            with self._alone:
                self._upgrade()
                with self._engine.connect().execution_options(**{WRITES: writes}) as connection, connection.begin():
                    yield connection
        except SQLAlchemyError as exc:
            cause = str(getattr(exc, "orig", None) or type(exc).__name__).splitlines()[0]
            raise StorageFailed(f"the database does not work: {cause}") from exc

    def _upgrade(self) -> None:
        """Run the migrations that this database has not seen. Two processes at once: the second finds them done."""
        with self._upgrading:
            if self._is_current:
                return
            with self._engine.connect() as connection:
                current = sa.inspect(connection).has_table("alembic_version") and connection.scalar(
                    sa.text("SELECT version_num FROM alembic_version")
                )
            if current and str(current) > HEAD:  # our numbers are in order
                raise StorageFailed(f"the database has the schema {current} of a newer wetread; this one knows {HEAD}")
            if current != HEAD:
                self._migrate()
            self._is_current = True

    def _migrate(self) -> None:
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with self._engine.connect().execution_options(**{WRITES: True}) as connection, connection.begin():
            if not self._is_sqlite:
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(7243718)"))  # ours alone; held to the end
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _prepare_sqlite(connection: object, _: object) -> None:
    """Let us begin transactions ourselves; readers do not wait for a writer (WAL), and a commit is on the disk."""
    connection.isolation_level = None  # type: ignore[attr-defined]
    cursor = connection.cursor()  # type: ignore[attr-defined]
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "busy_timeout = 30000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    """A transaction that begins by reading cannot wait to write later: SQLite refuses it. So writers say so at once."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(WRITES) else "BEGIN")
