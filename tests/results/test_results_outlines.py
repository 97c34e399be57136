"""Outlines against hand-drawn masks, and the law that they enclose the mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.results.outlines import outlines


def test_a_square_with_a_hole_by_hand() -> None:
    mask = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=bool)
    outer, hole = outlines(mask)
    assert outer == [(0, 0), (3, 0), (3, 3), (0, 3)]
    assert sorted(hole) == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_pixels_that_touch_at_a_corner_are_kept_apart() -> None:
    assert [len(each) for each in outlines(np.eye(2, dtype=bool))] == [4, 4]


def test_a_volume_is_refused() -> None:
    with pytest.raises(ValueError, match="two axes"):
        outlines(np.zeros((1, 2, 2), dtype=bool))


@settings(deadline=None, max_examples=60)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_filled_by_the_even_odd_rule_they_give_the_mask_back(mask: np.ndarray) -> None:
    filled = np.zeros_like(mask)
    for polygon in outlines(mask):
        for (x0, y0), (x1, y1) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
            if x0 == x1:  # every pixel right of a vertical edge changes sides
                filled[int(min(y0, y1)) : int(max(y0, y1)), int(x0) :] ^= True
    np.testing.assert_array_equal(filled, mask)
