"""Letters on a film: lead markers that lie in the beam, and text that the unit writes into the picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Marker:
    """One marker. place: (row, column) of its middle, as shares of the film. size: its letters' height, as a share of
    the film's rows. turn: degrees. ring: in a circle. brightness: 1 is lead or writing, less is thin plastic.
    """

    text: str
    place: tuple[float, float]
    size: float
    turn: float
    ring: bool
    brightness: float
    dark_plate: bool  # a black plate behind white letters, as annotation programs write them


INITIALS = "ABCDEFGHJKLMNPRSTVWZ"
NOTES = {
    "PA": ("PA", "ERECT", "UPRIGHT", "PA ERECT", "INSP"),
    "AP": ("AP", "PORTABLE", "MOBILE", "AP ERECT", "SEMI-ERECT", "SITTING", "AP PORTABLE", "PORT"),
    "AP SUPINE": ("AP", "SUPINE", "PORTABLE", "ICU", "AP SUPINE", "MOBILE", "BED", "LIEGEND"),
    "LATERAL": ("LAT", "LATERAL", "LL"),
}


def draw_markers(random: np.random.Generator, view: str) -> tuple[Marker, ...]:
    """The side letter of most films, and on some what the unit or the radiographer wrote beside it."""
    markers: list[Marker] = []
    lead = random.random() < 0.86
    left = random.random() < 0.8 or view == "LATERAL"
    column = float(random.uniform(0.84, 0.96) if left else random.uniform(0.03, 0.14))
    row = float(random.uniform(0.04, 0.20) if random.random() < 0.85 else random.uniform(0.55, 0.9))
    turn = float(random.normal(0, 8) + (random.choice([-90, 90, 180]) if random.random() < 0.08 else 0))
    size = float(random.uniform(0.032, 0.065))
    if lead:
        text = "L" if left else "R"
        bright = float(random.choice([1.0, random.uniform(0.55, 0.95)], p=[0.75, 0.25]))
        markers.append(Marker(text, (row, column), size, turn, bool(random.random() < 0.3), bright, False))
        if random.random() < 0.3:
            name = "".join(INITIALS[k] for k in random.integers(len(INITIALS), size=2))
            beside = (row + 1.1 * size, column + float(random.normal(0, 0.005)))
            markers.append(Marker(name, beside, 0.9 * size, turn, False, bright, False))
    wanted = {"PA": 0.22, "AP": 0.65, "AP SUPINE": 0.75, "LATERAL": 0.2}[view]
    height = float(random.uniform(0.018, 0.032))
    plate = bool(random.random() < 0.1)
    start = float(random.uniform(0.02, 0.12))
    for number in range(int(random.choice([1, 2, 3], p=[0.6, 0.3, 0.1])) if random.random() < wanted else 0):
        text = str(random.choice(NOTES[view]))
        if random.random() < 0.12:
            text = f"{int(random.integers(24)):02d}:{int(random.integers(60)):02d}"
        at = float(random.uniform(0.07, 0.93) if number == 0 else random.choice([0.08, 0.9]))
        markers.append(Marker(text, (start + 1.6 * height * number, at), height, 0.0, False, 1.0, plate))
    return tuple(markers)


def stamp(picture: Array, markers: tuple[Marker, ...]) -> Array:
    """The picture (rows, columns) with its markers on it."""
    for marker in markers:
        letters, plate, (top, left) = _laid(picture.shape, marker)
        rows, columns = letters.shape
        part = picture[top : top + rows, left : left + columns]
        if marker.dark_plate:
            part *= 1 - plate
        part += letters * (np.maximum(marker.brightness, part) - part)
    return picture


def marker_box(shape: tuple[int, int], marker: Marker) -> tuple[int, int, int, int] | None:
    """Half-open [row, column, row, column] of a marker's letters on a film of this shape; None when off it."""
    letters, _, (top, left) = _laid(shape, marker)
    rows, columns = np.nonzero(letters > 0.3)
    if rows.size == 0:
        return None
    return (
        int(rows.min()) + top, int(columns.min()) + left, int(rows.max()) + 1 + top, int(columns.max()) + 1 + left
    )  # fmt: skip


def _laid(shape: tuple[int, int], marker: Marker) -> tuple[Array, Array, tuple[int, int]]:
    """Letters and plate (0 to 1) of the part of a film that a marker covers, and its upper left corner."""
    size = max(6, round(marker.size * shape[0]))
    font = _font(size)
    left, top, right, bottom = font.getbbox(marker.text)
    wide, high = int(right - left), int(bottom - top)
    room = int(np.ceil(1.6 * np.hypot(wide, high))) + 4
    tile, plate = Image.new("L", (room, room), 0), Image.new("L", (room, room), 0)
    draw = ImageDraw.Draw(tile)
    draw.text(((room - wide) / 2 - left, (room - high) / 2 - top), marker.text, fill=255, font=font)
    edge = [(room - wide) / 2 - 2, (room - high) / 2 - 2, (room + wide) / 2 + 2, (room + high) / 2 + 2]
    ImageDraw.Draw(plate).rectangle(edge, fill=255)
    if marker.ring:
        reach = 0.75 * float(np.hypot(wide, high))
        middle = room / 2
        round_it = [middle - reach, middle - reach, middle + reach, middle + reach]
        draw.ellipse(round_it, outline=255, width=max(1, size // 10))
    bent = [each.rotate(marker.turn, Image.Resampling.BILINEAR) for each in (tile, plate)]
    turned = [np.asarray(each, np.float32) / np.float32(255) for each in bent]
    first = [round(share * side - room / 2) for share, side in zip(marker.place, shape, strict=True)]
    low = [max(0, -start) for start in first]
    stop = [min(room, side - start) for start, side in zip(first, shape, strict=True)]
    window = tuple(slice(a, max(a, b)) for a, b in zip(low, stop, strict=True))
    corner = (max(first[0], 0), max(first[1], 0))
    return turned[0][window], turned[1][window], corner


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=float(size))
