"""The connector's parts: what they may look at, and what they must not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medmllm.connector import (
    FourierBoxes,
    LayerFusion,
    OutlineTokens,
    PlainPacker,
    RegionTokens,
    TemporalAlignment,
    TokenPacker,
)
from medmllm.vision import PictureEncoder, VolumeEncoder


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def alignment(**changes: bool) -> TemporalAlignment:
    return TemporalAlignment(width=8, layers=3, heads=2, **changes).eval()


def features(batch: int = 2, layers: int = 3, patches: int = 16, width: int = 8) -> Tensor:
    return torch.randn(batch, layers, patches, width)


def test_a_prior_that_is_missing_is_not_looked_at_and_one_that_is_there_is() -> None:
    part, current, one, other = alignment(), features(), features(), features()
    neither, both = torch.tensor([False, False]), torch.tensor([True, True])
    assert torch.equal(part(current, one, neither), part(current, other, neither))
    assert not torch.allclose(part(current, one, both), part(current, other, both))
    first_only = part(current, one, torch.tensor([True, False]))
    assert torch.allclose(first_only[0], part(current, one, both)[0], atol=1e-6)
    assert torch.allclose(first_only[1], part(current, one, neither)[1], atol=1e-6)


def test_a_missing_prior_is_no_copy_of_the_current_image() -> None:
    part, current = alignment(), features()
    absent = part(current, current, torch.tensor([False, False]))
    assert not torch.allclose(absent, part(current, current, torch.tensor([True, True])), atol=1e-3)


def test_likeness_by_hand() -> None:
    part = alignment()
    now = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]])
    then = torch.tensor([[[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [0.9, (1 - 0.81) ** 0.5]]])
    # cosines 1, 0, -1 and 0.9: ((c + 1) / 2) ** 8
    assert part.likeness(now, then)[0, :, 0].tolist() == pytest.approx([1.0, 0.5**8, 0.0, 0.95**8], abs=1e-6)
    whole = alignment(per_patch=False).likeness(now, now * 5)
    assert whole.shape == (1, 1, 1)
    assert whole.item() == pytest.approx(1.0)


@pytest.mark.parametrize("layers", [1, 2, 3, 12])
def test_any_number_of_layers_becomes_one(layers: int) -> None:
    assert LayerFusion(layers)(features(layers=layers)).shape == (2, 16, 8)


@pytest.mark.parametrize(("side", "ratio", "tokens"), [(16, 2, 64), (16, 4, 16), (9, 2, 25), (4, 3, 4)])
def test_packed_tokens_are_as_many_as_said(side: int, ratio: int, tokens: int) -> None:
    packer = TokenPacker(width=8, layers=3, ratio=ratio, heads=2, out_width=12)
    assert packer.tokens(side) == tokens
    aligned, layers = torch.randn(2, side * side, 8), features(patches=side * side)
    assert packer(aligned, layers).shape == (2, tokens, 12)
    assert PlainPacker(8, 12)(aligned, layers).shape == (2, PlainPacker(8, 12).tokens(side), 12)


def test_a_packed_token_reads_its_own_cell_and_no_other() -> None:
    packer = TokenPacker(width=8, layers=3, ratio=2, heads=2, out_width=4)
    aligned = torch.randn(1, 16, 8, requires_grad=True)
    layers = features(batch=1).requires_grad_()
    packer(aligned, layers)[0, 1].sum().backward()  # rows 0 and 1, columns 2 and 3 of 4 x 4
    own = [2, 3, 6, 7]
    for gradient in (aligned.grad, layers.grad):
        assert gradient is not None
        read = gradient.abs().flatten(0, -3).sum(dim=(0, 2)) > 0
        assert torch.flatten(read.nonzero()).tolist() == own


def test_a_region_is_what_its_mask_covers_and_where_it_lies() -> None:
    regions = RegionTokens(width=8, out_width=6).eval()
    seen = torch.randn(1, 4, 8).expand(3, -1, -1)
    masks = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    box = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).expand(3, -1)
    one, same, other = regions(seen, masks, box)
    assert torch.allclose(one, same, atol=1e-6)  # a mask's height does not matter, only its form
    assert not torch.allclose(one, other, atol=1e-4)
    moved = regions(seen[:1], masks[:1], box[:1] + 0.3)[0]
    assert not torch.allclose(one, moved, atol=1e-4)
    changed = seen[:1].clone()
    changed[0, 2:] += 5  # outside
    assert torch.allclose(one, regions(changed, masks[:1], box[:1])[0], atol=1e-6)
    assert torch.isfinite(regions(seen[:1], torch.zeros(1, 4), box[:1])).all()


def test_places_one_thousandth_apart_are_told_apart() -> None:
    coder = FourierBoxes(width=16)
    places = torch.arange(1000)[:, None].expand(-1, 4) / 999
    coded = coder(places)
    assert torch.pdist(coded).min() > 1e-4


def test_a_picture_gives_patches_and_a_finer_map() -> None:
    seen = PictureEncoder(width=8, in_channels=1).eval()(torch.rand(2, 1, 64, 96))
    assert seen.layers.shape == (2, 3, 4 * 6, 8)
    assert seen.fine.shape == (2, 8, 16, 24)
    with pytest.raises(ValueError, match="multiples of 32"):
        PictureEncoder(width=8, in_channels=1)(torch.rand(1, 1, 60, 64))


@pytest.mark.parametrize(("slices", "slabs"), [(7, 3), (1, 3), (16, 1)])
def test_every_slice_of_a_volume_is_seen(slices: int, slabs: int) -> None:
    encoder = VolumeEncoder(width=8, in_channels=3, slabs=slabs, at_once=4).eval()
    volume = torch.rand(slices, 3, 32, 32, requires_grad=True)
    made = encoder(volume)
    assert made.shape == (slabs, 3, 4, 8)
    made.square().sum().backward()
    assert volume.grad is not None
    assert (volume.grad.abs().sum(dim=(1, 2, 3)) > 0).all()


def test_an_outline_is_described_by_its_size_and_place() -> None:
    """A rectangle of rows 4 to 7 and columns 2 to 3 of 8 x 8: an area of 8, all of it in the left half."""
    part = OutlineTokens(width=2, things=1, heads=1, out_width=4).eval()
    fine = torch.full((1, 2, 8, 8), -1.0)
    fine[:, 0, 4:, 2:4] = 1.0
    logits = 40 * fine[:, :1]
    features, numbers = part._measured(fine, logits)
    assert features[0, 0].tolist() == pytest.approx([1.0, -1.0], abs=1e-4)
    area, left, right, peak, x, y, wide, high, slant = numbers[0, 0].tolist()
    assert math.exp(3 * area) == pytest.approx(8 / 64 + 1e-4, rel=1e-4)
    assert left == pytest.approx(area, rel=1e-4)
    assert math.exp(3 * right) == pytest.approx(1e-4, rel=1e-2)
    assert peak == pytest.approx(2.0)  # 10, the largest that is told, of 40
    # columns and rows lie at -1, -5/7 ... 1: 2 and 3 at -3/7 and -1/7, rows 4 to 7 at 1/7, 3/7, 5/7 and 1
    assert (x, y) == pytest.approx((-2 / 7, 4 / 7), abs=1e-4)
    assert (wide, high, slant) == pytest.approx((1 / 7, math.sqrt(5) / 7, 0.0), abs=1e-3)


def test_the_film_before_is_looked_at_where_there_is_one() -> None:
    torch.manual_seed(0)
    part = OutlineTokens(width=8, things=3, heads=2, out_width=6).eval()
    now, then = torch.randn(2, 8, 16, 16), torch.randn(2, 8, 16, 16)
    there = torch.tensor([True, False])
    made, other = part(now, then, there), part(now, then + 1, there)
    assert made.tokens.shape == (2, 3, 6)
    assert made.now.shape == made.then.shape == (2, 3, 16, 16)
    assert not torch.allclose(made.tokens[0], other.tokens[0], atol=1e-4)
    assert torch.equal(made.tokens[1], other.tokens[1])


def test_what_grew_is_told_apart_from_what_is_large() -> None:
    """An outline of four times the area, whole and in the left half, is ln(4) / 3 more in both, times SHARPER."""
    part = OutlineTokens(width=2, things=1, heads=1, out_width=4).eval()
    torch.nn.init.zeros_(part.pair[1].weight)
    torch.nn.init.zeros_(part.pair[1].bias)
    torch.nn.init.zeros_(part.thing)
    torch.nn.init.eye_(part.grown.weight)  # the first two numbers, as they are
    part.among, part.out = torch.nn.Identity(), torch.nn.Identity()  # type: ignore[assignment]
    part.maps = torch.nn.Conv2d(2, 1, 1)
    part.maps.weight.data = torch.tensor([40.0, 0.0])[None, :, None, None]
    torch.nn.init.zeros_(part.maps.bias)
    now, then = torch.full((2, 1, 2, 8, 8), -1.0)
    now[0, 0, :4, :4] = 1.0
    then[0, 0, :2, :2] = 1.0
    made = part(torch.cat([now, now]), torch.cat([then, then]), torch.tensor([True, False])).tokens
    grown = part.SHARPER * (math.log(16 / 64 + 1e-4) - math.log(4 / 64 + 1e-4)) / 3
    assert made[0, 0].tolist() == pytest.approx([grown, grown], rel=1e-4)
    assert made[1, 0].tolist() == [0, 0]


def test_outlines_in_half_precision_are_those_in_whole() -> None:
    part = OutlineTokens(width=8, things=3, heads=2, out_width=6).eval()
    now, then, there = torch.randn(1, 8, 16, 16), torch.randn(1, 8, 16, 16), torch.tensor([True])
    whole = part(now, then, there).tokens
    half = part.bfloat16()(now.bfloat16(), then.bfloat16(), there).tokens
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), whole, atol=0.1)
