"""One suite over every adapter of expert_models.ports.Masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.adapters.blobs import FolderMasks, MemoryMasks
from expert_models.errors import MasksUnavailable
from expert_models.ports import Masks


@pytest.fixture(params=["folder", "memory"])
def masks(request: pytest.FixtureRequest, tmp_path: Path) -> Masks:
    return FolderMasks(tmp_path / "masks") if request.param == "folder" else MemoryMasks()


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mask=arrays(np.bool_, st.tuples(*[st.integers(1, 9)] * 3)))
def test_a_mask_comes_back_as_it_went_in_under_one_key(masks: Masks, mask: np.ndarray) -> None:
    key = masks.save(mask)
    assert masks.save(mask.copy()) == key
    np.testing.assert_array_equal(masks.load(key), mask)
    assert masks.load(key).dtype == np.bool_


def test_the_same_bits_in_another_shape_are_another_mask(masks: Masks) -> None:
    assert masks.save(np.ones((1, 2, 8), bool)) != masks.save(np.ones((1, 4, 4), bool))


def test_an_unknown_key_is_a_key_error(masks: Masks) -> None:
    with pytest.raises(KeyError):
        masks.load("0" * 64)


def test_a_folder_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "masks").write_text("in the way")
    with pytest.raises(MasksUnavailable, match="a file stands where a folder is needed"):
        FolderMasks(tmp_path / "masks").save(np.ones((1, 2, 3), bool))
