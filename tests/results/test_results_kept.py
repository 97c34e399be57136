"""Results kept by version: the same bytes at every call, one folder when two processes make it, whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest
from pydicom import dcmread

from app.accounts import Account, Scope
from app.bootstrap import Program, open_program
from app.results.errors import ResultsUnwritable
from app.results.kept import made_from, results_of
from app.settings import Settings
from app.signing import sign
from app.versions import Version
from dicom_io.identity import study_key
from dicom_io.phantom.patient import draw_patient
from dicom_io.phantom.write import write_radiograph
from expert_models.codes import CARDIOMEGALY
from expert_models.finding import Box, ExpertTag, Finding, Presence, Region
from medmllm.report import Report
from medmllm.template import TemplateWriter

READER = Account("jdoe", "Dr. Jane Doe", frozenset({Scope.SIGN}))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A home with one radiograph, a draft on it, and its UID."""
    folder = tmp_path_factory.mktemp("kept")
    film = write_radiograph(draw_patient(12, visits=1, spacing_mm=3.0, kinds=[]), 0, folder / "film")
    program = opened(folder / "home")
    uid = str(dcmread(film, stop_before_pixels=True).StudyInstanceUID)
    program.archive.ingest([film])
    program.versions.save(TemplateWriter().write(program.archive.load(uid), [], [], []))
    return folder / "home", uid


def opened(home: Path) -> Program:
    return open_program(
        Settings(home=home, organization="Sample Hospital", vectors_url="memory:", embedder_url="hashing:")
    )


def digests(folder: Path) -> dict[str, str]:
    return {each.name: sha256(each.read_bytes()).hexdigest() for each in folder.iterdir()}


def test_a_version_has_the_same_bytes_for_ever_and_the_signed_one_its_own(home: tuple[Path, str]) -> None:
    program, uid = opened(home[0]), home[1]
    shelf = home[0] / "results" / study_key(uid, program.secret)
    first = results_of(program, uid, 1)
    before = digests(first)
    assert first == shelf / "1"
    assert {"report.json", "report-sr.dcm", "report-pdf.dcm", "report-capture-1.dcm"} <= set(before)
    number = sign(program, uid, READER, 1).number
    signed = results_of(program, uid, number)
    assert digests(results_of(opened(home[0]), uid, 1)) == before
    draft_sr, signed_sr = (dcmread(folder / "report-sr.dcm") for folder in (first, signed))
    assert signed_sr.VerificationFlag == "VERIFIED"
    (study,) = signed_sr.PredecessorDocumentsSequence
    reference = study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert reference == draft_sr.SOPInstanceUID
    assert [each.name for each in sorted(shelf.iterdir())] == ["1", "2"]
    with pytest.raises(KeyError):
        results_of(program, uid, 9)


def test_two_processes_at_once_end_with_one_folder(home: tuple[Path, str]) -> None:
    program, uid = opened(home[0]), home[1]
    number = program.versions.save_as(program.versions.load(uid), "jdoe").number
    code = (
        "import sys; from pathlib import Path; from app.bootstrap import open_program;"
        "from app.settings import Settings; from app.results.kept import results_of;"
        "p = open_program(Settings(home=Path(sys.argv[1]), vectors_url='memory:', embedder_url='hashing:'));"
        "f = results_of(p, sys.argv[2], int(sys.argv[3]));"
        "import hashlib; print(hashlib.sha256((f / 'report-sr.dcm').read_bytes()).hexdigest())"
    )
    command = [sys.executable, "-c", code, str(home[0]), uid, str(number)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    told = {each.communicate(timeout=120)[0] for each in running}
    assert [each.returncode for each in running] == [0, 0]
    assert len(told) == 1
    shelf = home[0] / "results" / study_key(uid, program.secret)
    assert [each.name for each in shelf.iterdir() if each.name.startswith(".")] == []


def test_what_a_dead_process_left_goes_and_what_is_being_made_stays(home: tuple[Path, str]) -> None:
    program, uid = opened(home[0]), home[1]
    shelf = home[0] / "results" / study_key(uid, program.secret)
    for name, age_s in ((".1.dead", 7200), (".1.alive", 60)):
        (shelf / name).mkdir(parents=True)
        os.utime(shelf / name, (time.time() - age_s,) * 2)
    results_of(program, uid, program.versions.save_as(program.versions.load(uid), "jdoe").number)
    assert [each.name for each in shelf.glob(".*")] == [".1.alive"]
    (shelf / ".1.alive").rmdir()


def test_what_one_writer_cannot_make_is_missing_and_the_rest_is_kept(home: tuple[Path, str]) -> None:
    program, uid = opened(home[0]), home[1]
    (series,) = program.archive.load(uid).series
    region = Region(series.uid, Box((0, 10, 10), (1, 20, 20)), series.source[0], "0" * 64)
    finding = Finding("f1", CARDIOMEGALY, Presence.PRESENT, ExpertTag("e", "1"), 0.9, regions=(region,))
    number = program.versions.save_as(Report(uid, (), (finding,), (), (), "template"), "jdoe").number
    names = {each.name for each in results_of(program, uid, number).iterdir()}
    assert {"report.json", "report.pdf", "report-fhir.json"} <= names
    assert not {name for name in names if "seg" in name}


def test_a_place_that_cannot_be_written_is_one_sentence(home: tuple[Path, str], tmp_path: Path) -> None:
    program, uid = opened(home[0]), home[1]
    number = program.versions.save_as(program.versions.load(uid), "jdoe").number
    shelf = home[0] / "results" / study_key(uid, program.secret)
    (shelf / str(number)).write_text("a file in the folder's place")
    with pytest.raises(ResultsUnwritable, match="a file stands where a folder is needed"):
        results_of(program, uid, number)
    (shelf / str(number)).unlink()


def test_the_chain_begins_anew_with_every_draft_by_the_writer(home: tuple[Path, str]) -> None:
    report = opened(home[0]).versions.load(home[1])
    now = opened(home[0]).versions.newest(home[1]).written_at
    history = tuple(Version(n, report, now, author) for n, author in enumerate(["", "a", "b", "", "c"], start=1))
    assert [[each.number for each in made_from(history, n)] for n in range(1, 6)] == [[], [1], [1, 2], [], [4]]
