"""Varied patients: more ways to differ, devices whose tips lie where they say, and today's phantoms left alone."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest

from dicom_io.phantom.courses import ILLNESSES, run_course
from dicom_io.phantom.devices import DeviceKind
from dicom_io.phantom.lesion import Change, LesionPlan
from dicom_io.phantom.look import draw_look
from dicom_io.phantom.patient import LesionKind, Patient, draw_patient
from dicom_io.phantom.project import Beam, Radiograph, radiograph
from dicom_io.phantom.scan import Protocol, scan
from dicom_io.phantom.strands import Strands, cast, pieces

SPACING = (4.0, 5.0, 4.0)


@pytest.fixture(scope="module")
def lying() -> Patient:
    return draw_patient(
        9,
        spacing_mm=SPACING,
        kinds=[LesionKind.NODULE],
        upright=False,
        arms_down=True,
        variety=True,
        devices=list(DeviceKind),
    )


@pytest.fixture(scope="module")
def film(lying: Patient) -> Radiograph:
    return radiograph(lying.visits[0], view="AP SUPINE", rows=192, seed=9, look=draw_look(9, "AP SUPINE"))


def test_the_same_seed_gives_the_same_film(lying: Patient, film: Radiograph) -> None:
    again = draw_patient(
        9,
        spacing_mm=SPACING,
        kinds=[LesionKind.NODULE],
        upright=False,
        arms_down=True,
        variety=True,
        devices=list(DeviceKind),
    )
    assert again.visits[0].hu.tobytes() == lying.visits[0].hu.tobytes()
    other = radiograph(again.visits[0], view="AP SUPINE", rows=192, seed=9, look=draw_look(9, "AP SUPINE"))
    assert other.image.tobytes() == film.image.tobytes()
    assert film.image.min() >= 0.0
    assert film.image.max() <= 1.0


def test_every_device_casts_a_shadow_and_its_tip_lies_on_it(lying: Patient, film: Radiograph) -> None:
    assert {device.kind for device in film.devices} == set(DeviceKind)
    for device in film.devices:
        mask = film.masks[device.tracking_id]
        assert mask.any(), device.tracking_id
        if device.tip_mm is not None and 2 < min(film.tips[device.tracking_id]) < 189:
            row, column = (round(value) for value in film.tips[device.tracking_id])
            assert mask[row - 2 : row + 3, column - 2 : column + 3].any(), device.tracking_id


def test_tips_lie_in_their_anatomy() -> None:
    for seed in (3, 4, 5):
        visit = draw_patient(seed, spacing_mm=(6.0, 6.0, 6.0), kinds=[], variety=True, devices=list(DeviceKind)).visits[
            0
        ]
        placed = {device.kind: device for device in visit.devices}
        tube, line = placed[DeviceKind.ENDOTRACHEAL_TUBE], placed[DeviceKind.CENTRAL_LINE]
        assert tube.tip_mm is not None
        assert tube.reference_mm is not None
        above_mm = tube.tip_mm[2] - tube.reference_mm[2]
        low, high = {"proper": (14, 70), "too_high": (55, 110), "right_main_bronchus": (-40, 5)}[tube.position]
        assert low < above_mm < high, (seed, tube.position, above_mm)
        if tube.position == "right_main_bronchus":
            assert tube.tip_mm[0] < tube.reference_mm[0], "to the patient's right"
        assert line.tip_mm is not None
        assert line.reference_mm is not None
        too = {"proper": (-14, 32), "too_high": (36, 70), "too_deep": (-56, -16)}[line.position]
        assert too[0] < line.tip_mm[2] - line.reference_mm[2] < too[1]
        pacemaker = placed[DeviceKind.PACEMAKER].tip_mm
        assert pacemaker is not None
        cell = np.rint(visit.geometry.to_index(pacemaker[None])[0]).astype(int)
        near = tuple(slice(max(each - 3, 0), each + 4) for each in cell)
        assert visit.structures["heart"][near].any(), "the lead ends in the heart"


def test_a_straight_tube_casts_its_thickness() -> None:
    # A tube of 6 mm radius, 80 mm long, midway between tube and detector is twice as large on the film and its longest
    # path is its diameter, 12 mm; the sum over pixels of path times pixel area is its volume times 2 squared.
    beam = Beam("AP", 1000.0, 500.0, (0.0, 0.0))
    path = np.stack([np.linspace(-40, 40, 161), np.zeros(161), np.zeros(161)], axis=1)
    middles, along = pieces(path)
    ones = np.ones(len(along))
    image = cast(Strands(middles, along, 6.0 * ones, ones), beam, 300, 1.0)
    assert image.max() == pytest.approx(12.0, rel=0.05)
    assert image.sum() == pytest.approx(np.pi * 36 * 80 * 4, rel=0.02)
    rows = np.flatnonzero(image[:, 150] > 1.0)
    assert rows[-1] - rows[0] + 1 == pytest.approx(24, abs=2)


def test_a_tube_has_no_gaps_on_a_fine_film() -> None:
    # One piece, 60 mm long and 1 mm thick, on pixels of a quarter of a millimetre, near the detector: no rungs.
    beam = Beam("AP", 1000.0, 0.0, (0.0, 0.0))
    one = np.ones(1)
    image = cast(Strands(np.zeros((1, 3)), np.array([[60.0, 0.0, 0.0]]), 0.5 * one, one), beam, 400, 0.25)
    inside = image[200, 90:310]
    assert inside.min() > 0.9 * inside.max()


def test_an_upright_patient_gives_no_supine_film(lying: Patient) -> None:
    with pytest.raises(ValueError, match="drawn lying gives no PA"):
        radiograph(lying.visits[0], view="PA")


def test_devices_are_for_varied_patients() -> None:
    with pytest.raises(ValueError, match="variety=True"):
        draw_patient(1, devices=[DeviceKind.PACEMAKER])


def test_the_beam_puts_a_point_at_one_height_in_both_views() -> None:
    # Frontal: detector at y = 150, so (30, 50, 20) is 100 mm before it, magnified 1000 / 900. Lateral: detector at
    # x = 180, 150 mm away, magnified 1000 / 850. Rows count down from 99.5; columns grow to the left and to the back.
    point = np.array([[30.0, 50.0, 20.0]])
    (front,), _ = Beam("PA", 1000.0, 150.0, (0.0, 0.0)).at(point, 200, 1.0)
    (side,), _ = Beam("LATERAL", 1000.0, 180.0, (0.0, 0.0)).at(point, 200, 1.0)
    np.testing.assert_allclose(front, [99.5 - 20 * 1000 / 900, 99.5 + 30 * 1000 / 900])
    np.testing.assert_allclose(side, [99.5 - 20 * 1000 / 850, 99.5 + 50 * 1000 / 850])
    (lordotic,), _ = Beam("AP", 1000.0, 150.0, (0.0, 0.0), 0.1, 0.0).at(point, 200, 1.0)
    # 100 mm before the detector, the pivot 150 mm before it: what lies behind the pivot moves down by 5 mm.
    np.testing.assert_allclose(lordotic, [99.5 - 15 * 1000 / 900, 99.5 + 30 * 1000 / 900])


def test_a_lateral_film_shows_the_same_heights_as_the_frontal_one() -> None:
    films = {}
    for view, arms_down in (("PA", True), ("LATERAL", False)):
        patient = draw_patient(6, spacing_mm=SPACING, kinds=[], arms_down=arms_down, variety=True, devices=[])
        films[view] = radiograph(patient.visits[0], view=view, rows=160, seed=6)
    heights_mm = {
        view: np.ptp(np.flatnonzero((film.masks["right_lung"] | film.masks["left_lung"]).any(axis=1))) * film.spacing_mm
        for view, film in films.items()
    }
    assert heights_mm["LATERAL"] == pytest.approx(heights_mm["PA"], rel=0.16), "but for the sulcus behind"
    lateral = films["LATERAL"]
    heart, lungs = (np.argwhere(lateral.masks[name]).mean(axis=0) for name in ("heart", "left_lung"))
    assert heart[1] < lungs[1], "the heart lies in front, at image left"
    assert np.isnan(lateral.cardiothoracic_ratio)


def test_lesions_of_one_disease_change_at_its_pace() -> None:
    days = [datetime(2024, 1, 1), datetime(2024, 4, 10), datetime(2024, 7, 19)]
    plan = LesionPlan("n", LesionKind.NODULE, "left", "upper", "solid", (0, 0, 0), (1.0, 1.0, 1.0), (None, None), 0)
    grows = next(each for each in ILLNESSES if each.name == "nodule")
    seen = set()
    for seed in range(30):
        (lesion,) = run_course(np.random.default_rng(seed), grows, [plan], days)
        assert max(lesion.volume_ml) == pytest.approx(1.0)
        for before, after, change in zip(lesion.volume_ml[:-1], lesion.volume_ml[1:], lesion.changes, strict=True):
            seen.add(change)
            if before and after:
                step = after / before
                expected = Change.STABLE if 1 / 1.05 < step < 1.05 else Change.LARGER if step > 1 else Change.SMALLER
                assert change is expected
                assert not 1.05 < max(step, 1 / step) < 1.3, "never in between"
    assert {Change.STABLE, Change.LARGER, Change.SMALLER} <= seen


def test_a_scan_shows_contrast_and_keeps_soft_tissue_in_place(lying: Patient) -> None:
    visit = lying.visits[0]
    plain = scan(visit, Protocol("STANDARD", 10.0, "", 120, 100), 1)
    venous = scan(visit, Protocol("STANDARD", 10.0, "VENOUS", 120, 100), 1)
    inside = visit.structures["aorta"] & (visit.hu < 100) & (visit.hu > 0)
    assert np.median(venous[inside]) - np.median(plain[inside]) == pytest.approx(110, abs=12)
    assert np.median(plain[visit.structures["liver"]]) == pytest.approx(57, abs=8)
    assert plain.max() > visit.hu.max(), "metal is on the scan"
