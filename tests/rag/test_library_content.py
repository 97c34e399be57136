"""The starter library as data: every file is complete, cites one source, and is written for this project."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from rag.documents import STARTER_FOLDER, starter_library

FIELDS = {"title", "authors", "journal", "year", "identifier", "topics", "confirmed", "text"}
IDENTIFIER = re.compile(r"doi:10\.\d{4,9}/[^\s]+|pmid:[1-9]\d{0,7}|https://[a-z0-9.-]+\.[a-z]{2,}/\S+")
DETECTED = (  # what the experts of the product report
    *("nodule", "mass", "consolidation", "effusion", "pneumothorax"),
    *("cardiomegaly", "atelectasis", "edema", "lung-volume"),
)
RUN = 9  # words in a row that two texts written independently do not share

FILES = sorted(path for path in STARTER_FOLDER.glob("*.toml") if not path.name.startswith("_"))


def load(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def words_of(text: str) -> list[str]:
    return re.findall(r"[\w.%-]+", text.lower())


def runs_of(text: str) -> set[tuple[str, ...]]:
    words = words_of(text)
    return {tuple(words[start : start + RUN]) for start in range(len(words) - RUN + 1)}


@pytest.fixture(scope="module")
def topics() -> dict[str, dict[str, str]]:
    return load(STARTER_FOLDER / "_topics.toml")


@pytest.fixture(scope="module")
def documents() -> dict[str, dict[str, Any]]:
    return {path.stem: load(path) for path in FILES}


def test_there_are_enough_documents() -> None:
    assert len(FILES) >= 64


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_complete(path: Path, topics: dict[str, dict[str, str]]) -> None:
    fields = load(path)
    assert set(fields) == FIELDS
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", path.stem)
    for name in FIELDS - {"year", "topics"}:
        assert isinstance(fields[name], str)
        assert fields[name].strip()
        assert name == "text" or fields[name] == " ".join(fields[name].split()), f"{name} has stray white space"
    assert 1900 <= fields["year"] <= 2026
    assert IDENTIFIER.fullmatch(fields["identifier"])
    assert 80 <= len(fields["text"].split()) <= 250

    known = {topic for group in topics.values() for topic in group}
    assert fields["topics"]
    assert len(set(fields["topics"])) == len(fields["topics"])
    assert set(fields["topics"]) <= known
    assert set(fields["topics"]) & set(topics["kind"]) or set(fields["topics"]) & set(topics["finding"])


@pytest.mark.parametrize("field", ["identifier", "text"])
def test_no_two_files_share(field: str, documents: dict[str, dict[str, Any]]) -> None:
    counts = Counter(fields[field].casefold() for fields in documents.values())
    assert [value for value, count in counts.items() if count > 1] == []


def test_titles_differ_but_for_new_editions(documents: dict[str, dict[str, Any]]) -> None:
    counts = Counter((fields["title"].casefold(), fields["year"]) for fields in documents.values())
    assert [value for value, count in counts.items() if count > 1] == []


def test_no_two_texts_share_a_run_of_words(documents: dict[str, dict[str, Any]]) -> None:
    runs = {name: runs_of(fields["text"]) for name, fields in documents.items()}
    shared = {(a, b): runs[a] & runs[b] for a, b in combinations(runs, 2)}
    assert {pair: common for pair, common in shared.items() if common} == {}


@pytest.mark.parametrize("finding", DETECTED)
def test_every_finding_of_the_product_has_literature(finding: str, documents: dict[str, dict[str, Any]]) -> None:
    bearing = [fields for fields in documents.values() if finding in fields["topics"]]
    assert len(bearing) >= 3
    assert sum("radiograph" in fields["topics"] for fields in bearing) >= 2
    assert sum("ct" in fields["topics"] for fields in bearing) >= 2


def test_every_topic_is_used(topics: dict[str, dict[str, str]], documents: dict[str, dict[str, Any]]) -> None:
    used = {topic for fields in documents.values() for topic in fields["topics"]}
    assert {topic for group in topics.values() for topic in group} - used == set()


def test_the_loader_reads_every_file_and_no_other() -> None:
    assert [document.id for document in starter_library()] == [path.stem for path in FILES]
