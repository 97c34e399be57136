from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from dicom_io.study import Modality, Series, Volume
from expert_models.bundles.safe import HOMES
from expert_models.codes import IMAGED_VOLUME, MEAN_ATTENUATION, VOLUME
from expert_models.finding import Code, Finding, Presence, Side

SPLEEN = Code("78961009", "SCT", "Spleen")
KIDNEY = Code("64033007", "SCT", "Kidney")


def mask_of(finding: Finding, series: Series, masks: Any) -> Any:
    whole = np.zeros(series.volume.shape, bool)
    (region,) = finding.regions
    whole[region.box.slices] = masks.load(region.mask_key)
    return whole


@pytest.mark.parametrize("weights", ["models/model.pt", "models/model.safetensors"])
def test_a_box_comes_back_on_its_own_voxels(
    layouts: Any, shelved: Callable[..., Any], masks: Any, weights: str
) -> None:
    """At the bundle's own spacing nothing is resampled: the outline is the box, voxel by voxel."""
    series = layouts.oblique_ct()
    drawn = np.zeros(series.volume.shape, bool)
    drawn[5:9, 8:20, 10:25] = True
    series.volume.voxels[drawn] = 120
    expert = shelved(layouts.spleen(), weights=weights)
    (finding,) = expert.examine(series, masks)
    np.testing.assert_array_equal(mask_of(finding, series, masks), drawn)
    assert (finding.concept, finding.presence, finding.side) == (SPLEEN, Presence.PRESENT, None)
    assert finding.expert.name == "spleen-ct-segmentation"
    assert finding.expert.version == "0.5.9"
    volume, attenuation = finding.measurement(VOLUME), finding.measurement(MEAN_ATTENUATION)
    assert volume is not None
    assert attenuation is not None
    assert volume.value == pytest.approx(4 * 12 * 15 * (2 * 1.5 * 1.5) / 1000)  # 720 voxels of 4.5 mm3
    assert attenuation.value == 120.0
    assert finding.regions[0].instance_uid in {f"1.2.{number}" for number in range(5, 9)}


def test_left_stays_left_through_another_spacing_and_a_tilt(
    layouts: Any, shelved: Callable[..., Any], masks: Any
) -> None:
    """Columns run to the patient's right, so what is drawn in the high columns lies on the right."""
    series = layouts.oblique_ct((2.5, 0.9, 0.9), tilt=0.5)
    series.volume.voxels[6:16, 10:30, 6:16] = 600  # 0.6 in what the network reads: class 3, in low columns: left
    series.volume.voxels[6:16, 10:30, 30:40] = 200  # class 1
    by_concept = {each.concept: each for each in shelved(layouts.whole_body()).examine(series, masks)}
    assert by_concept[KIDNEY].side is Side.LEFT
    for concept, columns in ((KIDNEY, slice(6, 16)), (SPLEEN, slice(30, 40))):
        mask = mask_of(by_concept[concept], series, masks)
        core = np.zeros(mask.shape, bool)
        core[8:14, 13:27, columns.start + 2 : columns.stop - 2] = True
        near = np.zeros(mask.shape, bool)
        near[4:18, 6:34, columns.start - 4 : columns.stop + 4] = True
        assert mask[core].all()
        if concept == KIDNEY:  # the rim of a brighter box passes through the value of class 1
            assert not mask[~near].any()
            place_mm = series.volume.geometry.to_patient(np.argwhere(mask)).mean(axis=0)
            drawn_mm = series.volume.geometry.to_patient([[10.5, 19.5, 10.5]])[0]
            np.testing.assert_allclose(place_mm, drawn_mm, atol=1.5)  # the network's grid
            assert place_mm[0] > series.volume.geometry.to_patient([[10.5, 19.5, 34.5]])[0][0]  # LPS: left is higher


def test_nothing_moves_through_another_spacing_and_a_tilt(
    layouts: Any, shelved: Callable[..., Any], masks: Any
) -> None:
    """Edges lie where half the contrast is, so a shift of a fraction of a voxel would show in the centre."""
    series = layouts.oblique_ct((2.5, 0.9, 0.9), tilt=0.5)
    series.volume.voxels[:] = -57
    drawn = np.zeros(series.volume.shape, bool)
    drawn[6:16, 10:30, 6:26] = True
    series.volume.voxels[drawn] = 164
    (finding,) = shelved(layouts.spleen()).examine(series, masks)
    mask = mask_of(finding, series, masks)
    centres_mm = [series.volume.geometry.to_patient(np.argwhere(each)).mean(axis=0) for each in (mask, drawn)]
    np.testing.assert_allclose(*centres_mm, atol=0.3)
    assert 2 * (mask & drawn).sum() / (mask.sum() + drawn.sum()) > 0.93


def test_an_organ_that_is_not_seen_is_not_called_absent(layouts: Any, shelved: Callable[..., Any], masks: Any) -> None:
    (finding,) = shelved(layouts.spleen()).examine(layouts.oblique_ct(), masks)
    assert finding.presence is Presence.NOT_ASSESSED
    assert finding.reason == "spleen-ct-segmentation does not see it in this scan"


def test_what_the_scan_cuts_off_is_not_measured_as_a_whole(
    layouts: Any, shelved: Callable[..., Any], masks: Any
) -> None:
    series = layouts.oblique_ct()
    series.volume.voxels[:4, 8:20, 10:25] = 120
    (finding,) = shelved(layouts.spleen()).examine(series, masks)
    assert finding.measurement(VOLUME) is None
    assert finding.measurement(IMAGED_VOLUME) is not None


def test_lesions_are_told_apart_largest_first(layouts: Any, shelved: Callable[..., Any], masks: Any) -> None:
    bundle = layouts.spleen()
    bundle.card = """
    [[channels]]
    channel = 1
    code = ["786838002", "SCT", "Nodule of lung"]
    is = "lesion"
    smallest_ml = 0.01
    measure = ["volume", "long_axis", "short_axis"]
    """
    series = layouts.oblique_ct()
    series.volume.voxels[4:6, 5:7, 5:7] = 120  # 8 voxels of 4.5 mm3: 0.036 mL
    series.volume.voxels[10:14, 20:26, 30:34] = 120  # 96 voxels: 0.432 mL, 9 mm x 6 mm in plane
    series.volume.voxels[20, 30, 30] = 120  # 0.0045 mL: too small
    expert = shelved(bundle)
    found = expert.examine(series, masks)
    assert [each.measurements[0].value for each in found] == [0.432, 0.036]
    long_axis = found[0].measurements[1]
    assert long_axis.value == round(float(np.hypot(9, 6)), 1)
    assert [each.presence for each in expert.examine(layouts.oblique_ct(), masks)] == [Presence.ABSENT]


def test_the_same_input_gives_the_same_findings(layouts: Any, shelved: Callable[..., Any], masks: Any) -> None:
    series = layouts.oblique_ct((2.5, 0.9, 0.9), tilt=0.5)
    series.volume.voxels[6:16, 10:30, 6:16] = 600
    expert = shelved(layouts.whole_body())
    assert expert.examine(series, masks) == expert.examine(series, masks)


def test_without_an_inversion_the_answer_is_brought_back_by_its_affine(
    layouts: Any, shelved: Callable[..., Any], masks: Any
) -> None:
    bundle = layouts.spleen()
    transforms = bundle.config["postprocessing"]["transforms"]
    bundle.config["postprocessing"]["transforms"] = [each for each in transforms if each["_target_"] != "Invertd"]
    series = layouts.oblique_ct()
    drawn = np.zeros(series.volume.shape, bool)
    drawn[5:9, 8:20, 10:25] = True
    series.volume.voxels[drawn] = 120
    (finding,) = shelved(bundle).examine(series, masks)
    np.testing.assert_array_equal(mask_of(finding, series, masks), drawn)


def test_every_class_that_is_used_unseen_is_one_of_monai() -> None:
    for name, home in HOMES.items():
        assert callable(getattr(import_module(home), name)), name


def test_it_refuses_what_is_no_ct_volume(layouts: Any, shelved: Callable[..., Any]) -> None:
    expert = shelved(layouts.spleen())
    series = layouts.oblique_ct()
    thin = replace(series, volume=Volume(series.volume.voxels[:2], series.volume.geometry), source=series.source[:2])
    assert expert.refuses(series) is None
    assert expert.refuses(thin) == "the CT has only 2 slices"
    film = Volume(np.zeros((1, 8, 8), np.float32), series.volume.geometry)
    assert expert.refuses(replace(series, modality=Modality.DX, volume=film, source=("1",))) is not None
