"""What the Fleischner Society's guideline would say of the nodules of a CT, or which inputs it lacks: for the page.

Read from the table, never written by a model. Age comes from the images' header; risk, known cancer, immunosuppression,
screening and morphology are a reader's to give (`wetread guideline fleischner`), so they are named as missing.
"""

from __future__ import annotations

from datetime import date

from pydicom import Dataset

from app.results.record import Record
from dicom_io.study import Modality
from expert_models.codes import LUNG_NODULE
from expert_models.finding import Presence
from expert_models.guidelines.answer import Answer
from expert_models.guidelines.bridge import fleischner_of
from expert_models.guidelines.fleischner import Patient

YEARS_PER = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}  # units of VR AS (PS3.5 table 6.2-1)


def guideline_of(record: Record) -> Answer | None:
    """The answer on the nodules that an expert found on a CT; None where none was found."""
    if not any(series.modality is Modality.CT for series in record.study.series):
        return None
    findings = record.report.findings
    finders = {e.expert.name for e in findings if e.concept == LUNG_NODULE and e.presence is Presence.PRESENT}
    if not finders:
        return None
    own = [each for each in findings if each.expert.name in finders]
    return fleischner_of(own, Patient(age_years=age_years(record.header)))


def age_years(header: Dataset | None) -> float | None:
    """The age at the study: as stated, else from birth date and study date; None where neither can be read."""
    if header is None:
        return None
    stated = str(header.get("PatientAge") or "").strip().upper()
    if stated[:-1].isdigit() and stated[-1] in YEARS_PER:
        return float(int(stated[:-1]) * YEARS_PER[stated[-1]])
    born, studied = (_day(str(header.get(name) or "")) for name in ("PatientBirthDate", "StudyDate"))
    if born is None or studied is None or studied < born:
        return None
    return float(studied.year - born.year - ((studied.month, studied.day) < (born.month, born.day)))


def _day(text: str) -> date | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8])) if len(text) == 8 else None
    except ValueError:
        return None
