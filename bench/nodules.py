"""How the nodule expert fails, on phantoms kept from training: what docs/models/ct-nodules.md lists and shows.

    python bench/nodules.py [--scans 30] [--picture OUT.png]

A line for every phantom from seed 1,000,000, drawn as `wetread evaluate experts --data phantom:...` draws them: its
nodules and masses by true long axis, what of them is found, and how many candidates are false, before and after the
cut of the list. The picture shows every listed candidate of the phantoms from seed 1,000,021, up to six.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy.ndimage import binary_erosion

from expert_models.card import packaged_card
from expert_models.ct_axes import axes_of
from expert_models.ct_lungs import find_lungs
from expert_models.ct_nodules import CARD, CtNodules, Marked
from expert_models.evaluate_ct import FIRST_SEED, Scan, matched, phantom_scans

SHOWN_SEED = FIRST_SEED + 21
MOST_SHOWN = 6
HALF = 40  # pixels around a candidate's centre
ZOOM = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=30)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    expert = CtNodules()
    least, present = packaged_card(CARD).indeterminate or (0.5, 0.5)
    for scan in phantom_scans(range(FIRST_SEED, FIRST_SEED + arguments.scans)):
        found = matched(scan, expert.mark(scan.volume, find_lungs(scan.volume))[0])
        sizes = [axes_of(each.mask, each.box, scan.volume.geometry)[0].length_mm for each in scan.nodules]
        told = [
            f"{size:.0f} mm {score:.2f}" if score == score else f"{size:.0f} mm missed"
            for size, score in zip(sizes, found.hit_scores, strict=True)
        ]
        false = np.array(found.false_scores)
        cuts = f"{len(false)} false, {int((false >= least).sum())} listed, {int((false >= present).sum())} present"
        print(f"{scan.name}: {', '.join(told)}; {cuts}", flush=True)
    if arguments.picture:
        tiles: list[Image.Image] = []
        for scan in phantom_scans(range(SHOWN_SEED, SHOWN_SEED + MOST_SHOWN)):
            marked = expert.mark(scan.volume, find_lungs(scan.volume))[0]
            tiles += [tile(scan, each, present) for each in marked if each.probability >= least]
        side = 2 * HALF * ZOOM
        page = Image.new("RGB", (3 * side, 2 * side), "white")
        for number, each in enumerate(tiles[:MOST_SHOWN]):
            page.paste(each, (number % 3 * side, number // 3 * side))
        page.save(arguments.picture, optimize=True)


def tile(scan: Scan, marked: Marked, present: float) -> Image.Image:
    """A candidate amid its slice in the lung window: the outline in green, the truth in yellow under it."""
    index, shape = marked.slice_index, scan.volume.shape[1:]
    rows, columns = (round(each) for each in marked.box.centre[1:])
    top, left = (max(0, min(at - HALF, size - 2 * HALF)) for at, size in zip((rows, columns), shape, strict=True))
    window = slice(top, top + 2 * HALF), slice(left, left + 2 * HALF)
    truth = np.zeros(shape, bool)
    for nodule in scan.nodules:
        if nodule.box.start[0] <= index < nodule.box.stop[0]:
            truth[nodule.box.slices[1:]] |= nodule.mask[index - nodule.box.start[0]]
    outline = np.zeros(shape, bool)
    outline[marked.box.slices[1:]] = marked.mask[index - marked.box.start[0]]
    grey = np.clip((scan.volume.voxels[index][window] + 1350) / 1500 * 255, 0, 255).astype(np.uint8)
    picture = Image.fromarray(grey).convert("RGB").resize((2 * HALF * ZOOM,) * 2, Image.Resampling.BICUBIC)
    for colour, mask in (("#ffe000", truth), ("#4fd08a", outline)):
        picture.paste(colour, mask=edge(mask[window]))
    is_present = "present" if marked.probability >= present else "indeterminate"
    is_true = "" if (truth & outline).any() else ", false"
    text = f"{scan.name}: {is_present} {marked.probability:.2f}, {marked.long_axis.length_mm:.1f} mm{is_true}"
    ImageDraw.Draw(picture).text((6, 4), text, fill="white", stroke_width=2, stroke_fill="black")
    return picture


def edge(mask: npt.NDArray[np.bool_]) -> Image.Image:
    large = np.kron(mask, np.ones((ZOOM, ZOOM), bool))
    return Image.fromarray(large & ~binary_erosion(large))


if __name__ == "__main__":
    main()
