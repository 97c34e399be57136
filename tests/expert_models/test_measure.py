from __future__ import annotations

import numpy as np
import pytest

from expert_models.measure import cardiothoracic_ratio, dice, horizontal_width, probability_above


def block(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    mask = np.zeros((20, 40), bool)
    mask[top:bottom, left:right] = True
    return mask


def test_a_width_by_hand() -> None:
    # A step: columns 5 to 9 in rows 4 to 5 and columns 8 to 14 in rows 10 to 13: ten columns from 4.5 to 14.5.
    width = horizontal_width(block(4, 6, 5, 10) | block(10, 14, 8, 15))
    assert (width.left, width.right, width.pixels) == (4.5, 14.5, 10.0)
    assert width.row == (4.5 + 11.5) / 2


def test_a_ratio_by_hand() -> None:
    # Lungs from column 2 to 37: 36 wide. Heart from column 12 to 26: 15 wide.
    right, left, heart = block(2, 18, 2, 15), block(2, 18, 22, 38), block(9, 17, 12, 27)
    assert cardiothoracic_ratio(right, left, heart) == pytest.approx(15 / 36)


def test_an_empty_mask_has_no_width() -> None:
    with pytest.raises(ValueError, match="no width"):
        horizontal_width(np.zeros((5, 5), bool))


def test_probability_by_the_normal_table() -> None:
    assert probability_above(0.5, 0.5, 0.0, 0.03) == pytest.approx(0.5)
    assert probability_above(0.5, 0.53, 0.0, 0.03) == pytest.approx(0.8413, abs=1e-4)  # one standard deviation
    assert probability_above(0.5, 0.44, 0.0, 0.03) == pytest.approx(0.0228, abs=1e-4)  # two below
    assert probability_above(0.5, 0.53, 0.03, 0.03) == pytest.approx(0.5)  # measures 0.03 too much


def test_dice_by_hand() -> None:
    assert dice(block(0, 2, 0, 2), block(0, 2, 1, 3)) == pytest.approx(2 * 2 / (4 + 4))
    assert dice(np.zeros((2, 2), bool), np.zeros((2, 2), bool)) == 1
