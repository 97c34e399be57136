"""CT slices to volumes: affines worked by hand, repeats, gaps, tilt, phases, enhanced CT."""

from __future__ import annotations

import highdicom
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage, RLELossless, generate_uid

from dicom_io.assemble import Instance, assemble
from dicom_io.errors import NoStudy
from dicom_io.study import Modality


def reasons(entries) -> list[str]:
    return [each.reason for each in entries]


def test_an_axial_series_by_hand(make, assembled) -> None:
    # 4 rows 0.5 mm apart, 5 columns 0.75 mm apart, first voxel at (-100, -90, 30), slices 2.5 mm apart going up.
    slices = make.ct_series([32.5, 30.0, 35.0])
    study = assembled(*slices)
    (series,) = study.series
    expected = [[0, 0, 0.75, -100], [0, 0.5, 0, -90], [2.5, 0, 0, 30], [0, 0, 0, 1]]
    np.testing.assert_allclose(series.volume.geometry.affine, expected)
    assert series.volume.geometry.frame_of_reference_uid == slices[0].FrameOfReferenceUID
    assert series.modality is Modality.CT
    assert series.uid == slices[0].SeriesInstanceUID
    # Slices in order of height, not of file or number: 1001 - 1024, 1000 - 1024, 1002 - 1024.
    assert series.volume.voxels[:, 0, 0].tolist() == [-23, -24, -22]
    assert series.source == tuple(slices[i].SOPInstanceUID for i in (1, 0, 2))
    assert series.left_out == study.left_out == ()


@pytest.mark.parametrize(
    ("orientation", "positions", "expected"),
    [
        # Head last, table from behind: row to the right, column to the front; the normal points up.
        ([-1, 0, 0, 0, -1, 0], [(9, 9, 0), (9, 9, 2)], [[0, 0, -0.75, 9], [0, -0.5, 0, 9], [2, 0, 0, 0]]),
        # Row to the left, column to the front: the normal points down, but slices still ascend to the head.
        ([1, 0, 0, 0, -1, 0], [(0, 0, 2), (0, 0, 0)], [[0, 0, 0.75, 0], [0, -0.5, 0, 0], [2, 0, 0, 0]]),
        # Coronal: row to the left, column to the feet; slices ascend to the back.
        ([1, 0, 0, 0, 0, -1], [(0, 3, 50), (0, 0, 50)], [[0, 0, 0.75, 0], [3, 0, 0, 0], [0, -0.5, 0, 50]]),
        # Sagittal: row to the back, column to the feet; slices ascend to the left.
        ([0, 1, 0, 0, 0, -1], [(0, 7, 50), (4, 7, 50)], [[4, 0, 0, 0], [0, 0, 0.75, 7], [0, -0.5, 0, 50]]),
    ],
    ids=["turned", "flipped", "coronal", "sagittal"],
)
def test_other_orientations_by_hand(make, assembled, orientation, positions, expected) -> None:
    slices = [
        make.ct(ImageOrientationPatient=orientation, ImagePositionPatient=list(position), InstanceNumber=number)
        for number, position in enumerate(positions)
    ]
    (series,) = assembled(*slices).series
    np.testing.assert_allclose(series.volume.geometry.affine[:3], expected, atol=1e-12)


def test_a_tilted_gantry_gives_the_sheared_affine(make, assembled) -> None:
    # Gantry tilted by 20 degrees: the table moves 3 mm along z, the slices' normal is not z.
    tilt = np.radians(20)
    orientation = [1, 0, 0, 0, float(np.cos(tilt)), float(np.sin(tilt))]
    slices = [
        make.ct(ImageOrientationPatient=orientation, ImagePositionPatient=[0, 0, 3.0 * k], InstanceNumber=k)
        for k in range(4)
    ]
    affine = assembled(*slices).series[0].volume.geometry.affine
    np.testing.assert_allclose(affine[:3, 0], [0, 0, 3])
    np.testing.assert_allclose(affine[:3, 1], np.array([0, np.cos(tilt), np.sin(tilt)]) * 0.5)
    np.testing.assert_allclose(affine[:3, 2], [0.75, 0, 0])


def test_the_affine_is_highdicoms(make, assembled) -> None:
    oblique = np.array([[0.98, 0.17, 0.1], [-0.17, 0.98, 0.05]])
    row = oblique[0] / np.linalg.norm(oblique[0])
    column = oblique[1] - (oblique[1] @ row) * row
    column /= np.linalg.norm(column)
    normal = np.cross(row, column)
    slices = [
        make.ct(
            np.full((4, 5), k, dtype=np.int16),
            ImageOrientationPatient=[*map(float, row), *map(float, column)],
            ImagePositionPatient=[float(x) for x in np.array([-10, 20, 30]) + normal * 1.25 * k],
            InstanceNumber=k,
        )
        for k in range(5)
    ]
    theirs = highdicom.get_volume_from_series(slices)
    ours = assembled(*slices).series[0].volume
    corners = [[0, 0, 0], [4, 3, 4], [2, 1, 3]]
    # highdicom may stack the other way round, so compare where in the patient each stored value lies.
    for index in corners:
        place_mm = ours.geometry.to_patient([index])
        there = np.rint(theirs.map_reference_to_indices(place_mm))[0].astype(int)
        assert theirs.array[tuple(there)] == ours.voxels[tuple(index)]
        np.testing.assert_allclose(theirs.map_indices_to_reference(np.array([there])), place_mm, atol=1e-4)


def test_one_slice_steps_by_its_thickness(make, assembled) -> None:
    geometry = assembled(make.ct(SliceThickness=3.0)).series[0].volume.geometry
    np.testing.assert_allclose(geometry.affine[:3, 0], [0, 0, 3.0])
    assert geometry.is_calibrated
    assert not assembled(make.ct(SliceThickness=None)).series[0].volume.geometry.is_calibrated


def test_each_slice_has_its_own_rescale(make, assembled) -> None:
    stored = np.full((4, 5), 100, dtype=np.int16)
    slices = [
        make.ct(stored, RescaleSlope=slope, ImagePositionPatient=[0, 0, float(slope)], RescaleIntercept=-10 * slope)
        for slope in (1, 2, 3)
    ]
    assert assembled(*slices).series[0].volume.voxels[:, 0, 0].tolist() == [90, 180, 270]


def test_padding_is_air(make, assembled) -> None:
    stored = np.full((4, 5), 24, dtype=np.int16)
    stored[0, 0] = -2000
    voxels = assembled(make.ct(stored, PixelPaddingValue=-2000)).series[0].volume.voxels
    assert voxels[0, 0, 0] == -1024
    assert voxels[0, 1, 1] == -1000


def test_a_place_that_repeats_is_used_once(make, assembled) -> None:
    slices = make.ct_series([0.0, 1.0, 1.0, 2.0])
    (series,) = assembled(*slices).series
    assert series.volume.shape[0] == 3
    assert [each.name for each in series.left_out] == ["file 3, at 1.0 mm"]
    assert "same place" in series.left_out[0].reason


def test_a_gap_leaves_the_longest_even_part_and_lists_the_rest_with_places(make, assembled) -> None:
    slices = make.ct_series([0.0, 1.0, 2.0, 3.0, 5.0, 6.0])
    (series,) = assembled(*slices).series
    np.testing.assert_allclose(series.volume.geometry.to_patient([[0, 0, 0], [3, 0, 0]])[:, 2], [0, 3])
    assert [each.name for each in series.left_out] == ["file 5, at 5.0 mm", "file 6, at 6.0 mm"]
    assert "gap" in series.left_out[0].reason


def test_a_gap_right_after_the_first_slice(make, assembled) -> None:
    (series,) = assembled(*make.ct_series([0.0, 2.0, 3.0, 4.0, 5.0])).series
    assert series.volume.shape[0] == 4
    assert series.volume.geometry.spacing_mm[0] == pytest.approx(1.0)


def test_positions_rounded_to_a_tenth_are_even(make, assembled) -> None:
    positions = [round(0.625 * k, 1) for k in range(40)]
    (series,) = assembled(*make.ct_series(positions)).series
    assert series.volume.shape[0] == 40
    assert series.volume.geometry.spacing_mm[0] == pytest.approx(0.625, abs=0.003)


def test_a_slice_that_cannot_be_decoded_leaves_a_gap(make, assembled) -> None:
    slices = make.ct_series([float(k) for k in range(7)])
    slices[2].PixelData = slices[2].PixelData[:10]
    (series,) = assembled(*slices).series
    assert series.source == tuple(each.SOPInstanceUID for each in slices[3:])
    assert series.volume.voxels[:, 0, 0].tolist() == [-21, -20, -19, -18]
    assert series.volume.geometry.to_patient([[0, 0, 0]])[0, 2] == 3.0
    assert {each.name[:6] for each in series.left_out} == {"file 1", "file 2", "file 3"}


def test_two_phases_at_the_same_places_are_two_series_named_by_their_first_images(make, assembled) -> None:
    early = make.ct_series([0.0, 1.0, 2.0], AcquisitionNumber=1)
    late = make.ct_series([0.0, 1.0, 2.0], AcquisitionNumber=2)
    study = assembled(*early, *late)
    assert [series.volume.shape[0] for series in study] == [3, 3]
    assert [series.uid for series in study] == [early[0].SOPInstanceUID, late[0].SOPInstanceUID]


def test_an_acquisition_number_per_slice_does_not_split(make, assembled) -> None:
    slices = [make.ct(ImagePositionPatient=[0, 0, float(k)], AcquisitionNumber=k, InstanceNumber=k) for k in range(5)]
    (series,) = assembled(*slices).series
    assert series.volume.shape[0] == 5


def test_a_stray_slice_of_another_orientation_is_listed(make, assembled) -> None:
    stray = make.ct(ImageOrientationPatient=[1, 0, 0, 0, 0, -1], InstanceNumber=99)
    (series,) = assembled(*make.ct_series([0.0, 1.0, 2.0, 3.0]), stray).series
    assert series.volume.shape[0] == 4
    assert "stands alone" in series.left_out[0].reason


def test_a_large_change_of_spacing_keeps_the_part_with_more_slices(make, assembled) -> None:
    (series,) = assembled(*make.ct_series([0.0, 1.0, 2.0, 3.0, 8.0, 13.0])).series
    assert series.volume.shape[0] == 4


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, "projection"),
        ({"ImagePositionPatient": None}, "where in the patient"),
        ({"ImageOrientationPatient": None}, "where in the patient"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "perpendicular"),
        ({"PixelSpacing": None}, "pixel spacing"),
        ({"PixelSpacing": [0, 0]}, "pixel spacing"),
        ({"RescaleSlope": None}, "Hounsfield"),
        ({"RescaleType": "Z_EFF"}, "not Hounsfield"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "colour"),
        ({"Modality": "MR"}, "modality MR is not reported on"),
        ({"PixelData": None}, "no pixel data"),
        ({"Rows": 0}, "impossible"),
    ],
)
def test_what_is_left_out_of_a_good_series_says_why(make, assembled, values: dict, reason: str) -> None:
    bad = make.ct(**values, InstanceNumber=7, SOPInstanceUID=generate_uid())
    study = assembled(*make.ct_series([0.0, 1.0, 2.0]), bad)
    assert study.series[0].volume.shape[0] == 3
    assert [each.name for each in study.left_out] == ["file 4"]
    assert reason in study.left_out[0].reason


def test_nothing_usable_is_no_study_with_every_reason(make) -> None:
    with pytest.raises(NoStudy) as caught:
        assemble([Instance("a", make.ct(Modality="MR"))], b"s" * 32)
    assert reasons(caught.value.left_out) == ["modality MR is not reported on"]


def test_a_reformatted_series_is_kept_and_says_so(make, assembled) -> None:
    values = {"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "MPR"], "SeriesDescription": "Thorax cor"}
    (series,) = assembled(*make.ct_series([0.0, 1.0, 2.0], **values)).series
    assert series.description == "Thorax cor (reformatted)"


def enhanced(make, heights_mm: list[float], **values) -> Dataset:
    """An enhanced CT whose frame k holds 1000 + k, at the given height."""
    frames = np.stack([np.full((4, 5), 1000 + k, dtype=np.int16) for k in range(len(heights_mm))])
    dataset = make.ct(frames)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        del dataset[keyword]
    for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
        del dataset[keyword]
    dataset.SOPClassUID = EnhancedCTImageStorage
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    shared = Dataset()
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = [0.5, 0.75]
    shared.PixelMeasuresSequence[0].SliceThickness = 2
    shared.PixelValueTransformationSequence = [Dataset()]
    shared.PixelValueTransformationSequence[0].RescaleSlope = 1
    shared.PixelValueTransformationSequence[0].RescaleIntercept = -1000
    shared.PixelValueTransformationSequence[0].RescaleType = "HU"
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = []
    for height in heights_mm:
        frame = Dataset()
        frame.PlanePositionSequence = [Dataset()]
        frame.PlanePositionSequence[0].ImagePositionPatient = [-100, -90, height]
        dataset.PerFrameFunctionalGroupsSequence.append(frame)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize("is_compressed", [False, True])
def test_an_enhanced_ct_is_its_frames(make, assembled, is_compressed: bool) -> None:
    dataset = enhanced(make, [4.0, 0.0, 2.0])
    if is_compressed:
        dataset.compress(RLELossless, generate_instance_uid=False)
    (series,) = assembled(dataset).series
    expected = [[0, 0, 0.75, -100], [0, 0.5, 0, -90], [2, 0, 0, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(series.volume.geometry.affine, expected)
    assert series.volume.voxels[:, 0, 0].tolist() == [1, 2, 0]
    assert series.source == (dataset.SOPInstanceUID,) * 3


def test_an_enhanced_ct_of_something_else_than_hu_is_listed(make) -> None:
    dataset = enhanced(make, [0.0, 2.0], ImageType=["DERIVED", "PRIMARY", "PERFUSION", "RCBF"])
    with pytest.raises(NoStudy) as caught:
        assemble([Instance("a", dataset)], b"s" * 32)
    assert reasons(caught.value.left_out) == ["its values are not Hounsfield units"]


def test_an_enhanced_ct_that_does_not_describe_its_frames_is_listed(make) -> None:
    dataset = enhanced(make, [0.0, 2.0])
    del dataset.PerFrameFunctionalGroupsSequence[1]
    with pytest.raises(NoStudy) as caught:
        assemble([Instance("a", dataset)], b"s" * 32)
    assert "every one of its frames" in reasons(caught.value.left_out)[0]
