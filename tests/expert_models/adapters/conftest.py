"""Packages of other makers as the adapters see them: the same names and attributes, and a log of what they would do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

XRAY_VISION = {
    "torchxrayvision/__init__.py": "",
    "torchxrayvision/utils.py": "from pathlib import Path\ndef get_cache_dir(): return str(Path(LOG).parent / 'xrv')\n",
    "torchxrayvision/models.py": """
import math, os, torch
model_urls = {
    "densenet121-res224-chex": {"weights_url": "https://example.invalid/v1/chex.pt"},
    "densenet121-res224-odd": {"weights_url": "https://example.invalid/v1/odd.pt"},
}
class Fake(torch.nn.Module):
    input_resolution = 8
    pathologies = ["Atelectasis", "", "Pneumothorax", "Effusion", "Lung Lesion", "Lung Opacity"]
    def __init__(self, scores):
        super().__init__()
        self.register_buffer("op_threshs", torch.tensor([0.2, math.nan, 0.1, 0.3, 0.1, math.nan]))
        self.scores = scores
    def forward(self, x):
        log(f"saw {tuple(x.shape)} {x.min().item():g} {x.max().item():g} {x[0, 0].mean(dim=0).tolist()}")
        return torch.tensor([self.scores])
def get_model(weights, cache_dir=None):
    path = os.path.join(cache_dir, os.path.basename(model_urls[weights]["weights_url"]))
    if not os.path.isfile(path):
        log("DOWNLOADED")
    with open(path) as file:
        return Fake([float(each) for each in file.read().split()])
""",
}
TOTAL_SEGMENTATOR = {
    "totalsegmentator/__init__.py": "",
    "totalsegmentator/map_to_binary.py": """
class_map = {"total": {1: "spleen", 9: "heart", 3: "lung_upper_lobe_left", 4: "lung_lower_lobe_left",
                       5: "lung_lower_lobe_right", 12: "rib_left_1"}}
""",
    "totalsegmentator/map_tasks_config.py": """
TASK_CONFIGS = {"total": {"sub_modes": {"default": {"task_id": [291, 292]}, "fast": {"task_id": 297}}}}
TASK_ID_WEIGHTS_CONFIGS = {291: {"foldername": "Dataset291_organs"}, 292: {"foldername": "Dataset292_ribs"},
                           297: {"foldername": "Dataset297_3mm"}}
""",
    "totalsegmentator/config.py": """
import json, os
from pathlib import Path
def home():
    return Path(os.environ.get("TOTALSEG_HOME_DIR", str(Path(LOG).parent / "dot-totalsegmentator")))
def get_weights_dir():
    return Path(os.environ.get("TOTALSEG_WEIGHTS_PATH", home() / "nnunet/results"))
def setup_totalseg():
    home().mkdir(exist_ok=True)
    if not (home() / "config.json").exists():
        (home() / "config.json").write_text(json.dumps({"send_usage_stats": True, "prediction_counter": 0}))
def send_usage_stats():
    config = json.loads((home() / "config.json").read_text())
    config["prediction_counter"] += 1
    (home() / "config.json").write_text(json.dumps(config))
    if config["send_usage_stats"]:
        log("SENT")
""",
    "totalsegmentator/python_api.py": """
import tempfile
import nibabel as nib, numpy as np
from totalsegmentator import config
from totalsegmentator.map_to_binary import class_map
from totalsegmentator.map_tasks_config import TASK_CONFIGS, TASK_ID_WEIGHTS_CONFIGS
def totalsegmentator(input, output=None, ml=False, nr_thr_resamp=1, nr_thr_saving=6, fast=False, task="total",
                     quiet=False, skip_saving=False, device="gpu"):
    config.setup_totalseg()
    ids = TASK_CONFIGS[task]["sub_modes"]["fast" if fast else "default"]["task_id"]
    for number in ids if isinstance(ids, list) else [ids]:
        if not (config.get_weights_dir() / TASK_ID_WEIGHTS_CONFIGS[number]["foldername"]).exists():
            log("DOWNLOADED")
    log(f"ran fast={fast} device={device} temporary={tempfile.mkdtemp()}")
    canonical = nib.as_closest_canonical(input)  # to RAS: x grows to the right, so the left is the low half
    hu = canonical.get_fdata()
    seg = np.zeros(hu.shape, np.uint8)
    half, third = hu.shape[0] // 2, hu.shape[2] // 2
    lung = hu < -800
    x, _, z = np.indices(hu.shape)
    seg[lung & (x < half) & (z >= third)] = 3
    seg[lung & (x < half) & (z < third)] = 4
    seg[lung & (x >= half)] = 5
    seg[(hu > 20) & (hu < 90)] = 9
    seg[hu > 500] = 12
    config.send_usage_stats()
    answer = nib.Nifti1Image(seg, canonical.affine)
    return answer  # in RAS, as some versions gave it back: only its affine says where it lies
""",
}
LOGGED = """
LOG = {log!r}
def log(text):
    with open(LOG, "a") as file:
        print(text, file=file)
"""
LIBRARIES = {
    "torchxrayvision-1.5.7": "torchxrayvision", "torchvision-0.99": "torchvision",
    "totalsegmentator-2.18.0": "TotalSegmentator", "nnunetv2-2.6": "nnunetv2",
}  # fmt: skip


class Packages:
    """What is installed beside the program, and what it did."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site = folder / "site"

    def install(self) -> None:
        for name, text in {**XRAY_VISION, **TOTAL_SEGMENTATOR}.items():
            path = self.site / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                text if name.endswith("__init__.py") else LOGGED.format(log=str(self.folder / "log")) + text
            )
        for folder, name in LIBRARIES.items():
            self.version(folder, name, folder.rpartition("-")[2])
        (self.folder / "xrv").mkdir()
        (self.folder / "xrv/chex.pt").write_text("0.4999 0.9 0.5 0.8 0.9 0.5")
        for name in ("Dataset291_organs", "Dataset292_ribs"):
            fold = self.folder / "dot-totalsegmentator/nnunet/results" / name / "nnUNetTrainer/fold_0"
            fold.mkdir(parents=True)
            (fold / "checkpoint_final.pth").write_text(name)

    def version(self, folder: str, name: str, version: str) -> None:
        info = self.site / f"{folder}.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text() if path.is_file() else ""


@pytest.fixture
def packages(tmp_path: Path) -> Iterator[Packages]:
    """Installed for one test, in this process and in those that it starts."""
    made = Packages(tmp_path / "packages")
    made.site.mkdir(parents=True)
    made.install()
    sys.path.insert(0, str(made.site))
    yield made
    sys.path.remove(str(made.site))
    for name in [each for each in sys.modules if each.split(".")[0] in ("torchxrayvision", "totalsegmentator")]:
        del sys.modules[name]
