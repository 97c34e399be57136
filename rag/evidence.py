"""The nouns of the literature: what is in the library, what is asked, what comes back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """One source in the library, with its full citation. identifier is a DOI, PMID or URL."""

    id: str
    title: str
    authors: str
    year: int
    identifier: str
    text: str
    journal: str = ""
    topics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (self.id and self.title and self.identifier and self.text.strip()):
            raise ValueError("a document needs an id, a title, an identifier and a text")


@dataclass(frozen=True, slots=True)
class Passage:
    """A span of one document, the unit that is searched. id is "document#start"."""

    id: str
    document_id: str
    text: str
    start: int  # character offsets into Document.text, half open
    stop: int
    topics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop or self.stop - self.start != len(self.text):
            raise ValueError(f"the span of passage {self.id} does not fit its text")


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for: words for the encoder and for BM25, and what it is about."""

    text: str
    finding_ids: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()  # restricts the search to documents of these topics; empty = all


@dataclass(frozen=True, slots=True)
class Citation:
    """Where a passage stands: everything a reader needs to open it and check."""

    document_id: str
    title: str
    authors: str
    year: int
    identifier: str
    start: int
    stop: int
    journal: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A retrieved passage, tied to the findings it was looked up for. id is "e1", "e2" ... within a report."""

    id: str
    text: str
    citation: Citation
    score: float
    finding_ids: tuple[str, ...] = ()
