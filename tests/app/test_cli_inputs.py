"""Bad input: one clear sentence, the right exit code, and what is valid beside it is still used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

ROOT = Path(__file__).parents[2]


def wetread(*arguments: str | Path, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, as a user runs it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WETREAD_")}
    return subprocess.run(
        [sys.executable, "-c", "from app.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=home,
        env=kept | {"WETREAD_HOME": str(home / "home"), "PYTHONPATH": str(ROOT), "COLUMNS": "200"} | variables,
    )


def assert_one_sentence(run: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert run.returncode == code, run.stderr
    assert "Traceback" not in run.stderr
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("wetread: ")
    for word in words:
        assert word in run.stderr


def mr_image() -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = MRImageStorage
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.Modality, image.PatientID, image.PatientName = "MR", "SECRET-ID", "Secret^Name"
    image.Rows = image.Columns = 4
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation, image.SamplesPerPixel = 15, 0, 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.PixelData = bytes(32)
    return image


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    assert_one_sentence(wetread("report", "absent", home=tmp_path), 2, "absent does not exist")


def test_a_prior_that_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    run = wetread("report", "study", "--prior", "older", home=tmp_path)
    assert_one_sentence(run, 2, "older does not exist")


def test_files_that_are_no_study_are_each_listed_with_a_reason(tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    (study / "empty.dcm").write_bytes(b"")
    (study / "notes.txt").write_text("not an image")
    (study / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    mr_image().save_as(study / "mr.dcm", enforce_file_format=True)
    run = wetread("report", "study", home=tmp_path)
    assert_one_sentence(run, 3, "empty.dcm", "notes.txt", "picture.png", "mr.dcm", "MR")
    assert "Secret" not in run.stderr
    assert "SECRET" not in run.stderr


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    assert_one_sentence(wetread("report", "study", home=tmp_path), 3, "none of the files given")


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "study").mkdir()
    run = wetread("report", "study", home=tmp_path, WETREAD_HOME=str(tmp_path / "file" / "home"))
    assert_one_sentence(run, 4, "cannot be")


def test_a_wrong_option_and_a_wrong_setting(tmp_path: Path) -> None:
    assert wetread("report", "--colour", home=tmp_path).returncode == 2
    assert_one_sentence(wetread("studies", home=tmp_path, WETREAD_HOEM="x"), 2, "WETREAD_HOEM")
    assert_one_sentence(wetread("studies", home=tmp_path, WETREAD_DEVICE="abacus"), 2, "device")
    assert_one_sentence(wetread("library", "search", "x", home=tmp_path, WETREAD_VECTORS_URL="faiss:"), 2, "faiss")


def test_an_empty_archive_is_said_or_is_an_empty_list(tmp_path: Path) -> None:
    assert "empty" in wetread("studies", home=tmp_path).stdout
    assert json.loads(wetread("studies", "--json", home=tmp_path).stdout) == []


@pytest.mark.parametrize("source", ["phantom:5-2", "phantom:x", "nowhere"])
def test_an_evaluation_source_that_is_none(tmp_path: Path, source: str) -> None:
    assert_one_sentence(wetread("evaluate", "experts", "--data", source, home=tmp_path), 2, source)


def test_a_recipe_that_does_not_exist(tmp_path: Path) -> None:
    run = wetread("train", "experts", "--only", "nothing", home=tmp_path)
    assert_one_sentence(run, 2, "nothing", "cxr-anatomy", "ct-nodules")
