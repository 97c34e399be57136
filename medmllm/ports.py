"""What the writer needs: a model that reads pictures and words and answers with words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dicom_io.study import Study
from expert_models.finding import Comparison, Finding
from medmllm.brief import Brief
from medmllm.report import Report
from rag.evidence import Evidence


@dataclass(frozen=True, slots=True)
class View:
    """One picture for the model: PNG bytes, what it shows, and regions on it.

    regions: name -> (x0, y0, x1, y1) in 0..999 of width and height (MedRegA's convention), converted from index
    boxes at this boundary only.
    """

    png: bytes
    caption: str
    regions: tuple[tuple[str, tuple[int, int, int, int]], ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """Everything the model is given. Its texts hold no name, no date and no raw UID.

    brief: the same in few words, with the pixels themselves, for a model that runs in this process.
    """

    system: str
    text: str
    views: tuple[View, ...] = ()
    brief: Brief | None = None


class LanguageModel(Protocol):
    """A multimodal language model behind any door."""

    @property
    def name(self) -> str:
        """Names the model in the report."""

    @property
    def reads_prose(self) -> bool:
        """Whether it writes the whole report from the prompt's prose, and can be told what was wrong with it.

        One that reads briefs is asked once, and answers with what it sees and no expert says.
        """

    def complete(self, prompt: Prompt) -> str:
        """The model's answer. Raises ModelUnavailable when there is none."""


class Writer(Protocol):
    """What the pipeline calls."""

    def write(
        self,
        study: Study,
        findings: Sequence[Finding],
        comparisons: Sequence[Comparison],
        evidence: Sequence[Evidence],
        notices: Sequence[str] = (),
    ) -> Report:
        """A draft report. Never raises for a failing model: the template writer takes over."""
