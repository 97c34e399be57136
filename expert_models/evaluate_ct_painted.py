"""The chest expert on real lungs with lesions painted into them: the only look at real anatomy that can be scored.

No CT with a known effusion, pneumothorax or consolidation is at hand. So fluid, air and airless tissue are painted into
the lungs of the real scans of ct_chest, where they were found without the network, in several amounts on either side;
every scan is read without any as well. Few scans of few patients: this shows whether the expert fails outside of
phantoms, not how well it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_io.study import Volume
from expert_models.ct_chest import STEEP, CtChest
from expert_models.ct_chest_parts import LESIONS
from expert_models.ct_grid import on_source
from expert_models.ct_lungs import find_lungs
from expert_models.ct_paste import read_ct
from expert_models.evaluate import Metric, mean_metric
from expert_models.finding import Presence, Side
from expert_models.measure import dice

Progress = Callable[[str], None]
Mask = npt.NDArray[np.bool_]

SCANS = {"pyradiomics_lung1": "first", "totalseg_heart15mm": "second", "totalseg_aorta15mm": "second"}  # and patients
SHARES = (0.06, 0.2)  # of the lung that is painted over


@dataclass(frozen=True, slots=True)
class Painted:
    """A lesion painted into one lung. mask: on the voxels of the volume."""

    label: str
    side: Side
    volume: Volume
    mask: Mask


def evaluate_painted(pack: Path, progress: Progress | None = None, expert: CtChest | None = None) -> list[Metric]:
    """Sensitivity and Dice by lesion, and specificity on the scans as they are. pack: the folder ct_chest."""
    expert = expert or CtChest()
    values: dict[str, list[tuple[float, str]]] = {}
    for name, patient in SCANS.items():
        if not (pack / name / "image.nii.gz").is_file():
            continue
        volume = read_ct(pack / name / "image.nii.gz")
        plain = read(expert, volume)
        values.setdefault("assessed", []).append((float(bool(plain)), patient))
        for (label, _), (said, _) in plain.items():
            values.setdefault(f"{label}/specificity", []).append((float(said is Presence.NOT_ASSESSED), patient))
        for painted in lesions_in(volume):
            unread = (Presence.NOT_ASSESSED, np.zeros(volume.shape, bool))
            said, found = read(expert, painted.volume).get((painted.label, painted.side), unread)
            told = (f"{painted.label}/sensitivity", float(said is Presence.INDETERMINATE))
            overlap = (f"{painted.label}/dice", dice(found, painted.mask))
            for what, value in (told, overlap):
                values.setdefault(what, []).append((value, patient))
        if progress:
            progress(f"painted {name}")
    return [
        mean_metric(f"ct_chest/painted/{what}", [value for value, _ in found], [owner for _, owner in found])
        for what, found in values.items()
    ]


def lesions_in(volume: Volume) -> Iterator[Painted]:
    """Every label in either lung of a scan, in each amount of SHARES."""
    lungs = find_lungs(volume)
    for side, coarse in lungs.sides:
        if side is Side.BILATERAL:
            continue
        box, native = on_source(coarse.astype(np.float32), 0.5, lungs.grid, volume)
        lung = np.zeros(volume.shape, bool)
        lung[box.slices] = native
        for label in LESIONS:
            for share in SHARES:
                yield paint(volume, lung, label, side, share)


def paint(volume: Volume, lung: Mask, label: str, side: Side, share: float) -> Painted:
    """Paint over a share of a lung, as in a supine patient: fluid behind, air in front, an airless ball in the middle.

    lung: (volume's shape). Beside fluid, airless lung of a third of its amount is painted as well, and not counted.
    """
    random = np.random.default_rng(0)
    places = np.argwhere(lung)
    points_mm = volume.geometry.to_patient(places)
    centre_mm = points_mm.mean(0)
    key = {
        "effusion": -points_mm[:, 1],
        "pneumothorax": points_mm[:, 1],
        "consolidation": np.linalg.norm((points_mm - centre_mm) * (1.0, 1.0, 0.8), axis=1),
    }[label]
    order = np.argsort(key)
    count = int(share * len(order))
    voxels = volume.voxels.astype(np.float32)
    mean_hu = {"effusion": 12.0, "pneumothorax": -1000.0, "consolidation": 40.0}[label]
    beside = places[order[count : count + count // 3]] if label == "effusion" else places[:0]
    voxels[tuple(beside.T)] = 45.0 + random.normal(0, 12, len(beside))
    chosen = places[order[:count]]
    mask = np.zeros(volume.shape, bool)
    mask[tuple(chosen.T)] = True
    voxels[mask] = mean_hu + random.normal(0, 12, count)
    soft = ndimage.gaussian_filter(voxels, [0.4, 0.7, 0.7])
    near = ndimage.binary_dilation(mask, iterations=2)
    voxels[near] = soft[near]
    return Painted(label, side, Volume(np.rint(voxels).astype(np.int16), volume.geometry), mask)


def read(expert: CtChest, volume: Volume) -> dict[tuple[str, Side], tuple[Presence, Mask]]:
    """What the expert says of every label on either side, and where on the voxels of the volume it sees it.

    Empty where no lungs were found, or its outlines do not agree with them.
    """
    lungs = find_lungs(volume)
    if not lungs.sides:
        return {}
    parts = expert.look(volume, lungs)
    answers: dict[tuple[str, Side], tuple[Presence, Mask]] = {}
    for (label, side), lesion in () if parts.doubt else parts.lesions.items():
        found = np.zeros(volume.shape, bool)
        if (lesion.logits > 0).any():
            box, native = on_source(np.clip(lesion.logits, -STEEP, STEEP), 0.0, parts.grid, volume)
            found[box.slices] = native
        answers[label, side] = expert.presence(label, lesion), found
    return answers
