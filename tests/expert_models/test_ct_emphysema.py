from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dicom_io.study import Geometry, Modality, Series, Volume
from expert_models.codes import EMPHYSEMA, EMPHYSEMA_INDEX, LUNG
from expert_models.ct_emphysema import (
    is_incomplete,
    low_attenuation_percent,
    pocket_ml,
    tracheal_air,
    tracheal_noise,
    why_no_index,
)
from expert_models.ct_grid import Grid
from expert_models.ct_lungs import ChestCtLungs, Lungs
from expert_models.finding import Box, Presence, Side

UPRIGHT = np.diag([1.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]]


def upright(shape: tuple[int, int, int], spacing_mm: float) -> Grid:
    affine = UPRIGHT * spacing_mm
    affine[3, 3] = 1.0
    return Grid(shape, Geometry(affine))


def found(noise_hu: float = 10.0, pocket_hu: float = -860.0) -> tuple[Volume, Lungs]:
    """A lung of -860 HU beside a trachea, on a 2.5 mm grid, and the scan of 1.25 mm voxels; a pocket of 43 mL in it."""
    grid = upright((30, 20, 40), 2.5)
    hu = np.full(grid.shape, 40.0, np.float32)
    airways, lung = np.zeros(grid.shape, bool), np.zeros(grid.shape, bool)
    airways[:, 6:14, 2:10] = True
    lung[2:28, 2:18, 14:38] = True
    hu[airways], hu[lung] = -990, -860
    hu[5:20, 4:16, 18:33] = pocket_hu  # 15 x 12 x 15 voxels of 0.0156 mL
    fine = hu.repeat(2, 0).repeat(2, 1).repeat(2, 2) + np.random.default_rng(0).normal(0, noise_hu, (60, 40, 80))
    affine = UPRIGHT * 1.25
    affine[:3, 3] = -0.625
    affine[3, 3] = 1.0
    volume = Volume(np.rint(fine).astype(np.int16), Geometry(affine))
    return volume, Lungs(grid, hu, ((Side.LEFT, lung),), airways)


def whole() -> list[tuple[Box, np.ndarray]]:
    return [(Box((4, 4, 28), (56, 36, 76)), np.ones((52, 32, 48), bool))]


def test_the_low_attenuation_area_by_hand() -> None:
    voxels = np.full((1, 2, 4), -860, np.int16)
    voxels[0, 0, :2] = (-951, -1000)
    voxels[0, 1, 0] = -950  # not below -950
    lung = np.ones((1, 2, 4), bool)
    lung[0, 1, 3] = False
    volume = Volume(voxels, Geometry(np.eye(4)))
    assert low_attenuation_percent(volume, lung, Box((0, 0, 0), (1, 2, 4))) == pytest.approx(100 * 2 / 7)


@pytest.mark.parametrize("noise_hu", [15.0, 60.0])
def test_the_noise_is_that_of_the_trachea(noise_hu: float) -> None:
    volume, lungs = found(noise_hu)
    assert tracheal_noise(volume, lungs.airways, lungs.grid) == pytest.approx(noise_hu, rel=0.15)
    reason = why_no_index(volume, lungs, whole())
    assert (reason is None) if noise_hu < 40 else ("noise of at most 40 HU" in str(reason))


def test_a_pocket_of_air_is_no_emphysema() -> None:
    for pocket_hu, is_air in ((-985.0, True), (-965.0, False)):
        volume, lungs = found(pocket_hu=pocket_hu)
        assert tracheal_air(lungs) == -990
        assert pocket_ml(lungs) == pytest.approx(
            15 * 12 * 15 * 2.5**3 / 1000 if is_air else 0.0, rel=0.08
        )  # its edges are opened
        assert ("pocket of air" in str(why_no_index(volume, lungs, whole()))) is is_air


def test_thick_slices_cut_lungs_and_a_missing_trachea_are_reasons() -> None:
    volume, lungs = found()
    thick = Volume(volume.voxels, Geometry(np.diag([5.0, 1.0, 1.0, 1.0])))
    assert "5.0 mm long" in str(why_no_index(thick, lungs, whole()))
    cut = [(Box((0, 4, 28), (56, 36, 76)), np.ones((56, 32, 48), bool))]  # 24 cm2 in the first slice
    assert is_incomplete(cut[0][1], cut[0][0], volume)
    assert not is_incomplete(whole()[0][1], whole()[0][0], volume)
    assert "shows a part" in str(why_no_index(volume, lungs, cut))
    assert "trachea" in str(why_no_index(volume, replace(lungs, airways=np.zeros_like(lungs.airways)), whole()))


def thorax(spacing_mm: float) -> Series:
    """Two lungs of -860 HU, a trachea, and holes of -965 HU in every fourth slice of the left lung."""
    size = [round(each / spacing_mm) for each in (150, 135, 225)]
    z, y, x = np.meshgrid(*[np.arange(count) * spacing_mm for count in size], indexing="ij")
    hu = np.where(np.hypot((x - 112) / 105, (y - 67) / 62) < 1, 40.0, -1000.0)
    middle = (z > 10) & (z < 140)
    lungs = {side: middle & (np.hypot((x - at) / 38, (y - 67) / 45) < 1) for side, at in (("right", 62), ("left", 162))}
    hu[lungs["right"] | lungs["left"]] = -860
    hu[lungs["left"] & (np.arange(size[0])[:, None, None] % 4 == 0)] = -965
    hu[(np.hypot(x - 112, y - 60) < 9) & (z > 40)] = -1000
    hu += np.random.default_rng(0).normal(0, 4, hu.shape)
    affine = UPRIGHT * spacing_mm
    affine[3, 3] = 1.0
    volume = Volume(np.clip(np.rint(hu), -1024, 3071).astype(np.int16), Geometry(affine))
    return Series("1.2.3", Modality.CT, volume, tuple(f"1.2.3.{k}" for k in range(size[0])))


def test_thin_slices_give_the_index_of_each_lung(masks) -> None:
    findings = ChestCtLungs().examine(thorax(1.5), masks)
    index = {each.side: each.measurement(EMPHYSEMA_INDEX).value for each in findings}
    assert {each.concept for each in findings} == {LUNG}
    assert index[Side.LEFT] == pytest.approx(25.0, abs=1.5)
    assert index[Side.RIGHT] == pytest.approx(0.0, abs=0.3)


def test_thick_slices_give_a_reason_instead(masks) -> None:
    findings = ChestCtLungs().examine(thorax(2.5), masks)
    assert [each.concept for each in findings] == [LUNG, LUNG, EMPHYSEMA]
    assert all(each.measurement(EMPHYSEMA_INDEX) is None for each in findings)
    assert findings[-1].presence is Presence.NOT_ASSESSED
    assert "2.5 mm long" in findings[-1].reason
