"""Scores of text against values worked out by hand, and Porter's stems against the examples of his paper."""

from __future__ import annotations

from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmllm.text_scores import align, bleu, bleu_counts, meteor, rouge_l, stem, words

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
    # "effusions" is left for "effusion" by its stem, once "effusion" is taken by itself.
    assert align(["effusions", "effusion"], ["effusion", "effusions"]) == [(0, 1), (1, 0)]
    assert align(["effusions"], ["effusion"]) == [(0, 0)]
    assert align(["a", "b", "a", "c"], ["a", "c", "a", "b"]) == [(0, 2), (1, 3), (2, 0), (3, 1)]


@pytest.mark.parametrize(
    ("word", "expected"),
    [  # from the paper, step by step; where a later step goes on, its result
        *[("caresses", "caress"), ("ponies", "poni"), ("ties", "ti"), ("caress", "caress"), ("cats", "cat")],
        *[("feed", "feed"), ("agreed", "agre"), ("plastered", "plaster"), ("bled", "bled"), ("motoring", "motor")],
        *[("sing", "sing"), ("hopping", "hop"), ("falling", "fall"), ("hissing", "hiss"), ("filing", "file")],
        *[("failing", "fail"), ("happy", "happi"), ("sky", "sky"), ("tanned", "tan"), ("sized", "size")],
        *[("relational", "relat"), ("conditional", "condit"), ("rational", "ration"), ("digitizer", "digit")],
        *[("radically", "radic"), ("differently", "differ"), ("vileness", "vile"), ("sensitivity", "sensit")],
        *[("triplicate", "triplic"), ("formative", "form"), ("electrical", "electr"), ("hopeful", "hope")],
        *[("goodness", "good"), ("revival", "reviv"), ("allowance", "allow"), ("inference", "infer")],
        *[("adjustable", "adjust"), ("replacement", "replac"), ("adoption", "adopt"), ("effective", "effect")],
        *[("probate", "probat"), ("rate", "rate"), ("cease", "ceas"), ("controlling", "control"), ("roll", "roll")],
        *[("is", "is"), ("generalizations", "gener"), ("oscillators", "oscil"), ("effusions", "effus")],
    ],
)
def test_porters_examples(word: str, expected: str) -> None:
    assert stem(word) == expected


@given(TEXTS, TEXTS)
def test_scores_stay_in_range_and_favour_the_text_itself(said: str, meant: str) -> None:
    counts = bleu_counts(said, meant)
    for score, itself in (
        (bleu(counts, 1), bleu(bleu_counts(meant, meant), 1)),
        (rouge_l(said, meant), rouge_l(meant, meant)),
        (meteor(said, meant), meteor(meant, meant)),
    ):
        assert 0.0 <= score <= itself + 1e-12 <= 1.0 + 1e-12
    pairs = align(words(said), words(meant))
    assert len({there for _, there in pairs}) == len(pairs)
