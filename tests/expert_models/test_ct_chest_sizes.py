from __future__ import annotations

import numpy as np
import pytest

from dicom_io.study import Geometry
from expert_models.ct_chest_sizes import (
    effusion_depth,
    greatest_width,
    longest_run,
    outermost,
)
from expert_models.ct_grid import Grid


def upright(shape: tuple[int, int, int], spacing_mm: float) -> Grid:
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = spacing_mm
    affine[3, 3] = 1.0
    return Grid(shape, Geometry(affine))


def test_edges_lie_between_samples_by_hand() -> None:
    # Crosses 0 a quarter of the way from 1 (at 2) to -3 (at 1), and two thirds of the way from 2 (at 4) to -1 (at 5).
    profile = np.array([-3, -3, 1, 4, 2, -1, -1, 3], np.float32)
    assert longest_run(profile) == pytest.approx((2 - 0.25, 4 + 2 / 3))
    assert outermost(profile) == pytest.approx((2 - 0.25, 7.5))  # the last sample has no neighbour: half a sample on
    assert longest_run(np.full(4, -1, np.float32)) is None


def test_the_depth_of_fluid_is_read_in_the_middle_of_its_cavity() -> None:
    grid = upright((10, 20, 30), 4.0)
    cavity = np.zeros(grid.shape, bool)
    cavity[:, :, 10:21] = True  # the midclavicular line is column 15
    fluid = np.full(grid.shape, -1, np.float32)
    fluid[3:6, 12:18, 10:21] = 1  # 6 rows of 4 mm
    fluid[4, 5:18, 10:13] = 1  # deeper, but beside the line
    depth = effusion_depth(fluid, cavity, grid)
    assert depth is not None
    assert depth.length_mm == pytest.approx(24.0)
    assert depth.start_mm == pytest.approx([60.0, 46.0, 12.0])  # column 15, row 11.5, slice 3
    assert effusion_depth(-np.abs(fluid), cavity, grid) is None


def test_the_heart_is_as_wide_as_in_its_widest_slice() -> None:
    grid = upright((10, 20, 30), 4.0)
    heart = np.full(grid.shape, -1, np.float32)
    heart[2, 8:12, 5:15] = 1
    heart[5, 6:8, 4:10] = 1
    heart[5, 12:14, 10:20] = 1  # columns 4 to 19 in slice 5: 16 of 4 mm
    width = greatest_width(heart, grid)
    assert width is not None
    assert width.length_mm == pytest.approx(64.0)
    assert width.start_mm[2] == width.stop_mm[2] == 20.0
    assert greatest_width(np.full(grid.shape, -1, np.float32), grid) is None
