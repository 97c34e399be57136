from __future__ import annotations

import numpy as np
import pytest

from dicom_io.study import Geometry, Volume
from expert_models.ct_grid import OUTSIDE_HU, resample, upright_grid

UPRIGHT = np.array([[0, 0, 2.0, -20], [0, 2.0, 0, -30], [3.0, 0, 0, 100], [0, 0, 0, 1.0]])
FEET_FIRST = np.array([[0, 0, -2.0, 18], [0, 2.0, 0, -30], [-3.0, 0, 0, 127], [0, 0, 0, 1.0]])
ANGLE = np.deg2rad(15)
TILTED = np.array(
    [
        [0, 0, 2.0, -20],
        [0, 2.0 * np.cos(ANGLE), 0, -30],
        [3.0, 2.0 * np.sin(ANGLE), 0, 100],
        [0, 0, 0, 1.0],
    ]
)


def ramp(affine: np.ndarray, shape: tuple[int, int, int]) -> Volume:
    """HU = 10 x - 5 y + 2 z of each voxel's place: linear interpolation must give it back anywhere inside."""
    index = np.argwhere(np.ones(shape, bool))
    mm = Geometry(affine).to_patient(index)
    hu = mm @ [10.0, -5.0, 2.0]
    return Volume(np.rint(hu).reshape(shape).astype(np.int16), Geometry(affine))


@pytest.mark.parametrize("affine", [UPRIGHT, FEET_FIRST, TILTED], ids=["upright", "feet first", "tilted gantry"])
@pytest.mark.parametrize("spacing_mm", [1.0, 4.5])
def test_every_value_lies_where_the_patient_has_it(affine: np.ndarray, spacing_mm: float) -> None:
    volume = ramp(affine, (10, 16, 20))
    grid = upright_grid(volume, spacing_mm)
    values = resample(volume.voxels, volume.geometry, grid)
    index = np.argwhere(values > OUTSIDE_HU + 1)
    back = volume.geometry.to_index(grid.geometry.to_patient(index))
    inner = np.all((back > 1.5) & (back < np.array(volume.shape) - 2.5), axis=1)
    expected = grid.geometry.to_patient(index[inner]) @ [10.0, -5.0, 2.0]
    assert inner.sum() > 20
    np.testing.assert_allclose(values[tuple(index[inner].T)], expected, atol=1.5)  # the ramp was rounded to HU


def test_beyond_the_scan_there_is_no_data() -> None:
    volume = ramp(TILTED, (10, 16, 20))
    grid = upright_grid(volume, 2.0)
    values = resample(volume.voxels, volume.geometry, grid)
    back = volume.geometry.to_index(grid.geometry.to_patient(np.argwhere(np.ones(grid.shape, bool))))
    beyond = np.any((back < -0.6) | (back > np.array(volume.shape) - 0.4), axis=1)
    assert np.all(values.ravel()[beyond] == OUTSIDE_HU)


def test_a_part_outside_is_refused() -> None:
    volume = ramp(UPRIGHT, (10, 16, 20))
    with pytest.raises(ValueError, match="outside"):
        upright_grid(volume, 1.0, (np.full(3, 900.0), np.full(3, 950.0)))
