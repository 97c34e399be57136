from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pytest

from dicom_io.study import Geometry, Modality, Series, Study, Volume
from expert_models.codes import HEART, LUNG
from expert_models.finding import Box, Code, ExpertTag, Finding, Measurement, Presence, Region, Side
from expert_models.ports import Masks


@dataclass
class MemoryMasks:
    """Masks by content, in a dictionary."""

    kept: dict[str, npt.NDArray[np.bool_]] = field(default_factory=dict)

    def save(self, mask: npt.NDArray[np.bool_]) -> str:
        key = hashlib.sha256(str(mask.shape).encode() + mask.tobytes()).hexdigest()
        self.kept[key] = mask.copy()
        return key

    def load(self, key: str) -> npt.NDArray[np.bool_]:
        return self.kept[key]


@dataclass
class FakeExpert:
    """Says what it was told to say; counts how often it was asked."""

    name: str = "fake"
    modality: Modality = Modality.DX
    concepts: tuple[Code, ...] = (LUNG, HEART)
    says: Callable[[Series], Sequence[Finding]] | None = None
    error: Exception | None = None
    refuses_because: str | None = None
    asked: int = 0

    @property
    def tag(self) -> ExpertTag:
        return ExpertTag(self.name, "1")

    def refuses(self, series: Series) -> str | None:
        if self.refuses_because:
            return self.refuses_because
        return None if series.modality is self.modality else f"the modality is not {self.modality.value}"

    def examine(self, series: Series, masks: Masks) -> Sequence[Finding]:
        self.asked += 1
        if self.error:
            raise self.error
        if self.says:
            return self.says(series)
        return [Finding("f1", concept, Presence.PRESENT, self.tag) for concept in self.concepts]


def film(uid: str = "1.1", view: str | None = "PA", seed: int = 0, size: int = 256, body_part: str = "") -> Series:
    picture = np.random.default_rng(seed).random((1, size, size), dtype=np.float32)
    return Series(
        uid=uid,
        modality=Modality.DX,
        volume=Volume(picture, Geometry(np.diag([1.0, 0.5, 0.5, 1.0]))),
        source=(f"{uid}.1",),
        view=view,
        body_part=body_part,
    )


def ct(uid: str = "1.2", slices: int = 10, frame: str | None = "9.9", offset_mm: float = 0.0) -> Series:
    """A CT of 20 x 20 pixels of 10 mm and slices 10 mm apart; index (slice, row, column) is (z, y, x) in cm."""
    affine = np.array([[0, 0, 10.0, offset_mm], [0, 10.0, 0, 0], [10.0, 0, 0, 0], [0, 0, 0, 1.0]])
    return Series(
        uid=uid,
        modality=Modality.CT,
        volume=Volume(np.zeros((slices, 20, 20), dtype=np.int16), Geometry(affine, frame)),
        source=tuple(f"{uid}.{number}" for number in range(slices)),
    )


def study(*series: Series, uid: str = "2.1", priors: tuple[Study, ...] = (), year: int = 2026) -> Study:
    return Study(uid, "patient", datetime(year, 1, 2, 3, 4), series, priors=priors)


def found(
    concept: Code,
    presence: Presence = Presence.PRESENT,
    *,
    number: int = 1,
    expert: str = "fake",
    side: Side | None = None,
    series_uid: str | None = None,
    box: Box | None = None,
    measured: tuple[Code, float, Code] | None = None,
) -> Finding:
    regions = (Region(series_uid, box or Box((0, 0, 0), (1, 2, 2)), f"{series_uid}.0"),) if series_uid else ()
    measurements = (Measurement(measured[0], measured[1], measured[2]),) if measured else ()
    reason = "it failed" if presence is Presence.NOT_ASSESSED else ""
    return Finding(
        f"f{number}",
        concept,
        presence,
        ExpertTag(expert, "1"),
        side=side,
        regions=regions,
        measurements=measurements,
        reason=reason,
    )


class Make:
    """What the tests of this package build, without importing one another."""

    film = staticmethod(film)
    ct = staticmethod(ct)
    study = staticmethod(study)
    found = staticmethod(found)
    expert = FakeExpert
    masks = MemoryMasks


@pytest.fixture(scope="session")
def make() -> type[Make]:
    return Make


@pytest.fixture
def masks() -> MemoryMasks:
    return MemoryMasks()
