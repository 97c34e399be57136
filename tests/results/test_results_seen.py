"""A sentence that a model alone stands for is marked wherever it is read."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO

import pytest
from pydicom import Dataset, dcmread
from pypdf import PdfReader

from app.results.record import Record
from app.results.report_fhir import fhir_bundle
from app.results.report_html import html_page
from app.results.report_pdf import pdf_document
from app.results.report_sr import structured_report
from app.results.text import as_text
from medmllm.report import Check, CheckKind, Grounding, Section, Sentence, Verdict

MARK = "seen by the language model alone"


@pytest.fixture
def seen(dx_record: Record) -> Record:
    """A film's report in which the model added two sentences on the place of the heart, one of which failed a check."""
    place = Grounding(regions=dx_record.report.findings[0].regions)
    assert place.regions
    failed = (Check(CheckKind.UNSUPPORTED, Verdict.FAILED, "an expert says otherwise"),)
    own = (
        Sentence("There is a mass in the middle of the chest.", Section.FINDINGS, place),
        Sentence("There is an effusion.", Section.FINDINGS, place, failed),
    )
    return replace(dx_record, report=replace(dx_record.report, sentences=(*dx_record.report.sentences, *own)))


def test_text_page_and_pdf_mark_what_the_model_alone_saw(seen: Record) -> None:
    pdf = "".join(each.extract_text() for each in PdfReader(BytesIO(pdf_document(seen))).pages)
    for said in (as_text(seen.report), html_page(seen).decode(), pdf):
        assert " ".join(said.split()).count(MARK) == 2


def test_no_other_sentence_is_marked_so(dx_record: Record) -> None:
    assert MARK not in as_text(dx_record.report)
    assert MARK not in html_page(dx_record).decode()


def test_the_sr_codes_it(seen: Record) -> None:
    document = dcmread(BytesIO(structured_report(seen)))
    said = {each.TextValue: each for each in walk(document) if each.get("ValueType") == "TEXT"}
    codes = {
        text: item.ContentSequence[0].ConceptCodeSequence[0] for text, item in said.items() if "ContentSequence" in item
    }
    marked = codes["There is a mass in the middle of the chest."]
    assert (marked.CodeValue, marked.CodingSchemeDesignator) == ("seen", "99WETREAD")
    assert codes["There is an effusion."].CodeValue == "unsupported"
    assert set(codes) == {"There is a mass in the middle of the chest.", "There is an effusion."}


def test_the_conclusion_of_fhir_says_it(seen: Record) -> None:
    own = Sentence("A mass.", Section.IMPRESSION, Grounding(regions=seen.report.findings[0].regions))
    record = replace(seen, report=replace(seen.report, sentences=(*seen.report.sentences, own)))
    bundle = json.loads(fhir_bundle(record, b"<html>", None))
    (conclusion,) = [one for each in bundle["entry"] if (one := each["resource"].get("conclusion"))]
    assert conclusion.endswith(f"A mass. ({MARK})")
    assert conclusion.count(MARK) == 1


def walk(item: Dataset):
    yield item
    for child in item.get("ContentSequence", ()):
        yield from walk(child)
