"""One row of the worklist: a study that came in, and where its report stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from app.jobs import JobState
from dicom_io.study import Modality


@dataclass(frozen=True, slots=True)
class Arrival:
    """A study as it came in. study_key: its keyed hash, which stands for it in addresses and logs."""

    study_uid: str
    study_key: str
    patient_key: str
    acquired_on: datetime | None
    modalities: tuple[Modality, ...]
    instances: int
    arrived_at: datetime


@dataclass(frozen=True, slots=True)
class WorkRow:
    """An arrival with its newest job and its newest report. version 0: there is no report yet.

    signed_version: the newest that a person has signed, which may be older than a draft; 0: none is.
    """

    arrival: Arrival
    job_id: str = ""
    job_state: JobState | None = None
    stage: str = ""
    reason: str = ""
    version: int = 0
    is_draft: bool = True
    author: str = ""
    signed_version: int = 0
