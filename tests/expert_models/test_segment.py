from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from expert_models import card as cards
from expert_models.card import packaged_card
from expert_models.errors import CardInvalid, WeightsMismatch
from expert_models.segment import Segmenter, build_network, load_network, single_shape


class Painter(nn.Module):
    """Calls what is bright the heart, and the lungs what is dark or bright."""

    def forward(self, frame: Tensor) -> Tensor:
        heart = torch.where(frame > 0, 5.0, -5.0)
        return torch.cat([torch.full_like(heart, 5.0), heart * 0 + 5, heart], dim=1)


class Stubborn(nn.Module):
    """Answers with the same rectangle, wherever the picture lies."""

    def forward(self, frame: Tensor) -> Tensor:
        logits = torch.full((1, 3, *frame.shape[2:]), -5.0)
        logits[..., 20:120, 20:120] = 5
        return logits


def test_masks_come_back_at_the_pictures_own_place_and_size() -> None:
    picture = np.random.default_rng(0).random((512, 256), dtype=np.float32) * 0.3
    picture[256:384, 52:232] = 0.9
    segmented = Segmenter(packaged_card("cxr-anatomy"), network=Painter()).segment(picture)
    heart = segmented.masks["heart"]
    assert heart.shape == (512, 256)
    rows, columns = np.flatnonzero(heart.any(axis=1)), np.flatnonzero(heart.any(axis=0))
    np.testing.assert_allclose([rows[0], rows[-1] + 1, columns[0], columns[-1] + 1], [256, 384, 52, 232], atol=2)
    assert segmented.agreement["heart"] > 0.97
    assert segmented.confidence["heart"] > 0.95


def test_an_outline_that_does_not_follow_the_picture_is_noticed() -> None:
    picture = np.random.default_rng(0).random((256, 256), dtype=np.float32)
    segmented = Segmenter(packaged_card("cxr-anatomy"), network=Stubborn()).segment(picture)
    assert segmented.agreement["heart"] < 0.88


def test_a_shape_loses_islands_holes_and_hairs() -> None:
    mask = np.zeros((40, 40), bool)
    mask[5:25, 5:25] = True
    clean = mask.copy()
    mask[10:12, 10:12] = False  # a hole
    mask[30:36, 30:36] = True  # an island
    mask[15, 25:35] = True  # a hair, one pixel wide
    np.testing.assert_array_equal(single_shape(mask), clean)
    assert not single_shape(np.zeros((5, 5), bool)).any()


def test_the_network_a_card_describes_is_built_or_refused() -> None:
    card = packaged_card("cxr-anatomy")
    with pytest.raises(CardInvalid, match="arguments it does not take"):
        build_network(replace(card, arguments={"colour": "red"}))


def test_weights_of_another_network_are_refused(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    import hashlib

    path = tmp_path / "cxr-anatomy.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    monkeypatch.setattr(cards, "WEIGHTS", tmp_path)
    card = replace(packaged_card("cxr-anatomy"), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(WeightsMismatch, match="do not fit the network"):
        load_network(card)


def test_the_packaged_weights_give_the_same_answer_in_a_batch_of_tones() -> None:
    """The network may not depend on the window: a picture and its half-contrast copy give nearly the same masks."""
    segmenter = Segmenter(packaged_card("cxr-anatomy"))
    picture = np.random.default_rng(1).random((64, 64), dtype=np.float32).repeat(4, 0).repeat(4, 1)
    first, second = (segmenter.segment(each).masks for each in (picture, picture * 0.5 + 0.25))
    for name in first:
        assert (first[name] ^ second[name]).mean() < 0.02
