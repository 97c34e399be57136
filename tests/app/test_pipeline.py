"""The flow, with fakes: the order of the stages, and every degradation that docs/safety.md promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from app.errors import StorageFailed
from app.pipeline import Parts, report_on
from dicom_io.study import Study
from expert_models.codes import PNEUMOTHORAX
from expert_models.finding import Change, Compared, Comparison, ExpertTag, Finding, Presence
from medmllm.report import Grounding, Report, Section, Sentence
from rag.errors import StoreUnavailable
from rag.evidence import Citation, Document, Evidence

STUDY = Study(uid="1.2.3", patient_key="k", acquired_on=None, series=())
FINDING = Finding("f1", PNEUMOTHORAX, Presence.ABSENT, ExpertTag("fake", "1"), probability=0.1)
RESOLVED = Comparison("c1", Change.RESOLVED, "1.2.2", "2.25.1", prior_finding=FINDING)
EVIDENCE = Evidence("e1", "Air.", Citation("d", "Title", "A", 2020, "doi:10.1/x", 0, 4), 1.0)


@dataclass
class FakeArchive:
    log: list[str]
    fails: bool = False

    def load(self, study_uid: str) -> Study:
        self.log.append("load")
        if self.fails:
            raise StorageFailed("the archive is away")
        return STUDY


@dataclass
class FakeExperts:
    log: list[str]
    compare_fails: bool = False

    def examine(self, study: Study) -> tuple[Finding, ...]:
        self.log.append("examine")
        return (FINDING,)

    def compare(self, study: Study, findings: Sequence[Finding]) -> Compared:
        self.log.append("compare")
        if self.compare_fails:
            return Compared((RESOLVED,), ("CT was not compared with the prior: it failed (KeyError).",))
        return Compared()

    def remarks(self, study: Study, findings: Sequence[Finding]) -> tuple[str, ...]:
        return ("Series 1 of 2 was not read.",) if self.compare_fails else ()


@dataclass
class FakeLibrary:
    log: list[str]
    fails: bool = False

    def retrieve(self, study: Study, findings: Sequence[Finding]) -> tuple[Evidence, ...]:
        self.log.append("retrieve")
        if self.fails:
            raise StoreUnavailable("the vector store does not answer")
        return (EVIDENCE,)

    def search(self, text: str, k: int = 5) -> tuple[Evidence, ...]:
        return ()

    def add(self, documents: Sequence[Document]) -> int:
        return 0


@dataclass
class FakeWriter:
    log: list[str]

    def write(
        self,
        study: Study,
        findings: Sequence[Finding],
        comparisons: Sequence[Comparison],
        evidence: Sequence[Evidence],
        notices: Sequence[str] = (),
    ) -> Report:
        self.log.append("write")
        sentence = Sentence("No pneumothorax.", Section.FINDINGS, Grounding(finding_ids=("f1",)))
        return Report(
            study.uid, (sentence,), tuple(findings), tuple(comparisons), tuple(evidence), "fake", tuple(notices)
        )


@dataclass
class FakeReports:
    log: list[str]
    fails: bool = False
    kept: list[Report] = field(default_factory=list)

    def save(self, report: Report) -> None:
        self.log.append("save")
        if self.fails:
            raise StorageFailed("the disk is full")
        self.kept.append(report)

    def load(self, study_uid: str) -> Report:
        return self.kept[-1]


@dataclass
class FakeOutbox:
    log: list[str]

    def announce(self, report: Report) -> None:
        self.log.append("announce")


def parts(
    log: list[str], *, archive_fails: bool = False, library_fails: bool = False, save_fails: bool = False
) -> Parts:
    return Parts(
        FakeArchive(log, archive_fails),
        FakeExperts(log),
        FakeLibrary(log, library_fails),
        FakeWriter(log),
        FakeReports(log, save_fails),
        FakeOutbox(log),
    )


def test_the_stages_run_in_order_and_the_watcher_sees_each_begin_and_end() -> None:
    log: list[str] = []
    seen: list[tuple[str, bool]] = []
    report = report_on("1.2.3", parts(log), lambda stage, seconds: seen.append((stage, seconds is not None)))
    assert log == ["load", "examine", "compare", "retrieve", "write", "save", "announce"]
    stages = ["dicom_io", "expert_models", "rag", "medmllm", "results"]
    assert seen == [(stage, ended) for stage in stages for ended in (False, True)]
    assert report.evidence == (EVIDENCE,)
    assert report.is_draft


def test_without_literature_the_report_stands_and_says_so() -> None:
    log: list[str] = []
    report = report_on("1.2.3", parts(log, library_fails=True))
    assert report.evidence == ()
    assert report.notices == ("No literature is cited: the vector store does not answer.",)
    assert log[-2:] == ["save", "announce"]


def test_a_comparison_that_fails_costs_no_report_and_is_named() -> None:
    log: list[str] = []
    report = report_on("1.2.3", replace(parts(log), experts=FakeExperts(log, compare_fails=True)))
    assert report.comparisons == (RESOLVED,)
    assert report.notices == (
        "CT was not compared with the prior: it failed (KeyError).",
        "Series 1 of 2 was not read.",
    )


def test_an_archive_that_is_away_fails_the_job_before_anything_is_examined() -> None:
    log: list[str] = []
    with pytest.raises(StorageFailed):
        report_on("1.2.3", parts(log, archive_fails=True))
    assert log == ["load"]


def test_a_report_that_cannot_be_saved_is_not_announced() -> None:
    log: list[str] = []
    with pytest.raises(StorageFailed):
        report_on("1.2.3", parts(log, save_fails=True))
    assert "announce" not in log
