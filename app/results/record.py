"""What every result is written from: one report, with the study, masks and headers it speaks about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from dicom_io.study import Series, Study
from expert_models.finding import Comparison, Finding
from expert_models.ports import Masks
from medmllm.report import Report

if TYPE_CHECKING:
    from pydicom import Dataset

REPORT_JSON: TypeAdapter[Report] = TypeAdapter(Report)


def report_schema() -> str:
    """The JSON Schema of report.json, as it is kept in docs/report.schema.json."""
    schema = REPORT_JSON.json_schema(mode="serialization")
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


# Type 2 in the Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1): must be there, may be empty.
MAY_BE_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "ReferringPhysicianName",
    "AccessionNumber",
)


def completed(header: Dataset) -> Dataset:
    """The header with every attribute that its results must carry, empty where the study does not say."""
    missing = [keyword for keyword in MAY_BE_EMPTY if keyword not in header]
    if not missing:
        return header
    header = copy(header)
    for keyword in missing:
        setattr(header, keyword, None)
    return header


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One report and everything its results are made from; every writer takes a Record and returns bytes.

    study: the reported study, its priors attached. masks: where the regions' masks are kept.
    sources: the study's original instances by SOP Instance UID; only their headers are used.
    earlier: the versions that this one was made from by editing or signing, the writer's draft first; none for a draft.
    """

    report: Report
    study: Study
    masks: Masks
    sources: Mapping[str, Dataset]
    earlier: tuple[Report, ...] = ()

    def __post_init__(self) -> None:
        if {each.study_uid for each in (self.report, *self.earlier)} != {self.study.uid}:
            raise ValueError("the report is not about this study")
        object.__setattr__(self, "sources", {uid: completed(header) for uid, header in self.sources.items()})

    @property
    def header(self) -> Dataset | None:
        """The header of the study's first image, for patient and study attributes; None when there is none."""
        for series in self.study.series:
            for uid in series.source:
                if uid in self.sources:
                    return self.sources[uid]
        return next(iter(self.sources.values()), None)

    def series(self, uid: str) -> tuple[Study, Series] | None:
        """The series with this uid and its study, the reported one or a prior; None when there is none."""
        for study in (self.study, *self.study.priors):
            for series in study.series:
                if series.uid == uid:
                    return study, series
        return None

    def series_instance_uid(self, series: Series) -> str:
        """The SeriesInstanceUID of its images: a DICOM series of several pictures becomes several Series."""
        header = self.sources.get(series.source[0])
        return str(header.SeriesInstanceUID) if header is not None else series.uid

    def comparison_of(self, finding: Finding) -> Comparison | None:
        """The comparison whose current finding this is."""
        return next((each for each in self.report.comparisons if each.finding_id == finding.id), None)
