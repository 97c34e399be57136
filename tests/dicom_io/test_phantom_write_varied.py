"""Varied patients as DICOM: the header agrees with the body and the view, and a validator finds no error."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dicom_io.phantom.devices import DeviceKind
from dicom_io.phantom.look import draw_look
from dicom_io.phantom.patient import draw_patient
from dicom_io.phantom.scan import Protocol
from dicom_io.phantom.write import film_of, write_ct, write_radiograph, write_truth
from dicom_io.phantom.write_varied import write_varied

VALIDATOR = shutil.which("dciodvfy")
COARSE = (6.0, 6.0, 6.0)


def errors_in(path: Path) -> Sequence[str]:
    said = subprocess.run([str(VALIDATOR), str(path)], capture_output=True, text=True, check=False)
    lines = (said.stdout + said.stderr).splitlines()
    assert any("Image" in line or "Radiography" in line for line in lines), "the validator knew the class"
    return [line for line in lines if line.startswith("Error")]


def test_a_supine_film_and_a_scan_say_how_they_were_made(tmp_path: Path) -> None:
    patient = draw_patient(9, spacing_mm=COARSE, kinds=[], upright=False, arms_down=True, variety=True, devices=[])
    path = write_radiograph(patient, 0, tmp_path, view="AP SUPINE", rows=64, look=draw_look(9, "AP SUPINE"))
    film = pydicom.dcmread(path)
    assert (film.ViewPosition, film.PatientPosition, list(film.PatientOrientation)) == ("AP", "HFS", ["L", "F"])
    assert film.ViewCodeSequence[0].CodeValue == "399348003"  # PS3.16 CID 4010, antero-posterior
    assert patient.stature_m is not None
    assert patient.weight_kg is not None
    assert float(film.PatientSize) == pytest.approx(patient.stature_m, abs=0.01)
    assert 16 < float(film.PatientWeight) / float(film.PatientSize) ** 2 < 46, "a body mass index that people have"
    files = write_ct(patient, 0, tmp_path / "ct", Protocol("STANDARD", 12.0, "VENOUS", 100, 90))
    slice_ = pydicom.dcmread(files[0])
    assert (slice_.KVP, slice_.Exposure, slice_.ConvolutionKernel) == (100, 90, "SYNTH STANDARD")
    assert "VENOUS" in slice_.ContrastBolusAgent
    if VALIDATOR is not None:
        assert errors_in(path) == []
        assert errors_in(files[0]) == []


def test_a_varied_patient_is_written_with_its_lateral_and_its_devices(tmp_path: Path) -> None:
    written = write_varied(4, tmp_path, visits=1, kinds=[], with_ct=False, rows=64, film_spacing_mm=COARSE)
    assert set(written) == {"xray-0", "lateral-0", "truth.json"}
    frontal, lateral = (pydicom.dcmread(next((tmp_path / name).glob("*.dcm"))) for name in ("xray-0", "lateral-0"))
    assert (frontal.ViewPosition, lateral.ViewPosition) == ("PA", "LL")
    assert list(lateral.PatientOrientation) == ["P", "F"]
    assert lateral.ViewCodeSequence[0].CodeMeaning == "left lateral"  # PS3.16 CID 4010
    assert frontal.StudyInstanceUID == lateral.StudyInstanceUID
    assert frontal.SeriesInstanceUID != lateral.SeriesInstanceUID
    assert frontal.PatientSex == json.loads((tmp_path / "truth.json").read_text())["sex"]
    if VALIDATOR is not None:
        assert errors_in(next((tmp_path / "lateral-0").glob("*.dcm"))) == []


def test_the_truth_names_each_device_and_its_tip(tmp_path: Path) -> None:
    patient = draw_patient(5, spacing_mm=COARSE, kinds=[], variety=True, devices=[DeviceKind.CENTRAL_LINE])
    film = film_of(patient, 0, view="AP", rows=96)
    truth = json.loads(write_truth(patient, tmp_path / "truth.json", films={0: film}).read_text())
    (device,) = truth["visits"][0]["devices"]
    assert (device["kind"], device["tracking_id"]) == ("central_line", "central_line-1")
    assert device["position"] in ("proper", "too_high", "too_deep")
    row, column = device["film_tip"]
    assert device["film_box"][0] - 2 <= row <= device["film_box"][2] + 2
    assert device["film_box"][1] - 2 <= column <= device["film_box"][3] + 2
    tip_mm = patient.visits[0].devices[0].tip_mm
    assert tip_mm is not None
    np.testing.assert_allclose(device["tip_lps_mm"], tip_mm, atol=0.06)
