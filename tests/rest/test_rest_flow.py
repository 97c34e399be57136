"""The whole way over a real socket: a film goes in, its report comes out in every form."""

from __future__ import annotations

import io
import json
import time

import httpx
import pydicom
from pydicom.uid import SegmentationStorage
from pypdf import PdfReader
from rest_site import INDICATION, ORDER, Site, until_done

from app.accounts import Account, Scope
from app.results.record import REPORT_JSON
from app.signing import sign


def test_the_report_as_json_is_the_record_and_has_the_orders_indication(ehr: httpx.Client, here: str) -> None:
    answer = ehr.get(f"{here}/report", headers={"Accept": "application/json"})
    report = REPORT_JSON.validate_json(answer.content)
    assert report.is_draft
    assert INDICATION in " ".join(sentence.text for sentence in report.sentences)
    assert "Cardiothoracic ratio" in answer.text


def test_the_report_comes_in_the_form_that_is_asked_for(ehr: httpx.Client, here: str) -> None:
    page = ehr.get(f"{here}/report", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert INDICATION in page.text
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    pdf = ehr.get(f"{here}/report", headers={"Accept": "application/pdf"})
    assert INDICATION.split(",")[0] in "".join(each.extract_text() for each in PdfReader(io.BytesIO(pdf.content)).pages)
    fhir = ehr.get(f"{here}/report", headers={"Accept": "application/fhir+json"})
    assert fhir.headers["content-type"] == "application/fhir+json"
    statuses = [
        e["resource"]["status"] for e in fhir.json()["entry"] if e["resource"]["resourceType"] == "DiagnosticReport"
    ]
    assert statuses == ["preliminary"]
    for answer in (page, pdf, fhir):
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["vary"] == "Accept"
        assert answer.headers["content-disposition"].startswith('inline; filename="report')


def test_a_form_that_there_is_not_is_406(ehr: httpx.Client, here: str) -> None:
    assert ehr.get(f"{here}/report", headers={"Accept": "image/png, application/json;q=0"}).status_code == 406


def test_what_the_client_has_already_is_not_sent_again(ehr: httpx.Client, here: str) -> None:
    for path in (f"{here}/report", f"{here}/results/report.pdf"):
        first = ehr.get(path)
        again = ehr.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
        assert ehr.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_the_results_are_listed_and_are_what_they_say(ehr: httpx.Client, here: str, film: bytes) -> None:
    listed = ehr.get(f"{here}/results").json()
    assert listed["version"] == 1
    names = {each["name"]: each for each in listed["results"]}
    assert {"report.json", "report.html", "report.pdf", "report-fhir.json", "report-sr.dcm"} <= set(names)
    study_uid = pydicom.dcmread(io.BytesIO(film)).StudyInstanceUID
    kinds = set()
    for name, each in names.items():
        answer = ehr.get(each["link"])
        assert (answer.status_code, len(answer.content)) == (200, each["bytes"])
        assert answer.headers["content-type"].partition(";")[0] == each["media_type"]
        if name.endswith(".dcm"):
            assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
            dataset = pydicom.dcmread(io.BytesIO(answer.content))
            assert dataset.StudyInstanceUID == study_uid
            kinds.add(dataset.SOPClassUID)
    assert SegmentationStorage in kinds
    for absent in ("secret", "%2e%2e", "%2e%2e%2fsecret", ".hidden", "report.txt"):
        assert ehr.get(f"{here}/results/{absent}").status_code == 404


def test_the_worklist_and_the_versions_say_where_it_stands(ehr: httpx.Client, here: str) -> None:
    row = ehr.get(here).json()
    assert row in ehr.get("/v1/studies").json()["studies"]
    assert (row["state"], row["version"], row["is_draft"]) == ("done", 1, True)
    assert ehr.get(row["links"]["report"]).status_code == 200
    (version,) = ehr.get(f"{here}/versions").json()["versions"]
    assert (version["version"], version["writer"], version["author"]) == (1, "template", "")
    assert ehr.get(version["link"]).status_code == 200
    assert ehr.get(f"{here}/report", params={"version": 2}).status_code == 404


def test_the_same_study_is_reported_once_until_its_order_changes(ward: Site, ehr: httpx.Client, here: str) -> None:
    study, job = here.rsplit("/", 1)[-1], ehr.get(here).json()["links"]["job"]
    again = ehr.post("/v1/reports", json={"study": study})
    assert (again.status_code, again.headers["Location"], again.json()["version"]) == (202, job, 1)
    changed = ehr.post("/v1/reports", json={"study": study, "indication": "Fever\nsince yesterday"})
    assert changed.headers["Location"] != job
    assert until_done(ehr, changed.json()["job"])["version"] == 2
    assert "Fever since yesterday" in ehr.get(f"{here}/report").text
    assert INDICATION in ehr.get(f"{here}/report", params={"version": 1}).text


def test_a_key_makes_one_request_of_two(ward: Site, ehr: httpx.Client, here: str) -> None:
    ask = {"study": here.rsplit("/", 1)[-1]}
    first = ehr.post("/v1/reports", json=ask, headers={"Idempotency-Key": '"b8e7-1"'})
    assert first.status_code == 202
    ehr.post("/v1/reports", json={**ask, "indication": "Chest pain"})  # the study's newest job is another one now
    again = ehr.post("/v1/reports", json=ask, headers={"Idempotency-Key": "b8e7-1"})
    assert (again.status_code, again.headers["Location"]) == (202, first.headers["Location"])
    other = ehr.post("/v1/reports", json={**ask, "indication": "Dyspnoea"}, headers={"Idempotency-Key": "b8e7-1"})
    assert other.status_code == 422
    assert "Idempotency-Key" in other.json()["detail"]
    stranger = ward.client(Scope.READ, Scope.WRITE, label="ris")
    assert stranger.post("/v1/reports", json=ask, headers={"Idempotency-Key": "b8e7-1"}).status_code == 202


def test_a_service_request_of_another_accession_is_refused(ehr: httpx.Client, here: str) -> None:
    order = json.loads(json.dumps(ORDER))
    order["identifier"][0]["value"] = "A-1"
    asked = ehr.post("/v1/reports", json={"study": here.rsplit("/", 1)[-1], "service_request": order})
    assert asked.status_code == 422
    assert "accession" in asked.json()["detail"]


def test_once_a_person_has_signed_every_form_says_so(ward: Site, ehr: httpx.Client, here: str) -> None:
    uid = ward.program.worklist.uid_of(here.rsplit("/", 1)[-1])
    while sum(ward.program.jobs.counts()[state] for state in ("waiting", "running")):
        time.sleep(0.1)  # the tests before have asked for more drafts, and the newest version is what counts
    draft = ehr.get(f"{here}/report")
    house = Account("house", "Dr G. House", frozenset({Scope.READ, Scope.SIGN}))
    number = sign(ward.program, uid, house, ward.program.versions.newest(uid).number).number
    final = ehr.get(f"{here}/report", headers={"If-None-Match": draft.headers["etag"]})
    assert (final.status_code, final.json()["is_draft"]) == (200, False)
    version = ehr.get(f"{here}/versions").json()["versions"][-1]
    assert (version["version"], version["author"], version["signed_by"]) == (number, "house", "Dr G. House")
    fhir = ehr.get(f"{here}/report", headers={"Accept": "application/fhir+json"}).json()
    resources = [entry["resource"] for entry in fhir["entry"]]
    assert [each["status"] for each in resources if each["resourceType"] == "DiagnosticReport"] == ["final"]
    assert "DRAFT" not in ehr.get(f"{here}/report", headers={"Accept": "text/html"}).text
    assert ehr.get(f"{here}/report", params={"version": number - 1}).json()["is_draft"] is True
    assert ehr.get(here).json()["is_draft"] is False
    ward.program.versions.save(ward.program.versions.history(uid)[0].report)  # a draft, after more images came
    study = ehr.get(here).json()
    assert (study["version"], study["is_draft"], study["signed_version"]) == (number + 1, True, number)
    assert ehr.get(f"{here}/report").json()["is_draft"] is True
    assert ehr.get(study["links"]["signed_report"]).json()["is_draft"] is False


def test_all_of_it_is_in_the_audit_trail(ward: Site, here: str) -> None:
    auditor = ward.client(Scope.AUDIT, label="privacy officer")
    answer = auditor.get("/v1/audit", params={"study": here.rsplit("/", 1)[-1], "limit": 10_000})
    done = {(each["actor"], each["action"]) for each in answer.json()["entries"]}
    for action in ("study received", "report requested", "report read", "results listed", "result read", "study read"):
        assert ("ehr", action) in done
    assert ward.program.audit.broken_at() is None
