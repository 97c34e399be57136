"""What the structures expert outlines on phantoms kept from training: the picture of docs/models/cxr-structures.md.

    python bench/structures.py --overlays OUT.png [--films 24]

Films from seed 1,000,100, drawn as `wetread evaluate experts --data phantom:...` draws them. Above the four with the
greatest overlap (mean Dice of airways, clavicles and ribs), below the four with the least: airways blue, clavicles red
and green, ribs grey, diaphragm violet, true airways and clavicles in yellow. Printed is a line for each film.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import binary_erosion

from expert_models.chest_structures import ChestStructures, Structures
from expert_models.evaluate_structures import Case, phantom_cases
from expert_models.measure import dice

FIRST_SEED = 1_000_100
SIDE = 320  # pixels of one picture
ORGANS = {"ribs": "#909090", "airways": "#40a0ff", "right clavicle": "#ff5050", "left clavicle": "#40d060"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--overlays", type=Path, required=True)
    parser.add_argument("--films", type=int, default=24)
    arguments = parser.parse_args()
    expert = ChestStructures()
    films: list[tuple[float, Case, Structures]] = []
    for case in phantom_cases(range(FIRST_SEED, FIRST_SEED + arguments.films)):
        read = expert.read(case.picture)
        if isinstance(read, str):
            print(f"phantom {case.patient}: {read}", flush=True)
            continue
        overlaps = {name: dice(read.at_source(read.organ(name)), case.masks[name]) for name in ORGANS}
        print(f"phantom {case.patient}: {', '.join(f'{n} {value:.2f}' for n, value in overlaps.items())}", flush=True)
        films.append((float(np.mean(list(overlaps.values()))), case, read))
    films.sort(key=lambda each: -each[0])
    page = Image.new("RGB", (4 * SIDE + 3 * 8, 2 * SIDE + 8), "white")
    for number, (_, case, read) in enumerate([*films[:4], *films[-4:]]):
        page.paste(drawn(case, read), (number % 4 * (SIDE + 8), number // 4 * (SIDE + 8)))
    page.save(arguments.overlays, optimize=True)


def drawn(case: Case, read: Structures) -> Image.Image:
    picture = Image.fromarray((case.picture * 255).astype(np.uint8)).convert("RGB").resize((SIDE, SIDE))
    shown = [("#ffe000", case.masks[name]) for name in ORGANS if name != "ribs"]
    shown += [(colour, read.at_source(read.organ(name))) for name, colour in ORGANS.items()]
    for colour, mask in [*shown, ("#a080ff", read.at_source(read.diaphragm()))]:
        picture.paste(colour, mask=edge_of(mask))
    return picture


def edge_of(mask: npt.NDArray[np.bool_]) -> Image.Image:
    small = np.asarray(Image.fromarray(mask).resize((SIDE, SIDE)))
    return Image.fromarray(small & ~binary_erosion(small))


if __name__ == "__main__":
    main()
