"""The flow: one function that reads top to bottom. Everything that makes a report calls it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

from app.ports import Archive, Outbox, Reports
from expert_models.ports import Experts
from medmllm.ports import Writer
from medmllm.report import Report
from rag.errors import RagError
from rag.evidence import Evidence
from rag.ports import Library

Watch = Callable[[str, float | None], None]  # (stage, None) when it starts, (stage, seconds) when it has ended


def nobody(stage: str, seconds: float | None) -> None:
    """The watcher of a run that nobody watches."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a report is made with; app/bootstrap.py puts it together from the settings."""

    archive: Archive
    experts: Experts
    library: Library
    writer: Writer
    reports: Reports
    outbox: Outbox


def report_on(study_uid: str, parts: Parts, watch: Watch = nobody, notices: Sequence[str] = ()) -> Report:
    """Draft the report on one archived study, save it and announce it.

    notices: what its reader must know of what happened before, one sentence each.

    Degrades as docs/safety.md says: a failing expert, comparison, writer or library never costs the report; a failing
    archive or report store raises, so that the caller keeps the job.
    """
    said = list(notices)
    with stage("dicom_io", watch):
        study = parts.archive.load(study_uid)
    with stage("expert_models", watch):
        findings = parts.experts.examine(study)
        compared = parts.experts.compare(study, findings)
        said += compared.remarks
        said += parts.experts.remarks(study, findings)
    with stage("rag", watch):
        evidence: tuple[Evidence, ...] = ()
        try:
            evidence = parts.library.retrieve(study, findings)
        except RagError as exc:
            said.append(f"No literature is cited: {exc}.")
    with stage("medmllm", watch):
        report = parts.writer.write(study, findings, compared.comparisons, evidence, said)
    with stage("results", watch):
        parts.reports.save(report)
        parts.outbox.announce(report)
    return report


@contextmanager
def stage(name: str, watch: Watch) -> Iterator[None]:
    """Tell the watcher when a stage starts and, also when it fails, how long it took."""
    watch(name, None)
    started = perf_counter()
    try:
        yield
    finally:
        watch(name, perf_counter() - started)
