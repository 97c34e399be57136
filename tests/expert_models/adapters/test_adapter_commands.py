"""The commands that add, list and remove an adapted model, each in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
NAME = "xrv-densenet121-res224-chex"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_adapted_model_is_added_listed_and_removed(packages: Any, tmp_path: Path) -> None:
    def wetread(*arguments: str, code: int = 0) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WETREAD_")}
        paths = os.pathsep.join([str(ROOT), str(packages.site)])
        run = subprocess.run(
            [sys.executable, "-c", "from app.cli import main; main()", "experts", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=kept | {"WETREAD_HOME": str(tmp_path / "home"), "PYTHONPATH": paths, "COLUMNS": "300"},
        )
        assert run.returncode == code, run.stderr
        return run.stdout if code == 0 else run.stderr

    source = "torchxrayvision:densenet121-res224-chex"
    assert "add it with --trust" in wetread("add", source, code=2)
    told = wetread("add", source, "--trust")
    assert f"{NAME} 1.5.7 is an expert for Atelectasis" in told
    assert "not reported, since no finding is made of them: Infiltration" in told
    assert f"{NAME} 1.5.7 (added, trusted): Atelectasis" in wetread("list")
    shutil.rmtree(packages.site / "torchvision-0.99.dist-info")
    assert f"missing {NAME}: the package torchvision is not installed" in wetread("list")
    wetread("remove", NAME)
    assert NAME not in wetread("list")
