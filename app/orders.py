"""Orders from the EHR: why a study was asked for."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

OUR_SYSTEM = "urn:wetread:accession"
LONGEST_ACCESSION = 16  # characters of a DICOM accession number (PS3.5 table 6.2-1, VR SH)
LONGEST_KEPT = 200  # images state longer ones than the standard allows
WITHDRAWN = ("revoked", "entered-in-error")


@dataclass(frozen=True, slots=True)
class Order:
    """A request for an imaging procedure, known by its accession number (FHIR ServiceRequest, HL7 ORM)."""

    accession: str
    indication: str = ""
    procedure: str = ""

    def __post_init__(self) -> None:
        if not self.accession.strip():
            raise ValueError("an order needs an accession number")
        if len(self.accession) > LONGEST_KEPT:
            raise ValueError(f"an accession number has at most {LONGEST_KEPT} characters")
        if not all(map(is_text, (self.accession, self.indication, self.procedure))):
            raise ValueError("it holds a character that no text has, such as NUL or half of a surrogate pair")


def is_text(line: str) -> bool:
    """Whether it holds neither control characters nor halves of a character: databases and encodings refuse them."""
    return not any(unicodedata.category(each) in ("Cc", "Cs") for each in line)


def order_from_fhir(body: Mapping[str, object]) -> Order:
    """The order in a FHIR R4 ServiceRequest, as parsed from JSON.

    accession: the identifier of type ACSN (HL7 table 0203), or of the system urn:wetread:accession. indication: the
    texts of reasonCode (else its codings' displays), reasonReference and note. procedure: the text of code (else its
    first coding's display or code). Raises ValueError with one sentence, which repeats nothing of the body.
    """
    if body.get("resourceType") != "ServiceRequest":
        raise ValueError("a FHIR ServiceRequest is expected: its resourceType says otherwise")
    if body.get("status") in WITHDRAWN:
        raise ValueError(f"it is no order any more: its status is {body['status']}")
    reasons = [named(each) for each in objects(body, "reasonCode")]
    reasons += [text(each, "display") for each in objects(body, "reasonReference")]
    reasons += [text(each, "text") for each in objects(body, "note")]
    code = body.get("code", {})
    if not isinstance(code, Mapping):
        raise ValueError("ServiceRequest.code is not a CodeableConcept")
    return Order(accession_in(body), "; ".join(dict.fromkeys(filter(None, reasons))), named(code))


def accession_in(body: Mapping[str, object]) -> str:
    """The accession number among the identifiers. Raises ValueError when there is none, or more than one."""
    found = {
        text(identifier, "value")
        for identifier in objects(body, "identifier")
        if text(identifier, "system") == OUR_SYSTEM or "ACSN" in codes_of(identifier.get("type"))
    } - {""}
    if not found:
        raise ValueError(f"it has no accession number: no identifier of type ACSN or system {OUR_SYSTEM}")
    if len(found) > 1:
        raise ValueError("it has more than one accession number")
    (accession,) = found
    if len(accession) > LONGEST_ACCESSION:
        raise ValueError(f"its accession number is longer than the {LONGEST_ACCESSION} characters that DICOM allows")
    return accession


def codes_of(concept: object) -> list[str]:
    """The codes of a CodeableConcept."""
    return [text(each, "code") for each in objects(concept, "coding")] if isinstance(concept, Mapping) else []


def named(concept: Mapping[str, object]) -> str:
    """What a CodeableConcept says: its text, else its first coding's display, else that coding's code."""
    said = [text(concept, "text")]
    for coding in objects(concept, "coding"):
        said += [text(coding, "display"), text(coding, "code")]
    return next(filter(None, said), "")


def objects(body: Mapping[str, object], name: str) -> Iterator[Mapping[str, object]]:
    """The objects of a repeating element. Raises ValueError when it is something else."""
    values = body.get(name, [])
    if not isinstance(values, list) or not all(isinstance(each, Mapping) for each in values):
        raise ValueError(f"{name} is not a list of objects")
    yield from values


def text(body: Mapping[str, object], name: str) -> str:
    """A string element on one line, "" when it is absent. Raises ValueError when it is no string."""
    value = body.get(name, "")
    if not isinstance(value, str):
        raise ValueError(f"{name} is not a string")
    return " ".join(value.split())
