"""The page in a real browser: sentences light their regions, nothing is fetched, nothing is injected."""

from __future__ import annotations

import html
from io import BytesIO
from pathlib import Path

from pypdf import PdfReader

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
