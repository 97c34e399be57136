"""Varied patients: more ways to differ, devices whose tips lie where they say, and today's phantoms left alone."""

from __future__ import annotations

import numpy as np
import pytest

from dicom_io.phantom.devices import DeviceKind
from dicom_io.phantom.look import draw_look
from dicom_io.phantom.patient import LesionKind, Patient, draw_patient
from dicom_io.phantom.project import Beam, Radiograph, radiograph
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
        devices=DeviceKind,
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
        devices=DeviceKind,
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
    middles, lengths = pieces(path)
    ones = np.ones(len(lengths))
    image = cast(Strands(middles, lengths, 6.0 * ones, ones), beam, 300, 1.0)
    assert image.max() == pytest.approx(12.0, rel=0.05)
    assert image.sum() == pytest.approx(np.pi * 36 * 80 * 4, rel=0.02)
    rows = np.flatnonzero(image[:, 150] > 1.0)
    assert rows[-1] - rows[0] + 1 == pytest.approx(24, abs=2)


def test_an_upright_patient_gives_no_supine_film(lying: Patient) -> None:
    with pytest.raises(ValueError, match="drawn lying gives no PA"):
        radiograph(lying.visits[0], view="PA")


def test_devices_are_for_varied_patients() -> None:
    with pytest.raises(ValueError, match="variety=True"):
        draw_patient(1, devices=[DeviceKind.PACEMAKER])
