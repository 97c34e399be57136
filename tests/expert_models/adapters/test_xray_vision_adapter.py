from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom_io.study import Series, Volume
from expert_models.adapters.xray_vision import Adapter, network_input
from expert_models.bundles.shelf import Shelf
from expert_models.codes import ATELECTASIS, CARDIOMEGALY, LUNG_OPACITY, PLEURAL_EFFUSION, PNEUMOTHORAX
from expert_models.errors import BundleRefused
from expert_models.finding import Presence
from expert_models.isolated import ExpertProcess, Isolated, Limits
from expert_models.registry import registered

CHEX = "torchxrayvision:densenet121-res224-chex"
NAME = "xrv-densenet121-res224-chex"


def striped_film(make: Any) -> Series:
    """Wider than high: black and white where the middle square is, grey beside it."""
    picture = np.full((1, 128, 256), 0.5, np.float32)
    picture[0, :, 64:128], picture[0, :, 128:192] = 0.0, 1.0
    film = make.film()
    return Series(film.uid, film.modality, Volume(picture, film.volume.geometry), film.source, view="PA")


def test_a_label_that_was_not_trained_is_masked_with_the_reason(
    packages: Any, make: Any, masks: Any, tmp_path: Path
) -> None:
    added = Shelf(tmp_path / "experts").add_adapted(CHEX, trusted=True)
    findings = {each.concept: each for each in Adapter(str(added.folder)).examine(make.film(), masks)}
    said = {concept: each.presence for concept, each in findings.items()}
    assert said[ATELECTASIS] is Presence.ABSENT  # 0.4999, just below the operating point
    assert said[PNEUMOTHORAX] is Presence.INDETERMINATE  # 0.5, at it
    assert said[PLEURAL_EFFUSION] is Presence.INDETERMINATE  # 0.8
    assert findings[CARDIOMEGALY].reason == "the checkpoint densenet121-res224-chex was not trained on it"
    # a label with a name and without an operating point answers 0.5 whatever the picture is
    assert findings[LUNG_OPACITY].reason == "the checkpoint densenet121-res224-chex has no operating point for it"
    assert len(findings) == 10
    assert {each.probability for each in findings.values()} == {None}
    assert findings[ATELECTASIS].expert.version == "1.5.7"


def test_the_network_sees_the_middle_square_from_minus_to_plus_1024(
    packages: Any, make: Any, masks: Any, tmp_path: Path
) -> None:
    added = Shelf(tmp_path / "experts").add_adapted(CHEX, trusted=True)
    Adapter(str(added.folder)).examine(striped_film(make), masks)
    columns = [-1024.0] * 4 + [1024.0] * 4  # the left half of the square is black, the right half white
    assert packages.log.startswith("saw (1, 1, 8, 8) -1024 1024 ")
    np.testing.assert_allclose(json.loads(packages.log[packages.log.index("[") :]), columns, atol=1)


@pytest.mark.parametrize("shape", [(130, 200), (200, 130), (128, 128)])
def test_grey_stays_grey_in_any_shape(shape: tuple[int, int]) -> None:
    frame = network_input(np.full(shape, 0.75, np.float32), 224)
    assert frame.shape == (224, 224)
    np.testing.assert_allclose(frame, 512.0, atol=1e-3)  # 2 * 0.75 - 1 = a half of 1024


def test_it_examines_in_a_process_of_its_own(packages: Any, make: Any, masks: Any, tmp_path: Path) -> None:
    Shelf(tmp_path / "experts").add_adapted(CHEX, trusted=True)
    registry = registered("cpu", tmp_path / "experts")
    recipe = registry.recipes[NAME]
    assert recipe.is_foreign
    process = ExpertProcess(Limits(120, 8192))
    try:
        findings = Isolated(registry.ready[NAME], recipe, "cpu", process).examine(make.film(), masks)
    finally:
        process.close()
    assert [each.presence for each in findings].count(Presence.INDETERMINATE) == 2


def test_nothing_is_fetched_and_nothing_unpickled_that_was_not_added(
    packages: Any, make: Any, masks: Any, tmp_path: Path
) -> None:
    shelf = Shelf(tmp_path / "experts")
    added = shelf.add_adapted(CHEX, trusted=True)
    weights = added.files / "chex.pt"
    weights.write_text("0.9 0.9 0.9 0.9 0.9 0.9")
    with pytest.raises(BundleRefused, match="have changed since it was added, so it is no longer trusted"):
        Adapter(str(added.folder)).examine(make.film(), masks)
    weights.unlink()
    with pytest.raises(BundleRefused, match="have changed"):
        Adapter(str(added.folder)).prepare()
    with pytest.raises(BundleRefused, match=r"wetread fetches none: put odd\.pt into"):
        shelf.add_adapted("torchxrayvision:densenet121-res224-odd", trusted=True)
    assert packages.log == ""


def test_another_version_of_the_package_withdraws_it(packages: Any, tmp_path: Path) -> None:
    Shelf(tmp_path / "experts").add_adapted(CHEX, trusted=True)
    packages.version("torchxrayvision-1.5.7", "torchxrayvision", "1.6.0")
    reason = registered("cpu", tmp_path / "experts").missing[NAME]
    assert reason == (f"torchxrayvision is now 1.6.0, and {NAME} was added with 1.5.7: remove it, and add it again")


@pytest.mark.parametrize(
    ("adapter", "trusted", "sentence"),
    [
        (CHEX, False, "unpickles its weights, which can run code with your rights: add it with --trust"),
        ("torchxrayvision:densenet9", True, "TorchXRayVision has no model densenet9: it has densenet121-res224-chex"),
    ],
)
def test_what_cannot_be_added_is_refused_and_leaves_nothing(
    packages: Any, tmp_path: Path, adapter: str, trusted: bool, sentence: str
) -> None:
    with pytest.raises(BundleRefused, match=sentence):
        Shelf(tmp_path / "experts").add_adapted(adapter, trusted=trusted)
    assert not list(tmp_path.glob("experts/*"))


@pytest.mark.parametrize("adapter", [CHEX, "totalsegmentator:total"])
def test_without_its_package_one_sentence_says_so(tmp_path: Path, adapter: str) -> None:
    with pytest.raises(BundleRefused, match=r"^the package \w+ is not installed: install \w+ and \w+ beside wetread$"):
        Shelf(tmp_path / "experts").add_adapted(adapter, trusted=True)
