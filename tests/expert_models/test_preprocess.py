from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expert_models.preprocess import Letterbox, even_tone, network_input

EXTENTS = st.integers(1, 4000)
BOXES = st.builds(Letterbox, st.tuples(EXTENTS, EXTENTS), st.tuples(st.integers(32, 512), st.integers(32, 512)))


@given(BOXES, st.tuples(st.floats(-0.5, 4000), st.floats(-0.5, 4000)))
@settings(deadline=None)
def test_a_position_survives_the_trip_to_the_frame_and_back(box: Letterbox, position: tuple[float, float]) -> None:
    np.testing.assert_allclose(box.to_source(box.to_frame(position)), [position], atol=1e-6)


@given(BOXES)
@settings(deadline=None)
def test_the_whole_picture_lies_inside_the_frame_and_fills_one_axis(box: Letterbox) -> None:
    corners = np.array([[-0.5, -0.5], [box.source[0] - 0.5, box.source[1] - 0.5]])
    low, high = box.to_frame(corners) + 0.5
    assert (low >= -1e-9).all()
    assert (high <= np.array(box.frame) + 1e-9).all()
    assert np.isclose(high - low, box.frame).any()


@given(st.tuples(st.integers(40, 400), st.integers(40, 400)), st.tuples(st.floats(0.3, 0.7), st.floats(0.3, 0.7)))
@settings(deadline=None, max_examples=40)
def test_a_blob_is_where_it_was_after_laying_and_lifting(source: tuple[int, int], place: tuple[float, float]) -> None:
    rows, columns = np.indices(source)
    centre = [place[0] * source[0], place[1] * source[1]]
    width = min(source) / 12
    blob = np.exp(-(((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / (2 * width**2))).astype(np.float32)
    box = Letterbox(source, (128, 128))
    laid = box.lay(blob)
    np.testing.assert_allclose(_middle(laid), box.to_frame(centre)[0], atol=0.15)
    np.testing.assert_allclose(_middle(box.lift(laid)), centre, atol=0.3 / box.scale)


def test_a_letterbox_by_hand() -> None:
    # 200 x 100 into 100 x 100: half the size, 25 empty columns on either side.
    box = Letterbox((200, 100), (100, 100))
    assert (box.scale, box.offset) == (0.5, (0.0, 25.0))
    np.testing.assert_allclose(box.to_frame([[0.5, 0.5], [199.5, 99.5]]), [[0.0, 25.0], [99.5, 74.5]])
    laid = box.lay(np.ones((200, 100), np.float32))
    assert laid[:, :25].max() == laid[:, 75:].max() == 0
    assert laid[:, 25:75].min() == 1


def test_a_square_shrunk_tenfold_keeps_its_edges() -> None:
    picture = np.zeros((1000, 1000), np.float32)
    picture[200:600, 300:700] = 1
    np.testing.assert_allclose(Letterbox((1000, 1000), (100, 100)).lay(picture)[20:60, 30:70], 1, atol=0.05)


def test_the_tone_does_not_depend_on_the_window_or_a_black_border() -> None:
    picture = np.random.default_rng(0).random((300, 300), dtype=np.float32)
    evened = even_tone(picture)
    assert (evened.min(), evened.max()) == (0, 1)
    np.testing.assert_allclose(even_tone(picture * 0.3 + 0.4), evened, atol=0.03)
    bordered = np.zeros((500, 500), np.float32)
    bordered[100:400, 100:400] = picture * 0.3 + 0.4
    np.testing.assert_allclose(even_tone(bordered)[100:400, 100:400], evened, atol=0.05)
    assert not even_tone(np.full((50, 50), 0.7, np.float32)).any()


def test_what_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="no pixel"):
        Letterbox((0, 10), (64, 64))
    with pytest.raises(ValueError, match="pictures of"):
        Letterbox((10, 10), (64, 64)).lay(np.zeros((11, 10), np.float32))
    with pytest.raises(ValueError, match="frames of"):
        Letterbox((10, 10), (64, 64)).lift(np.zeros((11, 10), np.float32))


def test_the_network_reads_values_from_minus_two_to_two() -> None:
    frame, box = network_input(np.random.default_rng(0).random((90, 120), dtype=np.float32), (64, 96))
    assert frame.shape == (64, 96) == box.frame
    assert -2 <= frame.min() < -1.5
    assert 1.5 < frame.max() <= 2


def _middle(picture: np.ndarray) -> np.ndarray:
    weight = picture / picture.sum()
    return np.array([(index * weight).sum() for index in np.indices(picture.shape)])
