"""The laws of the nouns."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_io.study import Geometry, Modality, Series, Study, Volume

VOXELS = np.zeros((3, 4, 5), dtype=np.int16)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    """Any rotation, spacings of 0.1 to 10 mm, any gantry tilt up to 30 degrees, any origin in a scanner's room."""
    angles = draw(st.tuples(*[st.floats(-np.pi, np.pi)] * 3))
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [i for i in range(3) if i != axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ turn
    shear = np.eye(3)
    shear[1, 0] = np.tan(draw(st.floats(-np.pi / 6, np.pi / 6)))
    spacing = draw(st.tuples(*[st.floats(0.1, 10.0)] * 3))
    affine = np.eye(4)
    affine[:3, :3] = rotation @ shear @ np.diag(spacing)
    affine[:3, 3] = draw(st.tuples(*[st.floats(-1000, 1000)] * 3))
    return Geometry(affine)


@settings(deadline=None)
@given(geometries(), st.tuples(*[st.integers(0, 511)] * 3))
def test_index_survives_the_trip_to_the_patient_and_back(geometry: Geometry, index: tuple[int, int, int]) -> None:
    there_mm = geometry.to_patient([index])
    np.testing.assert_allclose(geometry.to_index(there_mm), [index], atol=1e-6)


def test_an_axial_index_by_hand() -> None:
    # First voxel at (-100, -100, 50) mm; pixels 0.5 mm; slices 2 mm apart, going up.
    geometry = Geometry(np.array([[0, 0, 0.5, -100], [0, 0.5, 0, -100], [2, 0, 0, 50], [0, 0, 0, 1.0]]))
    np.testing.assert_allclose(geometry.to_patient([[3, 10, 20]]), [[-90.0, -95.0, 56.0]])
    assert geometry.spacing_mm == (2.0, 0.5, 0.5)
    assert geometry.voxel_ml == pytest.approx(2.0 * 0.5 * 0.5 / 1000)


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.eye(3), np.full((4, 4), np.nan), np.diag([1.0, 0, 1, 1])])
def test_a_geometry_that_cannot_be_is_refused(affine: np.ndarray) -> None:
    with pytest.raises(ValueError, match="geometry needs"):
        Geometry(affine)


def test_a_geometry_cannot_be_changed_through_the_array_it_was_made_of() -> None:
    affine = np.eye(4)
    geometry = Geometry(affine)
    affine[0, 0] = 7
    assert geometry.affine[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        geometry.affine[0, 0] = 7


@pytest.mark.parametrize(
    "voxels",
    [
        np.zeros((4, 5), dtype=np.int16),
        np.zeros((0, 4, 5), dtype=np.int16),
        np.zeros((1, 4, 5), dtype=np.float64),
        np.zeros((2, 4, 5), dtype=np.float32),
        np.full((1, 4, 5), 1.5, dtype=np.float32),
        np.full((1, 4, 5), np.nan, dtype=np.float32),
    ],
)
def test_a_volume_that_cannot_be_is_refused(voxels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"volume|radiograph"):
        Volume(voxels, Geometry(np.eye(4)))


def test_a_series_has_one_source_per_slice() -> None:
    volume = Volume(VOXELS, Geometry(np.eye(4)))
    assert Series("1.2", Modality.CT, volume, ("a", "b", "c")).volume.shape == (3, 4, 5)
    with pytest.raises(ValueError, match="2 source instances for 3 slices"):
        Series("1.2", Modality.CT, volume, ("a", "b"))


def test_a_prior_is_of_the_same_patient_and_series_are_found_by_uid() -> None:
    series = Series("1.2", Modality.CT, Volume(VOXELS, Geometry(np.eye(4))), ("a", "b", "c"))
    study = Study("1", "patient", datetime(2024, 1, 1), (series,))
    assert list(study) == [series]
    assert study.series_of("1.2") is series
    with pytest.raises(KeyError):
        study.series_of("1.3")
    with pytest.raises(ValueError, match="same patient"):
        Study("2", "another", None, (series,), priors=(study,))
