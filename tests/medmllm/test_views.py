"""Pictures for the model: size, windows, regions on the grid, nothing burned in."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dicom_io.study import Geometry, Volume
from expert_models import codes
from expert_models.finding import Box
from medmllm.views import from_grid, png, to_grid, views_of


def opened(view):
    return Image.open(io.BytesIO(view.png))


def test_a_box_by_hand() -> None:
    # 200 columns: 20 is a tenth, 90 is 45 hundredths; 300 rows: 30 is a tenth, 150 is half; of 999.
    assert to_grid(Box((0, 30, 20), (1, 150, 90)), (300, 200)) == (100, 100, 450, 500)
    assert to_grid(Box((0, 0, 0), (1, 300, 200)), (300, 200)) == (0, 0, 999, 999)


@settings(deadline=None)
@given(data=st.data(), rows=st.integers(1, 4000), columns=st.integers(1, 4000))
def test_the_grid_survives_the_round_trip_within_one_unit(data, rows, columns) -> None:
    top, left = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    bottom, right = data.draw(st.integers(top + 1, rows)), data.draw(st.integers(left + 1, columns))
    box = Box((3, top, left), (4, bottom, right))
    corners = to_grid(box, (rows, columns))
    assert all(0 <= each <= 999 for each in corners)
    back = from_grid(corners, (rows, columns), slice_index=3)
    assert back.start[0] == 3
    unit = (max(1.0, rows / 999), max(1.0, columns / 999))  # one unit of the grid, at least one pixel
    for was, now in ((box.start, back.start), (box.stop, back.stop)):
        assert abs(was[1] - now[1]) <= unit[0] + 1e-9
        assert abs(was[2] - now[2]) <= unit[1] + 1e-9


def test_a_grid_box_may_be_upside_down_empty_or_outside() -> None:
    assert from_grid((500, 900, 100, 100), (100, 100)) == from_grid((100, 100, 500, 900), (100, 100))
    assert from_grid((999, 999, 999, 999), (10, 10)) == Box((0, 9, 9), (1, 10, 10))
    assert from_grid((-5, 0, 4000, 10), (1, 1)) == Box((0, 0, 0), (1, 1, 1))


def test_a_film_is_shown_whole_beside_its_prior(film_case) -> None:
    current, prior = views_of(film_case.study, film_case.findings, film_case.comparisons)
    assert current.view.caption == "current study: PA chest radiograph"
    assert prior.view.caption == "prior study, 3 months earlier: PA chest radiograph"
    assert current.view.regions == (("f1", (100, 33, 450, 200)),)
    assert [name for name, _ in prior.view.regions] == ["prior f1"]
    picture = opened(current.view)
    assert (picture.mode, picture.size, picture.format) == ("L", (200, 300), "PNG")


def test_a_ct_is_shown_at_its_findings_in_two_windows(ct_case) -> None:
    pictures = views_of(ct_case.study, ct_case.findings, ct_case.comparisons)
    captions = [each.view.caption for each in pictures if not each.frame.is_prior]
    assert captions == [
        f"current study: CT of the chest, slice {number} of 40, {window} window"
        for number in (13, 32)
        for window in ("lung", "mediastinal")
    ]
    assert [name for name, _ in pictures[0].view.regions] == ["f3"]
    # -800 HU: in the lung window (-1350 to 150) 550 of 1500 up, in the mediastinal one black
    assert np.unique(np.asarray(opened(pictures[0].view))).tolist() == [round(255 * 550 / 1500)]
    assert np.unique(np.asarray(opened(pictures[1].view))).tolist() == [0]


def test_a_ct_without_findings_is_shown_at_its_middle(make) -> None:
    pictures = views_of(make.ct(slices=9), [], [])
    assert [each.frame.slice_index for each in pictures] == [4, 4]


def test_organs_do_not_choose_the_slices(make) -> None:
    study = make.ct(slices=9)
    lung = make.finding("f1", codes.LUNG, regions=(make.region(study, (0, 0, 0), (2, 9, 9)),))
    assert {each.frame.slice_index for each in views_of(study, [lung], [])} == {4}


def test_nothing_is_drawn_on_the_picture(film_case) -> None:
    current, _ = views_of(film_case.study, film_case.findings, film_case.comparisons)
    pixels = film_case.study.series[0].volume.voxels[0].astype(np.float64)
    np.testing.assert_array_equal(np.asarray(opened(current.view)), np.round(pixels * 255).astype(np.uint8))


def test_a_large_film_is_reduced_to_1024(make) -> None:
    study = make.film()
    large = Volume(np.zeros((1, 2500, 2000), dtype=np.float32), Geometry(np.eye(4)))
    study = replace(study, series=(replace(study.series[0], volume=large),))
    (picture,) = views_of(study, [], [])
    assert opened(picture.view).size == (819, 1024)
    assert opened(picture.view).info == {}


def test_values_outside_the_window_are_clipped() -> None:
    assert np.asarray(Image.open(io.BytesIO(png(np.array([[-3.0, 0.5, 7.0]]))))).tolist() == [[0, 128, 255]]
