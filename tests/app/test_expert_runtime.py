"""PyTorch alone runs every expert, end to end: where OpenVINO is installed, the other tests do not show it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from dicom_io.phantom.patient import LesionKind, draw_patient
from dicom_io.phantom.write import write_ct, write_radiograph

ROOT = Path(__file__).parents[2]


def test_pytorch_alone_answers_for_film_and_ct(tmp_path: Path) -> None:
    patient = draw_patient(1_000_004, spacing_mm=(3.0, 2.0, 2.0), kinds=[LesionKind.MASS], upright=False)
    write_ct(patient, 0, tmp_path / "studies" / "ct")
    write_radiograph(draw_patient(12, spacing_mm=3.0, kinds=[]), 0, tmp_path / "studies" / "film")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WETREAD_")}
    kept |= {"WETREAD_EMBEDDER_URL": "hashing:", "WETREAD_VECTORS_URL": "memory:", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", "from app.cli import main; main()", "report", "studies", "--out", "results", "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=kept | {"WETREAD_HOME": str(tmp_path / "home"), "WETREAD_EXPERT_RUNTIME": "torch"},
    )
    assert done.returncode == 0, done.stderr
    reports = json.loads(done.stdout)["reports"]
    assert len(reports) == 2
    assert not [notice for report in reports for notice in report["notices"]]
    findings = [finding for report in reports for finding in report["findings"]]
    answered = {each["expert"]["name"] for each in findings if each["presence"] != "not_assessed"}
    assert {"cxr-anatomy", "ct-lungs", "ct-nodules"} <= answered
    assert not [each["reason"] for each in findings if "failed" in (each["reason"] or "")]
    assert [each for each in findings if each["expert"]["name"] == "ct-nodules" and each["presence"] == "present"]
