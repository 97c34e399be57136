"""The command that scores reports, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def evaluate(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WETREAD_")}
    command = [sys.executable, "-c", "from app.cli import main; main()", "evaluate", "reports", *arguments]
    environment = kept | {"WETREAD_HOME": str(home / "home"), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, cwd=home, env=environment)


def test_reports_are_scored_for_machines_and_for_people(tmp_path: Path) -> None:
    pack = tmp_path / "data" / "reports_iu"
    pack.mkdir(parents=True)
    row = {
        "id": "1",
        "findings": "Left effusion.",
        "impression": "",
        "mesh_major": ["Pleural Effusion"],
        "split": "val",
    }
    (pack / "val.jsonl").write_text(json.dumps(row))
    run = evaluate(tmp_path, "--data", "data", "--json")
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert (told["suite"], told["source"]) == ("reports", "data")
    assert {"name": "labeler/finding/f1", "value": 1.0, "low": 1.0, "high": 1.0, "n": 1} in told["metrics"]
    assert "labeler/finding/f1 " in evaluate(tmp_path, "--data", "data", "--limit", "1").stdout


@pytest.mark.parametrize("source", ["phantom:5-2", "nowhere", "."])
def test_a_source_without_reports(tmp_path: Path, source: str) -> None:
    run = evaluate(tmp_path, "--data", source)
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr
    assert run.stderr.strip().startswith("wetread: ")
    assert source in run.stderr
