"""The page in a real browser: sentences light their regions, nothing is fetched, nothing is injected."""

from __future__ import annotations

import html
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset
from pypdf import PdfReader

from app.results.guideline import age_years
from app.results.record import Record
from app.results.report_html import html_page
from app.results.report_pdf import pdf_document


def test_text_is_escaped_and_outside_loads_are_forbidden(ct_record: Record) -> None:
    page = html_page(ct_record).decode()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(" in page
    assert "<b>nodules</b>" not in page
    assert "default-src 'none'" in html.unescape(page)


def test_without_pictures_the_page_is_small(ct_record: Record) -> None:
    page = html_page(ct_record, with_pictures=False)
    assert b"data:image" not in page
    assert len(page) < 40_000


def test_page_and_pdf_list_a_nodules_attributes(ct_record: Record) -> None:
    page = html_page(ct_record, with_pictures=False).decode()
    assert "<p>Solidness descriptor: solid (93 %)</p><p>Border shape: spiculated</p><p>Long axis 6.4 mm</p>" in page
    text = "".join(each.extract_text() for each in PdfReader(BytesIO(pdf_document(ct_record))).pages)
    assert "Solidness descriptor: solid (93 %); Border shape:" in " ".join(text.split())


def test_the_guideline_stands_apart_and_names_what_is_missing(ct_record: Record, dx_record: Record) -> None:
    page = html_page(ct_record, with_pictures=False).decode()
    box = page.split('aria-label="Guideline">')[1].split("</section>")[0]
    assert "Fleischner Society 2017" in box
    assert "Not known: nodule f6: presence." in box  # an indeterminate nodule decides nothing
    sure = replace(ct_record.report, findings=tuple(e for e in ct_record.report.findings if e.id != "f6"))
    page = html_page(replace(ct_record, report=sure), with_pictures=False).decode()
    missing = "known cancer, immunosuppression, screening, morphology, mean diameter, risk"  # 64 years, solid
    assert f"Not known: {missing}." in page
    assert 'aria-label="Guideline"' not in html_page(dx_record, with_pictures=False).decode()


@pytest.mark.parametrize(
    ("age", "born", "studied", "years"),
    [
        ("064Y", "", "", 64.0),
        ("018M", "19600229", "20240305", 1.5),
        ("", "19600229", "20240228", 63.0),
        ("", "19600229", "20240305", 64.0),
        ("old", "1960", "20240305", None),
        ("", "20250101", "20240305", None),
        ("", "19601340", "20240305", None),
    ],
)
def test_the_age_is_that_at_the_study(age: str, born: str, studied: str, years: float | None) -> None:
    header = Dataset()
    for keyword, value in (("PatientAge", age), ("PatientBirthDate", born), ("StudyDate", studied)):
        header.add_new(keyword, "LO", value)  # a VR that takes whatever a file holds
    assert age_years(header) == years
    assert age_years(None) is None


def test_a_sentence_lights_its_region_and_opens_its_source(browser, ct_record: Record, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_bytes(html_page(ct_record))
    page = browser.new_page()
    asked: list[str] = []
    faults: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: faults.append(message.text))
    page.on("dialog", lambda dialog: faults.append(dialog.message))
    page.goto((tmp_path / "report.html").as_uri())
    lit = page.locator("figure .shape.on")
    assert lit.count() == 0
    page.locator(".impression .sentence").click()
    assert {each.get_attribute("data-target") for each in lit.all()} == {"f3"}
    assert page.locator("details#e1").get_attribute("open") is not None
    page.keyboard.press("Escape")
    page.locator(".findings .sentence").nth(1).focus()
    assert {each.get_attribute("data-target") for each in lit.all()} == {"f1"}
    page.get_by_role("button", name="Mediastinum").click()
    assert page.locator("image.hidden[data-window='0']").count() == 3
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert faults == []


def test_a_change_lights_both_pictures(browser, dx_record: Record, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_bytes(html_page(dx_record))
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    page.locator(".findings .sentence").nth(1).click()
    assert page.locator("figure.lit").count() == 2
