"""SEG objects: voxels against the masks, read by pydicom alone; places in the patient by hand; refusals."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread

from app.results import report_seg
from app.results.errors import ResultRefused
from app.results.record import Record
from app.results.report_seg import segmentations
from dicom_io.study import Geometry, Volume

needs_dciodvfy = pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")


def errors_of(path) -> list[str]:
    told = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False).stderr
    return [line for line in told.splitlines() if line.startswith("Error")]


def test_the_ct_segments_are_the_masks_slice_by_slice(ct_record: Record) -> None:
    (made,) = segmentations(ct_record)
    seg = dcmread(BytesIO(made.body))
    series = ct_record.study.series[0]
    read = np.zeros((4, 12, 64, 64), dtype=bool)
    for frame, groups in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        source = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        read[number, series.source.index(source)] = frame
    for finding in ct_record.report.findings[:3]:
        (region,) = finding.regions
        mask = np.zeros((12, 64, 64), dtype=bool)
        mask[region.box.slices] = ct_record.masks.load(region.mask_key)
        np.testing.assert_array_equal(read[made.numbers[finding.id]], mask)


def test_the_nodule_lies_where_it_lies_in_the_patient(ct_record: Record) -> None:
    (made,) = segmentations(ct_record)
    seg = dcmread(BytesIO(made.body))
    heights = [
        groups.PlanePositionSequence[0].ImagePositionPatient[2]
        for groups in seg.PerFrameFunctionalGroupsSequence
        if groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber == made.numbers["f3"]
    ]
    # slices 6, 7 and 8 of a stack from 100 mm, 2.5 mm apart
    assert sorted(heights) == [115.0, 117.5, 120.0]
    assert seg.FrameOfReferenceUID == ct_record.header.FrameOfReferenceUID


def test_it_is_a_draft_in_the_original_study_and_a_series_of_its_own(ct_record: Record) -> None:
    (made,) = segmentations(ct_record)
    seg = dcmread(BytesIO(made.body))
    assert seg.StudyInstanceUID == ct_record.study.uid
    assert seg.SeriesInstanceUID != ct_record.study.series[0].uid
    assert (seg.PatientID, str(seg.PatientName), seg.AccessionNumber) == ("P-17", "Müller^Zoë", "A-2024-7")
    assert (seg.ContentLabel, seg.SegmentSequence[0].SegmentAlgorithmType) == ("AUTOMATIC", "AUTOMATIC")
    nodule = seg.SegmentSequence[2]
    assert nodule.SegmentAlgorithmType == "AUTOMATIC"
    assert nodule.SegmentedPropertyTypeCodeSequence[0].CodeValue == "786838002"
    assert nodule.AnatomicRegionSequence[0].AnatomicRegionModifierSequence[0].CodeMeaning == "Left"
    assert seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Lung"


def test_a_second_run_or_another_text_gives_the_same_object_and_other_findings_another(ct_record: Record) -> None:
    uids = [next(segmentations(ct_record)).dataset.SOPInstanceUID for _ in range(2)]
    assert uids[0] == uids[1]
    reworded = replace(ct_record, report=replace(ct_record.report, sentences=ct_record.report.sentences[:2]))
    assert next(segmentations(reworded)).dataset.SOPInstanceUID == uids[0]
    findings = (replace(ct_record.report.findings[0], probability=0.5), *ct_record.report.findings[1:])
    changed = replace(ct_record, report=replace(ct_record.report, findings=findings))
    assert next(segmentations(changed)).dataset.SOPInstanceUID != uids[0]


def test_a_radiographs_mask_is_written_without_a_place_in_the_patient(xray_record: Record) -> None:
    (made,) = segmentations(xray_record)
    seg = dcmread(BytesIO(made.body))
    (region,) = xray_record.report.findings[0].regions
    mask = np.zeros((256, 256), dtype=bool)
    mask[region.box.slices[1:]] = xray_record.masks.load(region.mask_key)[0]
    np.testing.assert_array_equal(seg.pixel_array, mask)
    assert "FrameOfReferenceUID" not in seg
    assert seg.SegmentSequence[0].TrackingUID == xray_record.report.comparisons[0].tracking_uid


@needs_dciodvfy
def test_dciodvfy_finds_no_error(ct_record: Record, xray_record: Record, dicom_file) -> None:
    for record in (ct_record, xray_record):
        source = BytesIO()
        record.header.save_as(source, enforce_file_format=True)
        assert errors_of(dicom_file(source.getvalue())) == []
        (made,) = segmentations(record)
        assert errors_of(dicom_file(made.body)) == []


def test_without_masks_there_is_no_object(bare_record: Record) -> None:
    assert list(segmentations(bare_record)) == []


def test_a_stack_that_lies_elsewhere_than_its_headers_say_is_refused(ct_record: Record) -> None:
    (series,) = ct_record.study.series
    affine = series.volume.geometry.affine.copy()
    affine[2, 3] += 5.0  # two slices up
    moved = replace(series, volume=Volume(series.volume.voxels, Geometry(affine)))
    record = replace(ct_record, study=replace(ct_record.study, series=(moved,)))
    with pytest.raises(ResultRefused, match="at another place"):
        list(segmentations(record))


def test_a_writer_that_loses_voxels_is_caught(ct_record: Record) -> None:
    (series,) = ct_record.study.series
    (made,) = segmentations(ct_record)
    segments = report_seg.segments_of(ct_record, series)
    seg = dcmread(BytesIO(made.body))
    pixels = bytearray(seg.PixelData)
    pixels[next(i for i, byte in enumerate(pixels) if byte)] = 0
    seg.PixelData = bytes(pixels)
    with pytest.raises(ResultRefused, match=r"read back \d+ of \d+ voxels"):
        report_seg.compare(seg, series, segments)


def test_missing_originals_are_named(ct_record: Record) -> None:
    record = replace(ct_record, sources={})
    with pytest.raises(ResultRefused, match="original images that the masks lie on are missing"):
        list(segmentations(record))


def test_a_mask_that_is_gone_is_named(ct_record: Record) -> None:
    ct_record.masks.kept.clear()
    with pytest.raises(ResultRefused, match="the mask of finding f1 is no longer kept"):
        list(segmentations(ct_record))
