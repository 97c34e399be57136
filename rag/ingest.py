"""Documents to passages: cut between sentences, each with its exact character span."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from rag.evidence import Document, Passage

if TYPE_CHECKING:
    from langchain_text_splitters import RecursiveCharacterTextSplitter

PASSAGE_CHARACTERS = 600  # about 130 word pieces: well inside the 256 that MiniLM reads, short enough to show
SEPARATORS = (r"\n\s*\n", r"(?<=[.!?])\s+", r"\s+", "")  # paragraphs, sentences, words, characters


def passages_of(document: Document, size: int = PASSAGE_CHARACTERS) -> tuple[Passage, ...]:
    """The document's passages in order, at most `size` characters each, white space between them left out.

    They do not overlap, and passage.text == document.text[passage.start:passage.stop] for every one.
    """
    chunks = splitter(size).create_documents([document.text])
    starts = [int(chunk.metadata["start_index"]) for chunk in chunks]
    return tuple(
        Passage(
            id=f"{document.id}#{start}",
            document_id=document.id,
            text=chunk.page_content,
            start=start,
            stop=start + len(chunk.page_content),
            topics=document.topics,
        )
        for chunk, start in zip(chunks, starts, strict=True)
    )


@cache
def splitter(size: int) -> RecursiveCharacterTextSplitter:
    """LangChain's recursive splitter, with nothing repeated between passages so that every start is unambiguous."""
    from langchain_text_splitters import RecursiveCharacterTextSplitter  # half a second, needed for new text only

    return RecursiveCharacterTextSplitter(
        separators=list(SEPARATORS),
        is_separator_regex=True,
        keep_separator="end",
        chunk_size=size,
        chunk_overlap=0,
        add_start_index=True,
        strip_whitespace=True,
    )
