"""`memory:`: an exact store in the process, for tests and for a library that is read anew at each start."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rag.evidence import Document, Passage


class MemoryStore:
    """Exact cosine similarity over one array; see rag.ports.VectorStore."""

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}
        self._entries: dict[str, tuple[Passage, npt.NDArray[np.float32]]] = {}
        self._notes: dict[str, str] = {}

    def add(self, documents: Sequence[Document], passages: Sequence[Passage], vectors: npt.NDArray[np.float32]) -> None:
        """Insert or replace whole documents. Raises ValueError when a passage has no vector."""
        if len(passages) != len(vectors):
            raise ValueError(f"{len(passages)} passages came with {len(vectors)} vectors")
        for document in documents:
            self.remove(document.id)
            self._documents[document.id] = document
        for passage, vector in zip(passages, vectors, strict=True):
            self._entries[passage.id] = (passage, np.asarray(vector, dtype=np.float32))

    def remove(self, document_id: str) -> None:
        """Forget a document and every passage of it."""
        self._documents.pop(document_id, None)
        self._entries = {key: entry for key, entry in self._entries.items() if entry[0].document_id != document_id}

    def nearest(
        self, vector: npt.NDArray[np.float32], k: int, topics: Sequence[str] = ()
    ) -> list[tuple[Passage, float]]:
        """At most k (passage, cosine similarity), most similar first."""
        wanted = set(topics)
        entries = [each for each in self._entries.values() if not wanted or wanted & set(each[0].topics)]
        if not entries:
            return []
        similarity = np.stack([row for _, row in entries]) @ np.asarray(vector, dtype=np.float32)
        best = np.argsort(-similarity, kind="stable")[:k]
        return [(entries[number][0], float(similarity[number])) for number in best]

    def passages(self) -> list[Passage]:
        """Every passage, in id order."""
        return [self._entries[key][0] for key in sorted(self._entries)]

    def documents(self) -> list[Document]:
        """Every document, in id order."""
        return [self._documents[key] for key in sorted(self._documents)]

    def notes(self) -> dict[str, str]:
        """What was noted."""
        return dict(self._notes)

    def note(self, key: str, value: str) -> None:
        """Remember a word about the store."""
        self._notes[key] = value
