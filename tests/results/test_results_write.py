"""All results into one folder: whole or not at all, one failure at a time, one sentence for a bad folder."""

from __future__ import annotations

import errno
import os
from copy import copy
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread

from app.results import write as writing
from app.results.errors import ResultsIncomplete, ResultsUnwritable
from app.results.record import MAY_BE_EMPTY, REPORT_JSON, Record
from app.results.write import put, write_results

CAPTURES = ["report-capture-1.dcm", "report-capture-2.dcm", "report-capture-3.dcm"]
ALL = [
    "report.json",
    "report.html",
    "report.pdf",
    "report-seg-1.dcm",
    "report-sr.dcm",
    "report-fhir.json",
    "report-pdf.dcm",
    *CAPTURES,
]


def test_every_result_is_written_and_nothing_else(ct_record: Record, tmp_path: Path) -> None:
    ticks: list[tuple[int, int]] = []
    paths = write_results(ct_record, tmp_path / "a" / "b", progress=lambda done, total: ticks.append((done, total)))
    assert [path.name for path in paths] == ALL
    assert sorted(each.name for each in (tmp_path / "a" / "b").iterdir()) == sorted(ALL)
    assert REPORT_JSON.validate_json(paths[0].read_bytes()) == ct_record.report
    assert ticks == [(done, 8) for done in range(9)]


def test_without_masks_there_is_no_segmentation_and_an_old_one_goes(bare_record, tmp_path: Path) -> None:
    (tmp_path / "report-seg-1.dcm").write_bytes(b"of an earlier run")
    (tmp_path / "report-capture-2.dcm").write_bytes(b"of an earlier run")
    names = [path.name for path in write_results(bare_record, tmp_path)]
    assert names == [name for name in ALL if "seg" not in name and name not in CAPTURES[1:]]
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(names)


def test_one_failing_writer_costs_the_others_nothing(ct_record: Record, tmp_path: Path) -> None:
    ct_record.masks.kept.clear()
    with pytest.raises(ResultsIncomplete) as caught:
        write_results(ct_record, tmp_path)
    assert [(each.name, each.reason) for each in caught.value.failed] == [
        ("report-seg.dcm", "the mask of finding f1 is no longer kept"),
        ("report-sr.dcm", "a region's mask is no longer kept"),
    ]
    assert str(caught.value).startswith("report-seg.dcm could not be made: the mask of finding f1 is no longer kept; ")
    assert [path.name for path in caught.value.written] == [
        name for name in ALL if name not in ("report-seg-1.dcm", "report-sr.dcm")
    ]


def test_without_originals_the_report_is_still_written(dx_record: Record, tmp_path: Path) -> None:
    with pytest.raises(ResultsIncomplete) as caught:
        write_results(replace(dx_record, sources={}), tmp_path)
    failed = [each.name for each in caught.value.failed]
    assert failed == ["report-seg.dcm", "report-sr.dcm", "report-pdf.dcm", "report-capture.dcm"]
    assert (tmp_path / "report-fhir.json").is_file()


def test_a_file_in_the_folders_place_is_one_sentence(dx_record: Record, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(ResultsUnwritable, match="cannot be written: a file stands where a folder is needed"):
        write_results(dx_record, tmp_path / "taken")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes where permission is denied")
def test_a_read_only_folder_is_one_sentence(dx_record: Record, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ResultsUnwritable, match="permission is denied"):
        write_results(dx_record, tmp_path)


def test_a_full_disk_is_one_sentence(dx_record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, body: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing, "put", full)
    with pytest.raises(ResultsUnwritable, match="cannot be written: the disk is full"):
        write_results(dx_record, tmp_path)


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    put(path, b"old")
    with pytest.raises(TypeError):
        put(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["report.json"]


def test_a_header_that_says_little_and_a_report_beyond_latin_letters_still_give_every_result(
    dx_record: Record, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    sparse = {}
    for uid, image in dx_record.sources.items():
        image = copy(image)
        for keyword in MAY_BE_EMPTY:
            if keyword in image:
                delattr(image, keyword)
        image.PatientName = "Secret"  # one component alone makes highdicom warn, quoting the name
        sparse[uid] = image
    first = dx_record.report.sentences[0]
    report = replace(dx_record.report, sentences=(replace(first, text="Poręba: −820 HU ≥ −900 HU."),))
    record = Record(report, dx_record.study, dx_record.masks, sparse)
    names = {path.name for path in write_results(record, tmp_path)}
    assert {"report-sr.dcm", "report-seg-1.dcm", "report-fhir.json", "report.pdf", "report-pdf.dcm"} <= names
    assert not list(recwarn)
    document = tmp_path / "report-sr.dcm"
    assert dcmread(document).SpecificCharacterSet == "ISO_IR 192"
    assert "Poręba: −820 HU ≥ −900 HU.".encode() in document.read_bytes()
