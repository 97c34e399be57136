"""Small makers of real DICOM: a CT slice, a CT series, a radiograph, a report. Keywords overrule values."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    BasicTextSRStorage,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)

CORPUS = Path(__file__).parents[2].parent / "shared" / "data" / "dicom_corpus"


def uid_of(*words: object) -> str:
    """The same words, the same UID."""
    return generate_uid(entropy_srcs=[repr(words)])


class Makers:
    """What the tests build their inputs with."""

    def dataset(self, sop_class: str, **values: Any) -> Dataset:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = sop_class
        dataset.SOPInstanceUID = uid_of("instance", sop_class, sorted(map(repr, values.items())))
        dataset.StudyInstanceUID = uid_of("study")
        dataset.SeriesInstanceUID = uid_of("series", sop_class)
        dataset.PatientID = "P-1"
        dataset.PatientName = "Doe^Jane"
        dataset.StudyDate, dataset.StudyTime = "20240131", "081500"
        dataset.InstanceNumber, dataset.SeriesNumber = 1, 1
        self.set_(dataset, values)
        return dataset

    def set_(self, dataset: Dataset, values: dict[str, Any]) -> None:
        for keyword, value in values.items():
            if value is None:
                dataset.pop(keyword, None)
            elif isinstance(value, (str, list)) and not (value and isinstance(value[0], Dataset)):
                vr = dictionary_VR(keyword)  # not by setattr, which would warn of the odd values that tests are about
                dataset[keyword] = DataElement(tag_for_keyword(keyword), vr, value, validation_mode=IGNORE)
            else:
                setattr(dataset, keyword, value)

    def pixels(self, dataset: Dataset, stored: np.ndarray, **values: Any) -> Dataset:
        """Put stored values (rows, columns) or (frames, rows, columns) into a dataset, uncompressed."""
        bits = stored.dtype.itemsize * 8
        dataset.Rows, dataset.Columns = stored.shape[-2:]
        if stored.ndim == 3:
            dataset.NumberOfFrames = len(stored)
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
        dataset.PixelRepresentation = int(stored.dtype.kind == "i")
        self.set_(dataset, values)
        dataset.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
        dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
        return dataset

    def ct(self, stored: np.ndarray | None = None, **values: Any) -> Dataset:
        """A CT slice at z = 0: 4 rows of 5 columns, 0.5 x 0.75 mm, intercept -1024."""
        if stored is None:
            stored = (np.arange(20, dtype=np.int16) * 100).reshape(4, 5)
        dataset = self.dataset(
            CTImageStorage,
            Modality="CT",
            ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
            FrameOfReferenceUID=uid_of("frame"),
            ImagePositionPatient=[-100.0, -90.0, 0.0],
            ImageOrientationPatient=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
            PixelSpacing=[0.5, 0.75],
            SliceThickness=2.0,
            RescaleSlope=1,
            RescaleIntercept=-1024,
            RescaleType="HU",
        )
        pixel_words = {"BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation", "SamplesPerPixel"}
        self.pixels(dataset, stored, **{word: value for word, value in values.items() if word in pixel_words})
        self.set_(dataset, {word: value for word, value in values.items() if word not in pixel_words})
        if "SOPInstanceUID" not in values:
            dataset.SOPInstanceUID = uid_of("ct", sorted(map(repr, values.items())), stored.tobytes())
        return dataset

    def ct_series(self, positions_mm: list[float], **values: Any) -> list[Dataset]:
        """Axial CT slices at these heights; slice i holds i + 1000 (so i - 24 HU) everywhere."""
        return [
            self.ct(
                np.full((4, 5), i + 1000, dtype=np.int16),
                ImagePositionPatient=[-100.0, -90.0, position],
                InstanceNumber=i + 1,
                **values,
            )
            for i, position in enumerate(positions_mm)
        ]

    def dx(self, stored: np.ndarray | None = None, *, is_cr: bool = False, **values: Any) -> Dataset:
        """A radiograph for presentation: 3 rows of 4 columns, 0..1100 in 12 bits, no window."""
        if stored is None:
            stored = (np.arange(12, dtype=np.uint16) * 100).reshape(3, 4)
        kind = ComputedRadiographyImageStorage if is_cr else DigitalXRayImageStorageForPresentation
        dataset = self.dataset(
            kind,
            Modality="CR" if is_cr else "DX",
            ImageType=["ORIGINAL", "PRIMARY"],
            ViewPosition="PA",
            PatientOrientation=["L", "F"],
            BodyPartExamined="CHEST",
        )
        words = {
            "BitsStored": 12 if stored.dtype.itemsize == 2 else 8,
            "HighBit": 11 if stored.dtype.itemsize == 2 else 7,
        }
        self.pixels(dataset, stored, **words)
        self.set_(dataset, values)
        if "SOPInstanceUID" not in values:
            dataset.SOPInstanceUID = uid_of("dx", sorted(map(repr, values.items())), stored.tobytes())
        return dataset

    def code(self, value: str, scheme: str, meaning: str) -> Dataset:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
        return item

    def item(self, kind: str, name: str = "", **values: Any) -> Dataset:
        """A content item of a structured report."""
        item = Dataset()
        item.RelationshipType, item.ValueType = "CONTAINS", kind
        if name:
            item.ConceptNameCodeSequence = [self.code("1", "99TEST", name)]
        self.set_(item, values)
        return item

    def report(self, *items: Dataset, **values: Any) -> Dataset:
        """A Basic Text SR with these content items."""
        return self.dataset(
            BasicTextSRStorage,
            Modality="SR",
            ValueType="CONTAINER",
            ConceptNameCodeSequence=[self.code("18748-4", "LN", "Diagnostic imaging report")],
            CompletionFlag="COMPLETE",
            VerificationFlag="VERIFIED",
            ContentSequence=list(items),
            **values,
        )

    def encode(self, dataset: Dataset) -> bytes:
        """The bytes of a DICOM file."""
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()

    def save(self, folder: Path, *datasets: Dataset) -> list[Path]:
        """Write datasets as IM0001, IM0002 ... into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"IM{number:04d}" for number in range(1, len(datasets) + 1)]
        for path, dataset in zip(paths, datasets, strict=True):
            path.write_bytes(self.encode(dataset))
        return paths


@pytest.fixture(scope="session")
def make() -> Makers:
    return Makers()


@pytest.fixture(scope="session")
def corpus() -> Path:
    if not (CORPUS / "index.csv").exists():
        pytest.skip("the corpus of real DICOM files is not on this machine")
    return CORPUS


@pytest.fixture
def assembled(make: Makers) -> Callable[..., Any]:
    """Datasets straight to a Study, named file 1, file 2 ..."""
    from dicom_io.assemble import Instance, assemble

    def build(*datasets: Dataset) -> Any:
        return assemble([Instance(f"file {n}", each) for n, each in enumerate(datasets, start=1)], b"s" * 32)

    return build
