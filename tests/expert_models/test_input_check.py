from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom_io.phantom.patient import draw_patient
from dicom_io.study import Geometry, Volume
from expert_models.card import packaged_card
from expert_models.codes import PNEUMOTHORAX
from expert_models.ct_lungs import refuses_ct
from expert_models.evaluate_inputs import evaluate_inputs
from expert_models.evaluate_radiographs import as_series
from expert_models.finding import ExpertTag, Finding, Presence
from expert_models.input_check import CARD, RadiographInput, refuses_radiograph, said
from expert_models.train import unfit
from expert_models.train.phantoms import HELD_OUT, phantom_radiograph

PACK = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def check() -> RadiographInput:
    return RadiographInput()


@pytest.fixture(scope="module")
def film() -> Any:
    return phantom_radiograph(HELD_OUT + 7, rows=256, spacing_mm=4.0).picture


def refused_for(check: RadiographInput, picture: Any, masks: Any) -> str | None:
    """The name of the first label that refuses a picture."""
    names = {label.code: label.name for label in packaged_card(CARD).labels}
    found = check.examine(as_series(picture, "PA"), masks)
    refusing = sorted((e for e in found if e.presence is Presence.PRESENT), key=lambda each: -(each.probability or 0))
    return names[refusing[0].concept] if refusing else None


@pytest.mark.parametrize(("years", "reads"), [(None, True), (16, True), (15, False), (0, False)])
def test_children_are_refused_by_their_age(make: Any, years: int | None, reads: bool) -> None:
    reasons = [
        refuses_radiograph(replace(make.film(), age_years=years), packaged_card(CARD)),
        refuses_ct(replace(make.ct(), age_years=years)),
    ]
    expected = None if reads else f"the patient's age is {years}, and the expert reads adults (from 16) only"
    assert reasons == [expected] * 2


def test_a_saturated_picture_is_refused_before_the_network(make: Any) -> None:
    film = make.film()
    white = np.where(film.volume.voxels > 0.2, 1, film.volume.voxels).astype(np.float32)
    spoiled = replace(film, volume=Volume(white, Geometry(np.eye(4))))
    assert "saturated" in (refuses_radiograph(spoiled, packaged_card(CARD)) or "")
    assert refuses_radiograph(film, packaged_card(CARD)) is None


@pytest.mark.parametrize("part", ["HEAD", "Pelvis", "BRAIN"])
def test_a_ct_of_no_chest_is_refused_by_what_it_says(make: Any, part: str) -> None:
    assert refuses_ct(replace(make.ct(), body_part=part)) == f"the body part is given as {part}, not the chest"
    assert refuses_ct(replace(make.ct(), body_part="ABDOMEN")) is None  # the lung bases are in it
    assert refuses_ct(make.ct(slices=4)) == "the series has fewer than 5 slices"


def test_a_ct_of_noise_is_refused_and_a_noisy_one_is_not(make: Any) -> None:
    random = np.random.default_rng(0)
    body = np.where(np.hypot(*np.mgrid[-1:1:64j, -1:1:64j]) < 0.8, 40, -1000) + np.zeros((10, 1, 1))
    rough = random.normal(0, 150, body.shape)  # far noisier than a low-dose CT
    series = make.ct()
    for hu, reads in ((body + rough, True), (rough, False), (np.zeros(body.shape), True)):
        volume = Volume(hu.clip(-1024, 3071).astype(np.int16), series.volume.geometry)
        assert (refuses_ct(replace(series, volume=volume)) is None) is reads


def test_a_fit_film_is_not_refused(check: RadiographInput, film: Any, masks: Any) -> None:
    assert refused_for(check, film, masks) is None


@pytest.mark.parametrize("kind", ["inverted", "upside down", "sideways"])
def test_a_spoiled_film_is_refused_for_what_is_wrong(check: RadiographInput, film: Any, masks: Any, kind: str) -> None:
    assert refused_for(check, unfit.SPOILED[kind](film), masks) == kind


@pytest.mark.parametrize("kind", ["noise", "hand", "limb", "skull"])
def test_a_picture_of_something_else_is_refused(check: RadiographInput, masks: Any, kind: str) -> None:
    random = np.random.default_rng(HELD_OUT)
    assert refused_for(check, unfit.DRAWN[kind](random), masks) is not None


def test_a_view_from_the_side_is_refused(check: RadiographInput, masks: Any) -> None:
    visit = draw_patient(HELD_OUT + 8, spacing_mm=4.0).visits[-1]
    assert refused_for(check, unfit.lateral(visit, np.random.default_rng(0)), masks) in ("lateral", "not chest")


def test_every_kind_has_a_sentence() -> None:
    told = {said(label.code) for label in packaged_card(CARD).labels}
    assert len(told) == len(packaged_card(CARD).labels)
    assert not any("unfit" in each for each in told)


class Confident:
    """Says that there is no pneumothorax, whatever it is shown."""

    tag, concepts = ExpertTag("confident", "1"), (PNEUMOTHORAX,)

    def refuses(self, series: Any) -> str | None:
        return None

    def examine(self, series: Any, masks: Any) -> list[Finding]:
        return [Finding("f1", PNEUMOTHORAX, Presence.ABSENT, self.tag, probability=0.01)]


def test_the_suite_counts_who_is_confident_and_who_is_refused() -> None:
    """Unchecked, all wrong pictures get a confident answer and no right one is refused; checked, few do."""
    source = f"phantom:{HELD_OUT + 20}-{HELD_OUT + 21}"
    alone = {each.name: each for each in evaluate_inputs([Confident()], source, limit=1)}
    assert alone["panel/wrong_input/confident"].value == 1.0
    assert alone["panel/wrong_input/child/confident"].n == 1
    assert alone["panel/right_input/refused"].value == 0.0
    checked = {each.name: each for each in evaluate_inputs([RadiographInput(), Confident()], source, limit=1)}
    assert checked["panel/wrong_input/hand/confident"].value == 0.0
    assert checked["panel/wrong_input/inverted/confident"].value == 0.0
    assert checked["panel/right_input/refused"].value == 0.0


@pytest.mark.skipif(not (PACK / "cxr_anatomy" / "index.csv").is_file(), reason="the development data are not here")
def test_real_films_kept_out_are_read_and_refused_when_they_are_turned(check: RadiographInput, masks: Any) -> None:
    from expert_models.train.radiographs import real_radiographs

    films = [each.picture for each in real_radiographs(PACK / "cxr_anatomy", lambda split: split != "train")][:6]
    assert [refused_for(check, film, masks) for film in films] == [None] * 6
    for kind in ("inverted", "upside down", "sideways"):
        assert [refused_for(check, unfit.SPOILED[kind](film), masks) for film in films] == [kind] * 6
