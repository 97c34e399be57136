"""`wetread phantom --varied` writes a varied patient, drawn coarsely here to be quick."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pydicom
import pytest
from typer.testing import CliRunner

from app.cli import app
from dicom_io.phantom import write_varied


def test_varied_patients_are_written_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = partial(
        write_varied.write_varied, visits=1, kinds=[], rows=64, film_spacing_mm=(7.0, 7.0, 7.0), with_ct=False
    )
    monkeypatch.setattr(write_varied, "write_varied", quick)
    arguments = ["phantom", "--varied", "--seed", "4", "--out", str(tmp_path / "four")]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    films = [pydicom.dcmread(path) for path in (tmp_path / "four").rglob("*.dcm")]
    assert sorted(film.ViewPosition for film in films) == ["LL", "PA"]
    assert all(film.PatientID == "PHANTOM-4" and film.PatientWeight for film in films)
