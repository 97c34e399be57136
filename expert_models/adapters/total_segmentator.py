"""TotalSegmentator (https://github.com/wasserth/TotalSegmentator) as an expert that outlines organs on CT.

A CT goes to it as a NIfTI image in memory, with its affine in RAS, and its labels come back by their own affine: no
axis is assumed to run one way. What a label means is read from the installed package, since numbers differ between its
versions. It counts its runs and reports them to its makers unless its configuration forbids that; here it works with a
configuration of ours that does, in a folder that lasts one examination.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dicom_io.study import Series, Volume
from expert_models.adapters.adapted import Adapted, read_adapted
from expert_models.anatomy import ORGANS
from expert_models.bundles.card import Channel
from expert_models.bundles.expert import Outlines, OutliningExpert
from expert_models.codes import HEART, LUNG
from expert_models.errors import BundleRefused
from expert_models.finding import Code, Finding, Presence, Side
from expert_models.ports import Masks

if TYPE_CHECKING:
    from expert_models.bundles.run import Outlined

TASKS = {"total": "default", "total-fast": "fast"}  # 1.5 mm, and 3 mm
PREFIX = "wetread-totalsegmentator-"
DAY_S = 86_400.0
MEASURES = ("volume", "mean_attenuation")
LUNGS = {
    Side.RIGHT: ("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right"),
    Side.LEFT: ("lung_upper_lobe_left", "lung_lower_lobe_left"),
}

# Codes as in the package's own totalsegmentator_snomed_mapping.csv where expert_models/anatomy.py has them.
UNPAIRED = {
    "spleen": "78961009",
    "gallbladder": "28231008",
    "liver": "10200004",
    "stomach": "69695003",
    "pancreas": "15776009",
    "esophagus": "32849002",
    "trachea": "44567001",
    "thyroid_gland": "69748006",
    "small_bowel": "30315005",
    "duodenum": "38848004",
    "colon": "71854001",
    "urinary_bladder": "89837001",
    "prostate": "41216001",
    "sacrum": "54735007",
    "aorta": "15825003",
    "pulmonary_vein": "122972007",
    "superior_vena_cava": "48345005",
    "inferior_vena_cava": "64131007",
    "spinal_cord": "2748008",
    "brain": "12738006",
    "skull": "89546000",
    "sternum": "56873002",
    "costal_cartilages": "50016007",
}
PAIRED = {
    "kidney": "64033007",
    "adrenal_gland": "23451007",
    "iliac_artery": "73634005",
    "iliac_vena": "46027005",
    "humerus": "85050009",
    "scapula": "79601000",
    "clavicula": "51299004",
    "femur": "71341001",
}
NOT_REPORTED = ("vertebrae and ribs", "lobes one by one", "muscles", "hips", "cysts of the kidneys", "other vessels")


def _structures() -> tuple[tuple[Channel, tuple[str, ...]], ...]:
    """What is told, with the package's names for it."""
    told: list[tuple[Code, Side | None, tuple[str, ...]]] = [(HEART, None, ("heart",))]
    told += [(LUNG, side, lobes) for side, lobes in LUNGS.items()]
    told += [(_organ(value), None, (name,)) for name, value in UNPAIRED.items()]
    told += [
        (_organ(value), side, (f"{name}_{side.value}",))
        for name, value in PAIRED.items()
        for side in (Side.RIGHT, Side.LEFT)
    ]
    return tuple(
        (Channel(number, code, True, side, measures=MEASURES), names)
        for number, (code, side, names) in enumerate(told, 1)
    )


def _organ(value: str) -> Code:
    return Code(value, "SCT", ORGANS[value])


STRUCTURES = _structures()


class Adapter(OutliningExpert):
    """The expert in one folder of the shelf. An organ that it does not see is not told, unless it sees none at all."""

    def __init__(self, folder: str, device: str = "cpu") -> None:
        """Raises BundleRefused when the package is missing, or is not the version that was added."""
        self._adapted = read_adapted(Path(folder))
        self._device = device
        super().__init__(self._adapted.tag, [channel for channel, _ in STRUCTURES], self._loaded)

    def examine(self, series: Series, masks: Masks) -> Sequence[Finding]:
        """What is seen in this scan; when that is nothing, every organ as not assessed."""
        found = super().examine(series, masks)
        return [each for each in found if each.presence is not Presence.NOT_ASSESSED] or found

    def _loaded(self) -> Outlines:
        return TotalSegmentator(self._adapted, self._device)


class TotalSegmentator:
    """The package at work on one volume after another."""

    def __init__(self, added: Adapted, device: str) -> None:
        """BundleRefused when a file has changed since it was added: so what is there is not fetched."""
        added.check_files()
        self._weights = added.files.resolve()
        self._is_fast = TASKS[added.model] == "fast"
        self._api = import_module("totalsegmentator.python_api")
        self._device = "gpu" if device.startswith("cuda") else "cpu"

    def outline(self, volume: Volume) -> Outlined:
        """Labels on the voxels of a CT in HU: the numbers of the channels of STRUCTURES, 0 elsewhere."""
        import nibabel

        from expert_models.bundles.run import Outlined, on_source, ras_affine

        affine = ras_affine(volume)
        voxels = np.ascontiguousarray(volume.voxels.transpose(2, 1, 0))
        picture = nibabel.Nifti1Image(voxels, affine)  # type: ignore[no-untyped-call]
        with private_home(self._weights):
            answer = self._api.totalsegmentator(
                picture, None, task="total", fast=self._is_fast, ml=True, quiet=True, skip_saving=True,
                device=self._device, nr_thr_resamp=1, nr_thr_saving=1,
            )  # fmt: skip
        class_map = import_module("totalsegmentator.map_to_binary").class_map
        numbers = {name: number for number, name in class_map["total"].items()}
        table = np.zeros(max(numbers.values()) + 1, np.int16)
        for channel, names in STRUCTURES:
            for name in names:
                if name in numbers:
                    table[numbers[name]] = channel.number
        labels = table[np.asanyarray(answer.dataobj).astype(np.intp)][None]
        return Outlined(on_source(labels, answer.affine, affine, volume.shape, nearest=True), True)


@contextmanager
def private_home(weights: Path) -> Iterator[Path]:
    """A home of the package for one call: it reports nothing, finds the weights, and keeps its pictures in it.

    weights: the folder of nnU-Net's Dataset folders. What a process that was ended left behind goes after a day.
    """
    for old in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another process's, or gone already
            if old.stat().st_mtime < time.time() - DAY_S:
                shutil.rmtree(old, ignore_errors=True)
    kept = {name: os.environ.get(name) for name in ("TOTALSEG_HOME_DIR", "TOTALSEG_WEIGHTS_PATH")}
    kept_tempdir = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix=PREFIX) as home:
        quiet = {"totalseg_id": "", "send_usage_stats": False, "prediction_counter": 0}
        (Path(home) / "config.json").write_text(json.dumps(quiet | {"statistics_disclaimer_shown": True}))
        os.environ |= {"TOTALSEG_HOME_DIR": home, "TOTALSEG_WEIGHTS_PATH": str(weights)}
        tempfile.tempdir = home
        try:
            yield Path(home)
        finally:
            tempfile.tempdir = kept_tempdir
            for name, value in kept.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def weights_of(model: str) -> dict[str, Path]:
    """The Dataset folders of a task where the package keeps what it fetched."""
    if model not in TASKS:
        raise BundleRefused(f"of TotalSegmentator {' and '.join(TASKS)} can be adapted, not {model!r}")
    try:
        tasks = import_module("totalsegmentator.map_tasks_config")
    except ImportError:
        raise BundleRefused("this version of TotalSegmentator does not tell its weights; 2.18.0 does") from None
    numbers = tasks.TASK_CONFIGS["total"]["sub_modes"][TASKS[model]]["task_id"]
    needed = [tasks.TASK_ID_WEIGHTS_CONFIGS[number] for number in (numbers if isinstance(numbers, list) else [numbers])]
    names = ["/".join(filter(None, (each.get("rel_path"), each["foldername"]))) for each in needed]
    folder = Path(import_module("totalsegmentator.config").get_weights_dir())
    if missing := [name for name in names if not (folder / name).is_dir()]:
        raise BundleRefused(
            f"its weights are not there, and wetread fetches none: put {', '.join(missing)} into {folder}"
        )
    return {name: folder / name for name in names}
