"""One suite over every adapter of app.ports.Reports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.adapters.database import DatabaseReports
from app.errors import BadSetting, StorageFailed
from expert_models.codes import LONG_AXIS, LUNG_NODULE, MILLIMETER
from expert_models.finding import Box, Change, Comparison, ExpertTag, Finding, Measurement, Presence, Region, Side
from medmllm.report import Check, CheckKind, Grounding, Report, Section, Sentence, Verdict

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


@pytest.fixture(params=["sqlite://", "sqlite:///{folder}/wetread.db"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DatabaseReports]:
    store = DatabaseReports(request.param.format(folder=tmp_path))
    yield store
    store.close()


def test_a_report_comes_back_as_it_went_in(store: DatabaseReports) -> None:
    store.save(REPORT)
    assert store.load("1.2.3") == REPORT


def test_the_newest_version_wins(store: DatabaseReports) -> None:
    store.save(REPORT)
    newer = replace(REPORT, writer="mllm:other")
    store.save(newer)
    assert store.load("1.2.3") == newer


def test_a_study_without_a_report_is_a_key_error(store: DatabaseReports) -> None:
    with pytest.raises(KeyError):
        store.load("9.9")


def test_a_database_in_a_folder_that_does_not_exist_is_one_sentence(tmp_path: Path) -> None:
    store = DatabaseReports(f"sqlite:///{tmp_path}/absent/wetread.db")
    with pytest.raises(StorageFailed, match="unable to open database file"):
        store.save(REPORT)
    store.close()


def test_a_url_that_is_none_is_a_bad_setting() -> None:
    with pytest.raises(BadSetting, match="database_url"):
        DatabaseReports("not a url")
