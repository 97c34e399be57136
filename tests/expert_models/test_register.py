"""Registration of drawn lungs whose map is known: stretched, moved and bent; and what happens when it fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from dicom_io.study import Geometry, Modality, Series, Study, Volume
from expert_models.codes import HEART, LUNG
from expert_models.finding import Box, ExpertTag, Finding, Presence, Region, Side
from expert_models.register import CT_ERROR_MM, SHARES_ERROR_MM, register

SPACING_MM = 4.0
SHAPE = (56, 56, 72)  # 22 x 22 x 29 cm
Points = npt.NDArray[np.float64]


def same(points_mm: Points) -> Points:
    """A chest that did not move."""
    return points_mm


def breathed(points_mm: Points) -> Points:
    """Current place -> prior's: 8 % taller, moved, and bent by up to 6 mm, as lungs are from breath to breath."""
    x, y, z = points_mm.T
    bend = 6.0 * np.sin(np.pi * z / 220) * np.cos(np.pi * x / 200)
    return np.column_stack([x * 0.97 + 4, y * 0.95 - 3 + bend, z * 0.92 + 6])


def chest(uid: str, masks: Any, drawn_at: Any, *, is_torn: bool = False) -> tuple[Study, list[Finding]]:
    """Two ellipsoid lungs with a lattice of vessels, drawn so that a voxel shows what lies at drawn_at(its place)."""
    affine = np.array([[0, 0, SPACING_MM, -144], [0, SPACING_MM, 0, -112], [SPACING_MM, 0, 0, 0], [0, 0, 0, 1.0]])
    geometry = Geometry(affine, uid)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), -1).reshape(-1, 3)
    x, y, z = drawn_at(geometry.to_patient(index)).T
    hu = np.full(len(index), 40.0)
    found = []
    for number, (side, middle) in enumerate(((Side.RIGHT, -65), (Side.LEFT, 65)), 1):
        inside = ((x - middle) / 48) ** 2 + (y / 85) ** 2 + ((z - 112) / 95) ** 2 < 1
        vessels = sum(np.exp(-((np.mod(each + 9, 34) - 17) ** 2) / 40) for each in (x, y, z))
        hu[inside] = -850 + 250 * vessels[inside]
        mask = inside.reshape(SHAPE)
        if is_torn:  # into cubes of 3 cm, every second one missing
            mask = mask & ((np.indices(SHAPE) // 7).sum(axis=0) % 2 == 0)
        where = np.argwhere(mask)
        box = Box(tuple(where.min(0).tolist()), tuple((where.max(0) + 1).tolist()))
        region = Region(uid, box, f"{uid}.0", masks.save(mask[box.slices]))
        tag = ExpertTag("lungs", "1")
        found.append(Finding(f"f{number}", LUNG, Presence.PRESENT, tag, side=side, regions=(region,)))
    volume = Volume(hu.reshape(SHAPE).astype(np.int16), geometry)
    series = Series(uid, Modality.CT, volume, tuple(f"{uid}.{n}" for n in range(SHAPE[0])))
    return Study(f"2.{uid}", "patient", None, (series,)), found


PLACES = np.array([[-65, 20, 112], [-80, -30, 60], [-50, 30, 160], [65, 0, 80], [80, 40, 130], [55, -40, 150.0]])


def test_lungs_that_breathed_are_aligned_to_within_the_stated_error(masks: Any) -> None:
    current, now = chest("1.1", masks, breathed)
    prior, then = chest("1.2", masks, same)
    made = register(current, now, prior, then, masks)
    off_mm = np.linalg.norm(made.to_prior(PLACES) - breathed(PLACES), axis=1)
    assert (made.error_mm, made.remark) == (CT_ERROR_MM, "")
    assert off_mm.max() < CT_ERROR_MM
    before_mm = np.linalg.norm(PLACES - breathed(PLACES), axis=1)
    assert off_mm.mean() < before_mm.mean() / 4


def test_lungs_that_cannot_cover_one_another_are_not_trusted(masks: Any) -> None:
    """The prior's outlines are torn to pieces: the fit fails its check, and the report says so."""
    current, now = chest("1.1", masks, same)
    prior, then = chest("1.2", masks, same, is_torn=True)
    made = register(current, now, prior, then, masks)
    assert made.error_mm == SHARES_ERROR_MM
    assert "overlap by no more than" in made.remark


def test_without_outlined_lungs_the_whole_picture_takes_their_place(make: Any, masks: Any) -> None:
    now, then = make.study(make.ct("1.2", 20)), make.study(make.ct("1.9", 10), uid="2.0")
    made = register(now, [], then, [], masks)
    assert "not outlined in both" in made.remark
    # 20 slices of 1 cm against 10: the middle lies at 95 mm of 190, and at 45 of 90
    np.testing.assert_allclose(made.to_prior(np.array([[95.0, 95.0, 95.0]])), [[95.0, 95.0, 45.0]])


def organs(make: Any, uid: str, stretch: float, shift: int) -> list[Finding]:
    def box(top: int, left: int, bottom: int, right: int) -> Box:
        ends = [round(each * stretch) + shift for each in (top, left, bottom, right)]
        return Box((0, ends[0], ends[1]), (1, ends[2], ends[3]))

    return [
        make.found(LUNG, number=1, series_uid=uid, side=Side.RIGHT, box=box(20, 20, 140, 80)),
        make.found(LUNG, number=2, series_uid=uid, side=Side.LEFT, box=box(20, 120, 140, 180)),
        make.found(HEART, number=3, series_uid=uid, box=box(90, 70, 150, 140)),
    ]


@pytest.mark.parametrize(("stretch", "shift"), [(1.0, 0), (1.25, 0), (0.75, 10), (1.0, 30)])
def test_films_are_aligned_by_their_organs(make: Any, masks: Any, stretch: float, shift: int) -> None:
    now, then = make.study(make.film()), make.study(make.film("1.9"), uid="2.0")
    made = register(now, organs(make, "1.1", 1.0, 0), then, organs(make, "1.9", stretch, shift), masks)
    assert made.remark == ""
    rows_mm = 0.5  # the pixels of these films
    at = np.array([[0.0, 60 * rows_mm, 100 * rows_mm]])
    expected = np.array([[0.0, (60 * stretch + shift) * rows_mm, (100 * stretch + shift) * rows_mm]])
    np.testing.assert_allclose(made.to_prior(at), expected, atol=1.0)
