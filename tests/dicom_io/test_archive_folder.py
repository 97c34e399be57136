"""The archive: kept once, whole or not at all, priors attached, nothing of the patient in a path or a message."""

from __future__ import annotations

import errno
import multiprocessing
import os
import re
import subprocess
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import generate_uid

from dicom_io.archive import Disk, FolderArchive
from dicom_io.errors import ArchiveUnavailable, NoStudy
from dicom_io.study import Modality

SECRET = b"s" * 32
RAW_UID = re.compile(r"\b[0-2](?:\.\d+){4,}")


@pytest.fixture
def archive(tmp_path: Path) -> FolderArchive:
    return FolderArchive(tmp_path / "archive", SECRET)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def dated(make, day: int, **values):
    """The radiograph of a January day, a study of its own."""
    return make.dx(
        StudyDate=f"202401{day:02d}", StudyInstanceUID=f"1.2.3.{day}", SeriesInstanceUID=f"1.2.3.{day}.1", **values
    )


class FailingDisk(Disk):
    """Writes `room` files, half of the next, and fails."""

    def __init__(self, code: int, room: int = 0) -> None:
        self.code, self.room = code, room

    def write(self, path: Path, data: bytes) -> None:
        if self.room == 0:
            path.write_bytes(data[: len(data) // 2])
            raise OSError(self.code, os.strerror(self.code))
        self.room -= 1
        super().write(path, data)


def test_in_and_out(make, archive: FolderArchive, tmp_path: Path) -> None:
    slices = make.ct_series([0.0, 1.0, 2.0])
    make.save(tmp_path / "disc", *slices)
    seen: list[tuple[int, int]] = []
    ingested = archive.ingest([tmp_path / "disc"], progress=lambda done, total: seen.append((done, total)))
    assert ingested.study_uids == (slices[0].StudyInstanceUID,)
    assert ingested.left_out == ()
    assert seen == [(1, 3), (2, 3), (3, 3)]
    study = archive.load(slices[0].StudyInstanceUID)
    assert study.series[0].source == tuple(each.SOPInstanceUID for each in slices)
    assert study.acquired_on == datetime(2024, 1, 31, 8, 15)
    (row,) = archive.studies()
    assert (row.uid, row.patient_key, row.instances) == (study.uid, study.patient_key, 3)
    assert row.modalities == (Modality.CT,)
    assert row.acquired_on == study.acquired_on


def test_twice_is_once(make, archive: FolderArchive, tmp_path: Path) -> None:
    source = ("a.dcm", make.encode(make.dx()))
    first = archive.ingest([source])
    before = files(tmp_path), archive.study_hash(first.study_uids[0])
    assert archive.ingest([source, ("b.dcm", source[1])]).study_uids == first.study_uids
    assert (files(tmp_path), archive.study_hash(first.study_uids[0])) == before


def test_names_are_by_content_and_show_nothing(make, archive: FolderArchive, tmp_path: Path) -> None:
    from hashlib import sha256

    data = make.encode(make.dx(PatientID="SECRET-ID"))
    archive.ingest([("Doe_Jane.dcm", data)])
    names = files(tmp_path / "archive")
    assert any(name.endswith(f"/{sha256(data).hexdigest()}.dcm") for name in names)
    for name in names:
        assert re.fullmatch(r"[0-9a-f]{32}/[0-9a-f]{32}/[0-9a-f]{64}\.(dcm|row\.json)", name)


def _ingest(folder: Path, sources: list) -> int:
    return len(FolderArchive(folder, SECRET).ingest(sources).study_uids)


def test_processes_that_ingest_the_same_at_once(make, archive: FolderArchive, tmp_path: Path) -> None:
    paths = make.save(tmp_path / "disc", *make.ct_series([float(k) for k in range(20)]))
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.starmap(_ingest, [(tmp_path / "archive", paths)] * 3) == [1, 1, 1]
    (row,) = archive.studies()
    assert row.instances == 20
    assert archive.load(row.uid).series[0].volume.shape[0] == 20
    assert not any(name.startswith("incoming") for name in files(tmp_path / "archive"))


def test_priors_of_the_same_patient_newest_first_and_strictly_earlier(make, archive: FolderArchive) -> None:
    days = [dated(make, day) for day in (10, 3, 20, 7, 25)]
    stranger = dated(make, 5, PatientID="P-2")
    same_time = dated(make, 20, InstanceNumber=2)
    same_time.StudyInstanceUID = "1.2.3.99"
    archive.ingest([(str(n), make.encode(each)) for n, each in enumerate([*days, stranger, same_time])])
    study = archive.load("1.2.3.20")
    assert [prior.uid for prior in study.priors] == ["1.2.3.10", "1.2.3.7", "1.2.3.3"]
    assert all(prior.priors == () for prior in study.priors)
    assert archive.load("1.2.3.3").priors == ()


def test_a_study_of_the_same_day_without_a_time_is_no_prior(make, archive: FolderArchive) -> None:
    timeless = dated(make, 20, StudyTime=None)
    timed = dated(make, 20, StudyTime="0815")
    timed.StudyInstanceUID = "1.2.3.99"
    archive.ingest([("a", make.encode(timeless)), ("b", make.encode(timed)), ("c", make.encode(dated(make, 19)))])
    assert [prior.uid for prior in archive.load("1.2.3.99").priors] == ["1.2.3.19"]
    assert [prior.uid for prior in archive.load("1.2.3.20").priors] == ["1.2.3.19"]


def test_no_more_priors_than_asked_for_and_those_of_its_kind_first(make, tmp_path: Path) -> None:
    archive = FolderArchive(tmp_path, SECRET, priors=2)
    ct = [
        make.ct(StudyDate=f"202401{day:02d}", StudyInstanceUID=f"1.2.9.{day}", SeriesInstanceUID=f"1.2.9.{day}.1")
        for day in (15, 16)
    ]
    archive.ingest([("x", make.encode(each)) for each in [dated(make, 1), *ct, dated(make, 20)]])
    assert [prior.uid for prior in archive.load("1.2.3.20").priors] == ["1.2.9.16", "1.2.3.1"]


def test_without_a_patient_id_or_a_date_nothing_is_linked(make, archive: FolderArchive) -> None:
    nobody = [dated(make, day, PatientID="") for day in (1, 2)]
    undated = make.dx(StudyDate=None, StudyInstanceUID="1.2.3.77", PatientID="P-3")
    earlier = dated(make, 3, PatientID="P-3")
    archive.ingest([("x", make.encode(each)) for each in [*nobody, undated, earlier]])
    assert archive.load("1.2.3.2").priors == ()
    assert archive.load("1.2.3.77").priors == ()
    assert archive.load("1.2.3.3").priors == ()


def test_an_id_given_out_twice_is_not_compared_and_said(make, archive: FolderArchive) -> None:
    sources = [dated(make, 1, PatientBirthDate="19500101"), dated(make, 2, PatientBirthDate="19990101")]
    archive.ingest([("x", make.encode(each)) for each in sources])
    study = archive.load("1.2.3.2")
    assert study.priors == ()
    assert "birth date" in study.left_out[0].reason


def test_a_report_that_came_with_the_prior(make, archive: FolderArchive) -> None:
    report = make.report(make.item("TEXT", TextValue="Clear lungs."), StudyInstanceUID="1.2.3.1", StudyDate="20240101")
    archive.ingest([("x", make.encode(each)) for each in [dated(make, 1), report, dated(make, 2)]])
    study = archive.load("1.2.3.2")
    assert study.report is None
    assert study.priors[0].report == "Clear lungs."


def test_a_report_without_its_images_is_listed_and_kept_for_them(make, archive: FolderArchive) -> None:
    report = make.report(make.item("TEXT", TextValue="Clear lungs."), StudyInstanceUID="1.2.3.1")
    ingested = archive.ingest([("sr", make.encode(report))])
    assert ingested.study_uids == ()
    assert "without images" in ingested.left_out[0].reason
    assert archive.studies() == ()
    with pytest.raises(KeyError):
        archive.load("1.2.3.1")
    archive.ingest([("x", make.encode(dated(make, 1)))])
    assert archive.load("1.2.3.1").report == "Clear lungs."


def test_what_is_left_out_at_the_ingest_is_still_known_when_the_study_is_loaded(make, archive: FolderArchive) -> None:
    mr = make.dx(SOPClassUID="1.2.840.10008.5.1.4.1.1.4", Modality="MR", SOPInstanceUID=generate_uid())
    ingested = archive.ingest(
        [
            ("good.dcm", make.encode(make.dx())),
            ("mr.dcm", make.encode(mr)),
            ("a.png", b"\x89PNG\r\n\x1a\n"),
            ("empty", b""),
            ("notes.txt", b"hello"),
            ("cut.dcm", make.encode(make.dx(InstanceNumber=2))[:-5]),
        ]
    )
    assert len(ingested.study_uids) == 1
    assert [(each.name, each.reason) for each in ingested.left_out] == [
        ("mr.dcm", "modality MR is not reported on"),
        ("a.png", "it is a PNG picture, not DICOM"),
        ("empty", "the file is empty"),
        ("notes.txt", "it is a text, not DICOM"),
        ("cut.dcm", "it is cut short: the file ends before its pixel data do"),
    ]
    study = archive.load(ingested.study_uids[0])
    assert [(each.name, each.reason) for each in study.left_out] == [("mr.dcm", "modality MR is not reported on")]


def test_nothing_usable_returns_and_says_why(archive: FolderArchive, tmp_path: Path) -> None:
    ingested = archive.ingest([tmp_path / "missing", ("a.txt", b"hello")])
    assert ingested.study_uids == ()
    assert len(ingested.left_out) == 2
    assert archive.studies() == ()


def test_a_study_whose_pixels_are_all_damaged_is_no_study(make, archive: FolderArchive) -> None:
    dataset = make.dx()
    dataset.PixelData = dataset.PixelData[:4]
    (uid,) = archive.ingest([("x", make.encode(dataset))]).study_uids
    with pytest.raises(NoStudy) as caught:
        archive.load(uid)
    assert [(each.name, each.reason) for each in caught.value.left_out] == [
        ("image 1 of series 1", "its pixel data cannot be decoded: they are damaged or incomplete")
    ]


def test_one_study_uid_under_two_patients_is_never_mixed(make, archive: FolderArchive) -> None:
    ours, theirs = make.ct_series([0.0, 1.0, 2.0]), make.ct(PatientID="P-2", ImagePositionPatient=[0, 0, 3.0])
    archive.ingest([("x", make.encode(each)) for each in [*ours, theirs]])
    study = archive.load(ours[0].StudyInstanceUID)
    assert study.series[0].volume.shape[0] == 3
    assert "another patient" in study.left_out[0].reason


def test_datasets_as_they_came(make, archive: FolderArchive) -> None:
    sent = make.dx()
    (uid,) = archive.ingest([("x", make.encode(sent))]).study_uids
    (whole,) = archive.datasets(uid).values()
    assert whole.PixelData == sent.PixelData
    assert whole.PatientName == "Doe^Jane"
    headers = archive.datasets(uid, with_pixels=False)
    assert list(headers) == [sent.SOPInstanceUID]
    assert "PixelData" not in headers[sent.SOPInstanceUID]


def test_the_hash_is_of_the_content_not_of_the_order(make, tmp_path: Path) -> None:
    sources = [("x", make.encode(each)) for each in make.ct_series([0.0, 1.0])]
    one, other = FolderArchive(tmp_path / "1", SECRET), FolderArchive(tmp_path / "2", SECRET)
    (uid,) = one.ingest(sources).study_uids
    other.ingest(sources[::-1])
    assert one.study_hash(uid) == other.study_hash(uid)
    one.ingest([("y", make.encode(make.ct(ImagePositionPatient=[0, 0, 9.0])))])
    assert one.study_hash(uid) != other.study_hash(uid)


def test_an_unknown_study_is_a_key_error_that_does_not_repeat_the_uid(archive: FolderArchive) -> None:
    for method in (archive.load, archive.datasets, archive.study_hash):
        with pytest.raises(KeyError) as caught:
            method("1.2.840.113619.2.5.17")
        assert not RAW_UID.search(str(caught.value))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission is denied"),
        (errno.EIO, "input/output error"),
    ],
)
def test_a_disk_that_fails_is_one_sentence_and_leaves_nothing_half_written(
    make, tmp_path: Path, code: int, reason: str
) -> None:
    sources = [("x", make.encode(each)) for each in make.ct_series([0.0, 1.0, 2.0])]
    archive = FolderArchive(tmp_path / "archive", SECRET, disk=FailingDisk(code, room=3))
    with pytest.raises(ArchiveUnavailable, match=reason) as caught:
        archive.ingest(sources)
    assert str(tmp_path / "archive") in str(caught.value)
    kept = [name for name in files(tmp_path / "archive") if name.endswith(".dcm")]
    assert len(kept) == 2
    assert not any(name.startswith("incoming") for name in files(tmp_path / "archive"))
    # With room again, the same ingest completes what is missing.
    healthy = FolderArchive(tmp_path / "archive", SECRET)
    (uid,) = healthy.ingest(sources).study_uids
    assert healthy.load(uid).series[0].volume.shape[0] == 3


def test_a_really_full_disk(make, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk can be mounted by root only")
    try:
        source = ("x", make.encode(make.dx(np.zeros((400, 400), dtype=np.uint16))))
        with pytest.raises(ArchiveUnavailable, match="the disk is full"):
            FolderArchive(small / "archive", SECRET).ingest([source])
        subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True, capture_output=True)
        with pytest.raises(ArchiveUnavailable, match="read-only disk"):
            FolderArchive(small / "other", SECRET).ingest([source])
    finally:
        subprocess.run(["umount", str(small)], check=True, capture_output=True)


def test_a_file_where_the_archive_should_be(make, tmp_path: Path) -> None:
    (tmp_path / "archive").write_text("in the way")
    archive = FolderArchive(tmp_path / "archive", SECRET)
    with pytest.raises(ArchiveUnavailable, match="a file is where a folder should be"):
        archive.ingest([("x", make.encode(make.dx()))])


def test_what_a_killed_ingest_left_is_cleared_after_a_day(make, archive: FolderArchive, tmp_path: Path) -> None:
    incoming = tmp_path / "archive" / "incoming"
    incoming.mkdir(parents=True)
    for name, age in (("old.part", 100_000), ("new.part", 10)):
        (incoming / name).write_bytes(b"half")
        when = (incoming / name).stat().st_mtime - age
        os.utime(incoming / name, (when, when))
    archive.ingest([("x", make.encode(make.dx()))])
    assert [each.name for each in incoming.iterdir()] == ["new.part"]


def test_a_damaged_file_of_the_archive_is_listed_and_the_rest_loads(
    make, archive: FolderArchive, tmp_path: Path
) -> None:
    slices = make.ct_series([0.0, 1.0, 2.0, 3.0])
    (uid,) = archive.ingest([("x", make.encode(each)) for each in slices]).study_uids
    victim = sorted((tmp_path / "archive").rglob("*.dcm"))[0]
    victim.write_bytes(b"rubbish")
    study = archive.load(uid)
    assert study.series[0].volume.shape[0] >= 2
    assert study.left_out


def test_messages_and_reasons_show_no_uid_and_no_patient(make, archive: FolderArchive) -> None:
    sources = [make.dx(), make.dx(Modality="MR"), make.dx(PixelSpacing=None, InstanceNumber=4, Rows=0)]
    ingested = archive.ingest([("x.dcm", make.encode(each)) for each in sources])
    study = archive.load(ingested.study_uids[0])
    for each in (*ingested.left_out, *study.left_out):
        assert not RAW_UID.search(each.name + each.reason)
        assert "Doe" not in each.name + each.reason
