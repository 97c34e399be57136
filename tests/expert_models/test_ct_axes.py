from __future__ import annotations

import numpy as np
import pytest

from dicom_io.study import Geometry
from expert_models.ct_axes import axes_of
from expert_models.finding import Box


def affine(slice_mm: float, row_mm: float, column_mm: float) -> np.ndarray:
    matrix = np.zeros((4, 4))
    matrix[[2, 1, 0, 3], [0, 1, 2, 3]] = slice_mm, row_mm, column_mm, 1.0
    return matrix


def ellipsoid(semi_mm: tuple[float, float, float], spacing: tuple[float, float, float]) -> np.ndarray:
    half = [int(np.ceil(s / d)) + 2 for s, d in zip(semi_mm, spacing, strict=True)]
    axes = [np.arange(-h, h + 1) * d / s for h, d, s in zip(half, spacing, semi_mm, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return z**2 + y**2 + x**2 <= 1.0


@pytest.mark.parametrize("spacing", [(1.0, 0.5, 0.5), (5.0, 0.7, 0.7), (2.0, 0.5, 0.8)])
def test_an_ellipsoid_has_twice_its_semi_axes(spacing: tuple[float, float, float]) -> None:
    mask = ellipsoid((8.0, 6.0, 10.0), spacing)
    box = Box((3, 4, 5), tuple(a + b for a, b in zip((3, 4, 5), mask.shape, strict=True)))
    long_axis, short_axis = axes_of(mask, box, Geometry(affine(*spacing)))
    pixel_mm = max(spacing[1:])
    assert long_axis.length_mm == pytest.approx(20.0, abs=1.1 * pixel_mm)
    assert short_axis.length_mm == pytest.approx(12.0, abs=1.1 * pixel_mm)
    assert long_axis.start[0] == 3 + mask.shape[0] // 2  # the middle slice is the widest


def test_a_rectangle_by_hand() -> None:
    # Three by one pixels of 1 mm: the diagonal is sqrt(10) mm, its ends lie on pixel corners.
    mask = np.ones((1, 1, 3), bool)
    long_axis, _ = axes_of(mask, Box((0, 0, 0), (1, 1, 3)), Geometry(affine(1, 1, 1)))
    assert long_axis.length_mm == pytest.approx(np.sqrt(10.0))
    ends = np.abs(np.array(long_axis.stop) - np.array(long_axis.start))
    np.testing.assert_allclose(ends, [0, 1, 3])


def test_the_lines_are_as_long_as_their_lengths() -> None:
    spacing = (2.0, 0.6, 0.9)
    mask = ellipsoid((5.0, 4.0, 9.0), spacing)
    geometry = Geometry(affine(*spacing))
    for axis in axes_of(mask, Box((0, 0, 0), mask.shape), geometry):
        start_mm, stop_mm = geometry.to_patient([axis.start, axis.stop])
        assert np.linalg.norm(stop_mm - start_mm) == pytest.approx(axis.length_mm)


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="no axes"):
        axes_of(np.zeros((2, 2, 2), bool), Box((0, 0, 0), (2, 2, 2)), Geometry(np.eye(4)))
