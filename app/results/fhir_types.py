"""FHIR R4's data types, as the bundle writes them."""

from __future__ import annotations

import base64
import hashlib
from datetime import date, datetime
from typing import Any

from pydicom.uid import UID

from expert_models.finding import Code, Measurement

Json = dict[str, Any]
SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "RADLEX": "http://www.radlex.org",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "LN": "http://loinc.org",
    "UCUM": "http://unitsofmeasure.org",
    "99WETREAD": "urn:wetread:codes",
}


def measured(measurement: Measurement) -> Json:
    """A measurement as a quantity."""
    return quantity(measurement.value, measurement.unit)


def quantity(value: float, unit: Code) -> Json:
    """A number with its UCUM unit."""
    return {"value": value, "unit": unit.meaning, "system": SYSTEMS["UCUM"], "code": unit.value}


def concept(code: Code) -> Json:
    """A CodeableConcept."""
    return {"coding": [coding(code)], "text": code.meaning}


def coding(code: Code) -> Json:
    """A Coding; a scheme without a web name keeps its DICOM designator."""
    system = SYSTEMS.get(code.scheme, f"urn:wetread:scheme:{code.scheme}")
    return {"system": system, "code": code.value, "display": code.meaning}


def coded(system: str, code: str, display: str) -> Json:
    """A CodeableConcept of one of HL7's own code systems."""
    return {"coding": [{"system": system, "code": code, "display": display}]}


def oid(uid: str) -> Json:
    """A DICOM UID as an identifier (FHIR R4, ImagingStudy)."""
    return {"system": "urn:dicom:uid", "value": f"urn:oid:{UID(uid)}"}


def instant(when: datetime) -> str:
    """A FHIR instant: to the millisecond, with its zone."""
    return when.isoformat(timespec="milliseconds")


def moment(when: datetime) -> str:
    """A FHIR dateTime; DICOM rarely states the zone, and FHIR demands one with a time, so without it only the day."""
    return when.isoformat(timespec="seconds") if when.tzinfo else f"{when:%Y-%m-%d}"


def birth_date(stated: str) -> str:
    """A DICOM date as FHIR writes it; "" for what is no day of the calendar, such as 30 February."""
    if len(stated) != 8 or not stated.isdigit():
        return ""
    try:
        return date(int(stated[:4]), int(stated[4:6]), int(stated[6:])).isoformat()
    except ValueError:
        return ""


def attachment(body: bytes, content_type: str, title: str) -> Json:
    """A document with its size and its SHA-1, as Attachment.hash wants it."""
    digest = hashlib.sha1(body, usedforsecurity=False).digest()
    return {
        "contentType": content_type,
        "language": "en",
        "title": title,
        "size": len(body),
        "hash": base64.b64encode(digest).decode(),
        "data": base64.b64encode(body).decode(),
    }
