"""Pictures that no radiograph expert should answer on, drawn or made from those that it should: to train and to test.

All pictures are (rows, columns) float32 in [0, 1], brighter = denser, as a Series of a radiograph holds them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_io.phantom.film import develop, draw_exposure
from dicom_io.phantom.patient import Visit
from dicom_io.phantom.project import attenuation

Picture = npt.NDArray[np.float32]
Random = np.random.Generator

# ------------------------------------------------------------------------------------------- a good film, spoiled


def inverted(film: Picture) -> Picture:
    """The grey scale turned round: bone dark."""
    return 1 - film


def upside_down(film: Picture) -> Picture:
    """Turned by 180 degrees."""
    return np.ascontiguousarray(film[::-1, ::-1])


def sideways(film: Picture) -> Picture:
    """Turned by 90 degrees, the head to the left."""
    return np.ascontiguousarray(np.rot90(film))


def mirrored(film: Picture) -> Picture:
    """Left and right exchanged."""
    return np.ascontiguousarray(film[:, ::-1])


def saturated(film: Picture) -> Picture:
    """So overexposed that all but the darkest tenth is white."""
    return np.asarray(film > np.quantile(film, 0.1), dtype=np.float32)


def corner(film: Picture, random: Random) -> Picture:
    """A part of a film that is no chest: a fifth to a third of its side, from one of its edges."""
    share = random.uniform(0.2, 0.34)
    rows, columns = (int(share * extent) for extent in film.shape)
    top = int(random.choice([0, film.shape[0] - rows]))
    left = int(random.integers(0, film.shape[1] - columns))
    return np.ascontiguousarray(film[top : top + rows, left : left + columns])


# ------------------------------------------------------------------------------------- a phantom, from elsewhere


def lateral(visit: Visit, random: Random) -> Picture:
    """The phantom from its side, by parallel rays, facing either way. Its lungs fill the middle."""
    film = _projected(visit, 2, random)
    lungs = (visit.structures["right_lung"] | visit.structures["left_lung"])[::-1]
    slices = np.flatnonzero(lungs.any(axis=(1, 2)))
    margin = int(random.uniform(0.04, 0.2) * slices.size)
    film = film[max(slices[0] - margin, 0) : slices[-1] + margin]
    return mirrored(film) if random.random() < 0.5 else np.ascontiguousarray(film)


def abdomen(visit: Visit, random: Random) -> Picture:
    """What lies below the lungs, from the front, drawn out to the height of a belly, with gas and iliac wings."""
    film = _projected(visit, 1, random)
    lungs = (visit.structures["right_lung"] | visit.structures["left_lung"])[::-1]
    last = int(np.flatnonzero(lungs.any(axis=(1, 2)))[-1])
    part = film[last - int(random.uniform(0, 12) / visit.geometry.spacing_mm[0]) :]
    height, width = int(random.uniform(0.8, 1.3) * part.shape[1]), part.shape[1]
    belly = ndimage.zoom(part, (height / part.shape[0], 1), order=1)
    rows, columns = np.mgrid[0 : belly.shape[0], 0:width].astype(np.float32)
    for _ in range(int(random.integers(3, 25))):
        row, column = random.uniform(0.15, 0.9) * height, random.uniform(0.25, 0.75) * width
        high, wide = random.uniform(0.01, 0.08, 2) * width
        belly -= random.uniform(0.05, 0.35) * np.exp(-(((rows - row) / high) ** 2 + ((columns - column) / wide) ** 2))
    if random.random() < 0.7:
        for sign in (-1, 1):
            column = (0.5 + sign * random.uniform(0.17, 0.22)) * width
            wing = np.hypot(
                (rows - random.uniform(0.85, 1.0) * height) / (0.25 * height), (columns - column) / (0.13 * width)
            )
            belly += 0.2 * np.clip(1.3 - wing, 0, 0.3) / 0.3
    edge = int(random.uniform(0, 0.2) * width)
    return np.ascontiguousarray(np.clip(belly[:, edge : width - edge], 0, 1), dtype=np.float32)


def slice_of_ct(visit: Visit, random: Random) -> Picture:
    """One axial or sagittal slice of the phantom's CT in a common window, as if it were a radiograph."""
    axis = int(random.choice([0, 0, 2]))
    extent = visit.hu.shape[axis]
    flat = np.take(visit.hu, int(random.uniform(0.2, 0.8) * extent), axis=axis).astype(np.float32)
    flat = flat[::-1] if axis == 2 else flat
    level, width = ((-600, 1500), (40, 400))[int(random.integers(2))]
    return np.ascontiguousarray(np.clip((flat - level) / width + 0.5, 0, 1), dtype=np.float32)


def _projected(visit: Visit, axis: int, random: Random) -> Picture:
    exposure = draw_exposure(random, "PA")
    path = attenuation(visit.hu, exposure.bone_factor).sum(axis=axis) * visit.geometry.spacing_mm[axis]
    return develop(np.ascontiguousarray(path[::-1]), exposure, visit.geometry.spacing_mm[0], random)


# ---------------------------------------------------------------------------------------------------- drawn by hand


def blank(random: Random) -> Picture:
    """Nothing but one grey."""
    return np.full((256, 256), random.random(), np.float32)


def noise(random: Random) -> Picture:
    """White noise, smoothed by 0 to 30 pixels."""
    rough = random.standard_normal((256, 256)).astype(np.float32)
    return _stretched(ndimage.gaussian_filter(rough, random.choice([0, 0.7, 2, 6, 14, 30])))


def shapes(random: Random) -> Picture:
    """A gradient with discs and boxes."""
    rows, columns = np.mgrid[0:256, 0:256].astype(np.float32) / 255
    angle = random.uniform(0, 2 * np.pi)
    picture = (rows * np.cos(angle) + columns * np.sin(angle)) * random.uniform(0, 1)
    for _ in range(int(random.integers(0, 8))):
        (row, column), size, tone = random.random(2), random.uniform(0.03, 0.35), random.uniform(-1, 1)
        disc = np.hypot(rows - row, columns - column) < size
        box = (np.abs(rows - row) < size) & (np.abs(columns - column) < size * random.uniform(0.2, 2))
        picture = picture + tone * (disc if random.random() < 0.5 else box)
    return _stretched(ndimage.gaussian_filter(picture.astype(np.float32), random.uniform(0, 4)))


def hand(random: Random) -> Picture:
    """Palm and five fingers, a bone in each part, in any direction."""
    path = np.zeros((256, 256), np.float32)
    wrist = np.array([245.0, 128.0])
    for finger in range(5):
        angle = np.deg2rad(random.normal(-52 + 23 * finger if finger else -70, 4))
        place, length = wrist.copy(), random.uniform(75, 95)
        for bone in range(4 if finger else 3):
            along = np.array([-np.cos(angle), np.sin(angle) * (0.55 if bone == 0 else 0.8)])
            end = place + along * length
            _tube(path, place, end, random.uniform(10, 15) if bone else 22, 0.4)
            _tube(path, place + along * 5, end - along * 5, random.uniform(4, 7), 0.8)
            place, length = end, length * random.uniform(0.55, 0.7)
    return _finished(path, random)


def limb(random: Random) -> Picture:
    """One or two long bones in soft tissue, a joint between, in any direction."""
    path = np.zeros((256, 256), np.float32)
    width, bones = random.uniform(30, 70), int(random.integers(1, 3))
    _tube(path, np.array([-20.0, 128.0]), np.array([276.0, 128 + random.normal(0, 15)]), width, 0.6)
    joint = random.uniform(70, 190)
    for number in range(bones):
        column = 128 + (number - (bones - 1) / 2) * width * 0.8
        radius = random.uniform(8, 16)
        _tube(path, np.array([-20.0, column]), np.array([joint - 4, column]), radius, 0.9, hollow=True)
        _tube(path, np.array([joint + 4, column]), np.array([276.0, column]), radius, 0.9, hollow=True)
        _tube(path, np.array([joint - 12, column]), np.array([joint - 6, column]), radius * 1.5, 0.5)
    return _finished(path, random)


def skull(random: Random) -> Picture:
    """A ring of bone with a jaw, denser at its base, from the front or from the side."""
    rows, columns = np.mgrid[0:256, 0:256].astype(np.float32)
    high, wide = random.uniform(80, 105), random.uniform(65, 100)
    radius = np.hypot((rows - 115) / high, (columns - 128) / wide)
    path = np.clip(1.15 - radius, 0, None) ** 0.5 * 0.8 + 0.9 * np.exp(-(((radius - 1) / 0.06) ** 2))
    path += 0.9 * np.exp(-(((rows - 185) / 25) ** 2 + ((columns - 128) / (0.7 * wide)) ** 2))
    for sign in (-1, 1):
        path -= 0.5 * np.exp(-(((rows - 150) / 14) ** 2 + ((columns - 128 - sign * wide * 0.4) / 16) ** 2))
    _tube(path, np.array([190.0, 128.0]), np.array([270.0, 128.0]), 40, 0.7)
    return _finished(path.astype(np.float32), random, turns=False)


DRAWN: dict[str, Callable[[Random], Picture]] = {
    "blank": blank,
    "noise": noise,
    "shapes": shapes,
    "hand": hand,
    "limb": limb,
    "skull": skull,
}
SPOILED: dict[str, Callable[[Picture], Picture]] = {
    "inverted": inverted,
    "upside down": upside_down,
    "sideways": sideways,
    "saturated": saturated,
}
FROM_PHANTOM: dict[str, Callable[[Visit, Random], Picture]] = {
    "lateral": lateral,
    "abdomen": abdomen,
    "slice of a CT": slice_of_ct,
}


def _tube(path: Picture, start: npt.NDArray[np.float64], end: npt.NDArray[np.float64], radius: float, depth: float,
          *, hollow: bool = False) -> None:  # fmt: skip
    """Add a rounded rod between two (row, column) places; hollow: dense at its walls, as long bones are."""
    rows, columns = np.mgrid[0 : path.shape[0], 0 : path.shape[1]]
    place = np.stack([rows, columns], -1).astype(np.float64)
    along = end - start
    share = np.clip(((place - start) @ along) / float(along @ along), 0, 1)
    off = np.linalg.norm(place - start - share[..., None] * along, axis=-1) / radius
    rod = np.sqrt(np.clip(1 - off**2, 0, None))
    path += (depth * (rod - (0.8 * np.sqrt(np.clip(0.5 - off**2, 0, None)) if hollow else 0))).astype(np.float32)


def _finished(path: Picture, random: Random, *, turns: bool = True) -> Picture:
    turned = ndimage.rotate(path, random.uniform(-180, 180), reshape=False, order=1) if turns else path
    rough = ndimage.gaussian_filter(random.standard_normal(path.shape), random.uniform(0.5, 2))
    film = _stretched(ndimage.gaussian_filter(turned, 1.0)) + random.uniform(0.01, 0.08) * rough
    return np.asarray(np.clip(film, 0, 1) ** random.uniform(0.5, 1.2), dtype=np.float32)


def _stretched(picture: npt.NDArray[np.floating]) -> Picture:
    low, high = float(picture.min()), float(picture.max())
    return np.asarray((picture - low) / max(high - low, 1e-6), dtype=np.float32)
