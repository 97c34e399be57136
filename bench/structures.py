"""What the structures expert outlines on phantoms kept from training: the picture of docs/models/cxr-structures.md.

    python bench/structures.py --overlays OUT.png [--films 24]

Films from seed 1,000,100, drawn as `wetread evaluate experts --data phantom:...` draws them. Above four on which every
device that is there was told and none that is not, most devices first; below the four worst (most missed or false).
Outlines of organs: airways blue, clavicles red and green, ribs grey, diaphragm violet, true outlines in yellow. Devices
that were told are pink, true ones orange. Printed is a line for each film.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy.ndimage import binary_erosion

from expert_models.chest_structures import ChestStructures, Structures
from expert_models.evaluate_structures import Case, phantom_cases

FIRST_SEED = 1_000_100
SIDE = 320  # pixels of one picture
ORGANS = {"ribs": "#909090", "airways": "#40a0ff", "right clavicle": "#ff5050", "left clavicle": "#40d060"}
WORDS = 3 * 14  # pixels of text below a picture


@dataclass(frozen=True, slots=True)
class Told:
    """One film: its devices by what became of them."""

    case: Case
    read: Structures
    right: list[str]
    missed: list[str]
    false: list[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--overlays", type=Path, required=True)
    parser.add_argument("--films", type=int, default=24)
    arguments = parser.parse_args()
    expert = ChestStructures()
    films = []
    for case in phantom_cases(range(FIRST_SEED, FIRST_SEED + arguments.films)):
        read = expert.read(case.picture)
        if isinstance(read, str):
            print(f"phantom {case.patient}: {read}", flush=True)
            continue
        films.append(told(expert, case, read))
        print(f"phantom {case.patient}: {' | '.join(lines(films[-1]))}", flush=True)
    films.sort(key=lambda each: (len(each.missed) + len(each.false), -len(each.right)))
    page = Image.new("RGB", (4 * SIDE + 3 * 8, 2 * (SIDE + WORDS + 8)), "white")
    for number, each in enumerate([*films[:4], *films[-4:]]):
        page.paste(drawn(each), (number % 4 * (SIDE + 8), number // 4 * (SIDE + WORDS + 8)))
    page.save(arguments.overlays, optimize=True)


def told(expert: ChestStructures, case: Case, read: Structures) -> Told:
    truth = {name for name in expert.told_devices if case.masks[name].any()}
    said = {name for name in expert.told_devices if expert.is_told(read, name)}
    return Told(case, read, *(sorted(each) for each in (said & truth, truth - said, said - truth)))


def lines(each: Told) -> list[str]:
    """The three lines below a picture."""
    names = [", ".join(words) or "-" for words in (each.right, each.missed, each.false)]
    return [f"told: {names[0]}", f"missed: {names[1]}", f"false: {names[2]}"]


def drawn(each: Told) -> Image.Image:
    page = Image.new("RGB", (SIDE, SIDE + WORDS), "white")
    picture = Image.fromarray((each.case.picture * 255).astype(np.uint8)).convert("RGB").resize((SIDE, SIDE))
    masks = each.case.masks
    shown = [("#ffe000", masks[name]) for name in ORGANS]
    shown += [(colour, each.read.at_source(each.read.mask(name))) for name, colour in ORGANS.items()]
    shown.append(("#a080ff", each.read.at_source(each.read.diaphragm())))
    shown += [("#ff9020", masks[name]) for name in (*each.right, *each.missed)]
    shown += [("#ff50ff", each.read.at_source(each.read.mask(name))) for name in (*each.right, *each.false)]
    for colour, mask in shown:
        picture.paste(colour, mask=edge_of(mask))
    page.paste(picture)
    for number, line in enumerate(lines(each)):
        ImageDraw.Draw(page).text((4, SIDE + 2 + 14 * number), line, fill="black")
    return page


def edge_of(mask: npt.NDArray[np.bool_]) -> Image.Image:
    small = np.asarray(Image.fromarray(mask).resize((SIDE, SIDE)))
    return Image.fromarray(small & ~binary_erosion(small))


if __name__ == "__main__":
    main()
