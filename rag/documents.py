"""Documents of the library: the starter library that ships, and the user's own files.

A document is a TOML file, or a Markdown or text file that starts with its citation between two lines of three dashes:

    ---
    title: Management of incidental nodules
    authors: A. Author, B. Author
    year: 2021
    identifier: 10.1000/example
    topics: ct, lung nodule
    ---
    The text.

The file's name without its ending is the document's id.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from dicom_io.study import LeftOut
from rag.errors import DocumentInvalid
from rag.evidence import Document

STARTER_FOLDER = Path(__file__).parent / "library"
ENDINGS = (".toml", ".md", ".markdown", ".txt")
KEYS = frozenset({"title", "authors", "journal", "year", "identifier", "topics", "confirmed", "text"})
IDENTIFIER = re.compile(r"10\.\d{4,9}/\S+|PMID:? ?\d{1,8}|[A-Za-z][A-Za-z0-9+.-]*:\S+")  # DOI, PubMed, or a URL or URN


@cache
def starter_library() -> tuple[Document, ...]:
    """The documents that ship, in id order. Raises DocumentInvalid when one of them is broken."""
    return tuple(read_document(path) for path in sorted(STARTER_FOLDER.glob("*.toml")) if path.name[0] != "_")


def read_documents(
    path: Path, citation: Mapping[str, str] | None = None
) -> tuple[tuple[Document, ...], tuple[LeftOut, ...]]:
    """Every document of a file or folder (searched to the bottom), and what was left out and why.

    citation: title, authors, journal, year, identifier and topics for a file that does not state them itself.
    Names that start with "_" or "." are no documents. Never raises for a broken file.
    """
    documents: dict[str, Document] = {}
    left_out: list[LeftOut] = []
    for each in files_below(path):
        try:
            document = read_document(each, citation)
            if document.id in documents:
                raise DocumentInvalid(f"another file gave the id {document.id!r} already")
            documents[document.id] = document
        except DocumentInvalid as exc:
            left_out.append(LeftOut(each.name, str(exc)))
    return tuple(documents.values()), tuple(left_out)


def files_below(path: Path) -> list[Path]:
    """The file itself, or the files of the folder in name order, without hidden and underscored ones."""
    if not path.is_dir():
        return [path]
    inside = (each for each in sorted(path.rglob("*")) if each.is_file())
    return [each for each in inside if not any(part[0] in "._" for part in each.relative_to(path).parts)]


def read_document(path: Path, citation: Mapping[str, str] | None = None) -> Document:
    """One document. Raises DocumentInvalid with one sentence that says what is missing or wrong."""
    if path.suffix.lower() not in ENDINGS:
        kind = path.suffix or "no ending"
        raise DocumentInvalid(f"a document is a .toml, .md or .txt file, this one has {kind}")
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as exc:
        raise DocumentInvalid("the file is not UTF-8 text") from exc
    except OSError as exc:
        raise DocumentInvalid(f"the file cannot be read ({exc.strerror})") from exc
    fields = toml_fields(content) if path.suffix.lower() == ".toml" else front_matter(content)
    return document_of(path.stem, {**(citation or {}), **fields})


def toml_fields(content: str) -> dict[str, Any]:
    """The keys of a TOML document."""
    try:
        return tomllib.loads(content)
    except tomllib.TOMLDecodeError as exc:
        raise DocumentInvalid(f"the file is not valid TOML: {exc}") from exc


def front_matter(content: str) -> dict[str, Any]:
    """Flat "key: value" lines between two lines of three dashes, and the text below them."""
    lines = content.splitlines(keepends=True)
    if not lines or lines[0].strip() != "---":
        return {"text": content}
    end = next((number for number, line in enumerate(lines) if number and line.strip() == "---"), None)
    if end is None:
        raise DocumentInvalid("the citation at the top of the file is not closed by a line of three dashes")
    fields: dict[str, Any] = {}
    for line in lines[1:end]:
        key, colon, value = line.partition(":")
        if line.strip() and not (colon and key.strip()):
            raise DocumentInvalid(f"the line {line.strip()!r} of the citation is not of the form 'key: value'")
        if line.strip():
            fields[key.strip().lower()] = value.strip().strip("\"'")
    return {**fields, "text": "".join(lines[end + 1 :])}


def document_of(name: str, fields: Mapping[str, Any]) -> Document:
    """A document of the fields of its file, each checked. name becomes the id."""
    if unknown := sorted(set(fields) - KEYS):
        raise DocumentInvalid(f"unknown key {unknown[0]!r}; a document has {', '.join(sorted(KEYS))}")
    words: dict[str, str] = {}
    for key in ("title", "authors", "journal", "identifier", "text"):
        if not isinstance(value := fields.get(key, ""), str):
            raise DocumentInvalid(f"the {key} must be text")
        if not value.strip() and key != "journal":
            raise DocumentInvalid(f"the document states no {key}")
        words[key] = value.strip()
    if not IDENTIFIER.fullmatch(words["identifier"]):
        raise DocumentInvalid(f"the identifier {words['identifier']!r} is not a DOI, a PMID or a URL")
    if not name or "#" in name:
        raise DocumentInvalid("the file's name becomes the document's id and must not hold '#'")
    return Document(id=name, year=year_of(fields.get("year")), topics=topics_of(fields.get("topics", ())), **words)


def year_of(value: object) -> int:
    """The year of publication as a number."""
    if value is None:
        raise DocumentInvalid("the document states no year")
    if not re.fullmatch(r"(1[89]|20)\d\d", str(value)):
        raise DocumentInvalid(f"the year {value!r} is not a year between 1800 and 2099")
    return int(str(value))


def topics_of(value: object) -> tuple[str, ...]:
    """Topics of a TOML array, or of one line separated by commas; lower case, each once, in their order."""
    if isinstance(value, str):
        value = value.strip().removeprefix("[").removesuffix("]").split(",")
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise DocumentInvalid("topics must be a list of words")
    topics = (each.strip().strip("\"'").lower() for each in value)
    return tuple(dict.fromkeys(topic for topic in topics if topic))
