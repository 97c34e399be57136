from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dicom_io.study import Geometry, Modality, Series, Volume
from expert_models.card import packaged_card
from expert_models.chest_radiograph import CARD, ChestRadiograph, centre, doubt_of_heart, doubt_of_lungs
from expert_models.codes import (
    CARDIAC_DIAMETER,
    CARDIOMEGALY,
    CARDIOTHORACIC_RATIO,
    HEART,
    LUNG,
    LUNG_AREA_RATIO,
    MILLIMETER,
    PIXEL,
    THORACIC_DIAMETER,
)
from expert_models.finding import Finding, Presence, Side
from expert_models.measure import dice
from expert_models.segment import Segmented, Segmenter
from expert_models.train.phantoms import HELD_OUT, phantom_radiograph
from expert_models.train.radiographs import Labelled

SEED = HELD_OUT + 4


@pytest.fixture(scope="module")
def expert() -> ChestRadiograph:
    return ChestRadiograph()


@pytest.fixture(scope="module")
def phantom() -> Labelled:
    return phantom_radiograph(SEED, rows=320, spacing_mm=3.0)


def series_of(labelled: Labelled, **changes: Any) -> Series:
    geometry = Geometry(np.diag([1.0, 1.3, 1.3, 1.0]))
    return replace(
        Series("1.1", Modality.DX, Volume(labelled.picture[None], geometry), ("1.1.1",), view=labelled.view), **changes
    )


@pytest.fixture(scope="module")
def examined(expert: ChestRadiograph, phantom: Labelled) -> tuple[list[Finding], dict[str, np.ndarray]]:
    class Kept(dict[str, np.ndarray]):
        def save(self, mask: np.ndarray) -> str:
            self[str(len(self))] = mask
            return str(len(self) - 1)

        def load(self, key: str) -> np.ndarray:
            return self[key]

    kept = Kept()
    return list(expert.examine(series_of(phantom), kept)), kept


def test_lungs_and_heart_of_an_unseen_phantom_are_outlined(examined: Any, phantom: Labelled) -> None:
    findings, kept = examined
    assert [(each.concept, each.side) for each in findings] == [
        (LUNG, Side.RIGHT),
        (LUNG, Side.LEFT),
        (HEART, None),
        (CARDIOMEGALY, None),
    ]
    true_ratio = phantom.masks[0].sum() / phantom.masks[1].sum()
    right, left = (each.measurement(LUNG_AREA_RATIO) for each in findings[:2])
    assert right is not None
    assert left is not None
    assert right.value == pytest.approx(true_ratio, rel=0.05)
    assert left.value == pytest.approx(1 / right.value)
    for finding, truth in zip(findings, phantom.masks, strict=False):
        (region,) = finding.regions
        crop = kept[region.mask_key]
        assert crop.shape == region.box.shape
        mask = np.zeros((1, *phantom.picture.shape), bool)
        mask[region.box.slices] = crop
        assert dice(mask[0], truth) > 0.9
        # The box is as tight as it can be.
        assert crop.any(axis=(0, 1))[[0, -1]].all()
        assert crop.any(axis=(0, 2))[[0, -1]].all()


def test_the_ratio_is_that_of_its_two_lines_and_near_the_truth(examined: Any, phantom: Labelled) -> None:
    ratio = examined[0][3].measurement(CARDIOTHORACIC_RATIO)
    cardiac, thoracic = (line.stop[2] - line.start[2] for line in ratio.lines)
    assert ratio.value == pytest.approx(cardiac / thoracic)
    heart, lungs = phantom.masks[2], phantom.masks[0] | phantom.masks[1]
    widths = [np.ptp(np.flatnonzero(mask.any(axis=0))) + 1 for mask in (heart, lungs)]
    assert ratio.value == pytest.approx(widths[0] / widths[1], abs=0.03)


def test_diameters_are_in_mm_only_where_the_spacing_is_known(
    examined: Any, expert: ChestRadiograph, phantom: Labelled, masks: Any
) -> None:
    heart = examined[0][2]
    for code in (CARDIAC_DIAMETER, THORACIC_DIAMETER):
        measured = heart.measurement(code)
        (line,) = measured.lines
        assert measured.unit == MILLIMETER
        assert measured.value == pytest.approx((line.stop[2] - line.start[2]) * 1.3)
    bare = series_of(phantom, volume=Volume(phantom.picture[None], Geometry(np.eye(4), is_calibrated=False)))
    measured = expert.examine(bare, masks)[2].measurement(CARDIAC_DIAMETER)
    assert measured is not None
    assert (measured.unit, measured.value) == (PIXEL, measured.lines[0].stop[2] - measured.lines[0].start[2])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"modality": Modality.CT}, "not a radiograph"),
        ({"view": "LL"}, "the view LL is not frontal"),
        ({"body_part": "HAND"}, "the body part is given as HAND"),
        ({"volume": Volume(np.zeros((1, 300, 300), np.float32), Geometry(np.eye(4)))}, "blank"),
        ({"volume": Volume(np.full((1, 300, 300), 0.6, np.float32), Geometry(np.eye(4)))}, "blank"),
        ({"volume": Volume(np.ones((1, 64, 300), np.float32), Geometry(np.eye(4)))}, "only 64 x 300 pixels"),
    ],
)
def test_what_is_refused_and_why(expert: ChestRadiograph, phantom: Labelled, changes: Any, reason: str) -> None:
    assert reason in (expert.refuses(series_of(phantom, **changes)) or "")


@pytest.mark.parametrize("changes", [{"view": None}, {"view": "AP"}, {"body_part": "CHEST"}, {"body_part": "ТОРАКС"}])
def test_what_is_accepted(expert: ChestRadiograph, phantom: Labelled, changes: Any) -> None:
    assert expert.refuses(series_of(phantom, **changes)) is None


def noise() -> np.ndarray:
    return np.random.default_rng(0).random((300, 300), dtype=np.float32)


def gradient() -> np.ndarray:
    return np.tile(np.linspace(0, 1, 300, dtype=np.float32), (300, 1))


def fingers() -> np.ndarray:
    picture = np.zeros((400, 300), np.float32)
    picture[200:380, 60:240] = 0.7
    for left in (60, 110, 160, 210):
        picture[40:220, left : left + 28] = 0.8
    return picture


@pytest.mark.parametrize("draw", [noise, gradient, fingers])
def test_a_picture_without_two_lungs_gives_no_answer(expert: ChestRadiograph, masks: Any, draw: Any) -> None:
    series = Series("1.1", Modality.DX, Volume(draw()[None], Geometry(np.eye(4))), ("1.1.1",))
    findings = expert.examine(series, masks)
    assert [each.concept for each in findings] == list(expert.concepts)
    assert {each.presence for each in findings} == {Presence.NOT_ASSESSED}


def test_the_limit_depends_on_the_view(expert: ChestRadiograph) -> None:
    limits = packaged_card(CARD).calibration
    bias = limits["ratio_bias"]
    assert expert.probability_enlarged(limits["limit_pa"] + bias, "PA") == pytest.approx(0.5)
    assert expert.probability_enlarged(limits["limit_ap"] + bias, "AP Supine") == pytest.approx(0.5)
    by_view = [expert.probability_enlarged(0.52, view) for view in ("AP", None, "PA")]
    assert by_view == sorted(by_view)
    assert by_view[1] == pytest.approx((by_view[0] + by_view[2]) / 2)


def shapes(**moved: tuple[int, int]) -> Segmented:
    places = {"right lung": (50, 20), "left lung": (50, 80), "heart": (60, 50)} | moved
    masks = {}
    for name, (row, column) in places.items():
        masks[name] = np.zeros((100, 100), bool)
        masks[name][row - 12 : row + 12, column - 12 : column + 12] = True
    return Segmented(masks, dict.fromkeys(masks, 0.95), dict.fromkeys(masks, 0.97))


def test_plausible_anatomy_by_hand() -> None:
    limits = {"smallest_lung": 0.02, "smallest_heart": 0.01, "lowest_confidence": 0.75, "lowest_agreement": 0.9}
    assert doubt_of_lungs(shapes(), limits) is None
    assert doubt_of_heart(shapes(), limits) is None
    assert "between the two lungs" in (doubt_of_lungs(shapes(heart=(60, 85)), limits) or "")
    assert "upside down" in (doubt_of_lungs(shapes(heart=(40, 50)), limits) or "")
    unsure = replace(shapes(), confidence={"right lung": 0.9, "left lung": 0.6, "heart": 0.9})
    for doubt in (doubt_of_lungs, doubt_of_heart):
        assert "left lung is too uncertain" in (doubt(unsure, limits) or "")
    torn = replace(shapes(), agreement={"right lung": 0.97, "left lung": 0.97, "heart": 0.8})
    assert doubt_of_lungs(torn, limits) is None
    assert "heart is too uncertain" in (doubt_of_heart(torn, limits) or "")
    for name in ("right lung", "heart"):
        empty = shapes()
        empty.masks[name][:] = False  # type: ignore[index]
        assert f"no {name}" in (doubt_of_lungs(empty, limits) or "")


def test_sure_lungs_stand_beside_a_heart_that_is_not(phantom: Labelled, masks: Any) -> None:
    card = packaged_card(CARD)
    agreement = Segmenter(card).segment(phantom.picture).agreement
    lungs = min(agreement["right lung"], agreement["left lung"])
    assert agreement["heart"] < lungs
    strict = replace(card, calibration={**card.calibration, "lowest_agreement": (agreement["heart"] + lungs) / 2})
    findings = ChestRadiograph(card=strict).examine(series_of(phantom), masks)
    assert [(each.id, each.concept, each.side, each.presence) for each in findings] == [
        ("f1", LUNG, Side.RIGHT, Presence.PRESENT),
        ("f2", LUNG, Side.LEFT, Presence.PRESENT),
        ("f3", HEART, None, Presence.NOT_ASSESSED),
        ("f4", CARDIOMEGALY, None, Presence.NOT_ASSESSED),
    ]
    for finding, truth in zip(findings[:2], phantom.masks, strict=False):
        (region,) = finding.regions
        assert dice(masks.load(region.mask_key)[0], truth[region.box.slices[1:]]) > 0.9
    assert [each.reason for each in findings[2:]] == ["the outline of the heart is too uncertain to be measured"] * 2
    assert not findings[2].measurements


def test_the_centre_of_a_mask_by_hand() -> None:
    mask = np.zeros((10, 10), bool)
    mask[2:4, 5:8] = True
    assert centre(mask) == (2.5, 6.0)
