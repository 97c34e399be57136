from __future__ import annotations

import os
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom_io.study import Geometry, Modality, Series, Volume
from expert_models.adapters.total_segmentator import PREFIX, STRUCTURES, Adapter, private_home
from expert_models.bundles.shelf import Shelf
from expert_models.codes import ANATOMY, HEART, LUNG, MEAN_ATTENUATION, VOLUME
from expert_models.errors import BundleRefused
from expert_models.finding import Finding, Presence, Side

TOTAL = "totalsegmentator:total"
AXES = {  # where slices, rows and columns run, in LPS
    "feet first": np.array([[0, 0, 1.5], [0, 1.0, 0], [2.0, 0, 0]]),
    "head first": np.array([[0, 0, 1.5], [0, 1.0, 0], [-2.0, 0, 0]]),
    "prone": np.array([[0, 0, -1.5], [0, -1.0, 0], [2.0, 0, 0]]),
    "mirrored columns": np.array([[0, 0, -1.5], [0, 1.0, 0], [-2.0, 0, 0]]),
    "coronal": np.array([[0, 0, 1.5], [2.0, 0, 0], [0, -1.0, 0]]),
    "tilted": np.array([[0, 0, 1.5], [0.3, 1.0, 0], [2.0, 0, 0]]),
}


def chest(axes: np.ndarray[Any, Any]) -> tuple[Series, dict[str, np.ndarray[Any, Any]]]:
    """Air in two boxes, the larger on the patient's left, and a heart to the left, drawn in LPS millimetres."""
    shape = (24, 26, 40)
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = -axes @ ((np.array(shape) - 1) / 2)  # the middle at (0, 0, 0)
    geometry = Geometry(affine, "9.9")
    x, y, z = geometry.to_patient(np.indices(shape).reshape(3, -1).T).T.reshape(3, *shape)
    middle = (np.abs(y) < 6) & (np.abs(z) < 9)
    drawn = {
        "left": middle & (x > 8) & (x < 26),
        "right": middle & (x > -24) & (x < -10),
        "heart": middle & (x > -4) & (x < 6),
    }
    voxels = np.full(shape, -100, np.int16)
    voxels[drawn["left"] | drawn["right"]] = -850
    voxels[drawn["heart"]] = 40
    source = tuple(f"1.2.{number}" for number in range(shape[0]))
    return Series("1.2", Modality.CT, Volume(voxels, geometry), source), drawn


def mask_of(finding: Finding, series: Series, masks: Any) -> Any:
    whole = np.zeros(series.volume.shape, bool)
    (region,) = finding.regions
    whole[region.box.slices] = masks.load(region.mask_key)
    return whole


@pytest.mark.parametrize("name", AXES)
def test_left_is_left_however_the_volume_lies(packages: Any, masks: Any, tmp_path: Path, name: str) -> None:
    """The package works in RAS and gives RAS back; sides and voxels must be those that were drawn."""
    expert = Adapter(str(Shelf(tmp_path / "experts").add_adapted(TOTAL, trusted=True).folder))
    series, drawn = chest(AXES[name])
    found = {(each.concept, each.side): each for each in expert.examine(series, masks)}
    assert set(found) == {(LUNG, Side.LEFT), (LUNG, Side.RIGHT), (HEART, None)}  # what is not seen is not told
    for key, box in (((LUNG, Side.LEFT), "left"), ((LUNG, Side.RIGHT), "right"), ((HEART, None), "heart")):
        np.testing.assert_array_equal(mask_of(found[key], series, masks), drawn[box])  # two lobes are one lung
        volume = found[key].measurement(VOLUME)
        assert volume is not None
        assert volume.value == pytest.approx(drawn[box].sum() * 3.0 / 1000, abs=1e-3)  # voxels of 3 mm3
    attenuation = found[HEART, None].measurement(MEAN_ATTENUATION)
    assert attenuation is not None
    assert attenuation.value == 40.0


def test_a_scan_in_which_nothing_is_seen_is_not_assessed(packages: Any, masks: Any, tmp_path: Path) -> None:
    expert = Adapter(str(Shelf(tmp_path / "experts").add_adapted(TOTAL, trusted=True).folder))
    series, _ = chest(AXES["feet first"])
    series.volume.voxels[:] = -100
    findings = expert.examine(series, masks)
    assert {each.presence for each in findings} == {Presence.NOT_ASSESSED}
    assert len(findings) == len(STRUCTURES)


def test_usage_statistics_are_off_and_nothing_is_left_behind(packages: Any, masks: Any, tmp_path: Path) -> None:
    """The package reports each run unless a configuration says no: ours does, and the user's own is not touched."""
    expert = Adapter(str(Shelf(tmp_path / "experts").add_adapted(TOTAL, trusted=True).folder))
    series, _ = chest(AXES["feet first"])
    before = {name: os.environ.get(name) for name in ("TOTALSEG_HOME_DIR", "TOTALSEG_WEIGHTS_PATH")}
    expert.examine(series, masks)
    assert "ran fast=False device=cpu" in packages.log
    assert "SENT" not in packages.log
    assert "DOWNLOADED" not in packages.log
    temporary = Path(packages.log.split("temporary=")[1].strip())
    assert temporary.parent.name.startswith(PREFIX)  # pictures lie there while it works
    assert not temporary.parent.exists()
    assert not (packages.folder / "dot-totalsegmentator/config.json").exists()
    assert {name: os.environ.get(name) for name in before} == before
    image = import_module("nibabel").Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4))
    import_module("totalsegmentator.python_api").totalsegmentator(image)  # as anyone else would call it
    assert "SENT" in packages.log


def test_what_a_killed_process_left_behind_goes_after_a_day(tmp_path: Path) -> None:
    kept, tempfile.tempdir = tempfile.tempdir, str(tmp_path)
    try:
        for name, hours in (("old", 25), ("new", 23)):
            (tmp_path / f"{PREFIX}{name}").mkdir()
            when = time.time() - hours * 3600
            os.utime(tmp_path / f"{PREFIX}{name}", (when, when))
        with private_home(tmp_path):
            pass
        assert [each.name for each in tmp_path.glob(f"{PREFIX}*")] == [f"{PREFIX}new"]
    finally:
        tempfile.tempdir = kept


def test_weights_that_are_missing_or_changed_are_refused_and_never_fetched(
    packages: Any, masks: Any, tmp_path: Path
) -> None:
    shelf = Shelf(tmp_path / "experts")
    with pytest.raises(BundleRefused, match="wetread fetches none: put Dataset297_3mm into"):
        shelf.add_adapted("totalsegmentator:total-fast", trusted=True)
    with pytest.raises(BundleRefused, match="of TotalSegmentator total and total-fast can be adapted, not 'face'"):
        shelf.add_adapted("totalsegmentator:face", trusted=True)
    added = shelf.add_adapted(TOTAL, trusted=True)
    (added.files / "Dataset291_organs/nnUNetTrainer/fold_0/checkpoint_final.pth").write_text("other")
    with pytest.raises(BundleRefused, match="have changed since it was added"):
        Adapter(str(added.folder)).examine(chest(AXES["prone"])[0], masks)
    assert packages.log == ""


def test_every_structure_is_an_organ_of_ours() -> None:
    assert {channel.code for channel, _ in STRUCTURES} <= ANATOMY
    for channel, names in STRUCTURES:
        sides = {name.rpartition("_")[2] for name in names} & {"left", "right"}
        assert sides == ({channel.side.value} if channel.side else set())
