"""The model at tiny size, with decoders of several families: it trains, is saved, loads, writes and draws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from medmllm.images import Images, Regions
from medmllm.losses import OutlineTargets
from medmllm.model import WetreadConfig, WetreadForReporting

PICTURE, VOLUME, SLICE, REGION, SEG, END = 50, 51, 52, 53, 54, 2
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 60,
    "bos_token_id": 1,
    "eos_token_id": END,
    "pad_token_id": 0,
}


def decoder(family: str) -> PretrainedConfig:
    extra = {"head_dim": 8} if family == "gemma" else {}
    return AutoConfig.for_model(family, **SIZES, **extra)


def config(family: str = "llama", **changes: Any) -> WetreadConfig:
    sizes: dict[str, Any] = {"width": 16, "heads": 2, "side": 64, "slice_side": 32, "slabs": 2, "packing": 2} | changes
    ids = {"picture": PICTURE, "volume": VOLUME, "slice": SLICE, "region": REGION, "seg": SEG}
    return WetreadConfig(decoder(family), **sizes, **{f"{name}_token_id": each for name, each in ids.items()})


@pytest.fixture
def model() -> WetreadForReporting:
    """With the statistics of a few pictures in its normalisations, as training leaves them."""
    torch.manual_seed(0)
    model = WetreadForReporting(config())
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = 1.0
    with torch.no_grad():
        model.encode(Images(pictures=torch.rand(8, 1, 64, 64), slices=torch.rand(8, 3, 64, 64)))
    return model.eval()


def inputs(model: WetreadForReporting) -> tuple[torch.Tensor, Images, Regions]:
    """Two texts, each with a picture, a region and a <SEG>; the first has a prior."""
    generator = torch.Generator().manual_seed(1)
    row = [1, *[PICTURE] * model.tokens_of_picture(), 5, 6, REGION, 7, 8, SEG, 9, END]
    images = Images(
        pictures=torch.rand(2, 1, 64, 64, generator=generator),
        priors=torch.rand(2, 1, 64, 64, generator=generator),
        has_prior=torch.tensor([True, False]),
    )
    boxes = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]])
    return (
        torch.tensor([row, row]),
        images,
        Regions(torch.rand(2, 16, generator=generator), boxes, torch.tensor([0, 1])),
    )


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma"])
def test_any_decoder_learns_a_step_is_saved_loads_and_writes(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = WetreadForReporting(config(family, dropout=0))
    ids, images, regions = inputs(model)
    targets = torch.zeros(2, 16, 16)
    targets[:, 4:9, 4:9] = 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(3):
        out = model(
            ids, labels=ids, images=images, regions=regions, mask_owners=torch.tensor([0, 1]), mask_targets=targets
        )
        assert out.loss.item() == pytest.approx(out.word_loss.item() + out.mask_loss.item())
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        losses.append(out.loss.item())
    assert losses[-1] < losses[0]
    model.eval().save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert isinstance(again, WetreadForReporting)
    with torch.no_grad():
        before, after = (each(ids, images=images, regions=regions).logits for each in (model, again))
    assert torch.equal(before, after)
    written = again.generate(ids[:, :-4], images=images, regions=regions, max_new_tokens=4, do_sample=False)
    assert written.shape[0] == 2
    assert 1 <= written.shape[1] <= 4


def test_each_part_has_a_gradient(model: WetreadForReporting) -> None:
    ids, images, regions = inputs(model)
    model(ids, labels=ids, images=images, regions=regions, mask_owners=torch.tensor([0, 1]),
          mask_targets=torch.ones(2, 16, 16)).loss.backward()  # fmt: skip
    for name in ("picture_encoder", "alignment", "packer", "region_tokens", "to_mask", "decoder"):
        total = sum(float(each.grad.abs().sum()) for each in getattr(model, name).parameters() if each.grad is not None)
        assert total > 0, name


@torch.no_grad()
def test_what_was_encoded_once_serves_again(model: WetreadForReporting) -> None:
    ids, images, regions = inputs(model)
    encoded = model.encode(images)
    by_images = model(ids, images=images, regions=regions).logits
    assert torch.equal(by_images, model(ids, encoded=encoded, regions=regions).logits)
    prompt = ids[:, :-4]
    one = model.generate(prompt, images=images, regions=regions, max_new_tokens=5, do_sample=False)
    assert torch.equal(one, model.generate(prompt, encoded=encoded, regions=regions, max_new_tokens=5, do_sample=False))


@torch.no_grad()
def test_picture_prior_and_region_each_change_what_follows(model: WetreadForReporting) -> None:
    ids, images, regions = inputs(model)
    assert images.pictures is not None
    assert images.priors is not None
    last = model(ids, images=images, regions=regions).logits[:, -1]
    other = model(ids, images=replace(images, pictures=images.pictures.flip(0)), regions=regions).logits[:, -1]
    assert not torch.allclose(last[0], other[0], atol=1e-5)
    other = model(ids, images=replace(images, priors=1 - images.priors), regions=regions).logits[:, -1]
    assert not torch.allclose(last[0], other[0], atol=1e-6)
    assert torch.allclose(last[1], other[1], atol=1e-6)  # it has no prior
    moved = Regions(regions.masks, regions.boxes.flip(0), regions.owners)
    assert not torch.allclose(last[0], model(ids, images=images, regions=moved).logits[0, -1], atol=1e-6)


@torch.no_grad()
def test_volumes_slices_and_texts_alone(model: WetreadForReporting) -> None:
    volume = torch.rand(5, 3, 32, 32)
    row = [1, *[VOLUME] * model.tokens_of_volume(), *[SLICE] * 2 * model.tokens_of_picture(), 5, REGION, END]
    images = Images(volumes=[volume], prior_volumes=[torch.rand(3, 3, 32, 32)], slices=torch.rand(2, 3, 64, 64))
    regions = Regions(torch.ones(1, 16), torch.rand(1, 4), torch.tensor([1]))
    assert model(torch.tensor([row]), images=images, regions=regions).logits.shape == (1, len(row), 60)
    assert model(torch.tensor([[1, 5, 6, END]])).logits.shape == (1, 4, 60)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([1, 5, REGION, END], "0 placeholders of pictures, the images give 4"),
        ([1, *[PICTURE] * 4, 5, END], "0 placeholders of regions, the images give 1"),
        ([1, *[PICTURE] * 5, REGION, END], "5 placeholders of pictures, the images give 4"),
    ],
)
def test_placeholders_must_be_as_many_as_their_tokens(model: WetreadForReporting, row: list[int], reason: str) -> None:
    images = Images(pictures=torch.rand(1, 1, 64, 64))
    regions = Regions(torch.ones(1, 16), torch.rand(1, 4), torch.tensor([0]))
    with pytest.raises(ValueError, match=reason):
        model(torch.tensor([row]), images=images, regions=regions)


def test_masks_are_as_many_as_seg_tokens(model: WetreadForReporting) -> None:
    ids, images, regions = inputs(model)
    with pytest.raises(ValueError, match="2 <SEG> in the text, 1 planes"):
        model(ids, images=images, regions=regions, mask_owners=torch.tensor([0]))
    row = [1, *[PICTURE] * 4, SEG, SEG, SEG, END]
    out = model(
        torch.tensor([row]), images=Images(pictures=torch.rand(1, 1, 64, 64)), mask_owners=torch.zeros(3).long()
    )
    assert out.masks.shape == (3, 16, 16)


def test_it_learns_to_draw_what_the_picture_shows() -> None:
    torch.manual_seed(0)
    model = WetreadForReporting(config(dropout=0))
    pictures, targets = torch.zeros(8, 1, 64, 64), torch.zeros(8, 16, 16)
    for number in range(8):
        top, left = (number // 4) * 8, (number % 4) * 4
        targets[number, top : top + 6, left : left + 4] = 1
        pictures[number, 0, 4 * top : 4 * top + 24, 4 * left : 4 * left + 16] = 1
    ids = torch.tensor([[1, *[PICTURE] * 4, 5, SEG, END]] * 8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(25):
        out = model(ids, images=Images(pictures=pictures), mask_owners=torch.arange(8), mask_targets=targets)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
    drawn = out.masks > 0
    dice = 2 * (drawn & (targets > 0)).sum() / (drawn.sum() + targets.sum())
    assert dice > 0.9


def outlined(pictures: int, things: int) -> OutlineTargets:
    """The first thing fills a corner of every film, now and before, on the right; the others are nowhere."""
    now = torch.zeros(pictures, things, 16, 16)
    now[:, 0, :6, :6] = 1
    there = torch.zeros(pictures, things, 3, dtype=torch.long)
    there[:, 0] = torch.tensor([1, 0, 1])
    course = torch.full((pictures, things), 5)
    course[:, 0] = 2
    known = torch.ones(pictures, things, dtype=torch.bool)
    return OutlineTargets(now, now, known, known, there, course)


def test_what_is_outlined_has_tokens_learns_and_is_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = WetreadForReporting(config(outlined=("heart", "mass", "effusion"), dropout=0))
    assert (model.tokens_of_picture(), model.tokens_of_slice()) == (4 + 3, 4)
    ids, images, regions = inputs(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(8):
        out = model(ids, labels=ids, images=images, regions=regions, outline_targets=outlined(2, 3))
        assert out.loss.item() == pytest.approx(out.word_loss.item() + out.outline_loss.item())
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        losses.append(out.outline_loss.item())
    assert losses[-1] < 0.8 * losses[0]
    model.eval().save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert again.config.outlined == ["heart", "mass", "effusion"]
    with torch.no_grad():
        before, after = (each(ids, images=images, regions=regions).logits for each in (model, again))
    assert torch.equal(before, after)


def test_what_it_is_sure_of_is_said_in_the_words_of_the_decoder() -> None:
    """A mass that is surely on the right, not on the left, there, and larger: mass + right + yes + larger."""
    words = [[each, each + 20] for each in range(3, 14)]  # heart, mass, right, left, yes, new ... resolved, no
    model = WetreadForReporting(config(outlined=("heart", "mass"), said_token_ids=words))
    torch.nn.init.zeros_(model.told.weight)
    model.told.bias.data = torch.tensor([99.0, -99, 99, 0, 99, 0, 0, 0, 0])
    said = model._said(torch.randn(2, 2, 32), torch.tensor([True, False]))
    rows = model.get_input_embeddings().weight
    mass, right, yes, larger = ((rows[each] + rows[each + 20]) / 2 for each in (4, 5, 7, 9))
    assert torch.allclose(said[0, 1], 10 * (mass + right + yes + larger), atol=1e-5)
    assert torch.allclose(said[1, 1], 10 * (mass + right + yes), atol=1e-5)  # without a prior nothing became of it
    encoded = model.encode(Images(torch.rand(2, 1, 64, 64), torch.rand(2, 1, 64, 64), torch.tensor([True, False])))
    assert encoded.picture_tokens is not None
    assert encoded.outlined is not None
    tokens = encoded.picture_tokens.unflatten(0, (2, -1))[:, -2:]
    assert torch.allclose(tokens - encoded.outlined.tokens, said, atol=1e-4)  # whatever the tokens are, told is sure


def test_what_was_not_taught_is_not_said() -> None:
    """Of edema no side is learned, of a lung nothing at all: only their names and what is known are said."""
    words = [[each] for each in range(3, 15)]  # lung, edema, mass, right, left, yes, new ... resolved, no
    outlined = ("lung", "edema", "mass")
    model = WetreadForReporting(config(outlined=outlined, said_token_ids=words, sided=["mass"], followed=outlined[1:]))
    torch.nn.init.zeros_(model.told.weight)
    model.told.bias.data = torch.tensor([99.0, -99, 99, 0, 99, 0, 0, 0, 0])
    said = model._said(torch.randn(1, 3, 32), torch.tensor([True])) / 10
    lung, edema, mass, right, yes, larger = (model.get_input_embeddings().weight[each] for each in (3, 4, 5, 6, 8, 10))
    assert torch.allclose(said[0], torch.stack([lung, edema + yes + larger, mass + right + yes + larger]), atol=1e-5)
    again = WetreadConfig.from_dict(model.config.to_dict())
    assert (again.sided, again.followed) == (["mass"], ["edema", "mass"])


def test_words_are_as_many_as_what_is_outlined_needs() -> None:
    with pytest.raises(ValueError, match="3 words for what is outlined, 11 are needed"):
        WetreadForReporting(config(outlined=("heart", "mass"), said_token_ids=[[1, 2]] * 3))


def test_a_model_that_lacks_a_weight_is_not_loaded(tmp_path: Path) -> None:
    model = WetreadForReporting(config(outlined=("heart",)))
    model.save_pretrained(tmp_path)
    assert WetreadForReporting.kept_in(tmp_path).dtype == torch.float32
    weights = load_file(tmp_path / "model.safetensors")
    del weights["loudness"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="another version: it has no loudness"):
        WetreadForReporting.kept_in(tmp_path)


def test_a_film_is_encoded_once_for_all_that_ask_about_it(model: WetreadForReporting) -> None:
    ids, images, _ = inputs(model)
    pictures, priors, has_prior = images.pictures, images.priors, images.has_prior
    assert pictures is not None
    assert priors is not None
    assert has_prior is not None
    row = ids[0, [int(each) not in (REGION, SEG) for each in ids[0]]]
    three = torch.stack([row, row, row])
    shown = torch.tensor([1, 0, 1])
    once = Images(pictures, priors, has_prior, shown)
    thrice = Images(pictures[shown], priors[shown], has_prior[shown])
    with torch.no_grad():
        assert torch.allclose(model(three, images=once).logits, model(three, images=thrice).logits, atol=1e-5)
        assert model.encode(once).features.shape[0] == 2


def test_words_reach_what_is_outlined(model: WetreadForReporting) -> None:
    """The tokens of outlines are read by the decoder: its loss alone moves them."""
    one = WetreadForReporting(config(outlined=("heart",)))
    ids, images, regions = inputs(one)
    one(ids, labels=ids, images=images, regions=regions).loss.backward()
    assert float(one.outline_tokens.out.weight.grad.abs().sum()) > 0
    with pytest.raises(ValueError, match="outlines nothing"):
        model(inputs(model)[0], images=images, regions=regions, outline_targets=outlined(2, 1))
