"""Files, folders, zips, DICOMDIRs and bytes; and everything that is none of them, by its reason."""

from __future__ import annotations

import os
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    MediaStorageDirectoryStorage,
    RLELossless,
)

from dicom_io import read
from dicom_io.errors import Unreadable
from dicom_io.read import find, parse
from dicom_io.screen import refusal


def names(sources) -> list[str]:
    return [each.name for each in find(sources)[0]]


def picture(kind: str) -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def zipped(**files: bytes) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (picture("PNG"), "it is a PNG picture, not DICOM"),
        (picture("JPEG"), "it is a JPEG picture, not DICOM"),
        (picture("TIFF"), "it is a TIFF picture, not DICOM"),
        (b"%PDF-1.7\n", "it is a PDF document, not DICOM"),
        (b"\x1f\x8b\x08\x00", "it is a gzip archive, not DICOM"),
        ("The heart is enlarged, sähe man.\n".encode(), "it is a text, not DICOM"),
        (("x" * 4095 + "ä").encode(), "it is a text, not DICOM"),
        (bytes(range(256)) * 4, "it is not a DICOM file"),
        (b"\x08\x00\x05\x00CS\x02\x00", "it is not a DICOM file"),
    ],
)
def test_what_is_not_dicom(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=f"^{reason}$"):
        parse(data)


def test_truncated_dicom_at_every_length_is_listed_not_a_crash(make) -> None:
    data = make.encode(make.dx(np.zeros((64, 64), dtype=np.uint16)))
    for length in [*range(0, 1400, 13), len(data) - 1]:
        try:
            reason = refusal(parse(data[:length]))
        except Unreadable as exc:
            reason = str(exc)
        assert reason, length
    with pytest.raises(Unreadable, match="cut short"):
        parse(data[:-1])


def test_truncated_compressed_dicom(make) -> None:
    dataset = make.dx(np.random.default_rng(0).integers(0, 4095, (64, 64)).astype(np.uint16))
    dataset.compress(RLELossless, generate_instance_uid=False)
    data = make.encode(dataset)
    try:
        reason = refusal(parse(data[:-500]))
    except Unreadable as exc:
        reason = str(exc)
    assert reason


def test_dicom_without_preamble_and_meta_information(make) -> None:
    data = make.encode(make.dx())
    headless = parse(data[data.index(b"\x08\x00\x08\x00") :])
    assert headless.Modality == "DX"
    only_preamble_missing = parse(data[132:])
    assert only_preamble_missing.Modality == "DX"


def test_a_deflated_bomb_is_refused(make, monkeypatch) -> None:
    dataset = make.dx(np.zeros((1000, 1000), dtype=np.uint16))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data = make.encode(dataset)
    assert len(data) < 10_000
    parse(data)
    monkeypatch.setattr(read, "MAX_FILE_BYTES", 1_000_000)
    with pytest.raises(Unreadable, match="unpacks to more than"):
        parse(data)


def test_a_pdf_wrapped_as_dicom(make) -> None:
    dataset = make.dataset(EncapsulatedPDFStorage, Modality="DOC", EncapsulatedDocument=b"%PDF-1.7")
    assert refusal(parse(make.encode(dataset))) == "it is a PDF document wrapped as DICOM, not an image"


@pytest.mark.parametrize(
    ("sop_class", "modality", "part"),
    [
        ("1.2.840.10008.5.1.4.1.1.4", "MR", "modality MR is not reported on"),
        ("1.2.840.10008.5.1.4.1.1.7", "CT", "secondary capture"),
        ("1.2.840.10008.5.1.4.1.1.66.4", "SEG", "segmentation"),
        ("1.2.840.10008.5.1.4.1.1.88.34", "SR", "structured report"),
        ("1.2.840.10008.5.1.4.1.1.88.59", "KO", "key object"),
        ("1.2.840.10008.5.1.4.1.1.11.1", "PR", "presentation state"),
        ("1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT", "modality RTSTRUCT is not reported on"),
        ("1.2.840.10008.5.1.4.1.1.1.2", "MG", "modality MG is not reported on"),
        ("1.2.3", "CT", "a kind of CT object that is not read"),
        ("1.2.3", "", "does not say what kind"),
    ],
)
def test_what_is_dicom_but_of_no_use(make, sop_class: str, modality: str, part: str) -> None:
    reason = refusal(make.dataset(sop_class, Modality=modality))
    assert reason is not None
    assert part in reason


def test_a_modality_that_is_no_code_is_not_repeated(make) -> None:
    assert "Doe" not in str(refusal(make.dx(Modality="Doe^Jane")))


@pytest.mark.filterwarnings("ignore:The value length")
def test_a_uid_that_is_too_long_is_refused_before_a_database_does(make) -> None:
    assert refusal(make.dx(StudyInstanceUID="1." + "2" * 62)) is None
    assert refusal(make.dx(StudyInstanceUID="1." + "2" * 63)) == (
        "one of its UIDs is longer than the 64 characters that DICOM allows"
    )


def test_a_folder_is_read_through_in_order_without_system_files(make, tmp_path: Path) -> None:
    folder = tmp_path / "disc"
    make.save(folder / "b", make.dx())
    make.save(folder / "a" / "deep", make.dx(), make.dx(InstanceNumber=2))
    (folder / "readme.txt").write_text("hello")
    for hidden in (".DS_Store", "Thumbs.db", "b/._IM0001"):
        (folder / hidden).write_bytes(b"\0\0\0\1Bud1")
    (folder / ".hidden-but-dicom").write_bytes(make.encode(make.dx(InstanceNumber=3)))
    found, left_out = find([folder])
    assert [each.name for each in found] == [
        ".hidden-but-dicom",
        "a/deep/IM0001",
        "a/deep/IM0002",
        "b/IM0001",
        "readme.txt",
    ]
    assert left_out == []


def test_what_is_not_there_empty_or_no_file(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    _, left_out = find([tmp_path / "missing", tmp_path / "empty", tmp_path / "pipe"])
    assert [(each.name, each.reason) for each in left_out] == [
        ("missing", "there is no such file or folder"),
        ("empty", "the folder is empty"),
        ("pipe", "it is neither a file nor a folder"),
    ]


def test_a_file_that_vanishes_between_finding_and_reading(make, tmp_path: Path) -> None:
    (path,) = make.save(tmp_path, make.dx())
    ((found,), _) = find([path])
    path.unlink()
    with pytest.raises(Unreadable, match="no such file"):
        found.read()


def test_a_zip_archive_with_folders_in_it(make, tmp_path: Path) -> None:
    data = zipped(
        **{"b/IM2": make.encode(make.dx(InstanceNumber=2)), "a/c/IM1": make.encode(make.dx()), "__MACOSX/b/._IM2": b"x"}
    )
    path = tmp_path / "study.zip"
    path.write_bytes(data)
    for source in (path, tmp_path, ("study.zip", data)):
        found, left_out = find([source])
        assert [each.name for each in found] == ["study.zip/a/c/IM1", "study.zip/b/IM2"]
        assert [parse(each.read()).InstanceNumber for each in found] == [1, 2]
        assert left_out == []


def test_zips_that_are_damaged_encrypted_nested_empty_or_bombs(make, monkeypatch) -> None:
    good = zipped(a=make.encode(make.dx()))
    found, left_out = find([("damaged.zip", good[:-30]), ("empty.zip", good[:4] + b"\0" * 40)])
    assert found == []
    assert {each.reason for each in left_out} == {"the zip archive is damaged"}

    ((inner,), _) = find([("outer.zip", zipped(inner=good))])
    with pytest.raises(Unreadable, match="within a zip archive"):
        inner.read()

    flipped = bytearray(zipped(a=bytes(5000)))
    flipped[40] ^= 0xFF
    ((member,), _) = find([("flipped.zip", bytes(flipped))])
    with pytest.raises(Unreadable, match="damaged in the zip archive"):
        member.read()

    monkeypatch.setattr(read, "MAX_ZIP_BYTES", 1000)
    _, (bomb,) = find([("bomb.zip", zipped(a=bytes(10_000)))])
    assert "unpacks to more than" in bomb.reason
    monkeypatch.setattr(read, "MAX_ZIP_BYTES", 100_000)
    monkeypatch.setattr(read, "MAX_FILE_BYTES", 1000)
    ((large,), _) = find([("large.zip", zipped(a=bytes(10_000)))])
    with pytest.raises(Unreadable, match="unpacks to more than"):
        large.read()


class TestDicomdir:
    def directory(self, make, *references: list[str]) -> bytes:
        directory = make.dataset(MediaStorageDirectoryStorage)
        directory.DirectoryRecordSequence = []
        for parts in references:
            record = Dataset()
            make.set_(record, {"ReferencedFileID": parts, "DirectoryRecordType": "IMAGE"})
            directory.DirectoryRecordSequence.append(record)
        return make.encode(directory)

    @pytest.fixture
    def medium(self, make, tmp_path: Path) -> Path:
        """A medium with two radiographs."""
        make.save(tmp_path / "medium" / "PT1" / "SE1", make.dx(), make.dx(InstanceNumber=2))
        directory = self.directory(make, ["PT1", "SE1", "IM0001"], ["PT1", "SE1", "IM0002"])
        (tmp_path / "medium" / "DICOMDIR").write_bytes(directory)
        return tmp_path / "medium"

    def test_its_files_are_found_given_it_or_its_folder(self, medium: Path) -> None:
        by_directory, by_folder = names([medium / "DICOMDIR"]), names([medium])
        assert len(by_directory) == 2
        assert sorted(by_directory) == by_folder
        assert all("DICOMDIR" not in name for name in by_directory)

    def test_what_it_refers_to_and_is_missing_is_listed(self, medium: Path) -> None:
        victim = names([medium / "DICOMDIR"])[0]
        (medium / victim).unlink()
        for source in (medium, medium / "DICOMDIR"):
            found, left_out = find([source])
            assert len(found) == 1
            assert [(each.name, "not there" in each.reason) for each in left_out] == [(victim, True)]

    def test_a_medium_copied_in_lower_case(self, medium: Path) -> None:
        first = names([medium / "DICOMDIR"])[0]
        (medium / first).rename((medium / first).with_name(Path(first).name.lower()))
        assert len(names([medium / "DICOMDIR"])) == 2

    def test_a_reference_out_of_the_medium_is_not_followed(self, make, tmp_path: Path) -> None:
        (tmp_path / "outside").write_bytes(make.encode(make.dx()))
        (tmp_path / "medium").mkdir()
        (tmp_path / "medium" / "DICOMDIR").write_bytes(self.directory(make, ["..", "outside"]))
        found, (missing,) = find([tmp_path / "medium" / "DICOMDIR"])
        assert found == []
        assert "not there" in missing.reason
