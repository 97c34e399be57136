"""What the coded results share: DICOM codes, identifiers that a second run repeats, and the software's own name."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, version

from highdicom.sr import CodedConcept
from pydicom.uid import UID

from app.results.record import REPORT_JSON, Record
from app.results.words import PRODUCT, title_of
from expert_models.finding import Code, Finding, Presence, Side

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
SERIES_NUMBERS = {"seg": 9100, "sr": 9000}  # far from an acquisition's own


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


def content_key(record: Record) -> str:
    """A hash of the report's whole content: a report that changed is a new object, one that did not is the same."""
    return hashlib.sha256(REPORT_JSON.dump_json(record.report)).hexdigest()


def tracking_uid_of(record: Record, finding: Finding) -> str:
    """The finding's Tracking UID: its comparison's, so that it stays the same over the studies of a patient."""
    comparison = record.comparison_of(finding)
    if comparison is None:
        return stable_uid("tracking", record.study.uid, finding.id, finding.concept.value)
    if UID(comparison.tracking_uid).is_valid:
        return comparison.tracking_uid
    return stable_uid("tracking", comparison.tracking_uid)


def tracking_id_of(finding: Finding) -> str:
    """The finding's Tracking ID, for people."""
    return f"{PRODUCT} {finding.id}: {title_of(finding)}"[:64]
