"""Films of synthetic patients: where things land, how wide they are, and what the picture looks like."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest

from dicom_io.phantom.lesion import Lesion
from dicom_io.phantom.outlines import ORGANS
from dicom_io.phantom.patient import LesionKind, Visit, draw_patient
from dicom_io.phantom.project import (
    VISIBLE,
    Beam,
    Projector,
    Radiograph,
    attenuation,
    cardiothoracic_ratio,
    radiograph,
)
from dicom_io.study import Geometry


@pytest.fixture(scope="module")
def visit() -> Visit:
    return draw_patient(5, spacing_mm=3.0, kinds=[LesionKind.NODULE, LesionKind.PNEUMOTHORAX]).visits[0]


@pytest.fixture(scope="module")
def film(visit: Visit) -> Radiograph:
    return radiograph(visit, rows=256, seed=3)


def sphere_visit(centre_mm: tuple[float, float, float], radius_mm: float) -> tuple[Visit, np.ndarray]:
    """An empty block of air, 240 mm a side, with one ball; and the ball's mask."""
    affine = np.array([[0, 0, 2.0, -119], [0, 2.0, 0, -119], [2.0, 0, 0, -119], [0, 0, 0, 1.0]])
    at_mm = Geometry(affine).to_patient(np.argwhere(np.ones((120, 120, 120)))) - np.array(centre_mm)
    ball = (np.linalg.norm(at_mm, axis=1) < radius_mm).reshape(120, 120, 120)
    hu = np.full(ball.shape, -1000, dtype=np.int16)
    nothing = Visit(hu, Geometry(affine), {}, (), datetime(2024, 1, 1), {}, True, np.zeros(3))
    return nothing, ball


def test_a_sphere_lands_where_the_diverging_beam_puts_it() -> None:
    # Detector at y = 100 mm, tube 1000 mm from it, central ray through x = z = 0. The ball at (50, -60, 40) is 160 mm
    # before the detector: magnified 1000 / 840 = 1.190476. So 59.52 mm to the patient's left and 47.62 mm up.
    nothing, ball = sphere_visit((50.0, -60.0, 40.0), 12.0)
    beam = Beam("AP", 1000.0, 100.0, (0.0, 0.0))
    path_mm = Projector(nothing, beam, 200, 1.0).integrals(ball)
    rows, columns = np.indices(path_mm.shape)
    assert (columns * path_mm).sum() / path_mm.sum() == pytest.approx(99.5 + 59.52, abs=0.25)
    assert (rows * path_mm).sum() / path_mm.sum() == pytest.approx(99.5 - 47.62, abs=0.25)
    assert path_mm.max() == pytest.approx(24.0, abs=2.0), "the longest path is the diameter"
    # Paths are unchanged while areas grow by the magnification squared: 4/3 pi 12^3 mm3 times 1.417.
    assert path_mm.sum() == pytest.approx(7238.2 * 1.190476**2, rel=0.03)


def test_the_nearer_the_tube_the_larger() -> None:
    beam = Beam("PA", 1800.0, -150.0, (0.0, 0.0))
    np.testing.assert_allclose(beam.magnification(np.array([-150.0, 30.0])), [1.0, 1800 / 1620])


def test_attenuation_of_air_water_and_bone_by_hand() -> None:
    hu = np.array([-1000, 0, 90, 1090], dtype=np.int16)
    # Water 0.0196 per mm; HU is defined relative to it; 1000 HU above the knee weigh half as much again.
    expected = [0.0, 0.0196, 0.0196 * 1.09, 0.0196 * (2.09 + 0.5)]
    np.testing.assert_allclose(attenuation(hu, 1.5), expected, rtol=1e-5)


def test_the_ratio_of_two_rectangles_by_hand() -> None:
    heart, lungs = np.zeros((10, 40), dtype=bool), np.zeros((10, 40), dtype=bool)
    heart[5:9, 12:27] = True  # 15 columns
    lungs[1:8, 3:15] = lungs[2:9, 20:33] = True  # columns 3 to 32: 30
    assert cardiothoracic_ratio(heart, lungs) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="heart mask is empty"):
        cardiothoracic_ratio(np.zeros_like(heart), lungs)


def test_the_ratio_follows_from_the_masks(film: Radiograph) -> None:
    lungs_at = np.concatenate([np.where(film.masks[f"{side}_lung"])[1] for side in ("left", "right")])
    heart_at = np.where(film.masks["heart"])[1]
    assert film.cardiothoracic_ratio == pytest.approx((np.ptp(heart_at) + 1) / (np.ptp(lungs_at) + 1))


def test_a_film_is_upright_with_the_patients_right_at_the_left(film: Radiograph) -> None:
    assert film.image.shape == (256, 256)
    assert film.image.dtype == np.float32
    assert 0.0 <= film.image.min() <= film.image.max() <= 1.0
    middle = {name: np.argwhere(mask).mean(axis=0) for name, mask in film.masks.items()}
    assert middle["right_lung"][1] < middle["heart"][1] < middle["left_lung"][1]
    assert middle["heart"][0] > middle["right_lung"][0], "the heart lies low"
    overlap = film.masks["left_lung"] & film.masks["heart"]
    assert overlap.sum() > 0.1 * film.masks["heart"].sum(), "a lung's outline runs behind the heart"
    aerated = film.masks["right_lung"] & ~film.masks["heart"]
    assert np.median(film.image[aerated]) < np.median(film.image[film.masks["heart"]]), "dense is bright"


def test_a_film_is_repeatable_and_another_exposure_is_another_film(visit: Visit, film: Radiograph) -> None:
    again, other = (radiograph(visit, rows=256, seed=seed) for seed in (3, 4))
    assert again.image.tobytes() == film.image.tobytes()
    assert other.image.tobytes() != film.image.tobytes()
    assert other.cardiothoracic_ratio == pytest.approx(film.cardiothoracic_ratio, abs=0.015)


def test_ap_enlarges_the_heart(visit: Visit, film: Radiograph) -> None:
    ap = radiograph(visit, view="AP", rows=256, seed=3)
    widths = [np.ptp(np.where(each.masks["heart"])[1]) * each.spacing_mm for each in (film, ap)]
    assert widths[1] > 1.03 * widths[0]


def test_every_lesion_casts_its_shadow_inside_the_chest(visit: Visit, film: Radiograph) -> None:
    lungs = film.masks["right_lung"] | film.masks["left_lung"]
    for lesion in visit.lesions:
        shadow = film.masks[lesion.tracking_id]
        assert shadow.any()
        assert (shadow & lungs).sum() > 0.5 * shadow.sum(), lesion.tracking_id


def test_what_a_lesion_adds_is_its_path_times_its_attenuation(visit: Visit) -> None:
    """By hand: a ball of radius 12 mm at +30 HU in lung adds 24 mm x 0.0196 / mm x 0.85 = 0.40 on its longest ray."""
    nothing, ball = sphere_visit((30.0, -20.0, 10.0), 12.0)
    solid = Lesion("ball", LesionKind.NODULE, "left", None, "solid", 24.0, 24.0, 7.2, (0, 0, 0), ball)
    lungs = np.zeros(ball.shape, bool)
    lungs[20:100, 20:100, 20:100] = True
    names = {"right_lung": lungs & ~ball, "left_lung": lungs & ~ball}
    names |= {"mediastinum": ~lungs, "heart": ball}
    names |= dict.fromkeys(("abdomen", "airways", "ribs", "clavicles"), np.zeros_like(lungs))
    for hu, added in ((30, 0.40), (-630, 0.09)):  # solid, and ground glass: 24 x 0.0196 x 0.19
        voxels = np.where(ball, hu, np.where(lungs, -820, 0)).astype(np.int16)
        shown = radiograph(replace(nothing, hu=voxels, structures=names, lesions=(solid,)), rows=128, seed=1)
        assert shown.contrasts["ball"] == pytest.approx(added, rel=0.1)
        assert shown.visible == ((solid,) if added > VISIBLE else ())


def test_the_outlines_lie_as_in_a_chest(film: Radiograph) -> None:
    masks = film.masks
    assert set(ORGANS) <= set(masks)
    places = {name: np.argwhere(masks[name]).mean(axis=0) for name in ORGANS}
    row, column = film.carina
    assert masks["airways"][round(row), round(column)]
    assert places["airways"][0] < row + 10, "the trachea is above the carina, the main bronchi just below"
    assert places["right_clavicle"][1] < column < places["left_clavicle"][1], "the patient's right is at image left"
    assert max(places[f"{side}_clavicle"][0] for side in ("right", "left")) < places["right_lung"][0]
    lungs = masks["right_lung"] | masks["left_lung"]
    assert not (lungs & masks["abdomen"]).any(), "the lungs end at the diaphragm"
    assert masks["abdomen"][-1].any()
    assert (masks["ribs"] & lungs).sum() > 0.2 * lungs.sum(), "ribs cross the lungs"


def test_a_point_falls_where_the_beam_takes_it() -> None:
    """By hand, as for the ball above: 59.52 mm to the patient's left and 47.62 mm up, on pixels of 2 mm."""
    nothing, _ = sphere_visit((0.0, 0.0, 0.0), 12.0)
    row, column = Projector(nothing, Beam("AP", 1000.0, 100.0, (0.0, 0.0)), 100, 2.0).place(
        np.array([50.0, -60.0, 40.0])
    )
    assert row == pytest.approx(49.5 - 47.62 / 2, abs=0.01)
    assert column == pytest.approx(49.5 + 59.52 / 2, abs=0.01)


def test_a_pneumothorax_widens_no_lung_outline(visit: Visit, film: Radiograph) -> None:
    well = draw_patient(5, spacing_mm=3.0, kinds=[LesionKind.NODULE]).visits[0]
    outline = radiograph(well, rows=256, seed=3).masks
    for side in ("left", "right"):
        assert film.masks[f"{side}_lung"].sum() == pytest.approx(outline[f"{side}_lung"].sum(), rel=0.06)


@pytest.mark.parametrize(("wrong", "why"), [({"view": "LL"}, "PA or AP"), ({"rows": 10}, "64 rows")])
def test_what_cannot_be_taken_is_refused(visit: Visit, wrong: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        radiograph(visit, **wrong)  # type: ignore[arg-type]
