"""The structured report, walked from scratch with pydicom, dumped by dcmtk and checked by dicom3tools."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO

import pytest
from pydicom import Dataset, dcmread

from app.results.errors import ResultRefused
from app.results.record import Record
from app.results.report_seg import segmentations
from app.results.report_sr import structured_report
from dicom_io.tracked import marks_of, placed
from expert_models.finding import Change, Comparison
from expert_models.tracking import known_uids, tracking_uid


def made(record: Record, *, with_seg: bool = True) -> Dataset:
    return dcmread(BytesIO(structured_report(record, list(segmentations(record)) if with_seg else ())))


def walk(item: Dataset) -> Iterator[Dataset]:
    yield item
    for child in item.get("ContentSequence", ()):
        yield from walk(child)


def name(item: Dataset) -> str:
    return item.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in item else ""


def groups(sr: Dataset) -> list[Dataset]:
    return [each for each in walk(sr) if name(each) == "Measurement Group"]


def child(group: Dataset, called: str) -> Dataset:
    return next(each for each in group.ContentSequence if name(each) == called)


def test_it_is_partial_unverified_and_in_the_original_study(ct_record: Record) -> None:
    sr = made(ct_record)
    assert sr.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    assert (sr.CompletionFlag, sr.VerificationFlag, sr.PreliminaryFlag) == ("PARTIAL", "UNVERIFIED", "PRELIMINARY")
    assert sr.StudyInstanceUID == ct_record.study.uid
    assert sr.SeriesInstanceUID not in {series.uid for series in ct_record.study.series}
    assert (sr.PatientID, str(sr.PatientName)) == ("P-17", "Müller^Zoë")
    assert (name(sr), sr.ContentTemplateSequence[0].TemplateIdentifier) == ("Imaging Measurement Report", "1500")


def test_the_nodules_values_read_back(ct_record: Record) -> None:
    group, lines = (each for each in groups(made(ct_record)) if "f3" in child(each, "Tracking Identifier").TextValue)
    code = child(group, "Finding").ConceptCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("786838002", "SCT")
    assert child(group, "Presence").ConceptCodeSequence[0].CodeValue == "52101004"
    site = child(group, "Finding Site")
    assert site.ConceptCodeSequence[0].CodeValue == "45653009"
    assert child(site, "Laterality").ConceptCodeSequence[0].CodeValue == "7771000"
    assert child(group, "Algorithm Name").TextValue == "chest-ct-nodules"
    assert child(group, "Algorithm Version").TextValue == "1.2.0"
    values = {
        name(each): (each.MeasuredValueSequence[0].NumericValue, unit_of(each))
        for part in (group, lines)
        for each in part.ContentSequence
        if each.ValueType == "NUM"
    }
    assert values == {
        "Probability": (0.87, "1"),
        "Mean Attenuation Coefficient": (20.0, "[hnsf'U]"),
        "Long axis": (6.4, "mm"),
    }
    scoord = next(each for each in walk(lines) if each.ValueType == "SCOORD")
    assert list(scoord.GraphicData) == [45.5, 24.5, 45.5, 32.5]  # voxel (24, 45) to (32, 45), centres half a pixel in


def test_a_nodules_attributes_read_back(ct_record: Record) -> None:
    group, *_ = (each for each in groups(made(ct_record)) if "f3" in child(each, "Tracking Identifier").TextValue)
    assert group.ContentTemplateSequence[0].TemplateIdentifier == "1411"
    attenuation, border = child(group, "Solidness descriptor"), child(group, "Border shape")
    code = attenuation.ConceptCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == ("RID5741", "RADLEX", "Solid")
    (sure,) = attenuation.ContentSequence
    assert (name(sure), sure.RelationshipType) == ("Probability", "HAS PROPERTIES")
    assert (sure.MeasuredValueSequence[0].NumericValue, unit_of(sure)) == (0.93, "1")
    assert border.ConceptCodeSequence[0].CodeValue == "112136"
    assert "ContentSequence" not in border


def unit_of(item: Dataset) -> str:
    return item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue


def test_a_group_refers_to_its_segment(ct_record: Record) -> None:
    (seg,) = segmentations(ct_record)
    references = [each.ReferencedSOPSequence[0] for each in walk(made(ct_record)) if name(each) == "Referenced Segment"]
    assert {each.ReferencedSOPInstanceUID for each in references} == {seg.dataset.SOPInstanceUID}
    assert [each.ReferencedSegmentNumber for each in references] == [1, 2, 3]


def test_what_was_not_assessed_says_so_and_why(ct_record: Record) -> None:
    (group,) = (each for each in groups(made(ct_record)) if "f4" in child(each, "Tracking Identifier").TextValue)
    assert child(group, "Presence").ConceptCodeSequence[0].CodeMeaning == "Not assessed"
    assert child(group, "Comment").TextValue == "The expert ran out of memory."


def test_every_sentence_is_there_under_its_section_and_doubts_are_marked(ct_record: Record) -> None:
    said = child(made(ct_record), "Qualitative Evaluations").ContentSequence
    assert [each.TextValue for each in said] == [each.text for each in ct_record.report.sentences]
    assert said[-1].ConceptNameCodeSequence[0].CodeValue == "19005-8"  # LOINC: impressions
    doubtful = [each.TextValue for each in said if "ContentSequence" in each]
    assert doubtful == ["There is an effusion on the right.", "Everything else is fine."]


def test_a_radiograph_without_seg_carries_its_region_and_lines_as_coordinates(xray_record: Record) -> None:
    sr = made(xray_record, with_seg=False)
    outline, *lines = (each for each in walk(sr) if each.ValueType == "SCOORD")
    xs = outline.GraphicData[::2]
    assert (min(xs), max(xs)) == (75, 196)  # pixels 75 to 195, whole
    assert list(lines[0].GraphicData) == [75.5, 160.5, 195.5, 160.5]
    group = groups(sr)[0]
    assert xray_record.report.comparisons[0].tracking_uid == child(group, "Tracking Unique Identifier").UID
    assert child(group, "Change since the prior study").ConceptCodeSequence[0].CodeValue == "larger"


def test_what_resolved_is_told_as_absent(dx_record: Record) -> None:
    (before,) = dx_record.report.comparisons
    gone = Comparison("c2", Change.RESOLVED, before.prior_study_uid, "not a uid", None, before.prior_finding)
    record = replace(dx_record, report=replace(dx_record.report, comparisons=(before, gone)))
    group = groups(made(record))[-1]
    assert child(group, "Presence").ConceptCodeSequence[0].CodeMeaning == "Absent"
    assert child(group, "Tracking Unique Identifier").UID.is_valid


def test_a_second_run_gives_the_same_instance(ct_record: Record) -> None:
    assert made(ct_record).SOPInstanceUID == made(ct_record).SOPInstanceUID


def test_a_report_without_findings_is_still_a_report(bare_record: Record) -> None:
    sr = made(bare_record)
    assert groups(sr) == []
    assert child(sr, "Qualitative Evaluations").ContentSequence[0].TextValue == "The study was not assessed."


def test_without_any_original_it_is_refused(ct_record: Record) -> None:
    with pytest.raises(ResultRefused, match="none of the original images"):
        structured_report(replace(ct_record, sources={}))


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize("with_seg", [True, False])
def test_dciodvfy_finds_no_error(ct_record, xray_record, bare_record, dicom_file, with_seg: bool) -> None:
    for record in (ct_record, xray_record, bare_record):
        path = dicom_file(structured_report(record, list(segmentations(record)) if with_seg else ()))
        told = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False).stderr
        assert [line for line in told.splitlines() if line.startswith("Error")] == []


@pytest.mark.skipif(shutil.which("dsrdump") is None, reason="dsrdump (dcmtk) is not installed")
def test_dcmtk_reads_the_same_tree(dx_record: Record, dicom_file) -> None:
    path = dicom_file(structured_report(dx_record, list(segmentations(dx_record))))
    told = subprocess.run(["dsrdump", str(path)], capture_output=True, text=True, check=True)
    assert "Completion Flag     : PARTIAL" in told.stdout
    assert "Verification Flag   : UNVERIFIED" in told.stdout
    assert '<contains NUM:(,,"Cardiothoracic ratio")="0.6" ({ratio},UCUM,"ratio")>' in told.stdout
    assert '(8186001,SCT,"Cardiomegaly")' in told.stdout
    assert "E:" not in told.stderr


def test_a_later_report_knows_the_findings_again_from_this_object_alone(ct_record: Record) -> None:
    """As a prior from a PACS: the archive keeps what the SR follows, and nothing of our own memory is asked."""
    study, findings = ct_record.study, ct_record.report.findings
    tracked = tuple(placed(each, study.series) for each in marks_of(made(ct_record)))
    known = known_uids(replace(study, tracked=tracked), [replace(each, id=f"g{each.id}") for each in findings])
    assert known == {f"g{each.id}": tracking_uid(study.uid, each) for each in findings}
