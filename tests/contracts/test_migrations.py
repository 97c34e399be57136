"""The schema: what the migrations make is what the tables say, from nothing and from a database made before them."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.adapters.database.engine import MIGRATIONS, Database
from app.adapters.database.tables import HEAD, metadata
from app.adapters.database.versions import DatabaseReports
from app.errors import StorageFailed
from app.results.record import REPORT_JSON
from medmllm.report import Report, Section, Sentence

REPORT = Report("1.2.3", (Sentence("No pneumothorax.", Section.FINDINGS),), (), (), (), "template")


def test_the_last_migration_is_the_head_that_the_program_expects() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_the_migrations_make_the_tables_as_they_are_declared(database: Database) -> None:
    with database.reading() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    assert differences == []


def test_a_database_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    first, second = (Database(f"sqlite:///{tmp_path}/wetread.db") for _ in range(2))
    with first.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageFailed, match="schema 9999 of a newer wetread"), second.reading():
        pass
    first.close()
    second.close()


def test_a_database_made_before_migrations_were_kept_is_taken_over(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/wetread.db"
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "CREATE TABLE reports (study_uid VARCHAR(64) NOT NULL, version INTEGER NOT NULL, written_at DATETIME "
                "NOT NULL, writer VARCHAR(200) NOT NULL, body TEXT NOT NULL, PRIMARY KEY (study_uid, version))"
            )
        )
        connection.execute(
            sa.text("INSERT INTO reports VALUES ('1.2.3', 1, '2026-01-02 03:04:05.000000', 'template', :body)"),
            {"body": REPORT_JSON.dump_json(REPORT).decode()},
        )
    engine.dispose()
    database = Database(url)
    store = DatabaseReports(database)
    assert store.load("1.2.3") == REPORT
    store.save(REPORT)
    assert [each.number for each in store.history("1.2.3")] == [1, 2]
    database.close()
