"""`hashing:`: a deterministic encoder without weights, for tests. It sees words, not meaning."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from rag.lexical import words


class HashingEmbedder:
    """Each word adds 1 or -1 at a place given by its hash (Weinberger et al., ICML 2009); see rag.ports.Embedder."""

    def __init__(self, dimensions: int = 256) -> None:
        self.dimensions = dimensions

    @property
    def name(self) -> str:
        """Names the encoder and its size."""
        return f"hashing-{self.dimensions}"

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """(N, dimensions) float32 unit rows; a text without words points along the first axis."""
        rows = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in words(text):
                number = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "big")
                row[number // 2 % self.dimensions] += 1.0 if number % 2 else -1.0
            if not row.any():
                row[0] = 1.0
        return rows / np.linalg.norm(rows, axis=1, keepdims=True) if len(texts) else rows
