"""MONAI bundles in the layouts of the Model Zoo, with networks so small that their answer is known beforehand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dicom_io.study import Geometry, Modality, Series, Volume

SPLEEN_CARD = """
[[channels]]
channel = 1
code = ["78961009", "SCT", "Spleen"]
is = "organ"
measure = ["volume", "mean_attenuation"]
"""
WHOLE_BODY_CARD = """
name = "whole-body"
[[channels]]
channel = 1
code = ["78961009", "SCT", "Spleen"]
is = "organ"
[[channels]]
channel = 3
code = ["64033007", "SCT", "Kidney"]
is = "organ"
side = "left"
[set]
pixdim = [1.5, 1.5, 1.5]
"""


@dataclass
class Bundle:
    """What goes into a bundle's folder; tests change it before it is written."""

    metadata: dict[str, Any]
    config: dict[str, Any]
    centres: list[float]  # of the classes, in what the network reads; it answers with the nearest
    card: str
    extra: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path, weights: str = "models/model.pt") -> Path:
        for name in ("configs", "models", "docs"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "configs/metadata.json").write_text(json.dumps(self.metadata))
        (folder / "configs/inference.json").write_text(json.dumps(self.config))
        (folder / "docs/README.md").write_text("# A bundle\n")
        if self.card:
            (folder / "wetread.toml").write_text(self.card)
        for name, text in self.extra.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        centres = torch.tensor(self.centres)
        tensors = {"weight": (2 * centres).reshape(-1, 1, 1, 1, 1).contiguous(), "bias": -(centres**2)}
        if weights.endswith(".safetensors"):
            save_file(tensors, folder / weights)
        else:
            torch.save({"model": tensors}, folder / weights)
        return folder


def inference(classes: int, pixdim: object, scale: dict[str, Any], post: list[dict[str, Any]]) -> dict[str, Any]:
    """As configs/inference.json of the Model Zoo's CT segmentations, their own code in it."""
    return {
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "image_key": "image",
        "output_dir": "$@bundle_root + '/eval'",
        "datalist": "$list(sorted(glob.glob(@bundle_root + '/*.nii.gz')))",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "pixdim": pixdim,
        "network_def": {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": classes, "kernel_size": 1},
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "@image_key"},
                {"_target_": "EnsureChannelFirstd", "keys": "@image_key"},
                {"_target_": "Orientationd", "keys": "@image_key", "axcodes": "RAS"},
                {"_target_": "Spacingd", "keys": "@image_key", "pixdim": "@pixdim", "mode": "bilinear"},
                {**scale, "keys": "@image_key"},
                {"_target_": "EnsureTyped", "keys": "@image_key"},
            ],
        },
        "dataset": {"_target_": "Dataset", "data": "$[{'image': i} for i in @datalist]", "transform": "@preprocessing"},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "sw_batch_size": 2, "overlap": 0.25},
        "postprocessing": {"_target_": "Compose", "transforms": post},
        "evaluator": {"_target_": "SupervisedEvaluator", "device": "@device", "network": "@network"},
        "run": ["$@evaluator.run()"],
    }


def invert(**more: Any) -> dict[str, Any]:
    return {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "@image_key", **more}


SAVE = {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"}


def spleen() -> Bundle:
    """As spleen_ct_segmentation: softmax, inverted with its probabilities, argmax last."""
    scale = {"_target_": "ScaleIntensityRanged", "a_min": -57, "a_max": 164, "b_min": 0, "b_max": 1, "clip": True}
    post = [
        {"_target_": "Activationsd", "keys": "pred", "softmax": True},
        invert(nearest_interp=False, to_tensor=True),
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        SAVE,
    ]
    metadata = {
        "name": "Spleen CT segmentation",
        "version": "0.5.9",
        "intended_use": "This is an example, not to be used for diagnostic purposes",
        "network_data_format": {
            "inputs": {"image": {"type": "image", "modality": "CT", "num_channels": 1}},
            "outputs": {"pred": {"channel_def": {"0": "background", "1": "spleen"}}},
        },
    }
    return Bundle(metadata, inference(2, [1.5, 1.5, 2.0], scale, post), [0.0, 1.0], SPLEEN_CARD)


def whole_body() -> Bundle:
    """As wholeBody_ct_segmentation: pixdim by an expression, argmax before the inversion by nearest neighbour."""
    scale = {"_target_": "ScaleIntensityRanged", "a_min": -1000, "a_max": 1000, "b_min": -1, "b_max": 1, "clip": True}
    post = [
        {"_target_": "Activationsd", "keys": "pred", "softmax": True},
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        invert(nearest_interp=True, to_tensor=True),
        SAVE,
    ]
    config = inference(4, "$[1.5, 1.5, 1.5] if @displayable_configs#highres else [3.0, 3.0, 3.0]", scale, post)
    config["displayable_configs"] = {"highres": True, "sw_overlap": 0.25}
    config["inferer"]["overlap"] = "@displayable_configs#sw_overlap"
    config["inferer"] |= {"mode": "gaussian", "padding_mode": "replicate", "device": config["device"]}
    channels = {"0": "background", "1": "spleen", "2": "kidney_right", "3": "kidney_left"}
    metadata = {
        "name": "Whole body CT segmentation",
        "version": "0.2.7",
        "network_data_format": {
            "inputs": {"image": {"modality": "CT"}},
            "outputs": {"pred": {"channel_def": channels}},
        },
    }
    return Bundle(metadata, config, [-1.0, 0.2, 0.4, 0.6], WHOLE_BODY_CARD)


def nodule_detection() -> Bundle:
    """As lung_nodule_ct_detection: RetinaNet and an inferer of the bundle's own scripts."""
    bundle = spleen()
    bundle.metadata["name"] = "CT image detection"
    bundle.config |= {
        "imports": ["$import scripts"],
        "network_def": {"_target_": "RetinaNet", "spatial_dims": 3, "num_classes": 1},
        "detector": {"_target_": "RetinaNetDetector", "network": "@network"},
        "inferer": {"_target_": "scripts.detection_inferer.RetinaNetInferer", "detector": "@detector"},
    }
    return bundle


def oblique_ct(spacing_mm: tuple[float, float, float] = (2.0, 1.5, 1.5), tilt: float = 0.0) -> Series:
    """24 slices stored from head to feet, columns to the patient's right, of -1000 HU; tilt shears like a gantry's."""
    slice_mm, row_mm, column_mm = spacing_mm
    affine = np.eye(4)
    affine[:3, 0] = [0, tilt, -slice_mm]
    affine[:3, 1] = [0, row_mm, 0]
    affine[:3, 2] = [-column_mm, 0, 0]
    affine[:3, 3] = [40.0, -35.0, 100.0]
    voxels = np.full((24, 40, 48), -1000, dtype=np.int16)
    return Series("1.2", Modality.CT, Volume(voxels, Geometry(affine, "9.9")), tuple(f"1.2.{n}" for n in range(24)))


class Layouts:
    """What the tests of this folder build."""

    spleen = staticmethod(spleen)
    whole_body = staticmethod(whole_body)
    nodule_detection = staticmethod(nodule_detection)
    oblique_ct = staticmethod(oblique_ct)


@pytest.fixture
def layouts() -> type[Layouts]:
    return Layouts


@pytest.fixture
def shelved(tmp_path: Path) -> Callable[..., Any]:
    """Write a bundle, put it on a shelf, and make the expert of it in this process."""
    from expert_models.bundles.expert import BundleExpert
    from expert_models.bundles.shelf import Shelf

    def put(bundle: Bundle, *, trusted: bool = False, weights: str = "models/model.pt") -> BundleExpert:
        added = Shelf(tmp_path / "experts").add(bundle.write(tmp_path / "source", weights), None, trusted=trusted)
        return BundleExpert(str(added.folder))

    return put
