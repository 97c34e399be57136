"""The report as a FHIR R4 transaction bundle, for an electronic health record.

It identifies the patient, as a health record needs. A draft is `preliminary`, and each of its resources is created only
if its identifier is not known yet: sent twice, or late, it changes nothing. A signed report and its observations take
the place of the draft's by conditional update, for they carry the identifiers of the draft they were made from: the
record never shows both, and no draft can replace what was signed. What is signed follows IHE IMR 1.1: an organization
as performer, an interpreter, the time of signing, the presented form as HTML and PDF.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import quote
from uuid import UUID, uuid5

from pydicom import Dataset

from app.results.coded import (
    ANSWERS,
    CHANGE_SINCE_PRIOR,
    CHANGES,
    SIDES,
    content_key,
    instance_uid,
    software_version,
    stable_uid,
    tracking_uid_of,
)
from app.results.errors import ResultRefused
from app.results.fhir_types import (
    SYSTEMS,
    Json,
    attachment,
    birth_date,
    coded,
    coding,
    concept,
    instant,
    measured,
    moment,
    oid,
    quantity,
)
from app.results.record import Record
from app.results.words import BANNER, PRODUCT, SEEN, growth_of, mark_of, signed_by
from dicom_io.identity import has_patient_id
from dicom_io.study import Series
from expert_models.codes import PROBABILITY
from expert_models.finding import Attribute, Code, Finding, Presence
from medmllm.report import Section, Sentence, Signature

NAMESPACE = UUID("8f2f5a3e-6d0b-5c84-9f43-0d6b9e0c7a11")  # ours, for the bundle's own urn:uuid references
REPORT_CODE = Code("18748-4", "LN", "Diagnostic imaging study")
INTERPRETATIONS = {Presence.PRESENT: ("POS", "Positive"), Presence.ABSENT: ("NEG", "Negative"),
                   Presence.INDETERMINATE: ("IND", "Indeterminate")}  # fmt: skip
GENDERS = {"M": "male", "F": "female", "O": "other"}
# FHIR R4's required value sets for the codes that are written here; the models do not check them
REQUIRED = {
    ("Bundle", "type"): {"document", "message", "transaction", "transaction-response", "batch", "batch-response",
                         "history", "searchset", "collection"},
    ("DiagnosticReport", "status"): {"registered", "partial", "preliminary", "final", "amended", "corrected",
                                     "appended", "cancelled", "entered-in-error", "unknown"},
    ("Observation", "status"): {"registered", "preliminary", "final", "amended", "corrected", "cancelled",
                                "entered-in-error", "unknown"},
    ("ImagingStudy", "status"): {"registered", "available", "cancelled", "entered-in-error", "unknown"},
    ("Device", "status"): {"active", "inactive", "entered-in-error", "unknown"},
    ("Patient", "gender"): {"male", "female", "other", "unknown"},
    ("ServiceRequest", "status"): {"draft", "active", "on-hold", "revoked", "completed", "entered-in-error", "unknown"},
    ("ServiceRequest", "intent"): {"proposal", "plan", "directive", "order", "original-order", "reflex-order",
                                   "filler-order", "instance-order", "option"},
}  # fmt: skip


def fhir_bundle(record: Record, html: bytes | None = None, pdf: bytes | None = None) -> bytes:
    """The transaction bundle as JSON. html, pdf: the report's page and document, carried as its presented form.

    Raises ResultRefused when the bundle does not validate.
    """
    bundle = Bundled(record).bundle(html, pdf)
    validate(bundle)
    return (json.dumps(bundle, indent=1, ensure_ascii=False) + "\n").encode()


class Bundled:
    """Makes the resources of one record; they refer to each other by urn:uuid."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.header = record.header if record.header is not None else Dataset()
        self.draft = (*record.earlier, record.report)[0]  # what the writer wrote, before a person edited or signed it
        self.key = content_key(self.draft)

    def bundle(self, html: bytes | None = None, pdf: bytes | None = None) -> Json:
        """Every resource with its conditional create or update."""
        signature = self.record.report.signature
        entries = [self.patient(), self.device(), self.imaging_study()]
        if signature is not None:
            entries += [self.organization(signature), self.practitioner(signature)]
        if self.accession:
            entries.append(self.service_request())
        entries += [self.observation(each) for each in self.record.report.findings]
        entries.append(self.diagnostic_report(html, pdf))
        return {"resourceType": "Bundle", "type": "transaction", "entry": [self.entry(each) for each in entries]}

    @property
    def accession(self) -> str:
        """The order's accession number, "" when there is none."""
        return self.record.study.request.accession or str(self.header.get("AccessionNumber") or "")

    def urn(self, *parts: str) -> str:
        """The stable urn:uuid of one of this record's resources."""
        return f"urn:uuid:{uuid5(NAMESPACE, chr(0).join((self.record.study.uid, self.key, *parts)))}"

    def entry(self, resource: Json) -> Json:
        """A resource as it is posted, unless one with its identifier is there already; what was signed replaces it."""
        kind, identifier = resource["resourceType"], resource["identifier"][0]
        query = "identifier=" + quote(f"{identifier['system']}|{identifier['value']}", safe="")
        if kind in ("DiagnosticReport", "Observation") and not self.record.report.is_draft:
            request = {"method": "PUT", "url": f"{kind}?{query}"}
        else:
            request = {"method": "POST", "url": kind, "ifNoneExist": query}
        return {"fullUrl": resource.pop("_urn"), "resource": resource, "request": request}

    def patient(self) -> Json:
        """The patient as the images name them.

        A placeholder for an id ("ANONYMOUS", "0") must not make one patient of many: the keyed hash takes its place.
        """
        header = self.header
        is_known = has_patient_id(header)
        number = str(header.PatientID).strip() if is_known else self.record.study.patient_key
        issuer = str(header.get("IssuerOfPatientID") or "") if is_known else ""
        patient: Json = {
            "resourceType": "Patient",
            "_urn": self.urn("Patient"),
            "identifier": [
                {
                    "system": "urn:wetread:patient-id" + (f":{quote(issuer, safe='')}" if issuer else ""),
                    "value": number,
                    "type": coded("http://terminology.hl7.org/CodeSystem/v2-0203", "MR", "Medical record number"),
                }
            ],
        }
        name = header.get("PatientName")
        if name:
            given = [each for each in (str(name.given_name), str(name.middle_name)) if each]
            patient["name"] = [{"text": name.family_comma_given(), "family": str(name.family_name), "given": given}]
            patient["name"] = [{key: value for key, value in patient["name"][0].items() if value}]
        if sex := GENDERS.get(str(header.get("PatientSex") or "")):
            patient["gender"] = sex
        if born := birth_date(str(header.get("PatientBirthDate") or "")):
            patient["birthDate"] = born
        return patient

    def device(self) -> Json:
        """This software."""
        version = software_version()
        return {
            "resourceType": "Device",
            "_urn": self.urn("Device"),
            "identifier": [oid(stable_uid("device", version))],
            "status": "active",
            "manufacturer": PRODUCT,
            "deviceName": [{"name": PRODUCT, "type": "manufacturer-name"}],
            "version": [{"value": version}],
        }

    def organization(self, signature: Signature) -> Json:
        """The organization that answers for the report."""
        return {
            "resourceType": "Organization",
            "_urn": self.urn("Organization"),
            "identifier": [{"system": "urn:wetread:organization", "value": own_id(signature.organization)}],
            "name": signature.organization,
        }

    def practitioner(self, signature: Signature) -> Json:
        """The person who signed; only their name is known here, and not which of its words is the family's."""
        known_by = own_id(signature.organization, signature.name)
        return {
            "resourceType": "Practitioner",
            "_urn": self.urn("Practitioner"),
            "identifier": [{"system": "urn:wetread:practitioner", "value": known_by}],
            "name": [{"text": signature.name}],
        }

    def imaging_study(self) -> Json:
        """The study that the report is about."""
        study = self.record.study
        resource: Json = {
            "resourceType": "ImagingStudy",
            "_urn": self.urn("ImagingStudy"),
            "identifier": [oid(study.uid)],
            "status": "available",
            "subject": {"reference": self.urn("Patient")},
            "numberOfSeries": len(self.series_by_uid()),
            "numberOfInstances": len({uid for each in study.series for uid in each.source}),
            "series": [self.series(uid, parts) for uid, parts in self.series_by_uid().items()],
        }
        if study.acquired_on:
            resource["started"] = moment(study.acquired_on)
        if study.request.procedure:
            resource["description"] = study.request.procedure
        return resource

    def series_by_uid(self) -> dict[str, list[Series]]:
        """The study's series by their SeriesInstanceUID, the pictures of one DICOM series together again."""
        together: dict[str, list[Series]] = {}
        for series in self.record.study.series:
            together.setdefault(self.record.series_instance_uid(series), []).append(series)
        return together

    def series(self, uid: str, parts: list[Series]) -> Json:
        """One DICOM series with its instances."""
        sources = dict.fromkeys(source for series in parts for source in series.source)
        instances = [
            {"uid": source, "sopClass": {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{header.SOPClassUID}"}}
            for source in sources
            if (header := self.record.sources.get(source)) is not None
        ]
        resource: Json = {
            "uid": uid,
            "modality": {"system": SYSTEMS["DCM"], "code": str(parts[0].modality)},
            "numberOfInstances": len(sources),
        }
        return {**resource, **({"instance": instances} if instances else {})}

    def service_request(self) -> Json:
        """The order, known by its accession number."""
        request = self.record.study.request
        resource: Json = {
            "resourceType": "ServiceRequest",
            "_urn": self.urn("ServiceRequest"),
            "identifier": [
                {
                    "system": "urn:wetread:accession",
                    "value": self.accession,
                    "type": coded("http://terminology.hl7.org/CodeSystem/v2-0203", "ACSN", "Accession ID"),
                }
            ],
            "status": "active",
            "intent": "order",
            "subject": {"reference": self.urn("Patient")},
        }
        if request.procedure:
            resource["code"] = {"text": request.procedure}
        if request.indication:
            resource["reasonCode"] = [{"text": request.indication}]
        return resource

    def observation(self, finding: Finding) -> Json:
        """One finding: presence as its value; probability, change, measurements and attributes as components."""
        resource: Json = {
            "resourceType": "Observation",
            "_urn": self.urn("Observation", finding.id),
            "identifier": [oid(stable_uid("observation", self.record.study.uid, self.key, finding.id))],
            "status": "preliminary" if self.record.report.is_draft else "final",
            "category": [coded("http://terminology.hl7.org/CodeSystem/observation-category", "imaging", "Imaging")],
            "code": concept(finding.concept),
            "subject": {"reference": self.urn("Patient")},
            "device": {"reference": self.urn("Device")},
            "derivedFrom": [{"reference": self.urn("ImagingStudy")}],
            "method": {"text": f"{finding.expert.name} {finding.expert.version}"},
            "note": [{"text": f"Tracking UID {tracking_uid_of(self.record, finding)}"}],
        }
        if self.record.study.acquired_on:
            resource["effectiveDateTime"] = moment(self.record.study.acquired_on)
        if finding.presence is Presence.NOT_ASSESSED:
            unknown = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
            resource["dataAbsentReason"] = {**coded(unknown, "not-performed", "Not Performed"), "text": finding.reason}
        else:
            resource["valueCodeableConcept"] = concept(ANSWERS[finding.presence])
            code, display = INTERPRETATIONS[finding.presence]
            resource["interpretation"] = [
                coded("http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation", code, display)
            ]
        if place := body_site(finding):
            resource["bodySite"] = place
        if components := list(self.components(finding)):
            resource["component"] = components
        return resource

    def components(self, finding: Finding) -> Iterator[Json]:
        """The finding's numbers, and what became of it since the prior."""
        if finding.probability is not None:
            yield {"code": concept(PROBABILITY), "valueQuantity": quantity(finding.probability, Code("1", "UCUM", "1"))}
        for measurement in finding.measurements:
            yield {"code": concept(measurement.code), "valueQuantity": measured(measurement)}
        for attribute in finding.attributes:
            yield {"code": concept(attribute.concept), "valueCodeableConcept": rated(attribute)}
        comparison = self.record.comparison_of(finding)
        if comparison is not None:
            change = concept(CHANGES[comparison.change])
            if growth := growth_of(comparison):
                change["text"] = f"{comparison.change.value}, {growth}"
            yield {"code": concept(CHANGE_SINCE_PRIOR), "valueCodeableConcept": change}

    @property
    def status(self) -> str:
        """DiagnosticReport.status: amended when a signed version was edited and signed anew."""
        if self.record.report.is_draft:
            return "preliminary"
        return "final" if all(each.is_draft for each in self.record.earlier) else "amended"

    def diagnostic_report(self, html: bytes | None, pdf: bytes | None) -> Json:
        """The report that holds the observations together."""
        study, report = self.record.study, self.record.report
        said = report.section(Section.IMPRESSION) or report.section(Section.FINDINGS)
        title = f"Draft report. {BANNER}" if report.signature is None else signed_by(report.signature)
        forms = [("text/html", html), ("application/pdf", pdf)]
        resource: Json = {
            "resourceType": "DiagnosticReport",
            "_urn": self.urn("DiagnosticReport"),
            "identifier": [oid(instance_uid("sr", self.draft))],
            "status": self.status,
            "category": [coded("http://terminology.hl7.org/CodeSystem/v2-0074", "RAD", "Radiology")],
            "code": concept(REPORT_CODE),
            "subject": {"reference": self.urn("Patient")},
            "imagingStudy": [{"reference": self.urn("ImagingStudy")}],
            "result": [{"reference": self.urn("Observation", each.id)} for each in report.findings],
            "conclusion": paragraph(said),
            "issued": instant(datetime.now(UTC) if report.signature is None else report.signature.signed_at),
            "presentedForm": [attachment(body, kind, title) for kind, body in forms if body is not None],
        }
        if report.signature is not None:
            resource["performer"] = [{"reference": self.urn("Organization")}]
            resource["resultsInterpreter"] = [{"reference": self.urn("Practitioner")}]
        if study.acquired_on:
            resource["effectiveDateTime"] = moment(study.acquired_on)
        if self.accession:
            resource["basedOn"] = [{"reference": self.urn("ServiceRequest")}]
        return {key: value for key, value in resource.items() if value != []}


def rated(attribute: Attribute) -> Json:
    """The attribute's value; R4 has no place for its probability but the text."""
    value = concept(attribute.value)
    if attribute.probability is not None:
        value["text"] = f"{attribute.value.meaning}, probability {attribute.probability:.2f}"
    return value


def own_id(*parts: str) -> str:
    """An identifier for what has none but its name, the same whenever it is named so."""
    return str(uuid5(NAMESPACE, chr(0).join(parts)))


def paragraph(sentences: tuple[Sentence, ...]) -> str:
    """The sentences as one paragraph; behind what a model alone saw stands that it did."""
    said = [f"{each.text} ({SEEN})" if mark_of(each) == SEEN else each.text for each in sentences]
    return " ".join(said) or "No conclusion was drawn."


def body_site(finding: Finding) -> Json | None:
    """The finding's site with its side; FHIR R4 has no field for the side, so it is a second coding and in the text."""
    codes = [each for each in (finding.site, SIDES[finding.side] if finding.side else None) if each]
    if not codes:
        return None
    return {"coding": [coding(each) for each in codes], "text": ", ".join(each.meaning for each in codes)}


def validate(bundle: Json) -> None:
    """Refuse a bundle that HL7's resource definitions or R4's required value sets refuse.

    The models are those of R4B: the package offers no R4, and the resources used here are the same in both.
    """
    from fhir.resources.R4B.bundle import Bundle

    try:
        Bundle.model_validate(bundle)
    except ValueError as exc:
        raise ResultRefused(f"the bundle is not valid FHIR ({type(exc).__name__})") from exc
    for resource in (bundle, *(entry["resource"] for entry in bundle["entry"])):
        for (kind, name), allowed in REQUIRED.items():
            if resource["resourceType"] == kind and name in resource and resource[name] not in allowed:
                raise ResultRefused(f"the bundle is not valid FHIR: {kind}.{name} is {resource[name]!r}")
