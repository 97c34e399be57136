"""Ranking: two orders fused by reciprocal rank, and where relevance ends.

The cut follows MMed-RAG's adaptive truncation (Xia et al., 2024: keep a passage while top score / its score stays
below a ratio, at most k), with two changes. Its scores can be negative, which passes any ratio test, and its first
passage is always kept; here relevance lies in [0, 1], and nothing below a floor is returned, the first included.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

RANK_OFFSET = 60  # of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)


@dataclass(frozen=True, slots=True)
class Cut:
    """Where relevance ends. The defaults were chosen on the calibration half of the labelled queries.

    lexical_share: how much of the relevance is words, the rest is cosine similarity. floor: below it a passage is not
    about the query. ratio: a passage is kept while top relevance / its relevance <= ratio. See docs/literature.md.
    """

    lexical_share: float = 0.4
    floor: float = 0.4
    ratio: float = 1.3

    def relevance(self, similarity: float, coverage: float) -> float:
        """Of cosine similarity in [-1, 1] and coverage in [0, 1], in [0, 1]."""
        return (1 - self.lexical_share) * min(max(similarity, 0.0), 1.0) + self.lexical_share * coverage

    def kept(self, order: Sequence[int], relevance: Mapping[int, float]) -> list[int]:
        """Those of the order that are relevant, in that order; empty when none is."""
        near = [number for number in order if relevance[number] >= self.floor]
        lowest = max((relevance[number] for number in near), default=0.0) / self.ratio
        return [number for number in near if relevance[number] >= lowest]


def fused(*rankings: Iterable[int]) -> list[int]:
    """One order of several: by the sum of 1 / (60 + rank) over the rankings that hold a number, ties by number."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, number in enumerate(ranking, start=1):
            scores[number] = scores.get(number, 0.0) + 1.0 / (RANK_OFFSET + rank)
    return sorted(scores, key=lambda number: (-scores[number], number))
