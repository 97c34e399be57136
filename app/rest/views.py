"""What the endpoint says and is told, as JSON. Studies go under keyed hashes; only a FHIR or DICOM result has UIDs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from app.audit import Entry
from app.jobs import Job, JobState
from app.orders import Order
from app.rest.callers import KEY_PATTERN
from app.versions import Version
from app.worklist import WorkRow
from dicom_io.study import LeftOut, Modality

MOST_LEFT_OUT = 200  # listed one by one in an answer

Prose = Annotated[str, StringConstraints(max_length=4000)]
Uid = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)*$", max_length=64)]  # PS3.5 section 9.1


class Links(BaseModel):
    """Where to go from here, as paths on this server."""

    self: str
    study: str
    report: str | None = Field(None, description="None while there is no report.")
    results: str | None = Field(None, description="None while there is no report.")
    signed_report: str | None = Field(None, description="The newest signed version; none while none is signed.")
    job: str | None = Field(None, description="The newest job; none when no report was asked for.")


class StudyView(BaseModel):
    """A study, and where its report stands."""

    study: str = Field(description="The study's keyed hash.", pattern=KEY_PATTERN)
    patient: str = Field(description="The patient's keyed hash, the same for all of the patient's studies.")
    acquired_on: str | None = Field(description="ISO 8601, in the local time of the scanner; null when it says none.")
    arrived_at: datetime
    modalities: list[Modality]
    instances: int
    state: JobState | None = Field(description="Of the newest job; null when no report was asked for.")
    stage: str
    reason: str
    version: int = Field(description="Of the newest report; 0 while there is none.")
    is_draft: bool = Field(description="False once a physician has signed the newest version.")
    author: str = Field(description="Who made the newest version; empty for a draft by the writer.")
    signed_version: int = Field(description="The newest signed version, also behind a newer draft; 0: none is.")
    links: Links

    @classmethod
    def of(cls, row: WorkRow) -> Self:
        """From a row of the worklist."""
        came, here = row.arrival, f"/v1/studies/{row.arrival.study_key}"
        return cls(
            study=came.study_key,
            patient=came.patient_key,
            acquired_on=came.acquired_on.isoformat() if came.acquired_on else None,
            arrived_at=came.arrived_at,
            modalities=list(came.modalities),
            instances=came.instances,
            state=row.job_state,
            stage=row.stage,
            reason=row.reason,
            version=row.version,
            is_draft=row.is_draft,
            author=row.author,
            signed_version=row.signed_version,
            links=Links(
                self=here,
                study=here,
                report=f"{here}/report" if row.version else None,
                results=f"{here}/results" if row.version else None,
                signed_report=f"{here}/report?version={row.signed_version}" if row.signed_version else None,
                job=f"/v1/jobs/{row.job_id}" if row.job_id else None,
            ),
        )


class StudyPage(BaseModel):
    """A page of the worklist, newest arrival first."""

    studies: list[StudyView]
    next: str | None = Field(description="The path of the next page; null on the last one.")


class LeftOutView(BaseModel):
    """A file that was not used, and why."""

    name: str
    reason: str


class Received(BaseModel):
    """What an upload brought in."""

    studies: list[StudyView]
    left_out: list[LeftOutView] = Field(description=f"At most {MOST_LEFT_OUT}.")
    left_out_in_all: int


def left_out_views(left_out: Sequence[LeftOut]) -> list[LeftOutView]:
    """The first of what was left out."""
    return [LeftOutView(name=each.name, reason=each.reason) for each in left_out[:MOST_LEFT_OUT]]


class ReportRequest(BaseModel):
    """Which study to report on, and what is known of why it was made."""

    model_config = ConfigDict(extra="forbid")

    study: str | None = Field(None, pattern=KEY_PATTERN, description="The study's keyed hash.")
    study_instance_uid: Uid | None = Field(
        None, description="Or its Study Instance UID; a study that is not here is fetched from the PACS."
    )
    indication: Prose = Field("", description="Why the study was made.")
    procedure: Annotated[str, StringConstraints(max_length=400)] = Field("", description="What was asked for.")
    service_request: dict[str, JsonValue] | None = Field(
        None, description="Or both of them as the order itself, a FHIR R4 ServiceRequest."
    )

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if (self.study is None) == (self.study_instance_uid is None):
            raise ValueError("give either study or study_instance_uid")
        if self.service_request is not None and (self.indication or self.procedure):
            raise ValueError("give either service_request, or indication and procedure")
        return self


class JobView(BaseModel):
    """A job: one report of one state of one study."""

    job: str
    study: str
    state: JobState
    stage: str = Field(description="Of the pipeline, while it runs.")
    attempts: int
    reason: str = Field(description="One sentence when it failed, or has to wait.")
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    version: int | None = Field(description="Of the report that it made.")
    links: Links

    @classmethod
    def of(cls, job: Job, study: str, version: int | None) -> Self:
        """From a job, the keyed hash of its study, and the number of the version it made."""
        here = f"/v1/studies/{study}"
        return cls(
            job=job.id,
            study=study,
            state=job.state,
            stage=job.stage,
            attempts=job.attempts,
            reason=job.reason,
            created_at=job.created_at,
            started_at=job.started_at,
            ended_at=job.ended_at,
            version=version,
            links=Links(
                self=f"/v1/jobs/{job.id}",
                study=here,
                report=f"{here}/report?version={version}" if version else None,
                results=f"{here}/results?version={version}" if version else None,
                job=f"/v1/jobs/{job.id}",
            ),
        )


class VersionView(BaseModel):
    """One version of a report: what was made, by whom, when."""

    version: int
    written_at: datetime
    writer: str = Field(description="What wrote the draft: template, or mllm:<model>.")
    author: str = Field(description="The account that edited or signed it; empty for a draft by the writer.")
    is_draft: bool
    signed_by: str | None
    signed_at: datetime | None
    link: str

    @classmethod
    def of(cls, version: Version, study: str) -> Self:
        """From a version and the keyed hash of its study."""
        signature = version.report.signature
        return cls(
            version=version.number,
            written_at=version.written_at,
            writer=version.report.writer,
            author=version.author,
            is_draft=version.report.is_draft,
            signed_by=signature.name if signature else None,
            signed_at=signature.signed_at if signature else None,
            link=f"/v1/studies/{study}/report?version={version.number}",
        )


class VersionList(BaseModel):
    """Every version, oldest first."""

    versions: list[VersionView]


class ResultView(BaseModel):
    """One file of the results."""

    name: str
    media_type: str
    bytes: int
    link: str


class ResultList(BaseModel):
    """The files that were made of one version."""

    version: int
    results: list[ResultView]


class OrderView(BaseModel):
    """An order as it was understood."""

    accession: str
    indication: str
    procedure: str

    @classmethod
    def of(cls, order: Order) -> Self:
        """From an order."""
        return cls(accession=order.accession, indication=order.indication, procedure=order.procedure)


class EntryView(BaseModel):
    """One entry of the audit trail; digest covers it and the digest of the entry before it."""

    number: int
    at: datetime
    actor: str
    action: str
    study: str
    detail: dict[str, str | int]
    digest: str

    @classmethod
    def of(cls, entry: Entry) -> Self:
        """From an entry."""
        return cls(
            number=entry.number,
            at=entry.at,
            actor=entry.actor,
            action=entry.action,
            study=entry.study_key,
            detail=dict(entry.detail),
            digest=entry.digest,
        )


class EntryList(BaseModel):
    """Entries of the audit trail, newest first."""

    entries: list[EntryView]
