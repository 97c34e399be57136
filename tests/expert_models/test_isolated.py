"""Experts that hang, crash, take all memory or answer nonsense, each in the real process that examines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from expert_models.codes import LUNG_NODULE
from expert_models.errors import ExpertError, ExpertStopped
from expert_models.finding import Presence
from expert_models.isolated import ExpertProcess, Isolated, Limits
from expert_models.panel import Panel
from expert_models.recipe import Recipe
from medmllm.report import Report
from medmllm.template import TemplateWriter

MODULE = """
import os, signal, time
import numpy as np
from expert_models.codes import LUNG, VOLUME, MILLILITER
from expert_models.errors import WeightsMismatch
from expert_models.finding import Box, ExpertTag, Finding, Measurement, Presence, Region

class Sound:
    concepts = (LUNG,)
    def __init__(self, device): self.tag = ExpertTag(type(self).__name__.lower(), "1")
    def refuses(self, series): return None
    def examine(self, series, masks):
        print("this must not reach standard output")
        mask = series.volume.voxels[:2, :3, :4] == 7
        region = Region(series.uid, Box((0, 0, 0), mask.shape), series.source[0], masks.save(mask))
        volume = Measurement(VOLUME, float(series.volume.voxels.sum()), MILLILITER)
        return [Finding("f1", LUNG, Presence.PRESENT, self.tag, regions=(region,), measurements=(volume,))]

class Hung(Sound):
    def examine(self, series, masks): time.sleep(600)

class Killed(Sound):
    def examine(self, series, masks): os.kill(os.getpid(), signal.SIGKILL)

class Crashing(Sound):
    def examine(self, series, masks): os.kill(os.getpid(), signal.SIGSEGV)

class Hungry(Sound):
    def examine(self, series, masks): return np.ones(500_000_000).tolist()

class Raising(Sound):
    def examine(self, series, masks): raise ValueError("Doe^John 1951")

class Refused(Sound):
    def examine(self, series, masks): raise WeightsMismatch("its weights are others")

class Nonsense(Sound):
    def examine(self, series, masks): return [Finding("f1", LUNG, "maybe", self.tag)]
"""


def report_text(report: Report) -> str:
    return " ".join(sentence.text for sentence in report.sentences)


@pytest.fixture
def process() -> Iterator[ExpertProcess]:
    process = ExpertProcess(Limits(seconds=20.0, megabytes=1024))
    yield process
    process.close()


@pytest.fixture
def strange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, process: ExpertProcess) -> Any:
    (tmp_path / "strange_experts.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)

    def make(name: str, of: ExpertProcess = process) -> Isolated:
        recipe = Recipe(name, f"strange_experts:{name}")
        return Isolated(recipe.make("cpu"), recipe, "cpu", of)

    return make


def test_findings_and_masks_come_back_as_they_were(strange: Any, make: Any, masks: Any, capfd: Any) -> None:
    series = make.ct()
    series.volume.voxels[1, 2, 3] = 7
    (finding,) = strange("Sound").examine(series, masks)
    (again,) = strange("Sound").examine(series, masks)
    assert finding == again
    (region,) = finding.regions
    assert [tuple(place) for place in zip(*masks.load(region.mask_key).nonzero(), strict=True)] == [(1, 2, 3)]
    assert finding.measurements[0].value == 7.0
    assert (region.series_uid, region.instance_uid) == (series.uid, "1.2.0")
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Killed", "its process ended (SIGKILL); it may have 1024 MiB of memory"),
        ("Crashing", "its process ended (SIGSEGV); it may have 1024 MiB of memory"),
        ("Hungry", "it needs more than the 1024 MiB of memory it may have"),
    ],
)
def test_one_that_dies_is_named_and_the_others_stand(
    strange: Any, make: Any, masks: Any, name: str, reason: str
) -> None:
    beside = make.expert("beside", make.ct().modality, concepts=(LUNG_NODULE,))
    panel = Panel([strange(name), strange("Sound"), beside], masks)
    dead, sound, other = panel.examine(make.study(make.ct(), make.ct("1.7", frame="1.1")))[:3]
    assert dead.presence is Presence.NOT_ASSESSED
    assert dead.reason == f"the expert {name.lower()} failed: {reason}"
    assert (sound.presence, sound.expert.name) == (Presence.PRESENT, "sound")
    assert other.expert.name in ("sound", "beside")
    report = TemplateWriter().write(make.study(make.ct()), (dead, sound), (), ())
    assert f"was not assessed by the expert {name.lower()} 1: the expert {name.lower()} failed" in report_text(report)


def test_one_that_hangs_is_ended_and_asked_no_more_about_the_study(strange: Any, make: Any, masks: Any) -> None:
    process = ExpertProcess(Limits(seconds=1.5))
    try:
        two = make.study(make.ct(), make.ct("1.7", frame="1.1"))
        findings = Panel([strange("Hung", process), strange("Sound", process)], masks).examine(two)
    finally:
        process.close()
    assert [each.reason for each in findings[:1]] == ["the expert hung failed: it took longer than 1.5 s and was ended"]
    assert [each.expert.name for each in findings] == ["hung", "sound", "sound"]


def test_what_it_raises_travels_without_what_it_says_of_a_patient(strange: Any, make: Any, masks: Any) -> None:
    with pytest.raises(ExpertError, match=r"^a fault \(ValueError\)$"):
        strange("Raising").examine(make.ct(), masks)
    with pytest.raises(ExpertError, match=r"^its weights are others$"):
        strange("Refused").examine(make.ct(), masks)
    with pytest.raises(ExpertError):
        strange("Nonsense").examine(make.ct(), masks)


def test_it_sees_no_password_and_cannot_take_a_core_file(
    strange: Any, make: Any, masks: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WETREAD_MLLM_API_KEY", "secret")
    (tmp_path / "nosy.py").write_text(
        "import os\nfrom strange_experts import *\n"
        "class Nosy(Sound):\n"
        "    def examine(self, series, masks):\n"
        "        raise WeightsMismatch(str([name for name in os.environ if name.startswith('WETREAD_')]))\n"
    )
    recipe = Recipe("nosy", "nosy:Nosy")
    process = ExpertProcess(Limits(seconds=20.0, megabytes=1024))
    try:
        with pytest.raises(ExpertError, match=r"^\[\]$"):
            process.ask(recipe, "cpu", make.ct(), masks)
    finally:
        process.close()
    with pytest.raises(ExpertStopped):
        ExpertProcess(Limits(seconds=20.0, megabytes=1)).ask(recipe, "cpu", make.ct(), masks)
