"""Orders from the EHR: why a study was asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Order:
    """A request for an imaging procedure, known by its accession number (FHIR ServiceRequest, HL7 ORM)."""

    accession: str
    indication: str = ""
    procedure: str = ""

    def __post_init__(self) -> None:
        if not self.accession.strip():
            raise ValueError("an order needs an accession number")
