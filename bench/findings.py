"""What the findings expert says of phantoms kept from training: the picture of docs/models/cxr-findings.md.

    python bench/findings.py --overlays OUT.png [--films 60]

Films from seed 1,000,100, drawn as `wetread evaluate experts --data phantom:...` draws them. Above four that are read
best (nothing missed, nothing false, most told), below the four worst (most missed or false): the truth in yellow, what
is called present in blue, what is called possible in pink. Printed is a line for each film.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy.ndimage import binary_erosion

from dicom_io.phantom.project import Radiograph
from expert_models.card import packaged_card
from expert_models.chest_findings import CARD, ChestFindings
from expert_models.evaluate_findings import PHANTOM_ROWS, PHANTOM_SPACING_MM
from expert_models.evaluate_radiographs import MaskShelf, as_series
from expert_models.finding import Presence
from expert_models.train.findings_films import KINDS, phantom_film

FIRST_SEED = 1_000_100
SIDE = 320  # pixels of one picture
COLOURS = {Presence.PRESENT: "#4fc0f0", Presence.INDETERMINATE: "#f0a0d8"}
WORDS = 3 * 14  # pixels of text below a picture


@dataclass(frozen=True, slots=True)
class Told:
    """One film: words such as "left mass" by what became of them, and outlines by presence."""

    seed: int
    film: Radiograph
    right: list[str]
    missed: list[str]
    false: list[str]
    possible: list[str]
    outlines: list[tuple[Presence, npt.NDArray[np.bool_]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--overlays", type=Path, required=True)
    parser.add_argument("--films", type=int, default=60)
    arguments = parser.parse_args()
    expert = ChestFindings()
    read = []
    for seed in range(FIRST_SEED, FIRST_SEED + arguments.films):
        read.append(told(expert, seed))
        print(f"phantom {seed}: {' | '.join(lines(read[-1]))}", flush=True)
    read.sort(key=lambda each: (len(each.missed) + len(each.false), -len(each.right)))
    page = Image.new("RGB", (4 * SIDE + 3 * 8, 2 * (SIDE + WORDS + 8)), "white")
    for number, each in enumerate([*read[:4], *read[-4:]]):
        page.paste(drawn(each), (number % 4 * (SIDE + 8), number // 4 * (SIDE + WORDS + 8)))
    page.save(arguments.overlays, optimize=True)


def told(expert: ChestFindings, seed: int) -> Told:
    film = phantom_film(seed, PHANTOM_ROWS, PHANTOM_SPACING_MM)
    shelf = MaskShelf()
    findings = expert.examine(as_series(film.image.astype(np.float32), film.view), shelf)
    labels = {label.code: label.name for label in packaged_card(CARD).labels}
    truth = {f"{each.side or ''} {KINDS[each.kind]}".strip() for each in film.visible if each.kind in KINDS}
    present, possible, outlines = set(), set(), []
    for finding in findings:
        name = f"{finding.side or ''} {labels[finding.concept]}".strip()
        if finding.presence in COLOURS:
            (present if finding.presence is Presence.PRESENT else possible).add(name)
        for region in finding.regions:
            mask = np.zeros(film.image.shape, bool)
            mask[region.box.slices[1:]] = shelf.load(region.mask_key or "")[0]
            outlines.append((finding.presence, mask))
    parts = (present & truth, truth - present - possible, present - truth, possible)
    return Told(seed, film, *(sorted(each) for each in parts), outlines)


def lines(each: Told) -> list[str]:
    """The three lines below a picture."""
    names = [", ".join(words) or "-" for words in (each.right, each.missed, each.false, each.possible)]
    return [f"told: {names[0]}", f"missed: {names[1]}", f"false: {names[2]}  possible: {names[3]}"]


def drawn(each: Told) -> Image.Image:
    page = Image.new("RGB", (SIDE, SIDE + WORDS), "white")
    grey = Image.fromarray((each.film.image * 255).astype(np.uint8)).convert("RGB").resize((SIDE, SIDE))
    truths = [each.film.masks[lesion.tracking_id] for lesion in each.film.visible if lesion.kind in KINDS]
    for colour, mask in [*(("#ffe000", mask) for mask in truths), *((COLOURS[p], mask) for p, mask in each.outlines)]:
        small = np.asarray(Image.fromarray(mask).resize((SIDE, SIDE)))
        grey.paste(colour, mask=Image.fromarray(small & ~binary_erosion(small)))
    page.paste(grey)
    for number, line in enumerate(lines(each)):
        ImageDraw.Draw(page).text((4, SIDE + 2 + 14 * number), line, fill="black")
    return page


if __name__ == "__main__":
    main()
