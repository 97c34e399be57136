"""What retrieval needs: an encoder of text, and a store of passages by vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dicom_io.study import Study
from expert_models.finding import Finding
from rag.evidence import Document, Evidence, Passage


class Embedder(Protocol):
    """Turns text into unit vectors."""

    @property
    def name(self) -> str:
        """Names the encoder and its version; a store remembers which one filled it."""

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """(N, D) float32, each row of length 1."""


class VectorStore(Protocol):
    """Documents, their passages by vector, and a few notes. One contract suite runs over every adapter.

    Every method raises StoreUnavailable when the store does not answer.
    """

    def add(self, documents: Sequence[Document], passages: Sequence[Passage], vectors: npt.NDArray[np.float32]) -> None:
        """Insert or replace whole documents: what the store held of them before is forgotten.

        passages: all of these documents' passages; vectors: (len(passages), D) float32 unit rows, in their order.
        """

    def remove(self, document_id: str) -> None:
        """Forget a document and every passage of it; no error when there is none."""

    def nearest(
        self, vector: npt.NDArray[np.float32], k: int, topics: Sequence[str] = ()
    ) -> list[tuple[Passage, float]]:
        """At most k (passage, cosine similarity), most similar first; with topics, only passages that share one."""

    def passages(self) -> list[Passage]:
        """Every passage, in id order."""

    def documents(self) -> list[Document]:
        """Every document, in id order."""

    def notes(self) -> dict[str, str]:
        """What was noted, as it stands in the store now: other processes may share it."""

    def note(self, key: str, value: str) -> None:
        """Remember a word about the store itself: which encoder filled it, which starter library it holds."""


class Library(Protocol):
    """What the pipeline and the command line call."""

    def retrieve(self, study: Study, findings: Sequence[Finding]) -> tuple[Evidence, ...]:
        """Passages that bear on the findings, ids e1, e2 ...; empty when nothing is near enough."""

    def search(self, text: str, k: int = 5) -> tuple[Evidence, ...]:
        """At most k passages for free text."""

    def add(self, documents: Sequence[Document]) -> int:
        """Insert or replace documents; returns how many passages they gave."""
