"""What changes in every result when a person signs, and what must not."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from io import BytesIO

import pytest
from pydicom import Dataset, dcmread
from pypdf import PdfReader

from app.results.record import Record
from app.results.report_fhir import fhir_bundle
from app.results.report_html import html_page
from app.results.report_pdf import pdf_document
from app.results.report_seg import segmentations
from app.results.report_sr import structured_report
from app.results.text import as_text
from medmllm.report import Report

SIGNED = "Signed by Dr. Jóna Doe, Sample Hospital, 2024-03-05 14:30 UTC+01:00"
DRAFT = "not verified"


def sr_of(record: Record) -> Dataset:
    return dcmread(BytesIO(structured_report(record, list(segmentations(record)))))


def report_of(record: Record) -> dict:
    bundle = json.loads(fhir_bundle(record, b"<html>", None if record.report.is_draft else b"%PDF"))
    return {each["resource"]["resourceType"]: each for each in bundle["entry"]}


def test_text_page_and_pdf_name_who_signed_and_drop_the_banner(bare_record: Record, sign) -> None:
    signed = sign(bare_record)
    pages = PdfReader(BytesIO(pdf_document(signed))).pages
    for said in (as_text(signed.report), html_page(signed).decode(), *(each.extract_text() for each in pages)):
        assert SIGNED in said
        assert DRAFT not in said.lower()
        assert "draft" not in said.lower()


def test_what_a_person_wrote_is_marked_as_theirs_and_not_doubted(bare_record: Record, sign) -> None:
    signed = sign(bare_record)
    pdf = "".join(each.extract_text() for each in PdfReader(BytesIO(pdf_document(signed))).pages)
    for said in (as_text(signed.report), html_page(signed).decode(), pdf):
        assert said.count("edited by a person") == 2
        assert "rests on no finding" not in said
        assert "cites nothing" not in said
    marked = [each for each in walk(sr_of(signed)) if each.get("TextValue") == "A healed rib fracture."]
    assert marked[0].ContentSequence[0].ConceptCodeSequence[0].CodeValue == "edited"


def walk(item: Dataset):
    yield item
    for child in item.get("ContentSequence", ()):
        yield from walk(child)


def test_the_sr_is_verified_by_the_person_who_signed(ct_record: Record, sign) -> None:
    draft, final = sr_of(ct_record), sr_of(sign(ct_record))
    assert (final.CompletionFlag, final.VerificationFlag, final.PreliminaryFlag) == ("COMPLETE", "VERIFIED", "FINAL")
    (observer,) = final.VerifyingObserverSequence
    assert str(observer.VerifyingObserverName).rstrip("^") == "Dr. Jóna Doe"
    assert observer.VerifyingOrganization == "Sample Hospital"
    assert str(observer.VerificationDateTime).replace(".000000", "") == "20240305143000+0100"
    assert "VerifyingObserverSequence" not in draft
    (study,) = final.PredecessorDocumentsSequence
    assert study.StudyInstanceUID == draft.StudyInstanceUID
    (series,) = study.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == draft.SeriesInstanceUID != final.SeriesInstanceUID
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == draft.SOPInstanceUID != final.SOPInstanceUID


@pytest.mark.parametrize("name", ["Doe^Jóna^^Dr.", "A = B \\ C", "x" * 200])
def test_no_name_breaks_the_sr(bare_record: Record, dicom_file, name: str, sign, errors_of) -> None:
    signed = sign(bare_record)
    odd = replace(
        signed.report,
        signature=replace(signed.report.signature, name=name, organization="North \\ South\n" + "y" * 200),
    )
    path = dicom_file(structured_report(replace(signed, report=odd)))
    assert errors_of(path) == []
    (observer,) = dcmread(path).VerifyingObserverSequence
    assert observer.VerifyingOrganization.startswith("North   South yyy")


def test_dciodvfy_finds_no_error_in_a_signed_sr(ct_record, dx_record, bare_record, dicom_file, sign, errors_of) -> None:
    for record in map(sign, (ct_record, dx_record, bare_record)):
        assert errors_of(dicom_file(structured_report(record, list(segmentations(record))))) == []


@pytest.mark.skipif(shutil.which("dsrdump") is None, reason="dsrdump (dcmtk) is not installed")
def test_dcmtk_reads_who_has_signed_and_what_came_before(ct_record: Record, dicom_file, sign) -> None:
    path = dicom_file(structured_report(sign(ct_record), list(segmentations(ct_record))))
    told = subprocess.run(["dsrdump", str(path)], capture_output=True, text=True, check=True)
    assert "Completion Flag     : COMPLETE" in told.stdout
    assert "Verification Flag   : VERIFIED" in told.stdout
    assert "Dr. Jóna Doe" in told.stdout
    assert "Sample Hospital" in told.stdout
    assert "Predecessor Docs    : 1" in told.stdout
    assert "E:" not in told.stderr


def test_the_fhir_report_is_final_and_an_imr_report(ct_record: Record, sign) -> None:
    """IHE IMR 1.1: performer Organization, resultsInterpreter, issued, imagingStudy, presentedForm with HTML."""
    bundled = report_of(sign(ct_record))
    report = bundled["DiagnosticReport"]["resource"]
    assert report["status"] == bundled["Observation"]["resource"]["status"] == "final"
    assert report["issued"] == "2024-03-05T14:30:00.000+01:00"
    assert report["performer"] == [{"reference": bundled["Organization"]["fullUrl"]}]
    assert report["resultsInterpreter"] == [{"reference": bundled["Practitioner"]["fullUrl"]}]
    assert bundled["Organization"]["resource"]["name"] == "Sample Hospital"
    assert bundled["Practitioner"]["resource"]["name"] == [{"text": "Dr. Jóna Doe"}]
    forms = [(each["contentType"], each["title"], each["size"]) for each in report["presentedForm"]]
    assert forms == [("text/html", SIGNED, 6), ("application/pdf", SIGNED, 4)]
    assert report["imagingStudy"]


def test_the_signed_report_replaces_the_draft_and_a_late_draft_nothing(ct_record: Record, sign) -> None:
    signed = sign(ct_record)
    anew = sign(replace(signed, report=replace(signed.report, is_draft=True, signature=None)))
    draft, final, again = map(report_of, (ct_record, signed, replace(anew, earlier=(*signed.earlier, signed.report))))
    for kind in ("DiagnosticReport", "Observation"):
        first, then = draft[kind]["request"], final[kind]["request"]
        assert (first["method"], then["method"]) == ("POST", "PUT")
        assert then["url"] == f"{kind}?{first['ifNoneExist']}" == again[kind]["request"]["url"]
    assert again["DiagnosticReport"]["resource"]["status"] == "amended"


def test_earlier_versions_are_of_the_same_study(ct_record: Record, bare_record: Record) -> None:
    other: Report = bare_record.report
    with pytest.raises(ValueError, match="not about this study"):
        replace(ct_record, earlier=(other,))
