"""Which guideline the page shows: Lung-RADS where the study says that it screens for lung cancer, else Fleischner."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from pydicom import Dataset

from app.results.guideline import guideline_of, screening_told_by
from app.results.record import Record
from app.results.report_html import html_page
from dicom_io.study import Request, Study
from expert_models.codes import LONG_AXIS, LUNG_NODULE, MILLIMETER, SHORT_AXIS
from expert_models.finding import Change, Comparison, Finding, Measurement, Presence


def coded(value: str, scheme: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, "as the site calls it"
    return code


def asked_for(record: Record, procedure: str = "CT chest", indication: str = "Cough.") -> Record:
    """The record's study, made for this; its one certain nodule measured along both axes."""
    findings = tuple(sized(each) for each in record.report.findings if each.id != "f6")
    study = replace(record.study, request=Request(indication, procedure))
    return replace(record, study=study, report=replace(record.report, findings=findings))


def sized(finding: Finding) -> Finding:
    if finding.concept != LUNG_NODULE:
        return finding
    lengths = (Measurement(LONG_AXIS, 9.0, MILLIMETER), Measurement(SHORT_AXIS, 8.0, MILLIMETER))
    return replace(finding, measurements=lengths)


def with_header(record: Record, **attributes: object) -> Record:
    for header in record.sources.values():
        for name, value in attributes.items():
            setattr(header, name, value)
    return record


@pytest.mark.parametrize(
    ("procedure", "is_screening"),
    [
        ("CT LUNG SCREENING WO CONTRAST", True),
        ("Low-dose CT chest for screening", True),
        ("LDCT annual screening", True),
        ("CT chest", False),
        ("CT low dose chest", False),  # a low dose alone may be a follow-up
        ("CT chest, screening for trauma", False),
        ("CT chest, follow-up of abnormal lung screening", False),
        ("Screening for lung metastases", False),
    ],
)
def test_a_description_tells_a_screening_examination(ct_record: Record, procedure: str, is_screening: bool) -> None:
    told_by = screening_told_by(asked_for(ct_record, procedure))
    assert told_by == ("the procedure's description" if is_screening else None)


@pytest.mark.parametrize(
    ("indication", "is_screening"),
    [
        ("Annual lung cancer screening, 40 pack-years", True),
        ("Screening for lung cancer", True),
        ("Nodule found on lung cancer screening", False),
        ("Lung cancer screening positive, now bronchoscopy", False),
    ],
)
def test_an_indication_tells_it_only_where_it_begins_so(ct_record: Record, indication: str, is_screening: bool) -> None:
    assert (screening_told_by(asked_for(ct_record, indication=indication)) is not None) is is_screening


@pytest.mark.parametrize(
    ("value", "scheme", "is_screening"),
    [
        ("79086-5", "LN", True),  # CT chest for screening without contrast
        ("87279-6", "LN", True),  # CT chest for screening
        ("RPID6002", "RADLEX", True),
        ("71271", "C4", True),
        ("71271", "99SITE", False),  # a site's own number
        ("79103-8", "LN", False),  # CT abdomen with contrast
        ("71250", "C4", False),  # CT thorax without contrast
    ],
)
@pytest.mark.parametrize("within", ["study", "request"])
def test_a_code_of_the_procedure_tells_it(
    ct_record: Record, value: str, scheme: str, is_screening: bool, within: str
) -> None:
    record = asked_for(ct_record)
    if within == "study":
        with_header(record, ProcedureCodeSequence=[coded(value, scheme)])
    else:
        request = Dataset()
        request.RequestedProcedureCodeSequence = [coded(value, scheme)]
        with_header(record, RequestAttributesSequence=[request])
    told_by = screening_told_by(record)
    assert (told_by is not None) is is_screening
    assert not told_by or value in told_by


def test_a_screening_ct_is_shown_lung_rads_and_no_fleischner(ct_record: Record) -> None:
    page = html_page(asked_for(ct_record, "CT lung screening"), with_pictures=False).decode()
    (box,) = [part.split("</section>")[0] for part in page.split('aria-label="Guideline">')[1:]]
    assert "ACR Lung-RADS v2022" in box
    assert "Fleischner" not in box
    assert "No row yet. Not known: completeness, morphology, status." in box
    assert "That this is a screening examination is said by the procedure&#39;s description." in box


def test_any_other_ct_is_shown_fleischner_which_asks_whether_it_screens(ct_record: Record) -> None:
    answer = guideline_of(asked_for(ct_record))
    assert answer is not None
    assert answer.source.name == "Fleischner Society 2017"
    assert "screening" in answer.missing


def test_a_screening_ct_without_a_nodule_still_asks_whether_it_is_complete(ct_record: Record) -> None:
    record = asked_for(ct_record, "CT lung screening")
    nodule = next(each for each in record.report.findings if each.concept == LUNG_NODULE)
    none = replace(nodule, presence=Presence.ABSENT, regions=(), measurements=(), attributes=())
    findings = tuple(none if each is nodule else each for each in record.report.findings)
    empty = replace(record, report=replace(record.report, findings=findings))
    answer = guideline_of(empty)
    assert answer is not None
    assert answer.missing == ("completeness",)
    incidental = replace(empty, study=replace(empty.study, request=Request("", "CT chest")))
    assert guideline_of(incidental) is None


@pytest.mark.parametrize(
    ("before_mm", "then", "missing"),
    [
        (6.0, datetime(2023, 9, 5), ("completeness", "morphology")),  # grew by 2.5 mm of mean diameter in 6 months
        (7.5, datetime(2023, 9, 5), ("completeness", "morphology", "status")),  # by 1.0 mm: not decided by sizes
        (6.0, None, ("completeness", "morphology", "status")),
    ],
)
def test_growth_since_the_prior_tells_the_status(
    ct_record: Record, before_mm: float, then: datetime | None, missing: tuple[str, ...]
) -> None:
    record = asked_for(ct_record, "CT lung screening")
    nodule = next(each for each in record.report.findings if each.concept == LUNG_NODULE)
    lengths = tuple(Measurement(code, before_mm, MILLIMETER) for code in (LONG_AXIS, SHORT_AXIS))
    old = replace(nodule, regions=(), measurements=lengths)
    prior = Study("2.25.7", record.study.patient_key, then, record.study.series)
    comparison = Comparison("c1", Change.LARGER, prior.uid, "2.25.9", nodule.id, old, 0.3)
    record = replace(
        record,
        study=replace(record.study, priors=(prior,)),
        report=replace(record.report, comparisons=(comparison,)),
    )
    answer = guideline_of(record)
    assert answer is not None
    assert answer.missing == missing


def test_the_box_is_seen_in_a_browser(browser, ct_record: Record, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_bytes(html_page(asked_for(ct_record, "CT lung screening")))
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    box = page.get_by_role("region", name="Guideline")
    assert box.is_visible()
    assert "ACR Lung-RADS v2022" in box.inner_text()
