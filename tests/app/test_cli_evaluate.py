"""The commands that score: reports in a process of its own, our own model in this one."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from app.cli import app
from app.errors import BadSetting
from expert_models.train.phantoms import HELD_OUT
from medmllm.adapters.local import NEEDED

SUITES = ("grounding", "temporal", "controls", "confusion")
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


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """A command that runs in this process sets logs up on the runner's stderr, which is closed when it ends."""
    config, handlers = structlog.get_config(), list(logging.getLogger().handlers)
    yield
    structlog.configure(**config)
    logging.getLogger().handlers[:] = handlers


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["evaluate", *arguments])
    assert isinstance(done.exception, BadSetting), done.output
    return str(done.exception)


def test_our_own_model_is_scored_for_machines_and_for_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WETREAD_HOME", str(tmp_path))
    source = f"phantom:{HELD_OUT + 41}-{HELD_OUT + 43}"
    arguments = ["evaluate", "controls", "--data", source, "--limit", "1"]
    done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    told = json.loads(done.stdout)
    assert (told["suite"], told["source"]) == ("controls", source)
    names = [
        "noise/abnormal",
        "blank/abnormal",
        *(f"expert_call/{each}" for each in ("accuracy", "needless", "repeated")),
    ]
    assert [each["name"] for each in told["metrics"]] == names
    assert [each["value"] for each in told["metrics"][:2]] == [0, 0]
    assert [each["n"] for each in told["metrics"]] == [1, 1, 4, 4, 4]
    people = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout
    lines = [" ".join(line.split()) for line in people.splitlines()]
    assert lines[:2] == ["noise/abnormal 0.000 [0.000, 0.000] n=1", "blank/abnormal 0.000 [0.000, 0.000] n=1"]
    assert [line.split()[0] for line in lines] == names


def test_what_reports_can_go_without_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WETREAD_HOME", str(tmp_path))
    source = f"phantom:{HELD_OUT + 41}-{HELD_OUT + 42}"
    assert "--without: 'doctor' is not one of experts, prior" in refused(
        "reports", "--data", source, "--without", "doctor"
    )
    arguments = ["evaluate", "reports", "--data", source, "--without", "prior", "--without", "experts", "--json"]
    told = json.loads(CliRunner().invoke(app, arguments, catch_exceptions=False).stdout)
    assert told["suite"] == "reports without experts, prior"


@pytest.mark.parametrize("suite", SUITES)
def test_a_model_and_films_are_needed(suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WETREAD_HOME", str(tmp_path))
    assert "template: is not a model in a folder" in refused(suite, "--data", "phantom:1-2", "--model", "template:")
    model = tmp_path / "tiny"
    assert "model.safetensors" in refused(suite, "--data", "phantom:1-2", "--model", f"local://{model}")
    model.mkdir()
    for name in NEEDED:
        (model / name).touch()
    pack = tmp_path / "data" / "cxr_anatomy"
    pack.mkdir(parents=True)
    (pack / "index.csv").write_text("file,split\n")
    for source, why in (
        (str(tmp_path / "data"), "holds no film"),
        (str(tmp_path), "neither a range"),
        ("phantom:5-2", "START below STOP"),
    ):
        assert why in refused(suite, "--data", source, "--model", f"local://{model}")
