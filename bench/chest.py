"""What the chest expert outlines on CT: the picture of docs/models/ct-chest.md.

    python bench/chest.py --picture OUT.png [--data ../shared/data] [--scans 12]

Printed is a line for each phantom from seed 1,000,100, drawn as the scorer draws them: what it has and what is told, in
mL, by side. The picture shows the two phantoms that are told best and the two told worst, each on the slice that cuts
most of what is wrong or told wrong, and the real scans of the pack ct_chest on the slice with the widest heart.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy.ndimage import binary_erosion, zoom

from dicom_io.study import Modality, Series, Volume
from expert_models.ct_chest import CONCEPTS, CtChest
from expert_models.ct_chest_parts import LESIONS, SIDES
from expert_models.ct_lungs import find_lungs
from expert_models.ct_paste import read_ct
from expert_models.evaluate_ct_chest import phantom_visit
from expert_models.evaluate_ct_painted import SCANS
from expert_models.evaluate_radiographs import MaskShelf
from expert_models.finding import Finding
from expert_models.train.ct_chest_scenes import truth_of

FIRST_SEED = 1_000_100
WIDTH = 420  # pixels of one picture
WORDS = 42  # pixels of text below it
COLOURS = {"effusion": "#4fa8f0", "pneumothorax": "#f0a0d8", "consolidation": "#4fd08a", "heart": "#e06a5a"}

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Told:
    """One scan. found, truth: by label, on its voxels. lines: what is said of it. error_ml: what is told wrongly."""

    volume: Volume
    found: dict[str, Mask]
    truth: dict[str, Mask]
    lines: tuple[str, str]
    error_ml: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--scans", type=int, default=12)
    arguments = parser.parse_args()
    expert = CtChest()
    read = []
    for seed in range(FIRST_SEED, FIRST_SEED + arguments.scans):
        visit = phantom_visit(seed)
        read.append(told(expert, Volume(visit.hu, visit.geometry), truth_of(visit), f"phantom {seed}"))
        print(" | ".join(read[-1].lines), flush=True)
    read.sort(key=lambda each: each.error_ml)
    shown = [*read[:2], *read[-2:]] if len(read) > 3 else read
    if arguments.data:
        for name in SCANS:
            path = arguments.data / "ct_chest" / name / "image.nii.gz"
            if path.is_file():
                shown.append(told(expert, read_ct(path), {}, name))
                print(" | ".join(shown[-1].lines), flush=True)
    tiles = [tile(each) for each in shown]
    height = max(each.height for each in tiles)
    page = Image.new("RGB", (4 * WIDTH, -(-len(tiles) // 4) * height), "white")
    for number, each in enumerate(tiles):
        page.paste(each, (number % 4 * WIDTH, number // 4 * height))
    page.save(arguments.picture, optimize=True)


def told(expert: CtChest, volume: Volume, truth: dict[str, Mask], name: str) -> Told:
    series = Series("1.2", Modality.CT, volume, tuple(f"1.2.{k}" for k in range(volume.shape[0])))
    shelf = MaskShelf()
    parts = expert.look(volume, find_lungs(volume))
    findings = expert.findings(parts, series, shelf)
    found, said, is_there, error_ml = {}, [], [], 0.0
    for label in LESIONS:
        found[label] = np.zeros(volume.shape, bool)
        for side in SIDES:
            finding = next((e for e in findings if e.concept == CONCEPTS[label] and e.side is side), None)
            told_ml = 0.0
            if finding and finding.regions:
                mask = mask_of(finding, volume, shelf)
                found[label] |= mask
                told_ml = float(mask.sum()) * volume.geometry.voxel_ml
                said.append(f"{side.value[0].upper()} {label} {told_ml:.0f}?")
            if truth:
                true_ml = float((truth[label] & truth[f"{side.value} thorax"]).sum()) * volume.geometry.voxel_ml
                error_ml += abs(told_ml - true_ml)
                if true_ml:
                    is_there.append(f"{side.value[0].upper()} {label} {true_ml:.0f}")
    found["heart"] = mask_of(expert.heart(parts, series, shelf), volume, shelf)
    has = f"{name} has {', '.join(is_there) or 'none'}" if truth else f"{name} (real)"
    return Told(volume, found, truth, (has, f"told: {', '.join(said) or 'none'}"), error_ml)


def mask_of(finding: Finding, volume: Volume, shelf: MaskShelf) -> Mask:
    whole = np.zeros(volume.shape, bool)
    for region in finding.regions:
        whole[region.box.slices] |= shelf.load(region.mask_key or "")
    return whole


def tile(each: Told) -> Image.Image:
    """The slice that cuts most, seen from the feet; what is told in colour, the truth in yellow under it."""
    lesions = [mask for masks in (each.truth, each.found) for label, mask in masks.items() if label in LESIONS]
    area = np.sum([mask.sum((1, 2)) for mask in lesions], axis=0)
    if not area.any():
        area = each.found["heart"].any(axis=1).sum(axis=1)
    number = int(np.argmax(area))
    factor = WIDTH / each.volume.shape[2]
    ratio = each.volume.geometry.spacing_mm[1] / each.volume.geometry.spacing_mm[2]
    scale = (factor * ratio, factor)
    grey = np.clip((each.volume.voxels[number].astype(np.float32) + 1000) / 1300 * 255, 0, 255)
    picture = Image.fromarray(zoom(grey, scale, order=1).clip(0, 255).astype(np.uint8)).convert("RGB")
    for masks, colour in ((each.truth, "#ffe000"), (each.found, "")):
        for label in (*LESIONS, "heart"):
            if label in masks:
                large = zoom(masks[label][number].astype(np.float32), scale, order=1) > 0.5
                edge = Image.fromarray(large & ~binary_erosion(large, iterations=2))
                picture.paste(colour or COLOURS[label], mask=edge)
    whole = Image.new("RGB", (WIDTH, picture.height + WORDS), "white")
    whole.paste(picture)
    for line, words in enumerate(each.lines):
        ImageDraw.Draw(whole).text((4, picture.height + 4 + 16 * line), words, fill="black")
    return whole


if __name__ == "__main__":
    main()
