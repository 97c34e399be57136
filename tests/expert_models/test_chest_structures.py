from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dicom_io.study import Geometry, Modality, Series, Volume
from expert_models.card import Card, packaged_card
from expert_models.chest_structures import CARD, ChestStructures, Structures
from expert_models.codes import (
    AIRWAYS,
    CLAVICLE,
    DIAPHRAGM,
    LEFTWARD_SHIFT,
    MILLIMETER,
    PIXEL,
    RIGHTWARD_SHIFT,
)
from expert_models.evaluate_radiographs import MaskShelf
from expert_models.finding import Code, Finding, Presence, Side
from expert_models.measure import middle_of_row, midpoint_between
from expert_models.preprocess import Letterbox
from expert_models.segment import SMALLER, resized

SIZE = 384
Masks = dict[str, np.ndarray]


def block(rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[rows[0] : rows[1], columns[0] : columns[1]] = True
    return mask


def chest(**more: np.ndarray) -> Masks:
    """A chest of rectangles: the inner ends of the clavicles are columns 179 and 210, the carina is at (160, 200)."""
    return {
        "right lung": block((60, 280), (70, 180)),
        "left lung": block((60, 280), (215, 320)),
        "heart": block((180, 290), (170, 260)),
        "airways": block((30, 160), (196, 205)),
        "ribs": block((70, 76), (70, 320)),
        "right clavicle": block((60, 66), (90, 180)),
        "left clavicle": block((60, 66), (210, 300)),
        "abdomen": block((285, 384), (60, 330)),
        "carina": block((155, 166), (195, 206)),
        **{name.replace("_", " "): mask for name, mask in more.items()},
    }


class Seeing(nn.Module):
    """Answers with given masks, shrunk where it is asked about the smaller copy of a picture."""

    def __init__(self, card: Card, masks: Masks) -> None:
        super().__init__()
        blank = np.zeros((SIZE, SIZE), bool)
        self.known = np.stack([masks.get(label.name, blank) for label in card.labels]).astype(np.float32)
        self.asked = 0

    def forward(self, frame: Tensor) -> Tensor:
        self.asked += 1
        shown = self.known if self.asked % 2 else resized(self.known, SMALLER)
        return torch.from_numpy((shown - 0.5) * 40)[None]


@pytest.fixture(scope="module")
def card() -> Card:
    packaged = packaged_card(CARD)
    return replace(packaged, calibration={**packaged.calibration, "least_shift": 0.01})


def examined(card: Card, masks: Masks, *, calibrated: bool = True, column_mm: float = 0.5) -> list[Finding]:
    """On a picture of 768 x 768 pixels of 0.5 mm, so that a pixel of the frame is 1 mm."""
    picture = np.tile(np.linspace(0, 1, 768, dtype=np.float32), (768, 1))
    geometry = Geometry(np.diag([1.0, 0.5, column_mm, 1.0]), is_calibrated=calibrated)
    series = Series("1.1", Modality.DX, Volume(picture[None], geometry), ("1.1.1",), view="AP")
    return list(ChestStructures(card=card, network=Seeing(card, masks)).examine(series, MaskShelf()))


def one(findings: list[Finding], concept: Code, side: Side | None = None) -> Finding:
    (found,) = [each for each in findings if each.concept == concept and each.side is side]
    return found


def test_organs_are_outlined_where_they_are(card: Card) -> None:
    findings = examined(card, chest())
    places = {
        (AIRWAYS, None): (60, 320, 392, 410),
        (CLAVICLE, Side.RIGHT): (120, 132, 180, 360),
        (CLAVICLE, Side.LEFT): (120, 132, 420, 600),
    }
    for (concept, side), (top, bottom, left, right) in places.items():
        finding = one(findings, concept, side)
        box = finding.regions[0].box
        assert finding.presence is Presence.PRESENT
        assert [*box.start[1:], *box.stop[1:]] == pytest.approx([top, left, bottom, right], abs=2)
    diaphragm = one(findings, DIAPHRAGM).regions[0].box
    assert (diaphragm.start[1] + diaphragm.stop[1]) / 2 == pytest.approx(2 * 285, abs=2), (
        "the upper edge of the abdomen"
    )


def test_the_trachea_is_measured_from_between_the_clavicles(card: Card) -> None:
    """By hand: the middle is column (179 + 210) / 2 = 194.5, the trachea's is 200: 5.5 mm, to the patient's left."""
    shift = one(examined(card, chest()), AIRWAYS).measurement(LEFTWARD_SHIFT)
    assert shift is not None
    assert shift.value == pytest.approx(5.5, abs=0.3)
    assert shift.unit == MILLIMETER
    (line,) = shift.lines
    assert [line.start[2], line.stop[2]] == pytest.approx([2 * 194.5 + 0.5, 2 * 200 + 0.5], abs=1)
    moved = chest(airways=block((30, 160), (186, 195)))
    other = one(examined(card, moved), AIRWAYS).measurement(RIGHTWARD_SHIFT)
    assert other is not None
    assert other.value == pytest.approx(4.5, abs=0.3)


def test_lengths_are_in_pixels_where_the_spacing_is_unknown(card: Card) -> None:
    shift = one(examined(card, chest(), calibrated=False), AIRWAYS).measurements[0]
    assert shift.unit == PIXEL
    assert shift.value == pytest.approx(11, abs=0.6)


def read_of(**shown: np.ndarray) -> Structures:
    """A reading of the chest of rectangles, in a frame of its own size, with other maps where they are given."""
    masks = chest() | {name.replace("_", " "): mask for name, mask in shown.items()}
    maps = {name: mask.astype(np.float32) for name, mask in masks.items()}
    return Structures(maps, dict.fromkeys(maps, 0.5), Letterbox((SIZE, SIZE), (SIZE, SIZE)))


def test_specks_are_left_out() -> None:
    line, speck = block((100, 101), (100, 160)), block((300, 303), (20, 23))
    read = read_of(ribs=line | speck, carina=speck)
    assert (read.organ("ribs") == line).all()
    assert not read.part("carina").any()
    assert read.centre("carina") is None


def test_fragments_move_no_length() -> None:
    """A clavicle's fragment across the middle, a second carina: the largest part alone counts."""
    clavicle = chest()["right clavicle"] | block((60, 64), (240, 244))
    broken = read_of(right_clavicle=clavicle, carina=chest()["carina"] | block((250, 255), (100, 105)))
    assert broken.shift() == read_of().shift() == ((111.25, 194.5), (111.25, 200.0))


def test_what_cannot_be_is_not_measured() -> None:
    assert read_of(right_clavicle=block((60, 66), (90, 260))).shift() is None, "the clavicles cross"
    assert read_of(carina=block((30, 41), (195, 206))).shift() is None, "the carina lies above them"


def test_a_shift_that_may_be_an_error_is_not_told(card: Card) -> None:
    strict = replace(card, calibration={**card.calibration, "least_shift": 0.03})
    assert one(examined(strict, chest()), AIRWAYS).measurements == (), "5.5 mm of 250 are 0.022"


def test_lengths_follow_the_shape_of_the_pixels(card: Card) -> None:
    """Columns of 0.25 mm: 5.5 pixels of the frame are 11 of the picture and 2.75 mm."""
    shift = one(examined(card, chest(), column_mm=0.25), AIRWAYS).measurements[0]
    assert shift.value == pytest.approx(2.75, abs=0.2)


def test_a_narrow_picture_is_judged_by_itself(card: Card) -> None:
    """Lungs that are large in a picture of 768 x 240 are small in the frame's 384 x 384."""
    masks = {name: np.zeros((SIZE, SIZE), bool) for name in chest()}
    for name, mask in chest().items():
        masks[name][:, 132:252] = mask[:, 60:300:2][:, :120]
    lungs = masks["right lung"].mean()
    strict = replace(card, calibration={**card.calibration, "smallest_lung": 2 * lungs, "smallest_heart": 0.0})
    picture = np.tile(np.linspace(0, 1, 240, dtype=np.float32), (768, 1))
    assert not isinstance(ChestStructures(card=strict, network=Seeing(card, masks)).read(picture), str)


def test_a_picture_without_lungs_is_not_assessed(card: Card) -> None:
    nothing = {name: mask for name, mask in chest().items() if "lung" not in name}
    findings = examined(card, nothing)
    assert {each.presence for each in findings} == {Presence.NOT_ASSESSED}
    assert [each.concept for each in findings] == [AIRWAYS, CLAVICLE, DIAPHRAGM]


def test_what_is_not_seen_is_not_assessed_alone(card: Card) -> None:
    gone = ("abdomen", "carina", "left clavicle")
    findings = examined(card, {name: mask for name, mask in chest().items() if name not in gone})
    assert one(findings, DIAPHRAGM).presence is Presence.NOT_ASSESSED
    assert one(findings, CLAVICLE, Side.LEFT).presence is Presence.NOT_ASSESSED
    assert one(findings, CLAVICLE, Side.RIGHT).presence is Presence.PRESENT
    assert one(findings, AIRWAYS).measurements == (), "without a carina nothing says where to measure"


def test_there_is_no_middle_without_both_clavicles() -> None:
    bone = block((60, 66), (90, 180))
    assert midpoint_between(bone, block((0, 0), (0, 0))) is None
    assert midpoint_between(bone, block((70, 80), (210, 300))) == (pytest.approx((62.5 + 74.5) / 2), 194.5)
    assert middle_of_row(bone, 200) is None
    assert middle_of_row(bone, 62.4) == pytest.approx(134.5)
