"""The workbench's server for the tests, the CT on it that was reported on, and one person's browser."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from playwright.sync_api import Page

from app.bootstrap import Program
from app.submit import note
from dicom_io.phantom.patient import draw_patient
from dicom_io.phantom.write import write_ct
from expert_models import codes
from expert_models.finding import Box, ExpertTag, Finding, Measurement, Presence, Region, Side
from medmllm.report import Check, CheckKind, Grounding, Report, Section, Sentence, Verdict
from rag.evidence import Citation, Evidence

PASSWORD = "a long enough password"
NODULE_SLICE = 20  # of the CT; its mask is largest there
TRAPS = "Dyspnée <img src=x onerror=alert(1)> ${7*7} {{7*7}}"  # must be shown as it is


@dataclass(frozen=True, slots=True)
class Site:
    """A running server. ct: the key of the study that was reported on."""

    url: str
    program: Program
    films: Path
    ct: str
    ct_uid: str


def reported_ct(program: Program, folder: Path) -> str:
    """A coarse CT of a phantom, with a report written by hand: a nodule of known place, and a sentence in doubt."""
    patient = draw_patient(5, visits=1, spacing_mm=(8.0, 4.0, 4.0), kinds=[], upright=False)
    write_ct(patient, 0, folder)
    (uid,) = program.archive.ingest([folder]).study_uids
    series = program.parts.archive.load(uid).series[0]
    mask = np.zeros((5, 6, 6), dtype=bool)
    mask[:, 2:4, 2:4] = True
    mask[2] = True  # slice 20 shows most of it
    box = Box((NODULE_SLICE - 2, 40, 30), (NODULE_SLICE + 3, 46, 36))
    region = Region(series.uid, box, series.source[NODULE_SLICE], program.masks.save(mask))
    expert = ExpertTag("chest-ct-nodules", "1.2.0", "ab" * 32)
    nodule = Finding(
        "f1",
        codes.LUNG_NODULE,
        Presence.PRESENT,
        expert,
        0.87,
        Side.RIGHT,
        regions=(region,),
        measurements=(Measurement(codes.LONG_AXIS, 24.0, codes.MILLIMETER),),
    )
    citation = Citation("fleischner", "Guidelines", "MacMahon H", 2017, "10.1148/radiol.2017161659", 0, 60, "Radiology")
    evidence = Evidence("e1", "Solid nodules over 8 mm are followed.", citation, 0.7, ("f1",))
    failed = (Check(CheckKind.UNSUPPORTED, Verdict.FAILED, "cites nothing"),)
    sentences = (
        Sentence(TRAPS, Section.INDICATION, Grounding(attributes=("ReasonForStudy",))),
        Sentence("There is a 24 mm nodule in the right lung.", Section.FINDINGS, Grounding(("f1",))),
        Sentence("Everything else is fine.", Section.FINDINGS, checks=failed),
        Sentence("Solid nodules over 8 mm are followed.", Section.IMPRESSION, Grounding(("f1",), (), ("e1",))),
    )
    program.versions.save(
        Report(uid, sentences, (nodule,), (), (evidence,), "template", ("The heart was not looked at.",))
    )
    note(program, uid)
    return uid


def wait_for(is_so: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.05)


@dataclass
class Visit:
    """One person's browser, and everything that it asked for or complained about."""

    page: Page
    url: str
    requests: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def log_in(self, name: str, password: str = PASSWORD) -> None:
        self.page.goto(f"{self.url}/")
        self.page.fill("#name", name)
        self.page.fill("#password", password)
        self.page.click("button")

    def open(self, key: str) -> None:
        self.page.click(f'tr[data-key="{key}"]')
        self.page.wait_for_selector(".pane[data-ready]")
