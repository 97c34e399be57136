"""Small makers of studies and findings: a film with a prior, a CT with two nodules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pytest

from dicom_io.study import Geometry, Modality, Request, Series, Study, Volume
from expert_models import codes
from expert_models.finding import (
    Box,
    Change,
    Code,
    Comparison,
    ExpertTag,
    Finding,
    Measurement,
    Presence,
    Region,
    Side,
)
from rag.evidence import Citation, Evidence

ANATOMY = ExpertTag("chest-anatomy", "1.0")
NODULES = ExpertTag("ct-nodules", "0.3")


class Make:
    """Makers with short names, so that a test reads as the case it states."""

    @staticmethod
    def film(uid="1.2.8", view="PA", when=datetime(2024, 4, 1), indication="Shortness of breath", priors=(), **other):
        geometry = Geometry(np.diag([1.0, 0.5, 0.5, 1.0]), is_calibrated=other.pop("is_calibrated", True))
        pixels = np.linspace(0, 1, 300 * 200, dtype=np.float32).reshape(1, 300, 200)
        series = Series(
            f"{uid}.1",
            Modality.DX,
            Volume(pixels, geometry),
            (f"{uid}.1.1",),
            view=view,
            body_part="CHEST",
            left_out=other.pop("series_left_out", ()),
        )
        request = Request(indication, accession=other.pop("accession", ""))
        return Study(uid, "key", when, (series,), request, tuple(priors), **other)

    @staticmethod
    def ct(uid="1.2.7", slices=40, when=datetime(2024, 4, 1), priors=(), indication=""):
        geometry = Geometry(np.diag([1.25, 0.7, 0.7, 1.0]))
        voxels = np.full((slices, 64, 80), -800, dtype=np.int16)
        source = tuple(f"{uid}.1.{number}" for number in range(slices))
        series = Series(f"{uid}.1", Modality.CT, Volume(voxels, geometry), source, body_part="CHEST")
        return Study(uid, "key", when, (series,), Request(indication), tuple(priors))

    @staticmethod
    def finding(id_, concept, presence=Presence.PRESENT, probability=None, **other):
        reason = other.pop("reason", "The view is lateral." if presence is Presence.NOT_ASSESSED else "")
        return Finding(id_, concept, presence, other.pop("expert", ANATOMY), probability, reason=reason, **other)

    @staticmethod
    def region(study, start=(0, 10, 20), stop=(1, 60, 90), best=None):
        series = study.series[0]
        index = start[0] if best is None else best
        return Region(series.uid, Box(start, stop), series.source[index])

    @staticmethod
    def ratio(value):
        return Measurement(codes.CARDIOTHORACIC_RATIO, value, codes.RATIO)

    @staticmethod
    def axes(long, short):
        return (
            Measurement(codes.LONG_AXIS, long, codes.MILLIMETER),
            Measurement(codes.SHORT_AXIS, short, codes.MILLIMETER),
        )

    @staticmethod
    def evidence(id_="e1", finding_ids=("f1",), text=None):
        text = text or (
            "A cardiothoracic ratio above 0.50 on a PA radiograph suggests cardiomegaly. "
            "Echocardiography is the reference."
        )
        citation = Citation("d1", "Heart size on the chest radiograph", "Smith J, Doe A", 2017, "doi:1", 0, len(text))
        return Evidence(id_, text, citation, 0.8, finding_ids)


@dataclass(frozen=True)
class Case:
    """What a writer is given."""

    study: Study
    findings: tuple[Finding, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    evidence: tuple[Evidence, ...] = ()

    @property
    def parts(self):
        return self.study, self.findings, self.comparisons, self.evidence


@pytest.fixture(scope="session")
def make():
    return Make


@pytest.fixture(scope="session")
def case_of():
    return Case


@pytest.fixture
def film_case(make):
    """A PA film with cardiomegaly, 91 days after a PA film with a smaller heart."""
    prior = make.film("1.2.9", when=datetime(2024, 1, 1))
    study = make.film(priors=(prior,))
    before = make.finding(
        "f1",
        codes.CARDIOMEGALY,
        Presence.INDETERMINATE,
        0.55,
        measurements=(make.ratio(0.52),),
        regions=(make.region(prior),),
    )
    findings = (
        make.finding(
            "f1", codes.CARDIOMEGALY, probability=0.97, measurements=(make.ratio(0.609),), regions=(make.region(study),)
        ),
        make.finding("f2", codes.PLEURAL_EFFUSION, Presence.NOT_ASSESSED, reason="The weights are missing."),
        make.finding("f3", codes.PNEUMOTHORAX, Presence.ABSENT, 0.01),
    )
    comparisons = (Comparison("c1", Change.LARGER, "1.2.9", "t1", "f1", before, 0.171),)
    return Case(study, findings, comparisons, (make.evidence(),))


@pytest.fixture
def ct_case(make):
    """A CT with two nodules, 21 days after a CT with one: the first grew, the second is new."""
    prior = make.ct("1.2.6", when=datetime(2024, 3, 11))
    study = make.ct(priors=(prior,))
    hu = Measurement(codes.MEAN_ATTENUATION, -35.4, codes.HOUNSFIELD_UNIT)
    findings = (
        make.finding(
            "f1", codes.LUNG, side=Side.RIGHT, measurements=(Measurement(codes.VOLUME, 2613.2, codes.MILLILITER),)
        ),
        make.finding(
            "f2", codes.LUNG, side=Side.LEFT, measurements=(Measurement(codes.VOLUME, 2241.0, codes.MILLILITER),)
        ),
        make.finding(
            "f3",
            codes.LUNG_NODULE,
            probability=0.93,
            side=Side.RIGHT,
            site=codes.UPPER_LOBE,
            expert=NODULES,
            measurements=(*make.axes(14.2, 10.8), hu),
            regions=(make.region(study, (10, 5, 6), (14, 20, 22), best=12),),
        ),
        make.finding(
            "f4",
            codes.LUNG_NODULE,
            probability=0.8,
            side=Side.LEFT,
            site=codes.LOWER_LOBE,
            expert=NODULES,
            measurements=make.axes(6.24, 4.81),
            regions=(make.region(study, (30, 5, 6), (33, 9, 10), best=31),),
        ),
    )
    before = make.finding(
        "f1",
        codes.LUNG_NODULE,
        probability=0.9,
        side=Side.RIGHT,
        site=codes.UPPER_LOBE,
        expert=NODULES,
        measurements=make.axes(10.1, 8.0),
        regions=(make.region(prior, (10, 5, 6), (13, 16, 18)),),
    )
    comparisons = (
        Comparison("c1", Change.LARGER, "1.2.6", "t1", "f3", before, 0.406),
        Comparison("c2", Change.NEW, "1.2.6", "t2", "f4"),
    )
    return Case(study, findings, comparisons)


@pytest.fixture
def texts():
    """The sentences of one section of a report, as text."""

    def of(report, section):
        return [sentence.text for sentence in report.section(section)]

    return of


@pytest.fixture
def unknown_concept():
    return Code("RID-test", "99TEST", "Widened mediastinum")
