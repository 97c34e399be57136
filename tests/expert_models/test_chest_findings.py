from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dicom_io.study import Geometry, Modality, Series, Volume
from expert_models import codes
from expert_models.card import Card, packaged_card
from expert_models.chest_findings import CARD, ChestFindings
from expert_models.finding import Presence, Side
from expert_models.findings_network import FindingsNetwork
from expert_models.findings_reader import FindingsReader, Reading, halves_of_chest
from expert_models.preprocess import Letterbox
from expert_models.train.findings_films import LABELS
from expert_models.train.phantoms import HELD_OUT, phantom_radiograph
from expert_models.train.radiographs import Labelled

PLAIN = {"slope": 1.0, "intercept": 0.0, "absent": 0.2}
NAMES = ("opacity", "effusion", "pneumothorax", "nodule", "mass", "atelectasis", "edema")


class Told(nn.Module):
    """A network that says what it was told: by label, logits right and left; every map is high in one square."""

    def __init__(self, **scores: tuple[float, float]) -> None:
        super().__init__()
        self.scores = [scores.get(name, (-9.0, -9.0)) for name in NAMES]

    def forward(self, pictures: Tensor, sides: Tensor) -> tuple[Tensor, Tensor]:
        maps = torch.full((1, len(NAMES), 64, 64), -9.0)
        maps[:, :, 20:32, 16:24] = 3.0  # in the patient's right lung
        maps[:, :, 40:44, 44:48] = 1.0  # and lower, in the left one
        return maps, torch.tensor(self.scores)[None]


def card() -> Card:
    """The packaged card with plain calibration: a logit is the logit of its probability, alarms ring from 2."""
    measured, learned = ("opacity", "effusion", "edema"), ("pneumothorax", "nodule", "mass")
    plain = {f"{name}_{key}": value for name in measured for key, value in PLAIN.items()}
    plain |= {f"{name}_alarm": 2.0 for name in learned}
    return replace(packaged_card(CARD), calibration=MappingProxyType(plain | {"map_threshold": 0.4}))


@pytest.fixture(scope="module")
def phantom() -> Labelled:
    return phantom_radiograph(HELD_OUT + 4, rows=320, spacing_mm=3.0)


def series_of(labelled: Labelled, **changes: Any) -> Series:
    volume = Volume(labelled.picture[None], Geometry(np.diag([1.0, 1.3, 1.3, 1.0])))
    return replace(Series("1.1", Modality.DX, volume, ("1.1.1",), view=labelled.view), **changes)


def answers(phantom: Labelled, masks: Any, **scores: tuple[float, float]) -> list[tuple[Any, ...]]:
    found = ChestFindings(card=card(), network=Told(**scores)).examine(series_of(phantom), masks)
    return [(each.concept, each.presence, each.side) for each in found]


def test_the_card_has_the_order_of_training() -> None:
    assert tuple(label.name for label in packaged_card(CARD).labels) == LABELS == NAMES
    assert ChestFindings().concepts[:2] == (codes.LUNG_OPACITY, codes.PLEURAL_EFFUSION)


def test_each_side_answers_for_itself(phantom: Labelled, masks: Any) -> None:
    found = answers(phantom, masks, opacity=(2.0, -5.0), effusion=(-1.0, -9.0), edema=(-5.0, 3.0))
    present, possible, absent = Presence.PRESENT, Presence.INDETERMINATE, Presence.ABSENT
    assert [each for each in found if each[1] is not Presence.NOT_ASSESSED] == [
        (codes.LUNG_OPACITY, present, Side.RIGHT),
        (codes.LUNG_OPACITY, absent, Side.LEFT),
        (codes.PLEURAL_EFFUSION, possible, Side.RIGHT),  # 1 / (1 + e) = 0.27
        (codes.PLEURAL_EFFUSION, absent, Side.LEFT),
        (codes.PULMONARY_EDEMA, present, None),
    ]


def test_a_finding_may_be_on_both_sides(phantom: Labelled, masks: Any) -> None:
    both = answers(phantom, masks, effusion=(1.0, 1.0))
    assert (codes.PLEURAL_EFFUSION, Presence.PRESENT, Side.RIGHT) in both
    assert (codes.PLEURAL_EFFUSION, Presence.PRESENT, Side.LEFT) in both


def test_what_was_not_measured_on_real_films_is_told_only_when_strong(phantom: Labelled, masks: Any) -> None:
    expert = ChestFindings(card=card(), network=Told(pneumothorax=(1.9, 1.9), nodule=(-9.0, 2.1)))
    by_concept = {each.concept: each for each in expert.examine(series_of(phantom), masks)}
    air = by_concept[codes.PNEUMOTHORAX]
    assert (air.presence, air.side, air.probability) == (Presence.NOT_ASSESSED, None, None)
    assert "no strong sign" in air.reason
    nodule = by_concept[codes.LUNG_NODULE]
    assert (nodule.presence, nodule.side, nodule.probability) == (Presence.INDETERMINATE, Side.LEFT, None)


def test_what_it_cannot_tell_is_not_assessed_however_high_the_score(phantom: Labelled, masks: Any) -> None:
    expert = ChestFindings(card=card(), network=Told(atelectasis=(9.0, 9.0)))
    (found,) = (e for e in expert.examine(series_of(phantom), masks) if e.concept == codes.ATELECTASIS)
    assert (found.presence, "hardly better than a guess" in found.reason) == (Presence.NOT_ASSESSED, True)


def test_regions_are_on_the_side_that_is_told(phantom: Labelled, masks: Any) -> None:
    expert = ChestFindings(card=card(), network=Told(opacity=(3.0, 3.0), effusion=(-9.0, 3.0)))
    found = expert.examine(series_of(phantom), masks)
    right, left = (each for each in found if each.concept == codes.LUNG_OPACITY)
    (region,) = right.regions
    # 12 x 8 of 64 x 64 on 320 x 320 pixels: 60 x 40, from row 100 and column 80; its edge is between the two levels.
    np.testing.assert_allclose(region.box.start, (0, 100, 80), atol=3)
    np.testing.assert_allclose(region.box.shape, (1, 60, 40), atol=6)
    assert masks.load(region.mask_key).shape == region.box.shape
    (region,) = left.regions
    np.testing.assert_allclose(region.box.centre, (0, 209, 229), atol=3)
    assert [len(each.regions) for each in found if each.presence is Presence.ABSENT] == [0, 0]


def test_nothing_is_said_of_a_picture_without_lungs(masks: Any) -> None:
    noise = np.random.default_rng(0).random((1, 300, 300), dtype=np.float32)
    series = Series("1.1", Modality.DX, Volume(noise, Geometry(np.eye(4))), ("1.1.1",))
    expert = ChestFindings(card=card(), network=Told(opacity=(9.0, 9.0)))
    assert expert.refuses(series) is None
    found = expert.examine(series, masks)
    assert [each.concept for each in found] == list(expert.concepts)
    assert {each.presence for each in found} == {Presence.NOT_ASSESSED}


def test_it_refuses_what_the_chest_radiograph_expert_refuses(phantom: Labelled) -> None:
    expert = ChestFindings(card=card(), network=Told())
    assert "not frontal" in (expert.refuses(series_of(phantom, view="LL")) or "")
    assert "not a radiograph" in (expert.refuses(series_of(phantom, modality=Modality.CT)) or "")


def test_the_network_reads_each_side_by_itself() -> None:
    torch.manual_seed(0)
    network = FindingsNetwork(3, width=16).eval()
    pictures, sides = torch.rand(2, 1, 64, 96), torch.zeros(2, 2, 64, 96)
    sides[:, 0, :, :48] = 1
    sides[:, 1, :, 48:] = 1
    with torch.no_grad():
        maps, logits = network(pictures, sides)
        assert (maps.shape, logits.shape) == ((2, 3, 16, 24), (2, 3, 2))
        exchanged = network(pictures, sides.flip(1))[1]
        both = network(pictures, torch.ones_like(sides))[1]
    torch.testing.assert_close(exchanged, logits.flip(-1))
    torch.testing.assert_close(both[..., 0], both[..., 1])
    assert not torch.allclose(logits[..., 0], logits[..., 1])


def test_the_halves_of_a_chest_by_hand() -> None:
    right, left = np.zeros((100, 100), bool), np.zeros((100, 100), bool)
    right[20:80, 10:40] = True
    left[20:60, 61:91] = True  # shortened by fluid
    halves = halves_of_chest(right, left)
    # 81 columns across: a margin of 5. The left half reaches as low as the right one.
    for half, lung in zip(halves, (right, left), strict=True):
        assert half[lung].all()
        assert (np.flatnonzero(half.any(axis=1))[[0, -1]] == [15, 84]).all()
    assert (np.flatnonzero(halves[0].any(axis=0))[[0, -1]] == [5, 44]).all()
    assert (np.flatnonzero(halves[1].any(axis=0))[[0, -1]] == [56, 95]).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(30, 60), st.integers(3, 20), st.integers(3, 20), st.integers(-8, 8))
def test_the_halves_never_overlap(middle: int, wide: int, other: int, gap: int) -> None:
    right, left = np.zeros((60, 100), bool), np.zeros((60, 100), bool)
    right[10:50, max(0, middle - wide) : middle] = True
    left[15:40, middle + gap : middle + gap + other] = True
    halves = halves_of_chest(right, left)
    assert not (halves[0] & halves[1]).any()
    assert halves[0].any()


def test_a_weak_map_has_a_region_all_the_same() -> None:
    shown = np.full((64, 64), 0.01, np.float32)
    shown[30:40, 10:20] = 0.2  # below the threshold
    halves = np.zeros((2, 64, 64), bool)
    halves[0, :, :32] = True
    reading = Reading({"opacity": (1.0, 0.0)}, {"opacity": shown}, 0.4, halves, Letterbox((64, 64), (64, 64)))
    (region,) = reading.regions("opacity", [0])
    assert (int(region.sum()), bool(region[30:40, 10:20].all())) == (100, True)


def test_the_reader_hands_the_network_the_picture_and_the_halves(phantom: Labelled) -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    class Watching(Told):
        def forward(self, pictures: Tensor, sides: Tensor) -> tuple[Tensor, Tensor]:
            seen.append((pictures, sides))
            return super().forward(pictures, sides)

    reading = FindingsReader(card(), network=Watching(mass=(1.5, -2.0))).read(phantom.picture, *phantom.masks[:2])
    ((pictures, sides),) = seen
    assert (tuple(pictures.shape), tuple(sides.shape)) == ((1, 1, 384, 384), (1, 2, 384, 384))
    assert -2 <= float(pictures.min()) < float(pictures.max()) <= 2
    # The patient's right is the picture's left.
    columns = torch.arange(384.0)
    assert float((sides[0, 0].sum(0) * columns).sum() / sides[0, 0].sum()) < 192
    assert reading.scores["mass"] == (1.5, -2.0)
