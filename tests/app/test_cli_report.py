"""`wetread report` on a film with junk beside it: the film is reported on, the junk is listed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_io.phantom.patient import draw_patient
from dicom_io.phantom.write import write_radiograph

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("report")
    patient = draw_patient(12, visits=2, spacing_mm=3.0, kinds=[])
    older = write_radiograph(patient, 0, folder / "older")
    newer = write_radiograph(patient, 1, folder / "newer")
    (folder / "newer" / "empty.dcm").write_bytes(b"")
    (folder / "newer" / "cut.dcm").write_bytes(newer.read_bytes()[:3000])
    assert older.is_file()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WETREAD_")}
    kept |= {"WETREAD_HOME": str(folder / "home"), "WETREAD_EMBEDDER_URL": "hashing:", "WETREAD_VECTORS_URL": "memory:"}
    command = [sys.executable, "-c", "from app.cli import main; main()"]
    done = subprocess.run(
        [*command, "report", "newer", "--prior", "older", "--out", "results", "--json"],
        capture_output=True,
        text=True,
        cwd=folder,
        env=kept | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
    )
    return folder, done


def test_the_film_is_reported_on_and_the_junk_is_listed(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = run
    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)
    assert [each["name"].split("/")[-1] for each in body["left_out"]] == ["cut.dcm", "empty.dcm"]
    assert all(each["reason"] for each in body["left_out"])
    (report,) = body["reports"]
    assert json.loads((folder / "results" / "report.json").read_text()) == report


def test_the_prior_is_compared_and_not_reported_on(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    (report,) = json.loads(run[1].stdout)["reports"]
    assert len({each["prior_study_uid"] for each in report["comparisons"]}) == 1
    assert report["comparisons"][0]["prior_study_uid"] != report["study_uid"]


def test_every_sentence_is_grounded_and_the_heart_is_measured(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    (report,) = json.loads(run[1].stdout)["reports"]
    assert report["is_draft"] is True
    for sentence in report["sentences"]:
        grounding = sentence["grounding"]
        assert any(grounding.values()), sentence["text"]
        assert all(check["verdict"] == "passed" for check in sentence["checks"]), sentence
    measured = {each["code"]["meaning"] for finding in report["findings"] for each in finding["measurements"]}
    assert "Cardiothoracic ratio" in measured


def test_nobody_is_named_on_the_terminal(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = run
    assert "PHANTOM" not in done.stderr
    (report,) = json.loads(done.stdout)["reports"]
    assert "PHANTOM" not in json.dumps(report)
