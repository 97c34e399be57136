"""docs/rest.md and docs/openapi.json say what is so: every command in the one runs, the other is what is served."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rest_site import Site, accessioned

ROOT = Path(__file__).parents[2]
WETREAD = f'wetread() {{ "{sys.executable}" -c "from app.cli import main; main()" "$@"; }}'


def test_the_description_that_is_kept_is_the_one_that_is_served(site: Site) -> None:
    served = site.client().get("/v1/openapi.json").json()
    kept = json.loads((ROOT / "docs" / "openapi.json").read_text())
    assert kept == served, "fetch /v1/openapi.json anew into docs/openapi.json"


def test_every_command_of_the_document_runs(ward: Site, phantom: Path, tmp_path: Path) -> None:
    for program in ("bash", "curl", "jq"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    text = (ROOT / "docs" / "rest.md").read_text()
    blocks = [each for each in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL) if each != "wetread serve\n"]
    script = "\n".join(["set -euo pipefail", WETREAD, *blocks]).replace("http://127.0.0.1:8080", ward.url)
    (tmp_path / "film.dcm").write_bytes(accessioned(phantom, "A-2024-0042"))
    home = ward.program.settings.home
    settings = {"WETREAD_HOME": str(home), "WETREAD_EMBEDDER_URL": "hashing:", "WETREAD_VECTORS_URL": "memory:"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WETREAD_")}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=kept | settings | {"PYTHONPATH": str(ROOT), "no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "report.json").read_text())["is_draft"] is True
    assert (tmp_path / "report.html").read_text().lstrip().startswith("<!doctype html>")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    assert json.loads((tmp_path / "bundle.json").read_text())["resourceType"] == "Bundle"
    assert (tmp_path / "report-sr.dcm").read_bytes()[128:132] == b"DICM"
    words = ("report-sr.dcm", "study received", "report requested", 'wetread_jobs{state="done"}', '"status":"ready"')
    for word in words:
        assert word in done.stdout
