"""A program in a temporary home, and radiographs of 4 by 4 pixels."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from app.bootstrap import Program, open_program
from app.settings import Settings


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    monkeypatch.chdir(tmp_path)
    return open_program(
        Settings(home=tmp_path / "home", embedder_url="hashing:", vectors_url="memory:", quiet_s=5, priors=2)
    )


def film(study: str = "study", **values: Any) -> bytes:
    """A DX of the patient P-1 as a file; keywords overrule. study: the same word, the same study."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = DigitalXRayImageStorageForPresentation
    made.SOPInstanceUID = generate_uid(entropy_srcs=["instance", study, repr(sorted(values.items()))])
    made.StudyInstanceUID, made.SeriesInstanceUID = uid(study), uid(study + " series")
    made.PatientID, made.PatientName, made.Modality = "P-1", "Doe^Jane", "DX"
    made.StudyDate, made.StudyTime, made.ViewPosition = "20260131", "081500", "PA"
    made.PatientOrientation = ["L", "F"]
    made.Rows = made.Columns = 4
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation = 15, 0
    made.PixelData = np.arange(16, dtype="<u2").tobytes()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    buffer = BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def uid(word: str) -> str:
    return generate_uid(entropy_srcs=[word])


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()


@pytest.fixture(name="film")
def _film() -> Callable[..., bytes]:
    return film


@pytest.fixture(name="uid")
def _uid() -> Callable[[str], str]:
    return uid


@pytest.fixture(name="digest")
def _digest() -> Callable[[bytes], str]:
    return digest
