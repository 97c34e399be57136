"""What the coded results share: DICOM codes, identifiers that a second run repeats, and the software's own name."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

from highdicom.sr import CodedConcept
from pydicom.uid import RE_VALID_UID

from app.results.record import REPORT_JSON, Record
from app.results.words import PRODUCT, title_of
from dicom_io.study import Modality
from expert_models.finding import Change, Code, Comparison, Finding, Presence, Side
from expert_models.tracking import tracking_uid
from medmllm.report import Report, Section

# Presence as a qualitative evaluation. The property is SNOMED CT's as the RSNA's open finding models use it; the
# answers are those of PS3.16 as pydicom lists them. No terminology we could check says "not assessed".
PRESENCE = Code("705057003", "SCT", "Presence")
ANSWERS = {
    Presence.PRESENT: Code("52101004", "SCT", "Present"),
    Presence.ABSENT: Code("272519000", "SCT", "Absent"),
    Presence.INDETERMINATE: Code("82334004", "SCT", "Indeterminate"),
    Presence.NOT_ASSESSED: Code("not-assessed", "99WETREAD", "Not assessed"),
}
SIDES = {  # CID 244
    Side.LEFT: Code("7771000", "SCT", "Left"),
    Side.RIGHT: Code("24028007", "SCT", "Right"),
    Side.BILATERAL: Code("51440002", "SCT", "Right and left"),
}
CHANGE_SINCE_PRIOR = Code("change-since-prior", "99WETREAD", "Change since the prior study")
CHANGES = {each: Code(each.value, "99WETREAD", each.value.capitalize()) for each in Change}
GROUNDING = Code("grounding", "99WETREAD", "Grounding")
UNSUPPORTED = Code("unsupported", "99WETREAD", "Not supported by the findings")
EDITED = Code("edited", "99WETREAD", "Edited by a person")
SEEN = Code("seen", "99WETREAD", "Seen by the language model alone")
WITHOUT_UNIT = Code("1", "UCUM", "no units")
SECTION_CODES = {  # CID 7001
    Section.INDICATION: Code("18785-6", "LN", "Indications for Procedure"),
    Section.TECHNIQUE: Code("55111-9", "LN", "Current Procedure Descriptions"),
    Section.COMPARISON: Code("18834-2", "LN", "Previous Findings"),
    Section.FINDINGS: Code("59776-5", "LN", "Findings"),
    Section.IMPRESSION: Code("19005-8", "LN", "Impressions"),
}
MODALITIES = {  # CID 29
    Modality.CT: Code("CT", "DCM", "Computed Tomography"),
    Modality.DX: Code("DX", "DCM", "Digital Radiography"),
    Modality.CR: Code("CR", "DCM", "Computed Radiography"),
}
REPORT_TITLE = Code("18748-4", "LN", "Diagnostic Imaging Report")  # CID 7000
SERIES_NUMBERS = {"sr": 9000, "pdf": 9010, "capture": 9020, "seg": 9100}  # far from an acquisition's own


def concept(code: Code) -> CodedConcept:
    """A code as DICOM writes it; a meaning longer than 64 characters is cut, as LO demands."""
    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning[:64])


def software_version() -> str:
    """The version of the installed distribution."""
    try:
        return version("wetread")
    except PackageNotFoundError:
        return "unreleased"


def stable_uid(*parts: str) -> str:
    """A UID below 2.25 (PS3.5 B.2) from a hash of the parts: the same parts give the same UID."""
    digest = hashlib.sha256("\0".join(("wetread", *parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def content_key(report: Report) -> str:
    """A hash of the report's whole content: a report that changed is a new object, one that did not is the same."""
    return hashlib.sha256(REPORT_JSON.dump_json(report)).hexdigest()


def findings_key(report: Report) -> str:
    """A hash of the findings and comparisons alone: what does not change when a person edits or signs the text."""
    bare = replace(report, sentences=(), evidence=(), notices=(), writer="", is_draft=True, signature=None)
    return content_key(bare)


def series_uid(kind: str, report: Report) -> str:
    """The UID of the study's series for results of this kind; drafts and signed reports have one each."""
    return stable_uid("series", kind, report.study_uid, *(() if report.is_draft else ("signed",)))


def series_number(kind: str, report: Report) -> int:
    """The number of that series."""
    return SERIES_NUMBERS[kind] + (not report.is_draft)


def series_description(what: str, report: Report) -> str:
    """What a PACS shows for that series: its state first, for a reader must not take a draft for more."""
    return f"{PRODUCT} {'draft' if report.is_draft else 'signed'} {what}"


def instance_uid(kind: str, report: Report, *parts: str) -> str:
    """The SOP Instance UID of a result of this kind: the same content is the same instance."""
    return stable_uid("instance", kind, report.study_uid, content_key(report), *parts)


def tracking_uid_of(record: Record, finding: Finding) -> str:
    """The finding's Tracking UID: its comparison's, so that it stays the same over the studies of a patient."""
    comparison = record.comparison_of(finding)
    return tracking_uid(record.study.uid, finding) if comparison is None else tracked(comparison)


def tracked(comparison: Comparison) -> str:
    """The comparison's Tracking UID; one made from it where it is not a valid UID."""
    if re.fullmatch(RE_VALID_UID, comparison.tracking_uid) and len(comparison.tracking_uid) <= 64:
        return comparison.tracking_uid
    return stable_uid("tracking", comparison.tracking_uid)


def tracking_id_of(finding: Finding) -> str:
    """The finding's Tracking ID, for people."""
    return f"{PRODUCT} {finding.id}: {title_of(finding)}"[:64]
