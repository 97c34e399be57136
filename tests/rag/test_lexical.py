from __future__ import annotations

import math

import pytest

from rag.concepts import CONCEPTS, concept_of
from rag.lexical import LexicalIndex, words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("pulmonary oedema", "Pulmonary edema"),
        ("tumours", "tumor"),
        ("effusions", "effusion"),
        ("biopsies", "biopsy"),
        ("haemothorax", "hemothorax"),
    ],
)
def test_one_spelling(one: str, other: str) -> None:
    assert words(one) == words(other)


@pytest.mark.parametrize("word", ["stenosis", "mass", "sinus", "gas", "thorax"])
def test_words_that_only_look_like_plurals_stay(word: str) -> None:
    assert words(word) == [word]


def test_numbers_keep_their_fraction() -> None:
    assert words("a ratio of 0.5, or 12 mm.") == ["ratio", "0.5", "12", "mm"]


@pytest.mark.parametrize(
    ("text", "concept"),
    [
        ("Air in the pleural space", "=pneumothorax"),
        ("bilateral pneumothoraces", "=pneumothorax"),
        ("fluid in the pleural space", "=pleural effusion"),
        ("an enlarged heart", "=cardiomegaly"),
        ("lung nodules", "=pulmonary nodule"),
        ("airspace opacities", "=consolidation"),
    ],
)
def test_every_way_of_saying_a_concept_is_one_word(text: str, concept: str) -> None:
    assert [word for word in words(text) if word.startswith("=")] == [concept]


def test_a_concept_inside_another_word_is_none() -> None:
    assert not [word for word in words("hydropneumothorax of the air pleural spacesuit") if word.startswith("=")]


def test_every_concept_recognises_its_own_name() -> None:
    for concept in CONCEPTS:
        assert f"={concept.name}" in words(concept.name)
        assert concept_of(concept.code) is concept


def test_bm25_and_coverage_by_hand() -> None:
    index = LexicalIndex(["apple banana", "apple cherry cherry", "plum"])
    scores = index.scores("cherry")
    assert scores[1] > 0
    assert scores[0] == scores[2] == 0
    # Lucene: ln(1 + (N - n + 0.5) / (n + 0.5)); apple is in 2 of 3 texts, cherry in 1.
    apple, cherry = math.log(1 + 1.5 / 2.5), math.log(1 + 2.5 / 1.5)
    assert index.coverage("apple cherry", 0) == pytest.approx(apple / (apple + cherry))
    assert index.coverage("apple cherry", 1) == pytest.approx(1.0)
    # BM25 of cherry in the second text: idf * f / (f + k1 (1 - b + b * length / mean length)), lengths 2, 3, 1.
    assert scores[1] == pytest.approx(cherry * 2 / (2 + 1.5 * (0.25 + 0.75 * 3 / 2)), rel=1e-5)


@pytest.mark.parametrize("query", ["", "the of", "unknown"])
def test_a_query_without_known_words_finds_nothing(query: str) -> None:
    assert LexicalIndex(["apple", "plum"]).scores(query).tolist() == [0, 0]


def test_an_empty_library_answers() -> None:
    assert LexicalIndex([]).scores("apple").shape == (0,)
