"""Synthetic patients: repeatable, anatomically placed, and labelled with what was really drawn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from dicom_io.phantom.patient import LesionKind, Patient, draw_patient

COARSE = 4.0
CHANGING = [LesionKind.NODULE, LesionKind.MASS, LesionKind.EFFUSION, LesionKind.CARDIOMEGALY, LesionKind.CONSOLIDATION]


@pytest.fixture(scope="module")
def healthy() -> Patient:
    return draw_patient(5, spacing_mm=COARSE, kinds=[])


@pytest.fixture(scope="module")
def serial() -> list[Patient]:
    return [draw_patient(seed, visits=3, spacing_mm=COARSE, kinds=CHANGING) for seed in (11, 12, 13)]


def test_the_same_seed_gives_the_same_bytes(healthy: Patient) -> None:
    again = draw_patient(5, spacing_mm=COARSE, kinds=[])
    assert again.visits[0].hu.tobytes() == healthy.visits[0].hu.tobytes()
    assert again.visits[0].geometry == healthy.visits[0].geometry
    for name, mask in healthy.visits[0].structures.items():
        assert again.visits[0].structures[name].tobytes() == mask.tobytes(), name


def test_another_seed_gives_another_patient(healthy: Patient) -> None:
    other = draw_patient(6, spacing_mm=COARSE, kinds=[]).visits[0]
    assert other.hu.shape != healthy.visits[0].hu.shape or not np.array_equal(other.hu, healthy.visits[0].hu)


@pytest.mark.parametrize("kind", list(LesionKind))
def test_a_kind_asked_for_is_drawn_and_measured_on_its_own_mask(kind: LesionKind) -> None:
    visit = draw_patient(21, spacing_mm=COARSE, kinds=[kind]).visits[0]
    assert [lesion.kind for lesion in visit.lesions] == [kind]
    lesion = visit.lesions[0]
    voxel_ml = 4.0 * 4.0 * 4.0 / 1000
    assert lesion.volume_ml == pytest.approx(lesion.on_grid(visit.hu.shape).sum() * voxel_ml)
    assert lesion.long_axis_mm >= lesion.short_axis_mm > 0
    assert lesion.mask.any(axis=(1, 2))[[0, -1]].all(), "the box is as small as the mask allows"


def test_a_mass_has_the_same_volume_on_every_grid() -> None:
    coarse, fine = (
        draw_patient(8, spacing_mm=spacing, kinds=[LesionKind.MASS]).visits[0].lesions[0]
        for spacing in (COARSE, (2.5, 4.0, 2.5))
    )
    assert coarse.volume_ml == pytest.approx(fine.volume_ml, rel=0.02)
    assert coarse.long_axis_mm == pytest.approx(fine.long_axis_mm, abs=9)


def test_nothing_lies_outside_the_body(healthy: Patient, serial: list[Patient]) -> None:
    for visit in [healthy.visits[0], *serial[0].visits]:
        body = np.stack([ndimage.binary_fill_holes(plane > -500) for plane in visit.hu])
        outside = ~ndimage.binary_dilation(body)
        for name, mask in visit.structures.items():
            assert not (mask & outside)[2:-2].any(), name
        for lesion in visit.lesions:
            assert not (lesion.on_grid(visit.hu.shape) & outside).any(), lesion.tracking_id


def test_organs_have_the_attenuation_of_their_tissue(healthy: Patient) -> None:
    visit = healthy.visits[0]
    expected_hu = {"heart": (20, 70), "aorta": (20, 70), "liver": (40, 75), "left_lung": (-930, -690)}
    for name, (low, high) in expected_hu.items():
        assert low < np.median(visit.hu[visit.structures[name]]) < high, name
    assert np.median(visit.hu[visit.structures["ribs"]]) > 150


def test_an_adult_holds_litres_of_air_and_its_heart_points_left(healthy: Patient) -> None:
    visit = healthy.visits[0]
    lungs_ml = sum(visit.structures[f"{side}_lung"].sum() for side in ("right", "left")) * visit.geometry.voxel_ml
    assert 2500 < lungs_ml < 8000
    middle = {
        name: visit.geometry.to_patient(np.argwhere(visit.structures[name])).mean(axis=0)
        for name in ("heart", "spine", "left_lung", "right_lung", "sternum", "liver")
    }
    assert middle["left_lung"][0] > middle["heart"][0] > middle["spine"][0] > middle["right_lung"][0]
    assert middle["sternum"][1] < middle["heart"][1] < middle["spine"][1], "y grows to the back"
    assert middle["liver"][2] < middle["heart"][2], "z grows to the head"


def test_change_labels_agree_with_the_volumes(serial: list[Patient]) -> None:
    seen = set()
    for patient in serial:
        for before, after in zip(patient.visits[:-1], patient.visits[1:], strict=True):
            was = {lesion.tracking_id: lesion.volume_ml for lesion in before.lesions}
            now = {lesion.tracking_id: lesion.volume_ml for lesion in after.lesions}
            assert set(after.changes) == set(was) | set(now)
            for name, change in after.changes.items():
                seen.add(change)
                if change in ("new", "resolved"):
                    assert (name in was, name in now) == (change == "resolved", change == "new")
                    continue
                growth = now[name] / was[name]
                low, high = {"larger": (1.12, 9), "stable": (0.85, 1.17), "smaller": (0, 0.88)}[change]
                assert low < growth < high, (name, change, growth)
            assert after.acquired_on > before.acquired_on
        assert not patient.visits[0].changes
    assert len(seen) >= 4


def test_a_prior_is_not_the_same_picture(serial: list[Patient]) -> None:
    first, second = serial[0].visits[:2]
    assert first.hu.shape != second.hu.shape or not np.array_equal(first.hu, second.hu)


def test_a_lesion_lies_on_its_side(serial: list[Patient]) -> None:
    for visit in (visit for patient in serial for visit in patient.visits):
        spine_x = visit.geometry.to_patient(np.argwhere(visit.structures["spine"])).mean(axis=0)[0]
        for lesion in visit.lesions:
            if lesion.side is not None:
                voxels = np.argwhere(lesion.mask) + np.array(lesion.start)
                across = visit.geometry.to_patient(voxels).mean(axis=0)[0] - spine_x
                assert (across > 0) == (lesion.side == "left"), lesion.tracking_id


def test_fluid_falls_where_gravity_pulls() -> None:
    middle = {}
    for upright in (True, False):
        visit = draw_patient(30, spacing_mm=COARSE, kinds=[LesionKind.EFFUSION], upright=upright).visits[0]
        lesion = visit.lesions[0]
        lung = visit.structures[f"{lesion.side}_lung"]
        points = visit.geometry.to_patient(np.argwhere(lesion.mask) + np.array(lesion.start)).mean(axis=0)
        middle[upright] = points - visit.geometry.to_patient(np.argwhere(lung)).mean(axis=0)
    assert middle[True][2] < -40, "upright: at the base"
    assert middle[False][1] > 20, "supine: at the back"


def test_kinds_are_drawn_when_nobody_asks() -> None:
    from dicom_io.phantom.lesion import draw_kinds

    drawn = [draw_kinds(np.random.default_rng(seed)) for seed in range(400)]
    assert 0.3 < sum(not kinds for kinds in drawn) / 400 < 0.5
    assert {kind for kinds in drawn for kind in kinds} == set(LesionKind)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 1, "visits": 0}, "visit"),
        ({"seed": 1, "spacing_mm": 0.1}, "spacing_mm"),
        ({"seed": 1, "kinds": [LesionKind.EDEMA, LesionKind.EDEMA]}, "edema"),
    ],
)
def test_impossible_requests_are_refused(wrong: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        draw_patient(**wrong)  # type: ignore[arg-type]
