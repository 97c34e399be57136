"""Encapsulated PDF and Secondary Captures: what they hold, read with pydicom alone, and checked by dicom3tools."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread

from app.results.capture import MOST_CAPTURES, captures, key_pictures
from app.results.encapsulated import encapsulated_pdf
from app.results.pictures import pictures_of
from app.results.record import Record
from app.results.report_pdf import pdf_document
from expert_models.finding import Presence

RED = (0xB3, 0x26, 0x1E)  # the banner's


def made(record: Record) -> list[Dataset]:
    return [dcmread(BytesIO(body)) for _, body in captures(record)]


def test_dciodvfy_finds_no_error(ct_record, xray_record, bare_record, dicom_file, sign, errors_of) -> None:
    for record in (ct_record, xray_record, bare_record, sign(ct_record)):
        bodies = [body for _, body in captures(record)] + [encapsulated_pdf(record, b"%PDF-1.4 odd")]
        assert [errors_of(dicom_file(body)) for body in bodies] == [[]] * len(bodies)


def test_a_capture_lies_in_the_study_and_names_the_slice_it_shows(ct_record: Record) -> None:
    first, second, coronal = made(ct_record)
    assert first.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert {each.StudyInstanceUID for each in (first, second, coronal)} == {ct_record.study.uid}
    assert {each.SeriesInstanceUID for each in (first, second, coronal)}.isdisjoint(
        {ct_record.study.series[0].uid, dcmread(BytesIO(encapsulated_pdf(ct_record, b"%PDF"))).SeriesInstanceUID}
    )
    assert [each.InstanceNumber for each in (first, second, coronal)] == [1, 2, 3]
    assert (first.PatientID, str(first.PatientName), first.BurnedInAnnotation) == ("P-17", "Müller^Zoë", "YES")
    assert (first.ConversionType, first.LossyImageCompression) == ("WSD", "00")
    assert list(first.PatientOrientation) == ["L", "P"]
    # the nodule of f3 is largest in slice 7, counted from 0
    (source,) = second.SourceImageSequence
    assert source.ReferencedSOPInstanceUID == ct_record.study.series[0].source[7]
    assert source.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert len(coronal.SourceImageSequence) == 12


def test_the_pixels_are_those_of_the_picture_where_nothing_is_drawn(dx_record: Record) -> None:
    (capture,) = made(dx_record)  # of 256 x 256: lungs 0.25, heart 0.85, elsewhere 0.7 of 255
    pixels = capture.pixel_array
    banner = pixels.shape[0] - 1024 - 42  # 1024 // 24 below the picture, and as much above it
    assert (capture.PhotometricInterpretation, pixels.shape) == ("RGB", (1024 + 84, 1024, 3))
    assert tuple(pixels[2, 1000]) == RED
    shown = pixels[banner:][:1024].astype(int)
    assert shown[4 * 60, 4 * 75].tolist() == [64] * 3  # in the right lung, far from every outline
    assert shown[4 * 190, 4 * 135].tolist() == [217] * 3  # in the heart, between outline and lines
    tinted = np.abs(shown - shown.mean(axis=2, keepdims=True)).max(axis=2) > 20
    # the heart's diameter: 120 pixels from column 75.5 at the middle of row 160
    assert tinted[4 * 160 + 1 : 4 * 160 + 3, 4 * 80 : 4 * 190].any(axis=0).mean() > 0.9
    assert 0.005 < tinted.mean() < 0.05


def test_a_signed_capture_has_no_banner_and_is_another_object(dx_record: Record, sign) -> None:
    (draft,), (signed,) = made(dx_record), made(sign(dx_record))
    assert signed.Rows == draft.Rows - 42
    assert not (signed.pixel_array == RED).all(axis=2).any()
    assert signed.SOPInstanceUID != draft.SOPInstanceUID
    assert made(dx_record)[0].SOPInstanceUID == draft.SOPInstanceUID
    assert signed.SeriesDescription == "Wetread signed key images"


def test_a_few_pictures_of_the_reported_study_are_captured_one_at_least(ct_record, dx_record, bare_record) -> None:
    assert len(key_pictures(bare_record)) == 1
    assert [each.is_prior for each in key_pictures(dx_record)] == [False]
    assert len(key_pictures(ct_record)) <= MOST_CAPTURES


def test_a_label_says_when_a_finding_is_not_there(dx_record: Record) -> None:
    (finding,) = dx_record.report.findings
    absent = replace(dx_record.report, findings=(replace(finding, presence=Presence.ABSENT),))
    (picture,) = key_pictures(replace(dx_record, report=absent))
    assert "Cardiomegaly: absent" in {shape.label for shape in picture.shapes}
    assert "Cardiomegaly" in {shape.label for shape in pictures_of(dx_record)[0].shapes}


def test_what_was_once_lossy_stays_so(dx_record: Record) -> None:
    for header in dx_record.sources.values():
        header.LossyImageCompression, header.LossyImageCompressionRatio = "01", 12.5
    (capture,) = made(dx_record)
    assert (capture.LossyImageCompression, capture.LossyImageCompressionRatio) == ("01", 12.5)


def test_the_pdf_is_carried_byte_for_byte(ct_record: Record, sign) -> None:
    for body in (b"%PDF-1.4 even", b"%PDF-1.4 odd"):
        document = dcmread(BytesIO(encapsulated_pdf(ct_record, body)))
        assert document.EncapsulatedDocument[: document.EncapsulatedDocumentLength] == body
        assert (document.SOPClassUID, document.Modality) == ("1.2.840.10008.5.1.4.1.1.104.1", "DOC")
        assert (document.VerificationFlag, document.BurnedInAnnotation) == ("UNVERIFIED", "YES")
        assert document.ConceptNameCodeSequence[0].CodeValue == "18748-4"
        assert document.StudyInstanceUID == ct_record.study.uid
    signed = dcmread(BytesIO(encapsulated_pdf(sign(ct_record), b"%PDF")))
    assert (signed.VerificationFlag, signed.DocumentTitle) == ("VERIFIED", "Signed report")


@pytest.mark.skipif(shutil.which("dcm2pdf") is None, reason="dcm2pdf (dcmtk) is not installed")
def test_dcmtk_takes_the_same_pdf_out(ct_record: Record, dicom_file, tmp_path: Path) -> None:
    body = pdf_document(ct_record)
    taken = tmp_path / "taken.pdf"
    subprocess.run(["dcm2pdf", str(dicom_file(encapsulated_pdf(ct_record, body))), str(taken)], check=True)
    assert taken.read_bytes().rstrip(b"\0") == body


def test_a_radiograph_smaller_than_the_capture_is_enlarged_and_readable(dx_record: Record) -> None:
    (picture,) = key_pictures(dx_record)
    assert Image.open(BytesIO(picture.images[0][1])).size == (256, 256)
    assert made(dx_record)[0].Columns == 1024
