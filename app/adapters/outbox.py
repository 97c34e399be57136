"""Who is told that a report is there."""

from __future__ import annotations

import structlog

from dicom_io.identity import Hasher
from medmllm.report import Report

log = structlog.get_logger()


class LogOutbox:
    """Implements app.ports.Outbox for a command line: one log line, the study under its keyed hash."""

    def __init__(self, hasher: Hasher) -> None:
        self._hasher = hasher

    def announce(self, report: Report) -> None:
        """Say that the report was saved."""
        log.info(
            "report saved",
            study=self._hasher.short(report.study_uid),
            writer=report.writer,
            sentences=len(report.sentences),
            findings=len(report.findings),
        )
