from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.doctor import _experts
from app.settings import Settings
from expert_models.bundles.expert import BundleExpert
from expert_models.bundles.safe import safe_config
from expert_models.bundles.shelf import Shelf
from expert_models.errors import BundleRefused, CardInvalid, ExpertError
from expert_models.registry import registered


def refusal(shelf: Shelf, source: Path, *, trusted: bool = False) -> str:
    with pytest.raises(ExpertError) as caught:
        shelf.add(source, None, trusted=trusted)
    assert not list(shelf._folder.glob("*"))  # nothing is left behind
    assert not list(shelf._folder.glob(".adding*"))
    return str(caught.value)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "experts")


def test_a_bundle_is_added_listed_and_removed(layouts: Any, shelf: Shelf, tmp_path: Path) -> None:
    added = shelf.add(layouts.whole_body().write(tmp_path / "source"), None, trusted=False)
    assert shelf.names() == ("whole-body",)
    assert added.unmapped == ("2 kidney_right",)
    ready = registered("cpu", tmp_path / "experts").ready["whole-body"]
    assert [concept.meaning for concept in ready.concepts] == ["Spleen", "Kidney"]
    with pytest.raises(BundleRefused, match="an expert is named whole-body already"):
        shelf.add(tmp_path / "source", None, trusted=False)
    shelf.remove("whole-body")
    assert "whole-body" not in registered("cpu", tmp_path / "experts").ready
    with pytest.raises(KeyError):
        shelf.remove("whole-body")


def test_a_zip_archive_with_a_folder_in_it_is_added(layouts: Any, shelf: Shelf, tmp_path: Path) -> None:
    source = layouts.spleen().write(tmp_path / "spleen_ct_segmentation")
    with zipfile.ZipFile(tmp_path / "spleen.zip", "w") as archive:
        for path in source.rglob("*"):
            archive.write(path, path.relative_to(tmp_path))
    assert shelf.add(tmp_path / "spleen.zip", None, trusted=False).record.name == "spleen-ct-segmentation"


def test_a_configuration_in_yaml_is_read(layouts: Any, shelf: Shelf, tmp_path: Path) -> None:
    source = layouts.spleen().write(tmp_path / "source")
    config = json.loads((source / "configs/inference.json").read_text())
    (source / "configs/inference.json").unlink()
    (source / "configs/inference.yaml").write_text(yaml.safe_dump(config))
    assert shelf.add(source, None, trusted=False).layout.config == config
    (source / "configs/inference.yaml").write_text("network_def: !!python/object/apply:os.system ['touch TOUCHED']")
    shelf.remove("spleen-ct-segmentation")
    assert "cannot be parsed" in refusal(shelf, source)


def test_an_expression_is_refused_without_trust(layouts: Any, shelf: Shelf, tmp_path: Path) -> None:
    bundle = layouts.whole_body()
    bundle.card = bundle.card.replace("[set]\npixdim = [1.5, 1.5, 1.5]", "")
    said = refusal(shelf, bundle.write(tmp_path / "source"))
    assert said.startswith("'pixdim' of its inference configuration is code ($[1.5, 1.5, 1.5] if")
    assert said.endswith("add it with --trust")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"network_def": {"_target_": "os.system", "command": "touch TOUCHED"}}, "os.system"),
        ({"network_def": {"_target_": "monai.utils.optional_import", "module": "os"}}, "optional_import"),
        ({"network_def": {"_target_": "monai.bundle.ConfigParser"}}, "ConfigParser"),
        ({"network_def": {"_target_": "@image_key"}}, "@image_key"),
        ({"network_def": {"_target_": "scripts.networks.UNet"}}, "scripts.networks.UNet"),
        ({"network_def": {"_target_": "UNet", "_mode_": "debug"}}, "computes what it calls"),
        ({"inferer": "$__import__('os').system('touch TOUCHED')"}, "code"),
        ({"inferer": "%/etc/passwd.json"}, "code"),
        ({"image_key": "$open('TOUCHED', 'w').name"}, "code"),
        ({"postprocessing": {"_target_": "Lambdad", "keys": "pred", "func": "@f"}}, "Lambdad"),
        (
            {"inferer": {"_target_": "SlidingWindowInferer", "roi_size": "@nothing"}},
            "'nothing', which it does not have",
        ),
    ],
)
def test_what_is_code_runs_nothing_without_trust(
    layouts: Any, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = layouts.spleen()
    bundle.config |= change
    assert reason in refusal(shelf, bundle.write(tmp_path / "source"))
    assert not list(tmp_path.rglob("TOUCHED"))


def test_code_beside_what_inference_needs_is_never_run(
    layouts: Any, shelved: Callable[..., Any], masks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Imports, datalists, handlers: every real bundle has such code, and none of it is needed."""
    monkeypatch.chdir(tmp_path)
    bundle = layouts.spleen()
    bundle.config["imports"] = ["$import scripts"]
    bundle.config["handlers"] = [{"_target_": "scripts.boom.Handler"}, "$open('TOUCHED', 'w')"]
    bundle.extra["scripts/__init__.py"] = "open('TOUCHED', 'w')"
    shelved(bundle).examine(layouts.oblique_ct(), masks)
    assert not list(tmp_path.rglob("TOUCHED"))


def test_a_pickle_that_does_something_is_never_loaded(
    layouts: Any, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "TOUCHED",))

    monkeypatch.chdir(tmp_path)
    source = layouts.spleen().write(tmp_path / "source")
    (source / "models/model.pt").write_bytes(pickle.dumps({"model": Bomb()}))
    for trusted in (False, True):
        added = shelf.add(source, None, trusted=trusted)
        with pytest.raises(BundleRefused, match="holds more than tensors, or is damaged"):
            BundleExpert(str(added.folder)).prepare()
        shelf.remove(added.record.name)
    assert not (tmp_path / "TOUCHED").exists()


def test_a_torchscript_program_is_refused_without_trust(layouts: Any, shelf: Shelf, tmp_path: Path) -> None:
    source = layouts.spleen().write(tmp_path / "source")
    (source / "models/model.pt").rename(source / "models/model.ts")
    assert "TorchScript program" in refusal(shelf, source)


def test_trust_is_withdrawn_when_a_file_changes(layouts: Any, shelf: Shelf, tmp_path: Path) -> None:
    added = shelf.add(layouts.whole_body().write(tmp_path / "source"), None, trusted=True)
    BundleExpert(str(added.folder)).prepare()
    (added.folder / "bundle/docs/README.md").write_text("another")
    with pytest.raises(BundleRefused, match="have changed since it was added, so it is no longer trusted"):
        BundleExpert(str(added.folder)).prepare()


def test_a_bundle_cannot_bring_a_record_of_trust(layouts: Any, shelf: Shelf, tmp_path: Path) -> None:
    bundle = layouts.spleen()
    bundle.extra["record.json"] = json.dumps({"name": "x", "is_trusted": True, "files": {}})
    assert not shelf.add(bundle.write(tmp_path / "source"), None, trusted=False).record.is_trusted


def test_detection_is_refused_with_the_reason(layouts: Any, shelf: Shelf, tmp_path: Path) -> None:
    assert "needs torchvision" in refusal(shelf, layouts.nodule_detection().write(tmp_path / "source"), trusted=True)


@pytest.mark.parametrize(
    ("image", "reason"),
    [({"modality": "MR"}, "it reads MR"), ({"modality": "CT", "num_channels": 2}, "it reads 2 pictures at once")],
)
def test_what_is_no_single_ct_is_refused(
    layouts: Any, shelf: Shelf, tmp_path: Path, image: dict[str, Any], reason: str
) -> None:
    bundle = layouts.spleen()
    bundle.metadata["network_data_format"]["inputs"] = {"image": image}
    assert reason in refusal(shelf, bundle.write(tmp_path / "source"), trusted=True)


def test_paths_links_and_excess_are_refused(layouts: Any, shelf: Shelf, tmp_path: Path) -> None:
    for name in ("../escaped.txt", "/tmp/escaped.txt", "a\\..\\..\\escaped.txt"):
        with zipfile.ZipFile(tmp_path / "slip.zip", "w") as archive:
            archive.writestr(name, "x")
        assert "outside its folder" in refusal(shelf, tmp_path / "slip.zip")
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        link = zipfile.ZipInfo("configs/metadata.json")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert "link" in refusal(shelf, tmp_path / "link.zip")
    source = layouts.spleen().write(tmp_path / "source")
    (source / "models/other.pt").symlink_to("/etc/passwd")
    assert "symbolic link (models/other.pt)" in refusal(shelf, source)
    (source / "models/other.pt").unlink()
    (source / "many").mkdir()
    for number in range(2_001):
        (source / "many" / str(number)).touch()
    assert "more than 2000 files" in refusal(shelf, source)
    assert not list(tmp_path.rglob("escaped.txt"))


def test_an_archive_that_unpacks_to_too_much_is_refused(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("expert_models.bundles.shelf.MOST_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("configs/metadata.json", bytes(10_000_000))
    assert "it holds more than" in refusal(shelf, tmp_path / "bomb.zip")


def test_doctor_names_what_has_changed(layouts: Any, shelf: Shelf, tmp_path: Path) -> None:
    added = shelf.add(layouts.spleen().write(tmp_path / "source"), None, trusted=False)
    checks = {each.name: each for each in _experts(Settings(home=tmp_path))}
    assert checks["spleen-ct-segmentation"].is_ready
    (added.folder / "bundle/models/model.pt").write_bytes(b"others")
    checks = {each.name: each for each in _experts(Settings(home=tmp_path))}
    assert not checks["spleen-ct-segmentation"].is_ready
    assert not checks["spleen-ct-segmentation"].is_needed
    assert "have changed since it was added" in checks["spleen-ct-segmentation"].detail
    (added.folder / "record.json").unlink()
    missing = {each.name: each for each in _experts(Settings(home=tmp_path))}["spleen-ct-segmentation"]
    assert missing.detail == "the record of what was added as spleen-ct-segmentation cannot be read: remove it"


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        ("", "there is no card wetread.toml"),
        ("[[channels]]\nchannel = 9\ncode = ['78961009', 'SCT', 'Spleen']\nis = 'organ'", "names channel 9"),
        ("[[channels]]\nchannel = 1\ncode = ['123', 'SCT', 'Gizzard']\nis = 'organ'", "not in expert_models/anatomy"),
        ("[[channels]]\nchannel = 1\ncode = ['78961009', 'SCT', 'Spleen']\nis = 'lesion'", "is an organ"),
        ("[[channels]]\nchannel = 1\ncode = ['78961009', 'SCT', 'Spleen']\nis = 'organ'\n[set]\nx = '$1'", "[set]"),
    ],
)
def test_a_card_that_cannot_be_is_refused(layouts: Any, shelf: Shelf, tmp_path: Path, card: str, reason: str) -> None:
    bundle = layouts.spleen()
    bundle.card = card
    with pytest.raises(CardInvalid) as caught:
        shelf.add(bundle.write(tmp_path / "source"), None, trusted=False)
    assert reason in str(caught.value)


def test_a_reference_that_looks_like_an_expression_is_a_reference(layouts: Any) -> None:
    config = layouts.spleen().config
    config["preprocessing"]["transforms"][1]["keys"] = "$@image_key"
    safe = safe_config(config)
    assert set(safe) == {"network_def", "preprocessing", "inferer", "postprocessing", "image_key", "pixdim"}
    assert safe["preprocessing"]["transforms"][0]["keys"] == "@image_key"
