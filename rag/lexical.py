"""The lexical side of the search: words, ways of saying a concept, and BM25 over them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from math import log
from typing import Any

import numpy as np
import numpy.typing as npt

from rag.concepts import CONCEPTS

WORD = re.compile(r"[a-z0-9]+(?:\.[0-9]+)?")
STOP_WORDS = frozenset(
    WORD.findall(
        "a an and are as at be been but by can do does for from had has have how if in into is it its may no not of on "
        "or should such than that the their then there these this to was were what when where which who will with"
    )
)


def words(text: str) -> list[str]:
    """The words that carry meaning, in one spelling, and after them one "=name" for each concept that they express.

    Plurals lose their s (Harman, 1991), ae and oe become e, -our becomes -or: oedema and edema are one word.
    """
    plain = [spell(word) for word in WORD.findall(text.lower()) if word not in STOP_WORDS]
    line = f" {' '.join(plain)} "
    concepts = [name for name, phrases in phrases_by_concept() if any(f" {phrase} " in line for phrase in phrases)]
    return plain + concepts


def spell(word: str) -> str:
    """One spelling for the British, the American, the singular and the plural."""
    if len(word) > 3:
        word = word.replace("ae", "e").replace("oe", "e")
        word = re.sub("our$", "or", re.sub("ours$", "ors", word))
        if word.endswith("ies") and word[-4:] not in ("eies", "aies"):
            return word[:-3] + "y"
        if word.endswith("s") and word[-2:] not in ("us", "ss", "is"):
            return word[:-1]
    return word


@cache
def phrases_by_concept() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """("=pneumothorax", ("pneumothorax", "air pleural space", ...)) for every concept, spelled as `words` spells."""
    return tuple(
        (
            f"={concept.name}",
            tuple(
                " ".join(spell(word) for word in WORD.findall(phrase.lower()) if word not in STOP_WORDS)
                for phrase in (concept.name, *concept.synonyms)
            ),
        )
        for concept in CONCEPTS
    )


class LexicalIndex:
    """BM25 (Lucene's form, k1 1.5, b 0.75) over a fixed list of texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        tokens = [words(text) for text in texts]
        self.vocabularies = [frozenset(each) for each in tokens]
        self.frequencies = Counter(word for each in self.vocabularies for word in each)
        self.bm25 = bm25_over(tokens) if self.frequencies else None

    def scores(self, query: str) -> npt.NDArray[np.float32]:
        """(N,) BM25 of every text, 0 where it shares no word with the query."""
        known = [word for word in dict.fromkeys(words(query)) if word in self.frequencies]
        if not known or self.bm25 is None:
            return np.zeros(len(self.vocabularies), dtype=np.float32)
        return np.asarray(self.bm25.get_scores(known), dtype=np.float32)

    def coverage(self, query: str, number: int) -> float:
        """How much of the query's meaning text `number` holds, in [0, 1]: its words weighted by their rarity."""
        asked = set(words(query))
        held = sum(self.rarity(word) for word in asked & self.vocabularies[number])
        return held / sum(self.rarity(word) for word in asked) if asked else 0.0

    def rarity(self, word: str) -> float:
        """Lucene's inverse document frequency; a word that no text holds is the rarest."""
        count = self.frequencies[word]
        return log(1.0 + (len(self.vocabularies) - count + 0.5) / (count + 0.5))


def bm25_over(tokens: Sequence[Sequence[str]]) -> Any:
    """An index of bm25s, which is imported only where a search is made."""
    from bm25s import BM25

    index = BM25(method="lucene")
    index.index([list(each) for each in tokens], show_progress=False)
    return index
