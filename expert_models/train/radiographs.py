"""Labelled radiographs for training: real ones with drawn masks, and phantoms whose masks are known exactly."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from expert_models.preprocess import Letterbox, even_tone

CHANNELS = ("right lung", "left lung", "heart")
_BITS = {"right_lung": 0, "left_lung": 1, "cardiomediastinum": 2}  # classes.json of the pack


@dataclass(frozen=True, slots=True)
class Labelled:
    """One frontal radiograph with its masks.

    picture: (rows, columns) float32 in [0, 1]. masks: (3, rows, columns) bool in the order of CHANNELS.
    known: which of the three were drawn; an unknown channel says nothing, it is not empty.
    """

    name: str
    patient: str
    view: str
    group: str
    picture: npt.NDArray[np.float32]
    masks: npt.NDArray[np.bool_]
    known: tuple[bool, bool, bool]


def real_radiographs(pack: Path, wanted: Callable[[str], bool]) -> Iterator[Labelled]:
    """The rows of a cxr_anatomy pack whose split is wanted. A class that is not listed for a row is unknown."""
    for row in rows_where(pack, wanted):
        picture = opened(pack / row["file"])
        bits = drawn_bits(pack / row["mask"])
        masks = np.stack([(bits >> bit) & 1 == 1 for bit in _BITS.values()])
        classes = row["classes"].split("|")
        right, left, heart = (key in classes for key in _BITS)
        yield Labelled(
            name=Path(row["file"]).name,
            patient=row["patient"],
            view=row["view"],
            group="heart" if heart else "lungs",
            picture=picture,
            masks=masks,
            known=(right, left, heart),
        )


def rows_where(pack: Path, wanted: Callable[[str], bool]) -> list[dict[str, str]]:
    """The rows of a pack's index whose split is wanted."""
    with (pack / "index.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if wanted(row.get("split", ""))]


def drawn_bits(path: Path) -> npt.NDArray[np.int64]:
    """A mask of a cxr_anatomy pack, (rows, columns): one bit for each class, as its classes.json lists them."""
    with Image.open(path) as image:
        return np.asarray(image).astype(np.int64)


def opened(path: Path) -> npt.NDArray[np.float32]:
    """A picture file as (rows, columns) in [0, 1]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255)


def framed(labelled: Labelled, size: tuple[int, int]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Picture (1, H, W) in [0, 1] and masks (3, H, W) in [0, 1] as laid into the network's frame, tones evened."""
    box = Letterbox((labelled.picture.shape[0], labelled.picture.shape[1]), size)
    masks = np.stack([box.lay(mask.astype(np.float32)) for mask in labelled.masks])
    return box.lay(even_tone(labelled.picture))[None], masks


def in_frame(picture: npt.NDArray[np.float32], size: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], Letterbox]:
    """A picture (rows, columns) in [0, 1] laid into the network's frame, tones evened, in 8 bits; and the way back."""
    box = Letterbox((picture.shape[0], picture.shape[1]), size)
    return (box.lay(even_tone(picture)) * 255).round().astype(np.uint8), box


def packed(masks: Sequence[npt.NDArray[np.bool_]]) -> npt.NDArray[np.uint16]:
    """At most sixteen masks (H, W) as the bits of one picture, the first the lowest."""
    bits = np.zeros(masks[0].shape, np.uint16)
    for number, mask in enumerate(masks):
        bits |= mask.astype(np.uint16) << number
    return bits
