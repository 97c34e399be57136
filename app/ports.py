"""What the pipeline needs from the program around it."""

from __future__ import annotations

from typing import Protocol

from dicom_io.study import Study
from medmllm.report import Report


class Archive(Protocol):
    """Where studies are kept."""

    def load(self, study_uid: str) -> Study:
        """The study, normalised, its priors attached newest first. KeyError when there is none."""


class Reports(Protocol):
    """Where reports are kept."""

    def save(self, report: Report) -> None:
        """Keep a new version of the study's report."""

    def load(self, study_uid: str) -> Report:
        """The newest version; KeyError when there is none."""


class Outbox(Protocol):
    """Tells those who wait for a report that it is there."""

    def announce(self, report: Report) -> None:
        """Called once, after the report was saved."""
