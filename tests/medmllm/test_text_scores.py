"""Scores of text against values worked out by hand."""

from __future__ import annotations

from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmllm.text_scores import bleu, bleu_counts, meteor, rouge_l, words

SAID = "there is a small left effusion"
MEANT = "there is a left effusion today"
VOCABULARY = ["no", "the", "left", "right", "effusion", "effusions", "nodule", "is", "1.4", "mm"]
TEXTS = st.lists(st.sampled_from(VOCABULARY), max_size=12).map(" ".join)


def test_words() -> None:
    assert words("A 1.4-mm, Part-solid nodule (left).") == ["a", "1.4-mm", "part-solid", "nodule", "left"]


def test_bleu_by_hand() -> None:
    # 5 of 6 words shared; of the pairs "there is", "is a", "left effusion" 3 of 5; of triples 1 of 4; no four in a row.
    counts = bleu_counts(SAID, MEANT)
    assert counts.tolist() == [6, 6, 5, 6, 3, 5, 1, 4, 0, 3]
    assert bleu(counts, 1) == pytest.approx(5 / 6)
    assert bleu(counts, 2) == pytest.approx((5 / 6 * 3 / 5) ** 0.5)
    assert bleu(counts, 4) == 0.0


def test_bleu_counts_a_word_no_more_often_than_the_reference_has_it() -> None:
    # The example of the paper: of seven "the" two count.
    counts = bleu_counts("the the the the the the the", "the cat is on the mat")
    assert bleu(counts, 1) == pytest.approx(2 / 7)


def test_what_is_shorter_than_its_reference_pays_for_it() -> None:
    counts = bleu_counts("there is no effusion", "there is no effusion or pneumothorax seen")
    assert bleu(counts, 4) == pytest.approx(exp(1 - 7 / 4))


def test_bleu_of_a_corpus_is_of_the_summed_counts() -> None:
    both = bleu_counts("no effusion", "no effusion") + bleu_counts("left nodule", "right nodule")
    assert bleu(both, 1) == pytest.approx(3 / 4)
    assert bleu(both, 2) == pytest.approx((3 / 4 * 1 / 2) ** 0.5)


def test_rouge_by_hand() -> None:
    # Lin's example: "police kill the gunman" and "the gunman kill police" against "police killed the gunman".
    assert rouge_l("police kill the gunman", "police killed the gunman") == pytest.approx(3 / 4)
    assert rouge_l("the gunman kill police", "police killed the gunman") == pytest.approx(2 / 4)
    # "there is a left effusion": 5 of 6 and of 6; lengths that differ: 2 common, 2 * 2 / (2 + 4).
    assert rouge_l(SAID, MEANT) == pytest.approx(5 / 6)
    assert rouge_l("no effusion", "there is no effusion") == pytest.approx(4 / 6)
    assert rouge_l("", "no effusion") == 0.0


def test_meteor_by_hand() -> None:
    # 5 of 6 words on both sides in the runs "there is a" and "left effusion": 5/6 (1 - 0.5 (2/5)^3).
    assert meteor(SAID, MEANT) == pytest.approx(5 / 6 * (1 - 0.5 * (2 / 5) ** 3))
    # P 1, R 1/2, so 10 / 2 / (1/2 + 9); one run of two.
    assert meteor("no effusion", "there is no effusion") == pytest.approx(5 / 9.5 * (1 - 0.5 / 8))
    # The paper: the same words in one run lose 0.5 / n^3, so a text is not quite 1 to itself.
    assert meteor("a b c d", "a b c d") == pytest.approx(1 - 0.5 / 4**3)
    assert meteor("nodule", "mass") == 0.0


def test_stems_are_paired_after_words() -> None:
    # Two words in one run of two, one of them by its stem alone.
    assert meteor("left effusions", "left effusion") == pytest.approx(1 - 0.5 / 8)


@given(TEXTS, TEXTS)
def test_scores_stay_in_range_and_favour_the_text_itself(said: str, meant: str) -> None:
    counts = bleu_counts(said, meant)
    for score, itself in (
        (bleu(counts, 1), bleu(bleu_counts(meant, meant), 1)),
        (rouge_l(said, meant), rouge_l(meant, meant)),
        (meteor(said, meant), meteor(meant, meant)),
    ):
        assert 0.0 <= score <= itself + 1e-12 <= 1.0 + 1e-12
