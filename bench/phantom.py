"""How near the phantom's films are to real ones, in statistics of the pictures.

    python bench/phantom.py --data ../shared/data [--films 40] [--only varied] [--sheet docs/images/phantom-varied.png]

Real films are the rows of cxr_nih, cxr_anatomy and cxr_serial whose split is "train"; only numbers of them leave this
script. Every film is put into a square frame of 256 pixels (scaled by its longer side, the rest left out). For each
statistic: mean and SD over real and over phantom films, and the distance between the two distributions (the first
Wasserstein distance) in SDs of the real one. "Told apart" is how well a logistic regression on all whole-film
statistics tells phantom from real films it did not see (area under the ROC curve, five folds; 0.5 would be not at all).
Where the heart and lungs are is known of phantoms and of cxr_anatomy, so what is said of them is compared with that
pack alone. The sheet shows phantoms only: the first twelve films of the last kind.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage
from scipy.optimize import minimize
from scipy.stats import rankdata, wasserstein_distance

from expert_models.train.phantoms import phantom_radiograph
from expert_models.train.radiographs import Labelled, real_radiographs

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Row = dict[str, float]
SIDE = 256
PACKS = ("cxr_nih", "cxr_anatomy", "cxr_serial")
FIRST_SEED = 990_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data packs")
    parser.add_argument("--films", type=int, default=40, help="phantom films of each kind")
    parser.add_argument("--only", choices=["plain", "varied"], help="one kind of phantom alone")
    parser.add_argument("--sheet", type=Path, help="a picture of the first films, to be written")
    arguments = parser.parse_args()
    whole = [film_statistics(picture) for picture in real_pictures(arguments.data)]
    drawn = [lung_statistics(each) for each in drawn_films(arguments.data)]
    kinds = [arguments.only] if arguments.only else ["plain", "varied"]
    for kind in kinds:
        films = [
            phantom_radiograph(FIRST_SEED + number, SIDE, 3.0, varied=kind == "varied")
            for number in range(arguments.films)
        ]
        print(f"\n{kind} phantoms: {len(films)} films; real: {len(whole)} films, {len(drawn)} with heart and lungs")
        mine = [film_statistics(film.picture) for film in films]
        print_table(whole, mine)
        print_table(drawn, [lung_statistics(film) for film in films])
        print(f"told apart: {told_apart(whole, mine):.3f}")
        if arguments.sheet:
            save_sheet([film.picture for film in films[:12]], arguments.sheet)


def save_sheet(pictures: list[Array], path: Path, columns: int = 6) -> None:
    """Square pictures of SIDE pixels side by side, as one file."""
    rows = -(-len(pictures) // columns)
    sheet = np.zeros((rows * SIDE, columns * SIDE), dtype=np.uint8)
    for number, picture in enumerate(pictures):
        top, left = number // columns * SIDE, number % columns * SIDE
        sheet[top : top + SIDE, left : left + SIDE] = np.rint(picture * 255)
    Image.fromarray(sheet).save(path, optimize=True)


def real_pictures(data: Path) -> Iterator[Array]:
    """The training rows of every pack, as pictures in [0, 1]."""
    for pack in PACKS:
        with (data / pack / "index.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["split"] == "train":
                    with Image.open(data / pack / row["file"]) as image:
                        yield scaled(np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255))


def drawn_films(data: Path) -> Iterator[Labelled]:
    """The training rows whose heart was drawn."""
    for film in real_radiographs(data / "cxr_anatomy", lambda split: split == "train"):
        if film.known[2] and film.known[0] and film.known[1]:
            yield film


def scaled(picture: Array) -> Array:
    """Scaled so that the longer side has SIDE pixels."""
    rows, columns = picture.shape
    factor = SIDE / max(rows, columns)
    size = (max(1, round(columns * factor)), max(1, round(rows * factor)))
    image = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    return np.asarray(image.resize(size, Image.Resampling.BOX), dtype=np.float32) / np.float32(255)


def film_statistics(picture: Array) -> Row:
    """What a whole film shows: greys (0 black to 1 white), how fine its detail is, how many edges it has."""
    greys = np.percentile(picture, [5, 25, 50, 75, 95])
    edges = np.hypot(ndimage.sobel(picture, 0), ndimage.sobel(picture, 1)) / 8
    inner = picture[32:-32, 32:-32]
    fine = inner - ndimage.gaussian_filter(inner, 1.0)
    middle = ndimage.gaussian_filter(inner, 1.0) - ndimage.gaussian_filter(inner, 4.0)
    result = {
        f"grey, percentile {share}": float(value) for share, value in zip((5, 25, 50, 75, 95), greys, strict=True)
    }
    result["share of black"] = float((picture < 0.02).mean())
    result["edges, share above 0.02"] = float((edges > 0.02).mean())
    result["edges, mean"] = float(edges.mean())
    result["detail finer than 2 pixels, SD"] = float(fine.std())
    result["detail of 2 to 8 pixels, SD"] = float(middle.std())
    result["power spectrum, slope"] = slope(picture)
    return result


def slope(picture: Array) -> float:
    """Slope of log power over log frequency, radially averaged, 6 to 64 cycles over the middle square."""
    side = min(picture.shape)
    top, left = ((size - side) // 2 for size in picture.shape)
    square = picture[top : top + side, left : left + side]
    window = np.hanning(side)[:, None] * np.hanning(side)[None]
    power = np.abs(np.fft.fft2((square - square.mean()) * window)) ** 2
    cycles = np.hypot(*np.meshgrid(np.fft.fftfreq(side, 1 / side), np.fft.fftfreq(side, 1 / side)))
    steps = np.arange(6, min(65, side // 2))
    ring = np.digitize(cycles.ravel(), steps)
    mean = np.array([power.ravel()[ring == number].mean() for number in range(1, len(steps))])
    return float(np.polyfit(np.log(steps[:-1] + 0.5), np.log(mean + 1e-12), 1)[0])


def lung_statistics(film: Labelled) -> Row:
    """What lungs and heart look like: greys, contrast, texture, and their size on the film."""
    picture = scaled(film.picture)
    masks = [scaled(mask.astype(np.float32)) > 0.5 for mask in film.masks]
    heart = masks[2]
    lungs = (masks[0] | masks[1]) & ~heart
    fine = picture - ndimage.gaussian_filter(picture, 2.0)
    inside = ndimage.binary_erosion(lungs, iterations=4)
    if not inside.any() or not heart.any():
        raise ValueError(f"{film.name}: no lungs or no heart in the frame")
    return {
        "lungs, median grey": float(np.median(picture[lungs])),
        "lungs, SD of grey": float(picture[inside].std()),
        "lungs, SD of detail below 5 pixels": float(fine[inside].std()),
        "heart minus lungs, grey": float(np.median(picture[heart]) - np.median(picture[lungs])),
        "lungs, share of the film": float((masks[0] | masks[1]).mean()),
        "lungs, width over height": extent(masks[0] | masks[1], 0) / extent(masks[0] | masks[1], 1),
        "heart, width over the lungs'": extent(heart, 0) / extent(masks[0] | masks[1], 0),
    }


def extent(mask: Mask, axis: int) -> float:
    """How many columns (axis 0) or rows (1) a mask touches."""
    return float(mask.any(axis=axis).sum())


def print_table(real: list[Row], phantom: list[Row]) -> None:
    """One line a statistic, and the mean of the distances."""
    distances = []
    for name in real[0]:
        a, b = (np.array([row[name] for row in rows]) for rows in (real, phantom))
        distance = wasserstein_distance(a, b) / a.std()
        distances.append(distance)
        print(f"  {name:36s} {a.mean():8.3f} ± {a.std():.3f}   {b.mean():8.3f} ± {b.std():.3f}   {distance:6.2f}")
    print(f"  {'mean distance':36s} {np.mean(distances):41.2f}")


def told_apart(real: list[Row], phantom: list[Row]) -> float:
    """Area under the ROC curve of a logistic regression that tells phantom from real, over five folds."""
    random = np.random.default_rng(0)
    values = np.array([list(row.values()) for row in real + phantom])
    values = (values - values.mean(0)) / values.std(0)
    values = np.concatenate([values, values**2, np.ones((len(values), 1))], axis=1)
    truth = np.array([0.0] * len(real) + [1.0] * len(phantom))
    fold = random.permutation(len(truth)) % 5
    score = np.empty(len(truth))
    for number in range(5):
        learn, other = fold != number, fold == number
        score[other] = values[other] @ _fitted(values[learn], truth[learn])
    rank = rankdata(score)
    positive = truth == 1
    return float((rank[positive].mean() - (positive.sum() + 1) / 2) / (~positive).sum())


def _fitted(values: npt.NDArray[np.float64], truth: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Weights of a ridge logistic regression, both classes weighing the same."""
    weight = np.where(truth == 1, 0.5 / truth.mean(), 0.5 / (1 - truth.mean()))

    def loss(w: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        z = values @ w
        value = weight * (np.logaddexp(0, z) - truth * z)
        gradient = values.T @ (weight * (1 / (1 + np.exp(-np.clip(z, -50, 50))) - truth)) / len(truth)
        return float(value.mean() + 0.01 * (w @ w)), gradient + 0.02 * w

    fit: Callable[..., object] = minimize
    return np.asarray(fit(loss, np.zeros(values.shape[1]), jac=True, method="L-BFGS-B").x)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
