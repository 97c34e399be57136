"""`chroma+file:///folder` and `chroma+http://host:port`: passages in Chroma, with vectors of our own encoder.

Two collections: `wetread_passages` (the vectors; the notes are its metadata) and `wetread_documents` (whole documents
as JSON, so that a citation can be opened). Neither has an embedding function, so Chroma fetches no model, and its
telemetry is off.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt

from rag.errors import EmbedderMismatch, StoreUnavailable
from rag.evidence import Document, Passage

if TYPE_CHECKING:
    import httpx
    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

PASSAGES = "wetread_passages"
DOCUMENTS = "wetread_documents"
SEARCHED = 200  # ef_search: how many neighbours the graph visits; above any k that the library asks for
PATIENCE_S = 30.0  # for one answer of a server; chromadb itself would wait for ever
READ_AT_ONCE = 1000  # rows fetched with one request when everything is read


class ChromaStore:
    """See rag.ports.VectorStore. Nothing is opened until a method is called.

    The folder is for one process at a time; processes that share a library share a server.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._lock = Lock()
        self._client: ClientAPI | None = None

    def add(self, documents: Sequence[Document], passages: Sequence[Passage], vectors: npt.NDArray[np.float32]) -> None:
        """Insert or replace whole documents. Raises ValueError when a passage has no vector."""
        if len(passages) != len(vectors):
            raise ValueError(f"{len(passages)} passages came with {len(vectors)} vectors")
        if not documents:
            return
        first = {passage.document_id: number for number, passage in reversed(list(enumerate(passages)))}
        with self._asking() as client:
            collection = collection_of(client, PASSAGES)
            replaced: Any = {"document_id": {"$in": [each.id for each in documents]}}
            held = collection.get(where=replaced, include=[])["ids"]
            limit = client.get_max_batch_size()
            for start in range(0, len(passages), limit):
                part = passages[start : start + limit]
                collection.upsert(
                    ids=[passage.id for passage in part],
                    embeddings=np.ascontiguousarray(vectors[start : start + limit], dtype=np.float32),
                    documents=[passage.text for passage in part],
                    metadatas=[metadata_of(passage) for passage in part],
                )
            if stale := sorted(set(held) - {passage.id for passage in passages}):
                collection.delete(ids=stale)
            collection_of(client, DOCUMENTS).upsert(
                ids=[each.id for each in documents],
                embeddings=np.stack([vectors[first[each.id]] for each in documents]),
                documents=[json.dumps(asdict(each)) for each in documents],
            )

    def remove(self, document_id: str) -> None:
        """Forget a document and every passage of it."""
        with self._asking() as client:
            collection_of(client, PASSAGES).delete(where={"document_id": document_id})
            collection_of(client, DOCUMENTS).delete(ids=[document_id])

    def nearest(
        self, vector: npt.NDArray[np.float32], k: int, topics: Sequence[str] = ()
    ) -> list[tuple[Passage, float]]:
        """At most k (passage, cosine similarity), most similar first."""
        shared: list[Any] = [{"topics": {"$contains": topic}} for topic in topics]
        where = {"$or": shared} if len(shared) > 1 else (shared or [None])[0]
        with self._asking() as client:
            found = collection_of(client, PASSAGES).query(
                query_embeddings=np.asarray(vector, dtype=np.float32)[None],
                n_results=k,
                where=where,
                include=["documents", "metadatas", "distances"],
            )
        rows = zip(found["ids"][0], one(found["documents"]), one(found["metadatas"]), strict=True)
        distances = one(found["distances"])
        return [(passage_of(*row), 1.0 - float(gap)) for row, gap in zip(rows, distances, strict=True)]

    def passages(self) -> list[Passage]:
        """Every passage, in id order."""
        return [passage_of(*row) for row in self._rows(PASSAGES)]

    def documents(self) -> list[Document]:
        """Every document, in id order."""
        return [document_of(text) for _, text, _ in self._rows(DOCUMENTS)]

    def notes(self) -> dict[str, str]:
        """What was noted, read from the store each time."""
        with self._asking() as client:
            return {key: str(value) for key, value in (collection_of(client, PASSAGES).metadata or {}).items()}

    def note(self, key: str, value: str) -> None:
        """Remember a word about the store."""
        with self._asking() as client:
            collection = collection_of(client, PASSAGES)
            collection.modify(metadata={**(collection.metadata or {}), key: value})

    def _rows(self, name: str) -> list[tuple[str, str, dict[str, Any]]]:
        """(id, text, metadata) of everything in a collection, in id order."""
        rows: list[tuple[str, str, dict[str, Any]]] = []
        with self._asking() as client:
            collection = collection_of(client, name)
            for offset in range(0, collection.count(), READ_AT_ONCE):
                part = collection.get(limit=READ_AT_ONCE, offset=offset, include=["documents", "metadatas"])
                metadatas = [dict(each or {}) for each in part["metadatas"] or []]
                rows += zip(part["ids"], part["documents"] or [], metadatas, strict=True)
        return sorted(rows, key=lambda row: row[0])

    def close(self) -> None:
        """Let go of the folder or the server; a later call opens it again."""
        with self._lock:
            if self._client is not None:
                for session in sessions_of(self._client):
                    session.close()
                cast("Any", self._client).close()  # every client has it, the interface does not say so
            self._client = None

    @contextmanager
    def _asking(self) -> Iterator[ClientAPI]:
        """The client; whatever goes wrong between here and the store becomes one of this package's errors."""
        from chromadb.errors import ChromaError, InvalidArgumentError
        from httpx import HTTPError

        try:
            with self._lock:
                self._client = self._client or open_client(self.url)
            yield self._client
        except InvalidArgumentError as exc:
            if "dimension" not in str(exc):
                raise StoreUnavailable("the vector store refused the request") from exc
            raise EmbedderMismatch("the library's vectors have another length than this encoder's") from exc
        except (ChromaError, HTTPError, OSError) as exc:
            raise StoreUnavailable("the vector store does not answer") from exc


def open_client(url: str) -> ClientAPI:
    """A client of the folder or the server that the url names."""
    import chromadb
    import httpx
    from chromadb.config import Settings

    parts = urlsplit(url)
    settings = Settings(anonymized_telemetry=False)
    if parts.scheme == "chroma+file":
        folder = Path(unquote(parts.path))
        folder.mkdir(parents=True, exist_ok=True)
        return chromadb.PersistentClient(path=folder, settings=settings)
    secure = parts.scheme == "chroma+https"
    host, port = parts.hostname or "localhost", parts.port or 8000
    httpx.get(f"http{'s' * secure}://{host}:{port}/api/v2/heartbeat", timeout=PATIENCE_S).raise_for_status()
    client = chromadb.HttpClient(host=host, port=port, ssl=secure, settings=settings)
    for session in sessions_of(client):
        session.timeout = httpx.Timeout(PATIENCE_S)
    return client


def sessions_of(client: Any) -> list[httpx.Client]:
    """The connection pools of an HTTP client, which chromadb neither limits in time nor closes by itself."""
    servers = (getattr(each, "_server", None) for each in (client, getattr(client, "_admin_client", None)))
    sessions = {id(each): each for each in (getattr(server, "_session", None) for server in servers) if each}
    return list(sessions.values())


def collection_of(client: ClientAPI, name: str) -> Collection:
    """The collection as it is now, made when there is none. Cosine distance; no embedding function."""
    return client.get_or_create_collection(
        name,
        configuration={"hnsw": {"space": "cosine", "ef_search": SEARCHED}},
        embedding_function=None,
    )


def metadata_of(passage: Passage) -> dict[str, Any]:
    """What Chroma keeps beside a passage's text; it refuses empty lists."""
    topics = {"topics": list(passage.topics)} if passage.topics else {}
    return {"document_id": passage.document_id, "start": passage.start, **topics}


def passage_of(identity: str, text: str, metadata: Any) -> Passage:
    """A passage as it was added."""
    start = int(metadata["start"])
    topics = tuple(metadata.get("topics") or ())
    return Passage(identity, str(metadata["document_id"]), text, start, start + len(text), topics)


def document_of(text: str) -> Document:
    """A document as it was added."""
    fields = json.loads(text)
    return Document(**{**fields, "topics": tuple(fields["topics"])})


def one(column: Any) -> Any:
    """The answers to the only query of a request that may hold several."""
    return (column or [[]])[0]
