"""Synthetic patients as DICOM: what is read back is what was drawn, and a validator finds no error."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dicom_io.phantom.patient import LesionKind, Patient, draw_patient
from dicom_io.phantom.write import film_of, write_ct, write_patient, write_radiograph

VALIDATOR = shutil.which("dciodvfy")


@pytest.fixture(scope="module")
def patient() -> Patient:
    return draw_patient(42, visits=2, spacing_mm=(6.0, 5.0, 4.0), kinds=[LesionKind.CONSOLIDATION])


@pytest.fixture(scope="module")
def ct_files(patient: Patient, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_ct(patient, 1, tmp_path_factory.mktemp("ct"))


def test_ct_voxels_survive_the_rescale(patient: Patient, ct_files: list[Path]) -> None:
    datasets = [pydicom.dcmread(path) for path in ct_files]
    read_hu = np.stack([each.pixel_array * each.RescaleSlope + each.RescaleIntercept for each in datasets])
    np.testing.assert_array_equal(read_hu, patient.visits[1].hu)


def test_ct_geometry_is_that_of_the_drawing(patient: Patient, ct_files: list[Path]) -> None:
    # The mapping of PS3.3 C.7.6.2.1.1, from the attributes of the first and last slice.
    first, last = pydicom.dcmread(ct_files[0]), pydicom.dcmread(ct_files[-1])
    along_row, along_column = np.reshape(first.ImageOrientationPatient, (2, 3)).astype(float)
    row_mm, column_mm = (float(value) for value in first.PixelSpacing)
    start, stop = (np.array(each.ImagePositionPatient, dtype=float) for each in (first, last))
    affine = np.eye(4)
    affine[:3, 0] = (stop - start) / (len(ct_files) - 1)
    affine[:3, 1], affine[:3, 2] = along_column * row_mm, along_row * column_mm
    affine[:3, 3] = start
    np.testing.assert_allclose(affine, patient.visits[1].geometry.affine, atol=1e-4)
    assert (row_mm, column_mm, float(first.SpacingBetweenSlices)) == (5.0, 4.0, 6.0)
    assert first.FrameOfReferenceUID == patient.visits[1].geometry.frame_of_reference_uid


@pytest.mark.parametrize(("sop_class", "inverted"), [("DX", False), ("DX", True), ("CR", False), ("CR", True)])
def test_a_film_survives_the_file(patient: Patient, tmp_path: Path, sop_class: str, inverted: bool) -> None:
    path = write_radiograph(patient, 0, tmp_path, sop_class=sop_class, rows=128, inverted=inverted)
    dataset = pydicom.dcmread(path)
    shown = dataset.pixel_array / 4095
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    assert (dataset.PhotometricInterpretation == "MONOCHROME1") == inverted
    film = film_of(patient, 0, rows=128)
    np.testing.assert_allclose(shown, film.image, atol=0.5 / 4095 + 1e-6)
    assert float(dataset.ImagerPixelSpacing[0]) == pytest.approx(film.spacing_mm, abs=1e-5)
    assert (list(dataset.PatientOrientation), dataset.ViewPosition, dataset.Modality) == (["L", "F"], "PA", sop_class)


def test_the_same_patient_is_written_to_the_same_bytes(patient: Patient, ct_files: list[Path], tmp_path: Path) -> None:
    again = write_ct(patient, 1, tmp_path)
    assert [path.name for path in again] == [path.name for path in ct_files]
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in ct_files]


def test_one_patient_several_studies(patient: Patient, ct_files: list[Path], tmp_path: Path) -> None:
    datasets = [pydicom.dcmread(ct_files[0], stop_before_pixels=True)]
    datasets += [pydicom.dcmread(write_radiograph(patient, visit, tmp_path, rows=64)) for visit in (0, 1)]
    assert {(str(each.PatientName), each.PatientID) for each in datasets} == {("PHANTOM^000042", "PHANTOM-42")}
    assert len({each.PatientBirthDate for each in datasets}) == 1
    assert len({each.StudyInstanceUID for each in datasets}) == 3
    assert len({each.SOPInstanceUID for each in datasets}) == 3
    assert datasets[1].StudyDate < datasets[2].StudyDate
    assert all(each.RequestAttributesSequence[0].ReasonForTheRequestedProcedure for each in datasets)
    uids = {pydicom.dcmread(path, stop_before_pixels=True).SeriesInstanceUID for path in ct_files}
    assert len(uids) == 1


@pytest.mark.skipif(VALIDATOR is None, reason="dciodvfy (Debian: dicom3tools) is not installed")
def test_the_validator_finds_no_error(patient: Patient, ct_files: list[Path], tmp_path: Path) -> None:
    files = [ct_files[0], ct_files[-1]]
    for number, (view, sop_class, inverted) in enumerate(
        [("PA", "DX", False), ("AP", "DX", True), ("PA", "CR", False), ("AP", "CR", True)]
    ):
        folder = tmp_path / str(number)
        files.append(write_radiograph(patient, 1, folder, view=view, sop_class=sop_class, rows=64, inverted=inverted))
    for path in files:
        said = subprocess.run([str(VALIDATOR), str(path)], capture_output=True, text=True, check=False)
        lines = (said.stdout + said.stderr).splitlines()
        assert any("Image" in line or "Radiography" in line for line in lines), "the validator knew the class"
        assert [line for line in lines if line.startswith("Error")] == []


def test_a_whole_patient_with_its_truth(tmp_path: Path) -> None:
    written = write_patient(
        7,
        tmp_path,
        kinds=[LesionKind.MASS],
        rows=128,
        film_spacing_mm=(4.0, 5.0, 4.0),
        ct_spacing_mm=(6.0, 5.0, 5.0),
    )
    assert set(written) == {"xray-0-prior", "xray-1", "ct-1", "truth.json"}
    assert all(path.exists() for path in written.values())
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert truth["synthetic"] is True
    current = truth["visits"][1]
    film = pydicom.dcmread(next((tmp_path / "xray-1").glob("*.dcm")))
    scan = pydicom.dcmread(next((tmp_path / "ct-1").glob("*.dcm")))
    assert (film.StudyInstanceUID, scan.StudyInstanceUID) == (current["xray_study_uid"], current["ct_study_uid"])
    assert 0.3 < current["cardiothoracic_ratio"] < 0.7
    assert {each["tracking_id"] for visit in truth["visits"] for each in visit["lesions"]} == {"mass-1"}


def test_an_unknown_class_is_refused(patient: Patient, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="DX or CR"):
        write_radiograph(patient, 0, tmp_path, sop_class="MG")
