"""Who is told that a report is there."""

from __future__ import annotations

import structlog

from dicom_io.identity import study_key
from medmllm.report import Report

log = structlog.get_logger()


class LogOutbox:
    """Implements app.ports.Outbox for a command line: one log line, the study under its keyed hash."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def announce(self, report: Report) -> None:
        """Say that the report was saved."""
        log.info(
            "report saved",
            study=study_key(report.study_uid, self._secret),
            writer=report.writer,
            sentences=len(report.sentences),
            findings=len(report.findings),
        )
