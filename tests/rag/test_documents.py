from __future__ import annotations

from pathlib import Path

import pytest

from rag.documents import read_document, read_documents
from rag.errors import DocumentInvalid

GOOD = """title = "T"
authors = "A, B"
journal = "J"
year = 2020
identifier = "doi:10.1000/x"
topics = ["CT", "nodule", "ct"]
confirmed = "the publisher's page"
text = "Words."
"""
MARKDOWN = """---
title: Nodules: what to do
authors: A. Author
year: 2021
identifier: https://example.org/nodules
topics: ct, "lung nodule"
---
First line.

Second line.
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_toml_document(tmp_path: Path) -> None:
    document = read_document(write(tmp_path, "good-2020.toml", GOOD))
    assert (document.id, document.title, document.year, document.journal) == ("good-2020", "T", 2020, "J")
    assert document.topics == ("ct", "nodule")
    assert document.text == "Words."


def test_a_markdown_document_keeps_its_text_and_colons_in_values(tmp_path: Path) -> None:
    document = read_document(write(tmp_path, "nodules.md", MARKDOWN))
    assert document.title == "Nodules: what to do"
    assert document.text == "First line.\n\nSecond line."
    assert document.topics == ("ct", "lung nodule")


def test_a_plain_text_takes_its_citation_from_the_caller(tmp_path: Path) -> None:
    path = write(tmp_path, "note.txt", "Just words.")
    citation = {"title": "T", "authors": "A", "year": "2019", "identifier": "PMID: 12345678", "topics": "ct"}
    (document,), left_out = read_documents(path, citation)
    assert (document.year, document.identifier, document.text, left_out) == (2019, "PMID: 12345678", "Just words.", ())


def test_what_a_file_states_wins_over_the_caller(tmp_path: Path) -> None:
    assert read_document(write(tmp_path, "x.toml", GOOD), {"title": "other"}).title == "T"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('title = "T"', "", "states no title"),
        ('authors = "A, B"', 'authors = ""', "states no authors"),
        ('authors = "A, B"', 'authors = ["A", "B"]', "authors must be text"),
        ("year = 2020", "", "states no year"),
        ("year = 2020", 'year = "soon"', "not a year"),
        ('identifier = "doi:10.1000/x"', "", "states no identifier"),
        ('"doi:10.1000/x"', '"somewhere"', "not a DOI, a PMID or a URL"),
        ('"Words."', '"  "', "states no text"),
        ('topics = ["CT", "nodule", "ct"]', "topics = [1]", "topics must be a list of words"),
        ("journal", "jornal", "unknown key 'jornal'"),
        ('"T"', "T", "not valid TOML"),
    ],
)
def test_a_broken_document_says_what_is_wrong(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    with pytest.raises(DocumentInvalid, match=sentence):
        read_document(write(tmp_path, "x.toml", GOOD.replace(old, new)))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.pdf", b"%PDF", "this one has .pdf"),
        ("a.txt", b"\xff\xfe\x00\xd8", "not UTF-8"),
        ("a.md", b"---\ntitle: T\nno end", "not closed"),
        ("a.md", b"---\nno colon here\n---\ntext", "not of the form"),
        ("a.md", b"", "states no title"),
        ("a#b.toml", GOOD.encode(), "must not hold '#'"),
    ],
)
def test_a_file_that_is_no_document(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    documents, (left_out,) = read_documents(tmp_path / name)
    assert documents == ()
    assert sentence in left_out.reason


def test_a_folder_gives_what_is_good_and_lists_what_is_not(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    write(tmp_path, "a.toml", GOOD)
    write(tmp_path / "below", "b.md", MARKDOWN)
    write(tmp_path / "below", "a.toml", GOOD)
    write(tmp_path, "c.toml", "title = ")
    write(tmp_path, "_topics.toml", "x = 1")
    write(tmp_path, ".hidden.toml", "x = 1")
    documents, left_out = read_documents(tmp_path)
    assert [document.id for document in documents] == ["a", "b"]
    assert [(each.name, each.reason.split()[0]) for each in left_out] == [("a.toml", "another"), ("c.toml", "the")]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DocumentInvalid, match="cannot be read"):
        read_document(tmp_path / "gone.toml")
