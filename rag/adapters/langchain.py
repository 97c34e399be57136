"""The library inside LangChain chains."""

from __future__ import annotations

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document as LangChainDocument
from langchain_core.retrievers import BaseRetriever
from pydantic import PrivateAttr

from rag.evidence import Evidence
from rag.ports import Library


class LibraryRetriever(BaseRetriever):
    """Answers a question with passages; each one's metadata is its full citation and its relevance."""

    k: int = 5
    _library: Library = PrivateAttr()

    def __init__(self, library: Library, k: int = 5) -> None:
        super().__init__(k=k)
        self._library = library

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[LangChainDocument]:
        return [as_langchain_document(evidence) for evidence in self._library.search(query, self.k)]


def as_langchain_retriever(library: Library, k: int = 5) -> BaseRetriever:
    """A LangChain retriever of at most k passages; use it wherever LangChain takes one."""
    return LibraryRetriever(library, k)


def as_langchain_document(evidence: Evidence) -> LangChainDocument:
    """The passage as page_content; document id, title, authors, journal, year, identifier, span and score beside it."""
    cited = evidence.citation
    return LangChainDocument(
        id=f"{cited.document_id}#{cited.start}",
        page_content=evidence.text,
        metadata={
            "document_id": cited.document_id,
            "title": cited.title,
            "authors": cited.authors,
            "journal": cited.journal,
            "year": cited.year,
            "identifier": cited.identifier,
            "start_index": cited.start,
            "stop_index": cited.stop,
            "score": evidence.score,
        },
    )
