"""One expert's process is killed in the middle of a report: what the others found stands, and the dead one is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.bootstrap import Program, open_program
from app.pipeline import report_on
from app.results.record import REPORT_JSON, Record
from app.results.report_html import html_page
from app.settings import Settings
from dicom_io.phantom.patient import draw_patient
from dicom_io.phantom.write import write_radiograph
from expert_models.isolated import ExpertProcess, Isolated, Limits
from expert_models.panel import Panel
from expert_models.recipe import Recipe

MODULE = """
import os, signal
from expert_models.codes import HEART, PNEUMOTHORAX
from expert_models.finding import Box, ExpertTag, Finding, Presence, Region

class Doomed:
    tag, concepts = ExpertTag("doomed", "1"), (PNEUMOTHORAX,)
    def __init__(self, device): pass
    def refuses(self, series): return None
    def examine(self, series, masks):
        masks.save(series.volume.voxels > 0.5)  # in the middle of its work
        os.kill(os.getpid(), signal.SIGKILL)

class Sound(Doomed):
    tag, concepts = ExpertTag("sound", "1"), (HEART,)
    def examine(self, series, masks):
        mask = series.volume.voxels > 0.5
        region = Region(series.uid, Box((0, 0, 0), mask.shape), series.source[0], masks.save(mask))
        return [Finding("f1", HEART, Presence.PRESENT, self.tag, regions=(region,))]
"""
WHY = "the expert doomed failed: its process ended (SIGKILL)"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    (tmp_path / "mortal_experts.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    process = ExpertProcess(Limits(seconds=60.0, megabytes=1024))
    opened = open_program(Settings(home=tmp_path / "home", embedder_url="hashing:", vectors_url="memory:"))

    def expert(name: str) -> Isolated:
        recipe = Recipe(name, f"mortal_experts:{name}")
        return Isolated(recipe.make("cpu"), recipe, "cpu", process)

    experts = Panel([expert("Doomed"), expert("Sound")], opened.masks)
    yield replace(opened, parts=replace(opened.parts, experts=experts))
    process.close()


def test_the_report_is_made_names_the_dead_expert_and_keeps_the_others(program: Program, tmp_path: Path) -> None:
    patient = draw_patient(12, visits=1, spacing_mm=4.0, kinds=[])
    write_radiograph(patient, 0, tmp_path / "film")
    program.archive.ingest([tmp_path / "film"])
    (row,) = program.archive.studies()
    report = report_on(row.uid, program.parts)
    (sound,) = [each for each in report.findings if each.expert.name == "sound"]
    assert program.masks.load(sound.regions[0].mask_key or "").any()
    body: dict[str, Any] = json.loads(REPORT_JSON.dump_json(report))
    (dead,) = [each for each in body["findings"] if each["expert"]["name"] == "doomed"]
    assert dead["presence"] == "not_assessed"
    assert dead["reason"].startswith(WHY)
    assert WHY in " ".join(sentence.text for sentence in report.sentences)
    record = Record(report, program.parts.archive.load(row.uid), program.masks, program.archive.datasets(row.uid))
    page = html_page(record, with_pictures=False).decode()
    assert WHY in page
    assert "heart" in page.lower()
