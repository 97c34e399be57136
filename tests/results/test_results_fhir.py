"""The FHIR bundle: validated by fhir.resources, its references resolved, its values read back."""

from __future__ import annotations

import base64
import hashlib
import json
from copy import copy
from dataclasses import replace

import pytest
from fhir.resources.R4B.bundle import Bundle

from app.results.errors import ResultRefused
from app.results.record import Record
from app.results.report_fhir import Bundled, fhir_bundle, validate
from dicom_io.study import Request


def made(record: Record, html: bytes | None = None) -> dict:
    return json.loads(fhir_bundle(record, html))


def resources(bundle: dict, kind: str) -> list[dict]:
    return [each["resource"] for each in bundle["entry"] if each["resource"]["resourceType"] == kind]


def test_it_validates_and_every_reference_leads_somewhere(ct_record, dx_record, bare_record) -> None:
    for record in (ct_record, dx_record, bare_record):
        bundle = made(record)
        Bundle.model_validate(bundle)
        known = [entry["fullUrl"] for entry in bundle["entry"]]
        assert len(set(known)) == len(known)
        body = json.dumps(bundle)
        cited = {part.split('"')[0] for part in body.split('"reference": "')[1:]}
        assert cited <= set(known)


def test_the_report_is_preliminary_radiology_with_its_impression(ct_record: Record) -> None:
    bundle = made(ct_record, b"<html>")
    (report,) = resources(bundle, "DiagnosticReport")
    assert report["status"] == "preliminary"
    assert report["category"][0]["coding"][0]["code"] == "RAD"
    assert report["code"]["coding"][0] | {"display": ""} == {
        "system": "http://loinc.org",
        "code": "18748-4",
        "display": "",
    }
    assert report["conclusion"] == "Follow the left nodule after 6 to 12 months."
    assert len(report["result"]) == 6
    form = report["presentedForm"][0]
    assert (form["size"], base64.b64decode(form["data"])) == (6, b"<html>")
    assert base64.b64decode(form["hash"]) == hashlib.sha1(b"<html>").digest()
    assert {each["status"] for each in resources(bundle, "Observation")} == {"preliminary"}


def test_a_findings_values_read_back(ct_record: Record) -> None:
    nodule = resources(made(ct_record), "Observation")[2]
    assert nodule["code"]["coding"][0]["code"] == "786838002"
    assert nodule["valueCodeableConcept"]["coding"][0]["code"] == "52101004"
    assert nodule["interpretation"][0]["coding"][0]["code"] == "POS"
    assert nodule["bodySite"]["text"] == "Upper lobe of lung, Left"
    numbers = {e["code"]["text"]: e["valueQuantity"] for e in nodule["component"] if "valueQuantity" in e}
    assert numbers["Probability"]["value"] == 0.87
    assert (numbers["Long axis"]["value"], numbers["Long axis"]["code"]) == (6.4, "mm")
    qualities = {
        each["code"]["coding"][0]["code"]: each["valueCodeableConcept"]
        for each in nodule["component"]
        if "valueCodeableConcept" in each
    }
    attenuation, border = qualities["RID46010"], qualities["112015"]
    assert attenuation["coding"] == [{"system": "http://www.radlex.org", "code": "RID5741", "display": "Solid"}]
    assert attenuation["text"] == "Solid, probability 0.93"
    assert (border["coding"][0]["code"], border["text"]) == ("112136", "Spiculated")


def test_what_was_not_assessed_has_no_value_but_a_reason(ct_record: Record) -> None:
    effusion = resources(made(ct_record), "Observation")[3]
    assert "valueCodeableConcept" not in effusion
    assert effusion["dataAbsentReason"]["coding"][0]["code"] == "not-performed"
    assert effusion["dataAbsentReason"]["text"] == "The expert ran out of memory."


def test_patient_study_and_order_are_those_of_the_images(ct_record: Record) -> None:
    bundle = made(ct_record)
    (patient,), (study,), (order,) = (resources(bundle, each) for each in ("Patient", "ImagingStudy", "ServiceRequest"))
    assert patient["identifier"][0]["value"] == "P-17"
    assert (patient["name"][0]["family"], patient["name"][0]["given"]) == ("Müller", ["Zoë"])
    assert (patient["gender"], patient["birthDate"]) == ("female", "1960-02-29")
    assert study["identifier"][0] == {"system": "urn:dicom:uid", "value": f"urn:oid:{ct_record.study.uid}"}
    assert (study["numberOfInstances"], study["series"][0]["modality"]["code"]) == (12, "CT")
    assert order["identifier"][0]["value"] == "A-2024-7"


@pytest.mark.parametrize("placeholder", ["", "ANONYMOUS", "000"])
def test_a_placeholder_for_an_id_never_makes_one_patient_of_many(ct_record: Record, placeholder: str) -> None:
    ct_record.header.PatientID = placeholder
    (patient,) = resources(made(ct_record), "Patient")
    assert patient["identifier"][0]["value"] == ct_record.study.patient_key


def test_a_birth_date_that_is_no_day_costs_no_bundle(ct_record: Record) -> None:
    ct_record.header.PatientBirthDate = "19600231"
    (patient,) = resources(made(ct_record), "Patient")
    assert "birthDate" not in patient


def test_without_an_accession_number_there_is_no_order(bare_record: Record) -> None:
    del bare_record.header.AccessionNumber
    record = replace(bare_record, study=replace(bare_record.study, request=Request()))
    bundle = made(record)
    assert resources(bundle, "ServiceRequest") == []
    assert "basedOn" not in resources(bundle, "DiagnosticReport")[0]


def test_sent_twice_it_is_created_once(dx_record: Record) -> None:
    first, second = (made(dx_record)["entry"] for _ in range(2))
    assert [each["request"]["ifNoneExist"] for each in first] == [each["request"]["ifNoneExist"] for each in second]
    assert [each["fullUrl"] for each in first] == [each["fullUrl"] for each in second]
    assert all(each["request"]["method"] == "POST" for each in first)
    study = next(each for each in first if each["resource"]["resourceType"] == "ImagingStudy")
    oid = dx_record.study.uid
    assert study["request"]["ifNoneExist"] == f"identifier=urn%3Adicom%3Auid%7Curn%3Aoid%3A{oid}"


@pytest.mark.parametrize(("kind", "status"), [("DiagnosticReport", "bogus"), ("Observation", "partial")])
def test_a_status_outside_its_value_set_is_refused(dx_record: Record, kind: str, status: str) -> None:
    bundle = Bundled(dx_record).bundle(None)
    resources(bundle, kind)[0]["status"] = status
    with pytest.raises(ResultRefused, match=f"{kind}.status is '{status}'"):
        validate(bundle)


def test_an_unknown_element_is_refused(dx_record: Record) -> None:
    bundle = Bundled(dx_record).bundle(None)
    resources(bundle, "Patient")[0]["colour"] = "blue"
    with pytest.raises(ResultRefused, match="not valid FHIR"):
        validate(bundle)


def test_two_pictures_of_one_dicom_series_are_one_series_again(dx_record: Record) -> None:
    (series,) = dx_record.study.series
    first = dx_record.sources[series.source[0]]
    second = copy(first)
    second.SOPInstanceUID = "1.2.3.4.5.6"
    study = replace(
        dx_record.study,
        series=(series, replace(series, uid="1.2.3.4.5.6", source=("1.2.3.4.5.6",))),
    )
    record = Record(dx_record.report, study, dx_record.masks, {**dx_record.sources, "1.2.3.4.5.6": second})
    (imaging,) = resources(made(record), "ImagingStudy")
    assert imaging["numberOfSeries"] == 1
    assert imaging["numberOfInstances"] == 2
    assert [each["uid"] for each in imaging["series"]] == [str(first.SeriesInstanceUID)]
    assert [each["uid"] for each in imaging["series"][0]["instance"]] == [series.source[0], "1.2.3.4.5.6"]
