"""Texts, pictures and regions to tensors: sizes, order and the frame, against what is worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from medmllm.brief import PICTURE, REGION, SLICE, VOLUME
from medmllm.losses import UNKNOWN
from medmllm.processor import Input, Outlines, Place, WetreadProcessor, corners, covered, uncovered
from medmllm.tokens import OWN, SEG, add_own, make_tokenizer, said

PICTURE_TOKENS, VOLUME_TOKENS = 4, 6


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer(["is there pleural effusion on the left", "yes, 1234567890"], size=400)


@pytest.fixture(scope="module")
def processor(tokenizer: PreTrainedTokenizerFast) -> WetreadProcessor:
    return WetreadProcessor(tokenizer, 64, 32, PICTURE_TOKENS, VOLUME_TOKENS)


def film(rows: int = 80, columns: int = 64) -> np.ndarray:
    return np.random.default_rng(0).random((rows, columns), dtype=np.float32)


def mask(rows: int, columns: int, top: int, left: int, bottom: int, right: int) -> np.ndarray:
    made = np.zeros((rows, columns), bool)
    made[top:bottom, left:right] = True
    return made


def test_every_text_comes_back_and_digits_stand_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    for text in ("pleural effusion, 12 mL", "Überraschung ≥ 5 µm", f"{SEG} [[0,999,12,3]]"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("406", add_special_tokens=False)["input_ids"])
    assert tokens == ["4", "0", "6"]
    (marker,) = tokenizer(PICTURE, add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(marker) == PICTURE


def test_markers_are_repeated_and_answers_alone_are_learned(processor: WetreadProcessor) -> None:
    upper, lower = Place(0, mask(80, 64, 0, 0, 40, 64)), Place(0, mask(80, 64, 40, 0, 80, 64))
    made = processor.batch(
        [
            Input(f"film {PICTURE}\nis there {REGION}", [film()], [film()], regions=[upper], answer="yes"),
            Input(f"film {PICTURE}\nwhere is it", [film()], answer=f"there {SEG}", segments=[lower]),
        ]
    )
    tokenizer = processor.tokenizer
    marker = tokenizer.convert_tokens_to_ids(PICTURE)
    assert (made.input_ids == marker).sum(dim=1).tolist() == [PICTURE_TOKENS, PICTURE_TOKENS]
    assert made.labels is not None
    for row, answer in enumerate(("yes", f"there {SEG}")):
        learned = made.labels[row][made.labels[row] != UNKNOWN]
        assert tokenizer.decode(learned[:-1]) == answer
        assert learned[-1] == tokenizer.eos_token_id
        assert made.attention_mask[row].diff().le(0).all()  # padded on the right
    assert made.images.has_prior is not None
    assert made.images.has_prior.tolist() == [True, False]
    assert made.regions is not None
    assert made.regions.owners.tolist() == [0]
    assert made.mask_owners is not None
    assert made.mask_owners.tolist() == [1]


def test_without_answers_the_prompts_end_together(processor: WetreadProcessor) -> None:
    made = processor.batch([Input("short"), Input("a longer text than that")])
    assert made.labels is None
    assert made.attention_mask[:, -1].tolist() == [1, 1]
    assert made.attention_mask[0, 0] == 0


def test_planes_are_numbered_pictures_first_then_slices(processor: WetreadProcessor) -> None:
    plane, volume = np.zeros((64, 64), np.int16), np.zeros((3, 64, 64), np.int16)
    whole = mask(64, 64, 0, 0, 64, 64)
    on_slice = Place(1, whole)
    made = processor.batch(
        [
            Input(f"{PICTURE}{SLICE}{REGION}{REGION}", [film()], slices=[plane], regions=[on_slice, Place(0, whole)]),
            Input(f"{VOLUME}{SLICE}{SLICE}{REGION}", volumes=[volume], slices=[plane, plane], regions=[on_slice]),
        ]
    )
    assert made.regions is not None
    assert made.regions.owners.tolist() == [1, 0, 3]  # one picture, then slices 1, 2 and 3
    assert made.images.slices is not None
    assert made.images.slices.shape == (3, 3, 64, 64)
    assert made.images.volumes[0].shape == (3, 3, 32, 32)


def test_a_film_of_several_texts_is_held_once(processor: WetreadProcessor) -> None:
    one, other, plane = film(), film(), np.zeros((64, 64), np.int16)
    upper = Place(0, mask(80, 64, 0, 0, 40, 64))
    made = processor.batch(
        [
            Input(f"{PICTURE} {SLICE} {REGION}", [one], slices=[plane], regions=[Place(1, mask(64, 64, 0, 0, 9, 9))]),
            Input(f"{PICTURE} {REGION}", [other], regions=[upper]),
            Input(f"{PICTURE} {REGION}", [one], [other], regions=[upper]),  # with a prior it is another film
            Input(f"{PICTURE} {REGION}", [one], regions=[upper]),
        ]
    )
    assert made.images.pictures is not None
    assert len(made.images.pictures) == 3
    assert made.images.has_prior is not None
    assert made.images.has_prior.tolist() == [False, False, True]
    assert made.images.shown is not None
    assert made.images.shown.tolist() == [0, 1, 2, 0]
    assert made.regions is not None
    assert made.regions.owners.tolist() == [3, 1, 2, 0]


def test_what_is_known_of_a_shared_film_is_known_once(processor: WetreadProcessor) -> None:
    one = film()
    masks, known = np.ones((1, 80, 64), bool), np.ones(1, bool)
    outlines = Outlines(masks, known, None, ~known, np.array([[1, 0, 1]]), np.array([2]))
    texts = [Input(PICTURE, [one]), Input(PICTURE, [one], outlines=outlines), Input(PICTURE, [one])]
    made = processor.batch([*texts, Input(PICTURE, [film()])]).outlines
    assert made is not None
    assert made.now_known.tolist() == [[True], [False]]
    assert made.course.tolist() == [[2], [UNKNOWN]]


def test_a_word_alone_and_within_a_sentence(tokenizer: PreTrainedTokenizerFast) -> None:
    (pair,) = said(tokenizer, ["effusion"])
    assert tokenizer.decode(pair[0])
    assert "effusion".endswith(tokenizer.decode(pair[0]))
    assert tokenizer.decode(pair[1]) == " effusion"  # one token, as it was learned after another word


def test_windows_of_a_slice_by_hand(processor: WetreadProcessor) -> None:
    plane = np.full((64, 64), 40, np.int16)  # the middle of the mediastinal window
    made = processor.batch([Input(f"{VOLUME}", volumes=[plane[None]])])
    lung, mediastinum, bone = made.images.volumes[0][0, :, 16, 16].tolist()
    assert lung == pytest.approx((40 + 600 + 750) / 1500, abs=1e-5)
    assert mediastinum == pytest.approx(0.5, abs=1e-5)
    assert bone == pytest.approx((40 - 500 + 1000) / 2000, abs=1e-5)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (Input(f"{PICTURE}"), "1 <picture>, and 0 were given"),
        (Input("text", [film()]), "0 <picture>, and 1 were given"),
        (Input(REGION, regions=[Place(0, mask(8, 8, 0, 0, 8, 8))]), "none of the 0 planes"),
    ],
)
def test_what_does_not_fit_is_refused(processor: WetreadProcessor, given: Input, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        processor.batch([given])
    with pytest.raises(ValueError, match="every text"):
        processor.batch([Input("a", answer="b"), Input("a")])


def test_the_cover_of_a_mask_by_hand() -> None:
    # 80 x 64 in a square of 64: scale 0.8, 6.4 columns of border on either side.
    upper = covered(mask(80, 64, 0, 0, 40, 64), 64, 4)
    assert upper[0, 1:3].tolist() == pytest.approx([1, 1], abs=0.02)
    assert upper[2:].max() < 0.05
    assert upper[0, 0] == pytest.approx((16 - 6.4) / 16, abs=0.05)
    assert corners(mask(80, 64, 20, 16, 40, 48)) == (0.25, 0.25, 0.75, 0.5)
    assert corners(np.zeros((4, 4), bool)) == (0, 0, 0, 0)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(40, 200), st.integers(40, 200)),
    box=st.tuples(st.floats(0, 0.6), st.floats(0, 0.6), st.floats(0.3, 1.0), st.floats(0.3, 1.0)),
)
def test_a_mask_survives_the_frame(shape: tuple[int, int], box: tuple[float, float, float, float]) -> None:
    rows, columns = shape
    top, left = int(box[0] * rows), int(box[1] * columns)
    bottom, right = min(rows, top + max(8, int(box[2] * rows))), min(columns, left + max(8, int(box[3] * columns)))
    drawn = mask(rows, columns, top, left, bottom, right)
    back = uncovered(torch.from_numpy(covered(drawn, 256, 64)), shape, 256)
    assert back.shape == shape
    there = np.argwhere(back)
    one_cell = 1.5 * 256 / 64 * max(shape) / 256 / 2 + 1
    assert np.abs(there.min(axis=0) - [top, left]).max() <= one_cell
    assert np.abs(there.max(axis=0) + 1 - [bottom, right]).max() <= one_cell


def test_it_is_saved_and_loaded(processor: WetreadProcessor, tmp_path: object) -> None:
    processor.save_pretrained(str(tmp_path))
    again = WetreadProcessor.from_pretrained(str(tmp_path))
    assert again.ids(f"film {PICTURE} 12") == processor.ids(f"film {PICTURE} 12")
    assert (again.side, again.slice_side) == (64, 32)


def test_a_tokenizer_that_comes_with_a_decoder_keeps_its_own_tokens() -> None:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special, alphabet = ["<|end|>", "<|tool|>"], pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        ["a text"], trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|end|>", additional_special_tokens=["<|tool|>"]
    )
    before = tokenizer.get_vocab()
    add_own(tokenizer)
    after = tokenizer.get_vocab()
    assert {name: after[name] for name in before} == before
    assert sorted(after.keys() - before.keys()) == sorted(OWN)
    assert "<|tool|>" in tokenizer.all_special_tokens
    text = f"<|tool|>a text {SEG}<box>[[1,2,3,4]]</box>{PICTURE}"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a text [[1,2,3,4]]"
    assert [after[each] for each in (SEG, "<box>", "</box>", PICTURE)] == [each for each in ids if each >= len(before)]
