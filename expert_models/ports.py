"""What the experts need from outside, and what an expert is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dicom_io.study import Series, Study
from expert_models.finding import Code, Compared, ExpertTag, Finding


class Masks(Protocol):
    """Where boolean masks are kept, by content."""

    def save(self, mask: npt.NDArray[np.bool_]) -> str:
        """Keep a mask of any 3-D shape and return its key; the same mask gives the same key.

        Raises MasksUnavailable when it cannot be kept.
        """

    def load(self, key: str) -> npt.NDArray[np.bool_]:
        """The mask of this key; KeyError when there is none."""


class Examinations(Protocol):
    """Where findings are kept, by a key of everything that they depend on. It may forget any of them."""

    def load(self, key: str) -> tuple[Finding, ...] | None:
        """The findings of this key, exactly as they were saved; None when there are none."""

    def save(self, key: str, findings: Sequence[Finding]) -> None:
        """Keep the findings of one examination. Never raises for what cannot be kept."""


class Expert(Protocol):
    """One model or method. It answers for `concepts` on every series that it accepts.

    An expert whose concept is codes.PICTURE_FITNESS is a check of the picture. The others are not asked about a series
    that a check refuses, but for those with an attribute `checks_its_input` that is true.
    """

    @property
    def tag(self) -> ExpertTag:
        """Name, version, weights."""

    @property
    def concepts(self) -> tuple[Code, ...]:
        """What it is asked about: each becomes not_assessed, with the reason, when the expert fails."""

    def refuses(self, series: Series) -> str | None:
        """Why this series is not for this expert, in one sentence; None when it is."""

    def examine(self, series: Series, masks: Masks) -> Sequence[Finding]:
        """Findings of one accepted series; the panel renumbers their ids."""


class Experts(Protocol):
    """What the pipeline calls."""

    def examine(self, study: Study) -> tuple[Finding, ...]:
        """Every expert's findings on the study, ids f1, f2 ... Never raises for a failing expert."""

    def compare(self, study: Study, findings: Sequence[Finding]) -> Compared:
        """What changed since the newest prior that can be compared; empty without one. Its remarks name what failed."""

    def remarks(self, study: Study, findings: Sequence[Finding]) -> tuple[str, ...]:
        """What the reader must know of the examination besides its findings, one sentence each."""
