from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from expert_models.card import CARDS, Score, checked_weights, read_card
from expert_models.encoder import LightUNet, start_from_imagenet
from expert_models.train.augment import varied
from expert_models.train.cxr_anatomy import Group, Plan, as_group, segmentation_loss, train
from expert_models.train.publish import draw_curve, publish
from expert_models.train.recipes import train_experts

PLAN = Plan(steps=4, seed=3, size=64, decoder=(8, 8, 8, 8, 8), shares={"heart": 2})


def tiny_network() -> LightUNet:
    torch.manual_seed(0)
    return LightUNet(1, 3, list(PLAN.decoder))


def group() -> Group:
    random = np.random.default_rng(0)
    frames = [(random.random((1, 64, 64), dtype=np.float32), np.zeros((3, 64, 64), np.float32)) for _ in range(3)]
    return as_group(frames, [(1.0, 1.0, 0.0)] * 3)


def test_a_run_that_was_interrupted_ends_as_if_it_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from expert_models.train import cxr_anatomy

    monkeypatch.setattr(cxr_anatomy, "CHECKPOINT_EVERY", 2)
    whole, curve = train({"heart": group()}, PLAN, tmp_path / "whole", lambda line: None, start=tiny_network())

    class Pulled(Exception):  # noqa: N818 - the plug
        pass

    lines = iter(range(100))

    def stop(_: object) -> None:
        if next(lines) == 0:
            raise Pulled

    monkeypatch.setattr(cxr_anatomy, "REPORT_EVERY", 3)
    with pytest.raises(Pulled):
        train({"heart": group()}, PLAN, tmp_path / "cut", stop, start=tiny_network())
    resumed, again = train({"heart": group()}, PLAN, tmp_path / "cut", lambda line: None, start=tiny_network())
    assert [step for step, _ in again] == [step for step, _ in curve] == [0, 1, 2, 3]
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="of another run"):
        train({"heart": group()}, replace(PLAN, seed=4), tmp_path / "cut", lambda line: None, start=tiny_network())


def test_an_unknown_channel_costs_nothing() -> None:
    logits, masks = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
    logits[:, 2] = 9.0
    known = torch.tensor([[1.0, 1.0, 0.0]])
    with_heart = segmentation_loss(logits, masks, torch.ones(1, 3))
    assert segmentation_loss(logits, masks, known) < with_heart
    # Half everywhere against nothing: cross-entropy ln 2; Dice 1 - 20 / (32 + 20).
    expected = np.log(2) + 1 - 20 / 52
    assert float(segmentation_loss(logits, masks, known)) == pytest.approx(expected, rel=1e-5)


def test_variation_is_repeatable_and_never_mirrors() -> None:
    pictures, masks = torch.zeros(4, 1, 64, 64), torch.zeros(4, 3, 64, 64)
    masks[:, 0, 20:44, 16:24] = 1
    masks[:, 1, 20:44, 40:48] = 1
    draws = [varied(pictures, masks, torch.Generator().manual_seed(seed)) for seed in (1, 1, *range(2, 12))]
    torch.testing.assert_close(draws[0], draws[1])
    columns = torch.arange(64.0)
    for picture, moved in draws:
        assert picture.shape == pictures.shape
        assert -2 <= float(picture.min()) <= float(picture.max()) <= 2
        middles = (moved[:, :2].sum(dim=2) * columns).sum(-1) / moved[:, :2].sum(dim=(2, 3))
        assert (middles[:, 0] < middles[:, 1]).all()


def test_published_encoder_weights_fit_by_name() -> None:
    network = tiny_network()
    own = network.encoder.state_dict()
    stem = torch.rand(32, 3, 3, 3)
    assert start_from_imagenet(network, {"_conv_stem.weight": stem, "_bn0.bias": torch.full((32,), 2.0)}) == 2
    torch.testing.assert_close(network.encoder.state_dict()["_conv_stem.weight"], stem.sum(1, keepdim=True))
    assert "_blocks.1.1._expand_conv.weight" in own  # stage 1, block 1; published as _blocks.1._expand_conv.weight
    published = {"_blocks.1._expand_conv.weight": torch.rand(96, 16, 1, 1)}
    assert start_from_imagenet(network, published) == 1


def test_publishing_keeps_the_cards_words_and_names_the_new_weights(tmp_path: Path) -> None:
    card, weights = tmp_path / "cxr-anatomy.toml", tmp_path / "cxr-anatomy.safetensors"
    shutil.copyfile(CARDS / card.name, card)
    before = read_card(card)
    score = Score("dice", 0.9, 0.8, 0.95, 7, "seven films")
    publish(card, weights, {"weight": torch.ones(2, 2)}, {"ratio_spread": 0.0213}, [score])
    after = read_card(card)
    assert checked_weights(after, weights) == weights
    assert (after.scores, after.calibration["ratio_spread"]) == ((score,), 0.0213)
    assert (after.limits, after.labels, after.training) == (before.limits, before.labels, before.training)
    with pytest.raises(ValueError, match="no calibration value 'slope'"):
        publish(card, weights, {}, {"slope": 1.0}, [])
    assert {path.name for path in tmp_path.iterdir()} == {card.name, weights.name}


def test_a_curve_is_drawn(tmp_path: Path) -> None:
    draw_curve([(step, 1 / (step + 1)) for step in range(60)], "loss", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_a_recipe_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no recipe for 'spleen'"):
        train_experts(None, tmp_path, "spleen", lambda line: None)
