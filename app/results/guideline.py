"""What a guideline would say of the nodules of a CT, or which inputs it lacks: for the page.

Lung-RADS v2022 where the study says that it was made to screen for lung cancer, else Fleischner 2017, which leaves
screening out. Read from the table, never written by a model. Age comes from the images' header, screening
from the header and the order; risk, known cancer, immunosuppression, morphology and whether the CT is complete are a
reader's to give (`wetread guideline`), so they are named as missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date

from pydicom import Dataset

from app.results.record import Record
from dicom_io.study import Modality
from expert_models.codes import LUNG_NODULE
from expert_models.finding import Comparison, Finding, Presence
from expert_models.guidelines.answer import Answer
from expert_models.guidelines.bridge import fleischner_of, lung_rads_of
from expert_models.guidelines.fleischner import Patient
from expert_models.guidelines.lung_rads import Exam

YEARS_PER = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}  # units of VR AS (PS3.5 table 6.2-1)
MONTH_DAYS = 365.25 / 12
# Chest CT for screening: LOINC, RadLex Playbook, CPT; see docs/guidelines.md. The first two look like nothing else;
# five digits may be a site's own code, so CPT needs its name.
SCREENING_CODES = frozenset({"79086-5", "87279-6", "RPID6002"})
SCREENING_CPT, CPT = "71271", frozenset({"C4", "CPT", "CPT4", "CPT-4"})
CODED = ("ProcedureCodeSequence", "RequestedProcedureCodeSequence")
OF_LUNGS = re.compile(r"\b(lungs?|ldct|low[ -]?dose)\b", re.IGNORECASE)
SCREENING = re.compile(r"\bscreening\b", re.IGNORECASE)
NOT_SCREENING = re.compile(
    r"\b(no|not|non|after|abnormal|positive|follow|followup|prior|previous|metasta\w*)\b", re.IGNORECASE
)
FOR_SCREENING = re.compile(
    r"((annual|baseline|initial|yearly|low[ -]?dose|ct|ldct)\s+)*(lung cancer screening|screening for lung cancer)\b",
    re.IGNORECASE,
)


def guideline_of(record: Record) -> Answer | None:
    """The answer on the nodules of a CT; None where no expert found any, or on a screening CT where none looked."""
    if not any(series.modality is Modality.CT for series in record.study.series):
        return None
    told_by = screening_told_by(record)
    findings = record.report.findings
    looked = [each for each in findings if each.concept == LUNG_NODULE]
    finders = {each.expert.name for each in looked if each.presence is Presence.PRESENT}
    if told_by and not finders:
        finders = {each.expert.name for each in looked}
    if not finders:
        return None
    own = [each for each in findings if each.expert.name in finders]
    if not told_by:
        return fleischner_of(own, Patient(age_years=age_years(record.header)))
    comparisons, months = _since_prior(record, own)
    answer = lung_rads_of(own, Exam(is_screening=True), comparisons=comparisons, months_since_prior=months)
    return replace(answer, notes=(*answer.notes, f"that this is a screening examination is said by {told_by}"))


def screening_told_by(record: Record) -> str | None:
    """What says that the study was made to screen for lung cancer, in words; None where nothing does.

    A code of the procedure; or its description, with screening and lungs or a low dose in it; or an indication that
    begins with lung cancer screening. What speaks of an earlier or abnormal screening says nothing.
    """
    for sequence, code in _codes(record.header):
        value, scheme = str(code.get("CodeValue") or ""), str(code.get("CodingSchemeDesignator") or "").upper()
        if value in SCREENING_CODES or (value == SCREENING_CPT and scheme in CPT):
            return f"the procedure's code ({sequence}: {value})"
    request, header = record.study.request, record.header or Dataset()
    for words in (request.procedure, str(header.get("StudyDescription") or "")):
        if SCREENING.search(words) and OF_LUNGS.search(words) and not NOT_SCREENING.search(words):
            return "the procedure's description"
    if FOR_SCREENING.match(request.indication.strip()) and not NOT_SCREENING.search(request.indication):
        return "the indication"
    return None


def _codes(header: Dataset | None) -> Iterator[tuple[str, Dataset]]:
    """The procedure's codes: of the study, and of the requests that it answers."""
    if header is None:
        return
    for each in (header, *(header.get("RequestAttributesSequence") or ())):
        for name in CODED:
            yield from ((name, code) for code in each.get(name) or ())


def _since_prior(record: Record, own: list[Finding]) -> tuple[list[Comparison], float | None]:
    """The comparisons of these findings with one prior, and the months since it; None where its date is not known."""
    ids = {each.id for each in own}
    comparisons = [each for each in record.report.comparisons if each.finding_id in ids]
    uids = {each.prior_study_uid for each in comparisons}
    prior = next((each for each in record.study.priors if each.uid in uids), None)
    if prior is None:
        return [], None
    comparisons = [each for each in comparisons if each.prior_study_uid == prior.uid]
    now, then = record.study.acquired_on, prior.acquired_on
    if now is None or then is None:
        return comparisons, None
    days = (now.date() - then.date()).days
    return comparisons, days / MONTH_DAYS if days > 0 else None


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
