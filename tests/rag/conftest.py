"""Fixtures of the literature's tests: three short documents, small studies, findings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dicom_io.study import Geometry, Modality, Request, Series, Study, Volume
from expert_models.finding import Code, ExpertTag, Finding, Measurement, Presence
from rag.evidence import Document

TAG = ExpertTag("test", "1")


@pytest.fixture
def documents() -> tuple[Document, ...]:
    return (
        Document(
            id="pneumothorax",
            title="Signs of pneumothorax",
            authors="A. Author",
            year=2020,
            identifier="10.1000/a",
            text="A pneumothorax shows a thin visceral pleural line with no lung markings beyond it.",
            topics=("radiograph",),
        ),
        Document(
            id="effusion",
            title="Fluid on CT",
            authors="B. Author",
            year=2021,
            identifier="10.1000/b",
            text="Pleural effusion is fluid in the pleural space.\n\nIts attenuation on CT hints at its nature.",
            topics=("ct",),
        ),
        Document(
            id="heart",
            title="Heart size",
            authors="C. Author",
            year=2022,
            identifier="10.1000/c",
            journal="Journal",
            text="The cardiothoracic ratio is the heart's width over the chest's; above 0.5 is cardiomegaly.",
        ),
    )


@pytest.fixture
def make_study() -> Callable[..., Study]:
    def make(*modalities: Modality, indication: str = "") -> Study:
        series = tuple(
            Series(
                uid=f"1.2.{number}",
                modality=modality,
                volume=Volume(
                    np.zeros((1, 2, 2), dtype=np.float32 if modality.is_projection else np.int16), Geometry(np.eye(4))
                ),
                source=(f"1.2.{number}.1",),
            )
            for number, modality in enumerate(modalities, start=1)
        )
        return Study("1.2", "key", None, series, Request(indication=indication))

    return make


@pytest.fixture
def make_finding() -> Callable[..., Finding]:
    def make(
        identity: str,
        concept: Code,
        presence: Presence = Presence.PRESENT,
        probability: float | None = None,
        measurements: tuple[Measurement, ...] = (),
    ) -> Finding:
        reason = "the expert failed" if presence is Presence.NOT_ASSESSED else ""
        return Finding(identity, concept, presence, TAG, probability, measurements=measurements, reason=reason)

    return make
