"""The library: dense and lexical search over one store, fused and cut as `rag/rank.py` says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice, zip_longest
from threading import Lock
from uuid import uuid4

import numpy as np

from dicom_io.study import Study
from expert_models.finding import Finding
from rag.concepts import ANY_MODALITY, MODALITY_TOPICS, SOFTWARE_TOPICS
from rag.documents import starter_library
from rag.errors import DocumentInvalid, EmbedderMismatch
from rag.evidence import Citation, Document, Evidence, Passage, Query
from rag.ingest import PASSAGE_CHARACTERS, passages_of
from rag.lexical import LexicalIndex
from rag.ports import Embedder, VectorStore
from rag.query import queries_for
from rag.rank import Cut, fused

CANDIDATES = 50  # passages that each side of the search proposes
ENCODED_AT_ONCE = 256  # passages encoded and stored together


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that answers a query, with its relevance in [0, 1]."""

    passage: Passage
    relevance: float


@dataclass(frozen=True, slots=True)
class Shelf:
    """What the store held at one revision: passages in id order, their documents, and BM25 over both."""

    revision: str
    passages: tuple[Passage, ...]
    numbers: dict[str, int]  # passage id -> its place in passages and in lexical
    documents: dict[str, Document]
    lexical: LexicalIndex


class HybridLibrary:
    """The literature, see rag.ports.Library. Opens nothing until it is first used.

    most: how many passages a report cites at most. starter: the documents that are there from the beginning, by
    default those that ship. One object may be used from several threads, and one store by several processes.
    """

    def __init__(
        self,
        store: VectorStore,
        embedder: Embedder,
        most: int = 6,
        cut: Cut | None = None,
        starter: Sequence[Document] | None = None,
    ) -> None:
        self.store = store
        self.embedder = embedder
        self.most = most
        self.cut = cut or Cut()
        self.starter = starter
        self._lock = Lock()
        self._is_open = False
        self._shelf: Shelf | None = None

    # -- what the pipeline and the command line call

    def retrieve(self, study: Study, findings: Sequence[Finding]) -> tuple[Evidence, ...]:
        """Passages that bear on the findings, ids e1, e2 ...; empty when nothing is near enough.

        Every query gets its best passage before any gets its second; a passage that two queries found stands once,
        with the findings of both; one document gives a query at most one passage. Documents on the study's kind of
        image come first: others are searched only for a query that finds nothing among them.
        """
        queries = queries_for(study, findings)
        if not queries:
            return ()
        shelf = self._open()
        answers = [self._in_domain(query, shelf) for query in queries]
        chosen: dict[str, Hit] = {}
        wanted_by: dict[str, tuple[str, ...]] = {}
        for rank in zip_longest(*answers):
            for query, hit in zip(queries, rank, strict=True):
                if hit is None or (len(chosen) == self.most and hit.passage.id not in chosen):
                    continue
                if hit.passage.id not in chosen or hit.relevance > chosen[hit.passage.id].relevance:
                    chosen[hit.passage.id] = hit
                known = wanted_by.get(hit.passage.id, ())
                wanted_by[hit.passage.id] = tuple(dict.fromkeys((*known, *query.finding_ids)))
        return self._evidence(list(chosen.values()), shelf, wanted_by)

    def search(self, text: str, k: int = 5) -> tuple[Evidence, ...]:
        """At most k passages for free text, over every topic; empty when nothing is near enough."""
        shelf = self._open()
        return self._evidence(self.hits(Query(text), shelf)[:k] if text.strip() and k > 0 else [], shelf)

    def add(self, documents: Sequence[Document]) -> int:
        """Insert or replace documents; returns how many passages they gave.

        Raises DocumentInvalid for an id that the starter library uses.
        """
        self._open()
        taken = {document.id for document in self._starter()}
        if clash := sorted(taken & {document.id for document in documents}):
            raise DocumentInvalid(f"the starter library has a document {clash[0]!r} already; rename the file")
        return self._put(list({document.id: document for document in documents}.values()))

    def count(self) -> int:
        """How many documents the library holds."""
        return len(self._open().documents)

    def ensure_starter(self) -> int:
        """Bring the starter library in the store up to date; returns how many documents were written.

        The store notes what it holds, so that nothing is read or encoded when nothing changed. Every other method
        does this once by itself. Raises EmbedderMismatch when another encoder filled the store.
        """
        notes = self.store.notes()
        if (filled_by := notes.get("embedder", self.embedder.name)) != self.embedder.name:
            raise EmbedderMismatch(
                f"the library was filled with the encoder {filled_by!r} and cannot be searched with "
                f"{self.embedder.name!r}; set embedder_url back, or choose an empty vectors_url"
            )
        held: dict[str, str] = json.loads(notes.get("starter", "{}"))
        wanted = {document.id: digest(document) for document in self._starter()}
        if held == wanted:
            return 0
        for gone in held.keys() - wanted.keys():
            self.store.remove(gone)
        changed = [document for document in self._starter() if held.get(document.id) != wanted[document.id]]
        self._put(changed)
        self.store.note("starter", json.dumps(wanted, sort_keys=True))
        return len(changed)

    # -- one query

    def hits(self, query: Query, shelf: Shelf) -> list[Hit]:
        """The passages that answer one query, best first, after the cut."""
        vector = self.embedder.encode([query.text])[0]
        near = self.store.nearest(vector, CANDIDATES, query.topics)
        similarity = {shelf.numbers[passage.id]: cosine for passage, cosine in near if passage.id in shelf.numbers}
        order = fused(similarity, self._lexical(query, shelf))
        unseen = min(similarity.values(), default=0.0)  # at most so similar, or the encoder had proposed it
        relevance = {
            number: self.cut.relevance(similarity.get(number, unseen), shelf.lexical.coverage(query.text, number))
            for number in order
        }
        return [Hit(shelf.passages[number], relevance[number]) for number in self.cut.kept(order, relevance)]

    def _lexical(self, query: Query, shelf: Shelf) -> list[int]:
        """Numbers of the passages that share words with the query, and a topic where it names any, best first."""
        scores = shelf.lexical.scores(query.text)
        wanted = set(query.topics)
        order = (int(number) for number in np.argsort(-scores, kind="stable") if scores[number] > 0)
        return list(
            islice((each for each in order if not wanted or wanted & set(shelf.passages[each].topics)), CANDIDATES)
        )

    def _in_domain(self, query: Query, shelf: Shelf) -> list[Hit]:
        """At most `most` hits of different documents: on the query's topics, or where there are none, on any."""
        hits = self._clinical(query, shelf) or self._clinical(replace(query, topics=()), shelf)
        best: dict[str, Hit] = {}
        for hit in hits:
            best.setdefault(hit.passage.document_id, hit)
        return list(best.values())[: self.most]

    def _clinical(self, query: Query, shelf: Shelf) -> list[Hit]:
        """The hits that are not about software."""
        return [hit for hit in self.hits(query, shelf) if not SOFTWARE_TOPICS & set(hit.passage.topics)]

    # -- the store

    def _open(self) -> Shelf:
        """The store's content as it is now, read again only when its revision changed."""
        with self._lock:
            if not self._is_open:
                self.ensure_starter()
                self._is_open = True
            revision = self.store.notes().get("revision", "")
            if self._shelf is None or self._shelf.revision != revision:
                self._shelf = self._read(revision)
            return self._shelf

    def _read(self, revision: str) -> Shelf:
        documents = {document.id: document for document in self.store.documents()}
        passages = tuple(passage for passage in self.store.passages() if passage.document_id in documents)
        return Shelf(
            revision=revision,
            passages=passages,
            numbers={passage.id: number for number, passage in enumerate(passages)},
            documents=documents,
            lexical=LexicalIndex([with_title(documents[each.document_id], each) for each in passages]),
        )

    def _put(self, documents: Sequence[Document]) -> int:
        """Cut, encode and store; the revision changes last, so that nobody reads half of it as whole."""
        self.store.note("embedder", self.embedder.name)
        written = 0
        batch: list[Document] = []
        passages: list[Passage] = []
        for document in documents:
            batch.append(document)
            passages += with_domain(passages_of(document))
            if len(passages) >= ENCODED_AT_ONCE or document is documents[-1]:
                titles = {each.id: each for each in batch}
                texts = [with_title(titles[each.document_id], each) for each in passages]
                self.store.add(batch, passages, self.embedder.encode(texts))
                written += len(passages)
                batch, passages = [], []
        self.store.note("revision", uuid4().hex)
        return written

    def _starter(self) -> Sequence[Document]:
        return starter_library() if self.starter is None else self.starter

    def _evidence(
        self, hits: Sequence[Hit], shelf: Shelf, finding_ids: dict[str, tuple[str, ...]] | None = None
    ) -> tuple[Evidence, ...]:
        """The hits as e1, e2 ..., each with the citation of its document."""
        return tuple(
            Evidence(
                id=f"e{number}",
                text=hit.passage.text,
                citation=cite(shelf.documents[hit.passage.document_id], hit.passage),
                score=round(hit.relevance, 4),
                finding_ids=(finding_ids or {}).get(hit.passage.id, ()),
            )
            for number, hit in enumerate(hits, start=1)
        )


def cite(document: Document, passage: Passage) -> Citation:
    """Where the passage stands."""
    return Citation(
        document_id=document.id,
        title=document.title,
        authors=document.authors,
        year=document.year,
        identifier=document.identifier,
        start=passage.start,
        stop=passage.stop,
        journal=document.journal,
    )


def with_title(document: Document, passage: Passage) -> str:
    """What is searched: a passage in the middle of a document often does not say what it is about."""
    return f"{document.title}. {passage.text}"


def with_domain(passages: Sequence[Passage]) -> list[Passage]:
    """Passages whose topics name no kind of image hold for every one."""
    if not passages or set(passages[0].topics) & set(MODALITY_TOPICS.values()):
        return list(passages)
    return [replace(passage, topics=(*passage.topics, ANY_MODALITY)) for passage in passages]


def digest(document: Document) -> str:
    """Changes when the document does, or the way it is cut."""
    content = json.dumps([PASSAGE_CHARACTERS, asdict(document)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
