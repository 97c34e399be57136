"""What the viewer reads from voxels, on volumes made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from app.workbench.viewer import lungs_extent
from dicom_io.study import Geometry, Volume


@pytest.mark.parametrize(("up_mm", "expected"), [(2.5, (3, 8)), (-2.5, (8, 3))])
def test_the_height_of_the_lungs(up_mm: float, expected: tuple[int, int]) -> None:
    voxels = np.full((12, 32, 32), -1000, dtype=np.int16)
    voxels[:, 4:28, 4:28] = 40
    voxels[3:9, 8:24, 8:24] = -750
    voxels[10, 16, 16] = -750  # a bubble elsewhere is no lung
    affine = np.array([[0, 0, 0.8, 0], [0, 0.8, 0, 0], [up_mm, 0, 0, 0], [0, 0, 0, 1.0]])
    assert lungs_extent(Volume(voxels, Geometry(affine))) == expected


def test_without_lungs_the_whole_stack_counts() -> None:
    affine = np.array([[0, 0, 1.0, 0], [0, 1, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1]])
    voxels = np.full((5, 8, 8), 40, dtype=np.int16)
    assert lungs_extent(Volume(voxels, Geometry(affine))) == (0, 4)
