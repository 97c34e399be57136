"""How well the library finds: hybrid search against its two halves alone, on hand-labelled queries.

    python bench/literature.py [LABELS]

Each system chooses its cut (floor, ratio and, for the hybrid, the lexical share) on the queries in odd places and is
measured on those in even places; see docs/literature.md.
"""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rag.adapters.minilm import MiniLmEmbedder
from rag.documents import starter_library
from rag.ingest import passages_of
from rag.lexical import LexicalIndex
from rag.rank import Cut, fused
from rag.retrieve import CANDIDATES, with_title

LABELS = Path(__file__).parents[1] / "tests" / "rag" / "labelled_queries.toml"
K = 5
SHARES = {"hybrid": (0.1, 0.2, 0.3, 0.4, 0.5), "dense": (0.0,), "BM25": (1.0,)}
FLOORS = tuple(number / 40 for number in range(8, 25))
RATIOS = (1.1, 1.2, 1.3, 1.4, 1.5, 1.75, 2.0, 3.0)
MEASURES = ("score", "hit@1", "recall@5", "precision", "nothing")


@dataclass(frozen=True)
class Asked:
    """One labelled query with what each side of the search says of every passage."""

    accepted: frozenset[str]
    similarity: npt.NDArray[np.float32]
    bm25: npt.NDArray[np.float32]
    coverage: npt.NDArray[np.float64]


def answer(system: str, asked: Asked, cut: Cut, owners: list[str]) -> list[str]:
    """At most K documents, best first."""
    dense = [int(each) for each in np.argsort(-asked.similarity, kind="stable")[:CANDIDATES]]
    lexical = [int(each) for each in np.argsort(-asked.bm25, kind="stable") if asked.bm25[each] > 0][:CANDIDATES]
    order = {"dense": dense, "BM25": lexical, "hybrid": fused(dense, lexical)}[system]
    relevance = {each: cut.relevance(float(asked.similarity[each]), float(asked.coverage[each])) for each in order}
    return list(dict.fromkeys(owners[each] for each in cut.kept(order, relevance)))[:K]


def measures(found: list[str], accepted: frozenset[str]) -> tuple[float, ...]:
    """(score, hit@1, recall@5, precision, nothing); NaN where a measure does not apply to the query."""
    if not accepted:
        return float(not found), np.nan, np.nan, np.nan, float(not found)
    right = len(accepted.intersection(found))
    recall, precision = right / min(K, len(accepted)), right / len(found) if found else 0.0
    score = 2 * recall * precision / (recall + precision) if right else 0.0
    return score, float(bool(found) and found[0] in accepted), recall, precision, np.nan


def table(system: str, queries: list[Asked], cut: Cut, owners: list[str]) -> npt.NDArray[np.float64]:
    """(queries, measures)."""
    return np.array([measures(answer(system, each, cut, owners), each.accepted) for each in queries])


def interval(column: npt.NDArray[np.float64]) -> str:
    """Mean with its bootstrap 95 % interval (2,000 draws of the queries) and how many queries it is of."""
    values = column[~np.isnan(column)]
    draws = np.random.default_rng(0).choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return f"{values.mean():.2f} ({low:.2f}–{high:.2f}, n {len(values)})"


def main(labels: Path) -> None:
    """Print one line for each system."""
    documents = {document.id: document for document in starter_library()}
    passages = [passage for document in documents.values() for passage in passages_of(document)]
    owners = [passage.document_id for passage in passages]
    texts = [with_title(documents[passage.document_id], passage) for passage in passages]
    embedder, index = MiniLmEmbedder(), LexicalIndex(texts)
    vectors = embedder.encode(texts)
    rows = tomllib.loads(labels.read_text())["query"]
    queries = [
        Asked(
            frozenset(row["documents"]),
            vectors @ vector,
            index.scores(row["text"]),
            np.array([index.coverage(row["text"], number) for number in range(len(texts))]),
        )
        for row, vector in zip(rows, embedder.encode([row["text"] for row in rows]), strict=True)
    ]
    print(f"{len(documents)} documents, {len(passages)} passages, {len(queries)} queries")
    for system, shares in SHARES.items():
        cuts = [Cut(share, float(floor), ratio) for share, floor, ratio in product(shares, FLOORS, RATIOS)]
        best = max(cuts, key=lambda cut: table(system, queries[0::2], cut, owners)[:, 0].mean())
        uncut = table(system, queries, Cut(best.lexical_share, -1.0, 1e9), owners)
        print(f"\n{system}, no cut, all queries: recall@5 {interval(uncut[:, 2])}, hit@1 {interval(uncut[:, 1])}")
        print(f"{system}, {best}, test half:")
        for name, column in zip(MEASURES, table(system, queries[1::2], best, owners).T, strict=True):
            print(f"  {name:10} {interval(column)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else LABELS)
