"""Orders read from FHIR R4 ServiceRequests, in the shapes that HL7's examples and hospitals send."""

from __future__ import annotations

import json

import pytest

from app.orders import Order, order_from_fhir

ACSN = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]}
PLACER = {"type": {"coding": [{"code": "PLAC"}]}, "value": "P-1"}


def request(**extra: object) -> dict[str, object]:
    accession = {"type": ACSN, "system": "http://hospital.example/accession", "value": "A-2024-7"}
    return {"resourceType": "ServiceRequest", "status": "active", "identifier": [PLACER, accession], **extra}


def test_a_whole_order_is_read() -> None:
    body = request(
        code={"coding": [{"system": "http://loinc.org", "code": "24627-2", "display": "CT Chest"}]},
        reasonCode=[
            {"text": "Dyspnoea"},
            {"coding": [{"system": "http://snomed.info/sct", "code": "49727002", "display": "Cough"}]},
        ],
        note=[{"text": "Smoker,\n  30 pack years"}, {"text": "Dyspnoea"}],
    )
    assert order_from_fhir(body) == Order("A-2024-7", "Dyspnoea; Cough; Smoker, 30 pack years", "CT Chest")


def test_our_own_system_is_known_and_text_goes_before_a_code() -> None:
    identifier = [{"system": "urn:wetread:accession", "value": "B1"}]
    body = request(identifier=identifier, code={"text": "Chest PA", "coding": [{"code": "1", "display": "other"}]})
    assert order_from_fhir(body) == Order("B1", "", "Chest PA")
    assert order_from_fhir(request(code={"coding": [{"code": "71046"}]})).procedure == "71046"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"resourceType": "Patient"}, "a FHIR ServiceRequest is expected"),
        ({}, "a FHIR ServiceRequest is expected"),
        (request(status="revoked"), "no order any more: its status is revoked"),
        (request(identifier=[PLACER]), "no accession number"),
        (request(identifier=[{"type": ACSN, "value": " "}]), "no accession number"),
        (request(identifier=[{"type": ACSN, "value": "1"}, {"type": ACSN, "value": "2"}]), "more than one accession"),
        (request(identifier=[{"type": ACSN, "value": "1" * 17}]), "longer than the 16 characters"),
        (request(identifier="A"), "identifier is not a list of objects"),
        (request(identifier=[{"type": ACSN, "value": 7}]), "value is not a string"),
        (request(code="CT"), "code is not a CodeableConcept"),
        (request(note=["smoker"]), "note is not a list of objects"),
        (request(note=[{"text": "half a pair: \ud83d"}]), "a character that no text has"),
        (request(reasonCode=[{"text": "a NUL: \0"}]), "a character that no text has"),
        (request(identifier=[{"type": ACSN, "value": "A\x001"}]), "a character that no text has"),
    ],
)
def test_what_is_missing_or_wrong_is_one_sentence(body: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        order_from_fhir(json.loads(json.dumps(body)))
    assert "A-2024-7" not in str(caught.value)
