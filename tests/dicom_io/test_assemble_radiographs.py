"""Radiographs, requests, dates and report texts."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage, generate_uid

from dicom_io.assemble import Instance, assemble
from dicom_io.errors import NoStudy
from dicom_io.study import Modality, Request


def nested(make, keyword: str, **values: str) -> list[Dataset]:
    item = Dataset()
    for word, value in values.items():
        setattr(item, word, value)
    return [item]


def test_a_radiograph_by_hand(make, assembled) -> None:
    dataset = make.dx(WindowCenter=600, WindowWidth=1000, ImagerPixelSpacing=[0.2, 0.3], SeriesDescription="Thorax pa")
    (series,) = assembled(dataset).series
    assert series.modality is Modality.DX
    assert (series.view, series.description, series.body_part) == ("PA", "Thorax pa", "CHEST")
    assert series.uid == dataset.SeriesInstanceUID
    assert series.source == (dataset.SOPInstanceUID,)
    assert series.volume.shape == (1, 3, 4)
    assert series.volume.voxels.dtype == np.float32
    assert series.volume.geometry.spacing_mm == (1.0, 0.2, 0.3)
    assert series.volume.geometry.is_calibrated


@pytest.mark.parametrize(
    ("values", "spacing_mm", "is_calibrated"),
    [
        ({}, (1.0, 1.0), False),
        ({"ImagerPixelSpacing": [0.15, 0.15]}, (0.15, 0.15), True),
        # A detector spacing of 0.15 mm behind a patient magnified 1.2 times shows 0.125 mm of the patient.
        ({"ImagerPixelSpacing": [0.15, 0.15], "EstimatedRadiographicMagnificationFactor": 1.2}, (0.125, 0.125), True),
        ({"PixelSpacing": [0.14, 0.14]}, (0.14, 0.14), True),
        ({"PixelSpacing": [0.125, 0.125], "ImagerPixelSpacing": [0.15, 0.15]}, (0.125, 0.125), True),
        (
            {
                "PixelSpacing": [0.125, 0.125],
                "ImagerPixelSpacing": [0.15, 0.15],
                "EstimatedRadiographicMagnificationFactor": 1.2,
            },
            (0.125, 0.125),
            True,
        ),
        ({"PixelSpacing": [0, 0]}, (1.0, 1.0), False),
        ({"ImagerPixelSpacing": [0.15, 0.15], "EstimatedRadiographicMagnificationFactor": 0}, (0.15, 0.15), True),
    ],
)
def test_spacing(make, assembled, values: dict, spacing_mm: tuple, is_calibrated: bool) -> None:
    geometry = assembled(make.dx(**values)).series[0].volume.geometry
    assert geometry.spacing_mm[1:] == pytest.approx(spacing_mm)
    assert geometry.is_calibrated is is_calibrated


@pytest.mark.parametrize(
    ("position", "code", "view"),
    [
        ("AP", None, "AP"),
        (None, ("272479007", "SCT", "postero-anterior"), "PA"),
        (None, ("R-10206", "SRT", "antero-posterior"), "AP"),
        ("", ("399173006", "SCT", "left lateral"), "LL"),
        (None, ("1", "99LOCAL", "what we call it"), None),
        (None, None, None),
    ],
)
def test_view(make, assembled, position: str | None, code: tuple | None, view: str | None) -> None:
    sequence = [make.code(*code)] if code else None
    assert assembled(make.dx(ViewPosition=position, ViewCodeSequence=sequence)).series[0].view == view


def test_two_radiographs_of_one_series_are_two_series_named_by_their_images(make, assembled) -> None:
    frontal, lateral = make.dx(InstanceNumber=1), make.dx(InstanceNumber=2, ViewPosition="LL")
    study = assembled(lateral, frontal)
    assert [series.view for series in study] == ["PA", "LL"]
    assert [series.uid for series in study] == [frontal.SOPInstanceUID, lateral.SOPInstanceUID]
    assert study.series_of(lateral.SOPInstanceUID).view == "LL"


@pytest.mark.parametrize("orientation", [["R", "F"], ["L", "H"]])
def test_a_mirrored_or_inverted_frontal_is_refused_because_sides_would_be_wrong(make, orientation) -> None:
    with pytest.raises(NoStudy) as caught:
        assemble([Instance("a", make.dx(PatientOrientation=orientation))], b"s" * 32)
    assert "left and right" in caught.value.left_out[0].reason


@pytest.mark.parametrize("orientation", [["F", "L"], ["L", "A"]])
def test_a_frontal_on_its_side_is_refused(make, orientation) -> None:
    with pytest.raises(NoStudy) as caught:
        assemble([Instance("a", make.dx(PatientOrientation=orientation))], b"s" * 32)
    assert caught.value.left_out[0].reason == "it is a frontal view stored on its side"


def test_a_mirrored_picture_without_a_view_is_refused_too(make) -> None:
    with pytest.raises(NoStudy) as caught:
        assemble([Instance("a", make.dx(ViewPosition=None, PatientOrientation=["R", "F"]))], b"s" * 32)
    assert "left and right" in caught.value.left_out[0].reason


def test_a_value_that_cannot_be_read_costs_its_image_alone(make, assembled) -> None:
    odd = make.dx(InstanceNumber=2, SeriesInstanceUID=generate_uid())
    odd.EstimatedRadiographicMagnificationFactor = ["1.1", "1.2"]
    study = assembled(make.dx(), odd)
    assert len(study.series) == 1
    assert [each.reason for each in study.left_out] == ["a value in its header cannot be read"]


def test_padding_without_a_pixel_representation_is_read_as_unsigned(make, assembled) -> None:
    image = make.dx(PixelPaddingValue=0)
    del image.PixelRepresentation
    assert len(assembled(image).series) == 1


def test_a_lateral_has_no_left_and_right_to_confuse(make, assembled) -> None:
    assert len(assembled(make.dx(ViewPosition="LL", PatientOrientation=["A", "F"])).series) == 1


def test_an_image_for_processing_says_so(make, assembled) -> None:
    (series,) = assembled(make.dx(PresentationIntentType="FOR PROCESSING", SeriesDescription="Raw")).series
    assert series.description == "Raw (for processing)"


def test_good_and_bad_in_one_study(make, assembled) -> None:
    broken = make.dx(InstanceNumber=2, SeriesInstanceUID=generate_uid())
    broken.PixelData = broken.PixelData[:4]
    mr = make.ct(Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4", SeriesInstanceUID=generate_uid())
    study = assembled(make.dx(), broken, mr)
    assert len(study.series) == 1
    assert {each.name: each.reason for each in study.left_out} == {
        "file 2": "its pixel data cannot be decoded: they are damaged or incomplete",
        "file 3": "modality MR is not reported on",
    }


def test_the_same_instance_twice_is_used_once(make, assembled) -> None:
    study = assembled(make.dx(SOPInstanceUID="1.2.3"), make.dx(SOPInstanceUID="1.2.3"))
    assert len(study.series) == 1
    assert "more than once" in study.left_out[0].reason


def test_instances_of_two_studies_are_a_programming_error(make, assembled) -> None:
    with pytest.raises(ValueError, match="several studies"):
        assembled(make.dx(), make.dx(StudyInstanceUID="1.2.3"))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, datetime(2024, 1, 31, 8, 15)),
        ({"StudyDate": "2024.01.31", "StudyTime": "08:15:30"}, datetime(2024, 1, 31, 8, 15, 30)),
        ({"StudyTime": "081530.250"}, datetime(2024, 1, 31, 8, 15, 30)),
        ({"StudyTime": None}, datetime(2024, 1, 31)),
        ({"StudyDate": "", "AcquisitionDate": "20240201", "AcquisitionTime": "12"}, datetime(2024, 2, 1, 12)),
        ({"StudyDate": None}, None),
    ],
)
def test_when_a_study_was_made(make, assembled, values: dict, expected: datetime | None) -> None:
    assert assembled(make.dx(**values)).acquired_on == expected


def test_the_request_from_the_images_own_attributes(make, assembled) -> None:
    dataset = make.dx(
        SpecificCharacterSet="ISO_IR 192",
        ReasonForTheRequestedProcedure="Fieber, Müdigkeit",
        RequestedProcedureDescription="Röntgen Thorax",
        StudyDescription="Thorax",
        AccessionNumber="A 17",
    )
    expected = Request(indication="Fieber, Müdigkeit", procedure="Röntgen Thorax", accession="A 17")
    assert assembled(dataset).request == expected


def test_the_request_from_what_stands_further_away(make, assembled) -> None:
    sequence = nested(make, "RequestAttributesSequence", RequestedProcedureDescription="XR chest")
    other = make.dx(AdmittingDiagnosesDescription="cough", SeriesInstanceUID=generate_uid(), SeriesNumber=2)
    study = assembled(make.dx(RequestAttributesSequence=sequence), other)
    assert study.request == Request(indication="cough", procedure="XR chest")
    assert assembled(make.dx(StudyDescription="Chest 2 views")).request.procedure == "Chest 2 views"


def test_a_japanese_description_is_read_in_its_own_character_set(make, assembled) -> None:
    # PS3.5 H.3 example: half-width katakana in ISO IR 13, kanji in ISO 2022 IR 87.
    dataset = make.dx(SpecificCharacterSet=["", "ISO 2022 IR 87"], StudyDescription="胸部")
    assert assembled(dataset).request.procedure == "胸部"


class TestReport:
    def test_headings_text_codes_and_numbers_in_order(self, make, assembled) -> None:
        unit = nested(make, "", NumericValue="0.52")[0]
        unit.MeasurementUnitsCodeSequence = [make.code("1", "UCUM", "no units")]
        report = make.report(
            make.item("PNAME", "Observer", PersonName="Doe^Jane", RelationshipType="HAS OBS CONTEXT"),
            make.item(
                "CONTAINER",
                "Findings",
                ContentSequence=[
                    make.item("TEXT", "Finding", TextValue="The heart is enlarged."),
                    make.item("NUM", "Cardiothoracic ratio", MeasuredValueSequence=[unit]),
                    make.item("CODE", "Side", ConceptCodeSequence=[make.code("7771000", "SCT", "Left")]),
                    make.item("DATETIME", "When", DateTime="20240131081500"),
                    make.item("PNAME", "Reader", PersonName="Doe^John"),
                ],
            ),
            make.item("CONTAINER", "Impression", ContentSequence=[make.item("TEXT", TextValue="Cardiomegaly.")]),
            make.item("CONTAINER", "Recommendation", ContentSequence=[]),
        )
        expected = (
            "Findings:\nThe heart is enlarged.\nCardiothoracic ratio: 0.52\nSide: Left\nImpression:\nCardiomegaly."
        )
        study = assembled(make.dx(), report)
        assert study.report == expected
        assert study.left_out == ()

    def test_the_verified_and_newest_is_used_and_the_others_are_listed(self, make, assembled) -> None:
        old = make.report(make.item("TEXT", TextValue="old"), ContentDate="20240131", ContentTime="09")
        new = make.report(make.item("TEXT", TextValue="new"), ContentDate="20240131", ContentTime="10")
        draft = make.report(make.item("TEXT", TextValue="draft"), ContentDate="20240201")
        draft.VerificationFlag = "UNVERIFIED"
        study = assembled(make.dx(), draft, old, new)
        assert study.report == "new"
        assert sorted(each.name for each in study.left_out) == ["file 2", "file 3"]

    def test_measurements_and_empty_reports_are_no_text(self, make, assembled) -> None:
        numbers = make.report(make.item("TEXT", TextValue="12 mm"), SOPClassUID=ComprehensiveSRStorage)
        numbers.ConceptNameCodeSequence = [make.code("126000", "DCM", "Imaging Measurement Report")]
        study = assembled(make.dx(), numbers, make.report())
        assert study.report is None
        assert "measurements" in study.left_out[0].reason
        assert "without any text" in study.left_out[1].reason

    def test_a_report_alone_is_no_study(self, make) -> None:
        with pytest.raises(NoStudy):
            assemble([Instance("a", make.report(make.item("TEXT", TextValue="text")))], b"s" * 32)
