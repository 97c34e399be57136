"""Trusted bundles run their own code in processes of their own; the commands that add, list, try and remove one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from expert_models.bundles.shelf import Shelf
from expert_models.codes import VOLUME
from expert_models.errors import BundleRefused
from expert_models.isolated import ExpertProcess, Isolated, Limits
from expert_models.registry import registered

ROOT = Path(__file__).parents[3]


def small_ct(folder: Path) -> Path:
    """12 axial slices of 32 x 32 voxels of 1.5 mm: air, and in slices 4 to 7 a square of 8 x 8 at 600 HU."""
    folder.mkdir()
    study_uid, series_uid, frame_uid = generate_uid(), generate_uid(), generate_uid()
    for number in range(12):
        stored = np.full((32, 32), -1000, dtype=np.int16)
        if 4 <= number < 8:
            stored[10:18, 12:20] = 600
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = CTImageStorage
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study_uid, series_uid, frame_uid
        image.Modality, image.PatientID, image.PatientName = "CT", "ID", "Name"
        image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, 1.5 * number], [1, 0, 0, 0, 1, 0]
        image.PixelSpacing, image.SliceThickness, image.InstanceNumber = [1.5, 1.5], 1.5, number + 1
        image.Rows = image.Columns = 32
        image.BitsAllocated = image.BitsStored = 16
        image.HighBit, image.PixelRepresentation, image.SamplesPerPixel = 15, 1, 1
        image.PhotometricInterpretation = "MONOCHROME2"
        image.RescaleSlope, image.RescaleIntercept, image.RescaleType = 1, 0, "HU"
        image.PixelData = stored.tobytes()
        image.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return folder


@pytest.mark.slow
def test_two_trusted_bundles_bring_modules_of_one_name(layouts: Any, tmp_path: Path, masks: Any) -> None:
    """Each has its own `scripts` package, as Model Zoo bundles do; the threshold that each sets is its own."""
    shelf = Shelf(tmp_path / "experts")
    for name, above in (("one", 0), ("two", 500)):
        bundle = layouts.spleen()
        bundle.card = f'name = "{name}"\n{bundle.card}'
        bundle.extra["scripts/__init__.py"] = f"def above(image):\n    return (image > {above}).float()\n"
        bundle.config["imports"] = ["$from scripts import above"]
        bundle.config["preprocessing"]["transforms"][4] = {
            "_target_": "Lambdad",
            "keys": "image",
            "func": "$above",
        }
        with pytest.raises(BundleRefused, match="add it with --trust"):
            shelf.add(bundle.write(tmp_path / name), None, trusted=False)
        shelf.add(tmp_path / name, None, trusted=True)
    series = layouts.oblique_ct()
    series.volume.voxels[5:9, 8:20, 10:25] = 120
    series.volume.voxels[10:12, 8:20, 10:25] = 600
    registry = registered("cpu", tmp_path / "experts")
    volumes = []
    for name in ("one", "two"):
        assert registry.recipes[name].is_foreign
        process = ExpertProcess(Limits(seconds=100.0))
        try:
            (finding,) = Isolated(registry.ready[name], registry.recipes[name], "cpu", process).examine(series, masks)
        finally:
            process.close()
        measured = finding.measurement(VOLUME)
        assert measured is not None
        volumes.append(measured.value)
    assert volumes == [pytest.approx(6 * 12 * 15 * 0.0045), pytest.approx(2 * 12 * 15 * 0.0045)]
    assert "scripts" not in sys.modules
    shelf.added("one").check_files()  # nothing was written beside its files


@pytest.mark.slow
def test_the_commands(layouts: Any, tmp_path: Path) -> None:
    def wetread(*arguments: str | Path, code: int = 0) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WETREAD_")}
        run = subprocess.run(
            [sys.executable, "-c", "from app.cli import main; main()", "experts", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=kept | {"WETREAD_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT), "COLUMNS": "300"},
        )
        assert run.returncode == code, run.stderr
        return run.stdout if code == 0 else run.stderr

    bundle = layouts.whole_body()
    bundle.config["inferer"] = {"_target_": "SimpleInferer"}
    source = bundle.write(tmp_path / "source")
    (source / "wetread.toml").rename(tmp_path / "card.toml")
    assert "there is no card wetread.toml" in wetread("add", source, code=2)
    assert "not reported, since the card does not name them: 2 kidney_right" in wetread(
        "add", source, "--card", tmp_path / "card.toml"
    )
    (listed,) = [each for each in json.loads(wetread("list", "--json")) if each["name"] == "whole-body"]
    assert listed["answers_for"] == ["Spleen", "Kidney"]
    assert listed["not_reported"] == ["2 kidney_right"]
    assert not listed["is_trusted"]
    (tried,) = json.loads(wetread("try", "whole-body", small_ct(tmp_path / "ct"), "--json"))
    kidney = tried["findings"][1]
    assert (kidney["concept"][2], kidney["side"], kidney["presence"]) == ("Kidney", "left", "present")
    assert kidney["measurements"]["Volume"] == [4 * 8 * 8 * 1.5**3 / 1000, "mL"]
    wetread("remove", "whole-body")
    assert "no expert named whole-body was added" in wetread("remove", "whole-body", code=2)
