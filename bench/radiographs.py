"""What docs/models/cxr-anatomy.md states beside `wetread evaluate experts`, on phantoms kept from training.

    python bench/radiographs.py [--data ../shared/data] [--overlays OUT.png] [--fit 40] [--check 100] [--pairs 24]

Calibration: the error of the measured cardiothoracic ratio on the phantoms from seed 900,000 gives the card's values
ratio_bias (its mean) and ratio_spread (its standard deviation). The check is on phantoms from seed 1,000,200, with the
card's values as they are: these phantoms choose nothing. Repeatability: phantoms from seed 1,000,400 taken
twice, with other exposure, collimation and noise. Real films (the rows of cxr_anatomy and cxr_nih that are not for
training): how alike the outlines of the picture and of its smaller copy are, and what is withheld. Overlays: the worst
four of sixteen phantoms from seed 1,000,032 above four typical ones, outlines in colour over the truth in yellow.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy.ndimage import binary_erosion

from dicom_io.phantom.patient import draw_patient
from dicom_io.phantom.project import radiograph
from expert_models.card import packaged_card
from expert_models.chest_radiograph import CARD, ChestRadiograph, doubt_of_heart, doubt_of_lungs
from expert_models.evaluate_radiographs import PHANTOM_ROWS, PHANTOM_SPACING_MM, is_held_out, labelled_nih, outlined
from expert_models.measure import cardiothoracic_ratio, dice
from expert_models.segment import Segmenter
from expert_models.train.phantoms import HELD_OUT, phantom_radiograph
from expert_models.train.radiographs import Labelled, real_radiographs

FITTED, CHECKED, TWICE, SHOWN = 900_000, HELD_OUT + 200, HELD_OUT + 400, HELD_OUT + 32
OUTLINES = {"right lung": "#6fa0d8", "left lung": "#4fd08a", "heart": "#c0605a"}
SIDE = 360  # pixels of one picture of the overlays


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--overlays", type=Path)
    parser.add_argument("--fit", type=int, default=40)
    parser.add_argument("--check", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=24)
    arguments = parser.parse_args()
    expert = ChestRadiograph()
    for part, first, count in (
        (fit, FITTED, arguments.fit),
        (check, CHECKED, arguments.check),
        (repeat, TWICE, arguments.pairs),
    ):
        if count:  # 0 leaves a part out
            part(expert, range(first, first + count))
    if arguments.data:
        agree(arguments.data)
    if arguments.overlays:
        overlays(expert, range(SHOWN, SHOWN + 16)).save(arguments.overlays, optimize=True)


def ratios(expert: ChestRadiograph, seeds: range) -> Iterator[tuple[Labelled, float, float]]:
    """Each phantom whose heart was measured, the measured ratio, the true one."""
    for seed in seeds:
        film = phantom_radiograph(seed, PHANTOM_ROWS, PHANTOM_SPACING_MM)
        measured = outlined(expert, film)[1]
        if measured is None:
            print(f"  phantom {seed:,}: not assessed")
        else:
            yield film, measured, cardiothoracic_ratio(*film.masks)


def fit(expert: ChestRadiograph, seeds: range) -> None:
    errors = np.array([measured - true for _, measured, true in ratios(expert, seeds)])
    spread = np.sqrt(np.mean((errors - errors.mean()) ** 2))
    print(f"fitted on {len(errors)} phantoms: ratio_bias {errors.mean():.3f}, ratio_spread {spread:.3f}", flush=True)


def check(expert: ChestRadiograph, seeds: range) -> None:
    card = packaged_card(CARD)
    low, high = card.indeterminate or (0.5, 0.5)
    told, truth, errors = [], [], []
    for film, measured, true in ratios(expert, seeds):
        told.append(expert.probability_enlarged(measured, film.view))
        truth.append(true > card.calibration[f"limit_{film.view.lower()}"])
        errors.append(measured - true)
        if abs(errors[-1]) > 0.05:
            print(f"  phantom {film.patient}: {measured:.3f} for {true:.3f}")
    probability, is_enlarged, error = np.array(told), np.array(truth), np.array(errors)
    bins = np.minimum((probability * 5).astype(int), 4)
    gaps = [
        abs(probability[bins == each].mean() - is_enlarged[bins == each].mean()) * (bins == each).mean()
        for each in np.unique(bins)
    ]
    is_sure = (probability < low) | (probability > high)
    wrong = int(((probability > 0.5) != is_enlarged)[is_sure].sum())
    brier = np.mean((probability - is_enlarged) ** 2)
    print(
        f"checked on {len(error)} phantoms, {int(is_enlarged.sum())} enlarged: mean error {error.mean():.3f}, "
        f"root mean square {np.sqrt(np.mean(error**2)):.3f}, expected calibration error {sum(gaps):.3f} (five bins), "
        f"Brier {brier:.3f}, {int((~is_sure).sum())} indeterminate, {wrong} of the other {int(is_sure.sum())} wrong",
        flush=True,
    )


def repeat(expert: ChestRadiograph, seeds: range) -> None:
    differences = []
    for seed in seeds:
        visit = draw_patient(seed, spacing_mm=PHANTOM_SPACING_MM).visits[-1]
        view = "AP" if seed % 3 == 0 else "PA"
        films = [radiograph(visit, view=view, rows=PHANTOM_ROWS, seed=seed + again) for again in (0, 500_000)]
        first = phantom_radiograph(seed, PHANTOM_ROWS, PHANTOM_SPACING_MM)
        one, other = (outlined(expert, replace(first, picture=film.image.astype(np.float32)))[1] for film in films)
        if one is not None and other is not None:
            differences.append(other - one)
    found = np.array(differences)
    print(
        f"{len(found)} of {len(seeds)} phantoms measured twice: standard deviation {found.std(ddof=1):.4f}, "
        f"largest difference {np.abs(found).max():.3f}",
        flush=True,
    )


def agree(data: Path) -> None:
    card = packaged_card(CARD)
    segmenter = Segmenter(card)
    lungs, hearts = [], []
    withheld = {"all": 0, "the heart alone": 0}
    drawn_on = ((film.name, film.picture) for film in real_radiographs(data / "cxr_anatomy", is_held_out))
    labelled = ((patient, series.volume.voxels[0]) for patient, series, _ in labelled_nih(data / "cxr_nih"))
    for name, picture in chain(drawn_on, labelled):
        segmented = segmenter.segment(picture)
        reason = doubt_of_heart(segmented, card.calibration)
        if reason:
            withheld["all" if doubt_of_lungs(segmented, card.calibration) else "the heart alone"] += 1
            print(f"  {name}: {reason}")
        lungs.append(min(segmented.agreement["right lung"], segmented.agreement["left lung"]))
        hearts.append(segmented.agreement["heart"])
    print(f"{len(lungs)} real films kept from training; withheld: {withheld}")
    for name, values in (("lungs", lungs), ("heart", hearts)):
        print(f"  agreement of the {name}: lowest five {np.sort(values)[:5].round(3)}, median {np.median(values):.3f}")


def overlays(expert: ChestRadiograph, seeds: range) -> Image.Image:
    scored = []
    for seed in seeds:
        film = phantom_radiograph(seed, PHANTOM_ROWS, PHANTOM_SPACING_MM)
        masks = outlined(expert, film)[0]
        score = float(np.mean([dice(masks[name], truth) for name, truth in zip(OUTLINES, film.masks, strict=True)]))
        scored.append((score, film, masks))
    scored.sort(key=lambda each: each[0])
    middle = len(scored) // 2
    page = Image.new("RGB", (4 * SIDE, 2 * (SIDE + 26)), "white")
    for number, (score, film, masks) in enumerate([*scored[:4], *scored[middle - 2 : middle + 2]]):
        corner = (number % 4 * SIDE, number // 4 * (SIDE + 26))
        page.paste(drawn(film, masks), corner)
        text = f"phantom {int(film.patient):,}, {film.view}: mean Dice {score:.3f}"
        ImageDraw.Draw(page).text((corner[0] + 6, corner[1] + SIDE + 6), text, fill="black")
    return page


def drawn(film: Labelled, masks: dict[str, npt.NDArray[np.bool_]]) -> Image.Image:
    """The film with the outlines of the truth, and of these masks over them."""
    picture = Image.fromarray((film.picture * 255).astype(np.uint8)).convert("RGB").resize((SIDE, SIDE))
    pairs = [("#ffe000", mask) for mask in film.masks] + [(OUTLINES[name], mask) for name, mask in masks.items()]
    for colour, mask in pairs:
        small = np.asarray(Image.fromarray(mask).resize((SIDE, SIDE)))
        picture.paste(colour, mask=Image.fromarray(small & ~binary_erosion(small)))
    return picture


if __name__ == "__main__":
    main()
