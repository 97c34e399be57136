"""One suite over every database for app.ports.Versions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from app.adapters.database.engine import Database
from app.adapters.database.tables import reports
from app.adapters.database.versions import DatabaseReports
from app.errors import BadSetting, Outdated, StorageFailed
from expert_models.codes import LONG_AXIS, LUNG_NODULE, MILLIMETER
from expert_models.finding import Box, Change, Comparison, ExpertTag, Finding, Measurement, Presence, Region, Side
from medmllm.report import Check, CheckKind, Grounding, Report, Section, Sentence, Signature, Verdict

REGION = Region("1.2.4", Box((3, 4, 5), (6, 7, 8)), "1.2.4.3", "a" * 64)
NODULE = Finding(
    "f1",
    LUNG_NODULE,
    Presence.PRESENT,
    ExpertTag("ct-nodules", "1", "b" * 64),
    probability=0.9,
    side=Side.LEFT,
    regions=(REGION,),
    measurements=(Measurement(LONG_AXIS, 7.25, MILLIMETER),),
)
REPORT = Report(
    "1.2.3",
    (
        Sentence(
            "A 7 mm nodule lies in the left lung.",
            Section.FINDINGS,
            Grounding(finding_ids=("f1",), comparison_ids=("c1",), regions=(REGION,)),
            (Check(CheckKind.NUMBER, Verdict.PASSED),),
        ),
    ),
    (NODULE,),
    (Comparison("c1", Change.NEW, "1.2.2", "2.25.1", finding_id="f1"),),
    (),
    "template",
)


@pytest.fixture
def store(database: Database) -> DatabaseReports:
    return DatabaseReports(database)


def test_a_report_comes_back_as_it_went_in(store: DatabaseReports) -> None:
    store.save(REPORT)
    assert store.load("1.2.3") == REPORT


def test_a_signed_report_comes_back_as_it_went_in(store: DatabaseReports) -> None:
    when = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=timezone(timedelta(hours=2)))
    signed = replace(REPORT, is_draft=False, signature=Signature("Dr. A. Reader", "General Hospital", when))
    store.save(signed)
    assert store.load("1.2.3") == signed


def test_the_newest_version_wins_and_the_older_ones_stay(store: DatabaseReports) -> None:
    store.save(REPORT)
    newer = replace(REPORT, writer="mllm:other")
    assert store.save_as(newer, "reader", after=1).number == 2
    assert store.load("1.2.3") == newer
    assert [(each.number, each.author) for each in store.history("1.2.3")] == [(1, ""), (2, "reader")]
    assert store.history("1.2.3")[0].report == REPORT


def test_nobody_overwrites_what_somebody_else_wrote(store: DatabaseReports) -> None:
    store.save(REPORT)
    store.save_as(REPORT, "first", after=1)
    with pytest.raises(Outdated):
        store.save_as(REPORT, "second", after=1)
    assert [each.author for each in store.history("1.2.3")] == ["", "first"]


def test_a_job_has_one_report_however_often_it_is_saved(store: DatabaseReports) -> None:
    of_job = store.of_job("a" * 32)
    of_job.save(REPORT)
    of_job.save(replace(REPORT, writer="mllm:other"))
    store.of_job("b" * 32).save(REPORT)
    assert [each.report.writer for each in store.history("1.2.3")] == ["template", "template"]
    made = store.made_by("a" * 32)
    assert made is not None
    assert made.number == 1
    assert store.made_by("c" * 32) is None


def test_reports_saved_at_once_get_numbers_of_their_own(store: DatabaseReports) -> None:
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(store.save, REPORT) for _ in range(12)]:
            done.result()
    assert [each.number for each in store.history("1.2.3")] == list(range(1, 13))


def test_the_database_refuses_to_change_or_remove_a_report(store: DatabaseReports, database: Database) -> None:
    store.save(REPORT)
    for change in (reports.update().values(body="{}"), reports.delete()):
        with pytest.raises(StorageFailed, match="only grows"), database.writing() as connection:
            connection.execute(change)
    assert store.load("1.2.3") == REPORT


def test_a_study_without_a_report_is_a_key_error(store: DatabaseReports) -> None:
    with pytest.raises(KeyError):
        store.load("9.9")


def test_a_database_in_a_folder_that_does_not_exist_is_one_sentence(tmp_path: Path) -> None:
    store = DatabaseReports(Database(f"sqlite:///{tmp_path}/absent/wetread.db"))
    with pytest.raises(StorageFailed, match="unable to open database file"):
        store.save(REPORT)


def test_a_url_that_is_none_is_a_bad_setting() -> None:
    with pytest.raises(BadSetting, match="database_url"):
        Database("not a url")
