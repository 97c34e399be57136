"""A volume doubling time in every result that has numbers: coded in the SR, in the page, in the JSON."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

from pydicom import dcmread

from app.results.record import REPORT_JSON, Record
from app.results.report_html import html_page
from app.results.report_sr import structured_report
from expert_models.codes import DAY, VOLUME_DOUBLING_TIME
from expert_models.finding import Change, Comparison, Measurement


def with_time(record: Record) -> Record:
    nodule = record.report.findings[2]
    time = Measurement(VOLUME_DOUBLING_TIME, 107.3, DAY)
    comparison = Comparison("c1", Change.LARGER, "1.2.3", "2.25.9", nodule.id, nodule, 0.8, time)
    return replace(record, report=replace(record.report, comparisons=(comparison,)))


def numbers(item) -> list[tuple[str, float, str]]:
    """Meaning, value and unit of every NUM item."""
    found = []
    if item.get("ValueType") == "NUM":
        value = item.MeasuredValueSequence[0]
        unit = value.MeasurementUnitsCodeSequence[0]
        assert unit.CodingSchemeDesignator == "UCUM"
        found.append((item.ConceptNameCodeSequence[0].CodeMeaning, float(value.NumericValue), unit.CodeValue))
    return found + [each for child in item.get("ContentSequence", ()) for each in numbers(child)]


def test_the_structured_report_codes_it_in_days(ct_record: Record) -> None:
    sr = dcmread(BytesIO(structured_report(with_time(ct_record))))
    assert ("Volume doubling time", 107.3, "d") in numbers(sr)


def test_the_page_shows_it_beside_the_growth(ct_record: Record) -> None:
    assert "+80 %, volume doubling time 107 d" in html_page(with_time(ct_record)).decode()


def test_the_json_keeps_it(ct_record: Record) -> None:
    report = with_time(ct_record).report
    assert REPORT_JSON.validate_json(REPORT_JSON.dump_json(report)) == report
