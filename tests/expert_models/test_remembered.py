from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dicom_io.study import Geometry, Volume
from expert_models.codes import LUNG
from expert_models.finding import ExpertTag
from expert_models.remembered import Remembered, fingerprint, software


def test_the_same_pixels_under_the_same_expert_have_one_key(make: Any) -> None:
    assert fingerprint(make.expert(), make.film()) == fingerprint(make.expert(), make.film())
    assert len(fingerprint(make.expert(), make.film())) == 64


@pytest.mark.parametrize(
    "changes",
    [
        {"uid": "1.9"},
        {"source": ("1.9.1",)},
        {"view": "AP"},
        {"body_part": "CHEST"},
        {"age_years": 40},
    ],
)
def test_whatever_the_findings_depend_on_changes_the_key(make: Any, changes: Any) -> None:
    film = make.film()
    assert fingerprint(make.expert(), replace(film, **changes)) != fingerprint(make.expert(), film)


def test_pixels_geometry_and_expert_change_the_key(make: Any) -> None:
    film = make.film()
    known = fingerprint(make.expert(), film)
    voxels = film.volume.voxels.copy()
    voxels[0, 0, 0] = np.nextafter(voxels[0, 0, 0], 1)
    turned = voxels.reshape(1, 128, 512)
    others = [
        Volume(voxels, film.volume.geometry),
        Volume(turned, film.volume.geometry),
        Volume(film.volume.voxels, Geometry(film.volume.geometry.affine, is_calibrated=False)),
        Volume(film.volume.voxels, Geometry(np.diag([1.0, 0.6, 0.5, 1.0]))),
    ]
    keys = {fingerprint(make.expert(), replace(film, volume=each)) for each in others}

    class Other(make.expert):  # type: ignore[misc]
        tag = ExpertTag("fake", "1", "other weights")

    elsewhere = make.expert()
    elsewhere.made_of = "another card"
    keys |= {fingerprint(each, film) for each in (make.expert("b"), Other(), elsewhere)}
    assert len(keys | {known}) == 8


def test_the_software_is_known_by_its_content() -> None:
    assert len(software()) == 64


def test_the_newest_are_remembered(make: Any) -> None:
    memory = Remembered(most=2)
    for key in "ab":
        memory.save(key, [make.found(LUNG)])
    assert memory.load("a") is not None
    memory.save("c", [])
    assert memory.load("b") is None
    assert memory.load("a") == (make.found(LUNG),)
    assert memory.load("c") == ()
