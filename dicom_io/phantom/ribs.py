"""The bones of a varied patient: flat ribs that end where the cartilage begins, and calcified cartilage of the old."""

from __future__ import annotations

import numpy as np

from dicom_io.phantom.canvas import Points, sampled
from dicom_io.phantom.varied import VariedAnatomy

# Where the bony rib ends, as a share of the way from spine to sternum: the eighth to tenth by cartilage only, the last
# two free in the wall.
ENDS = {1: 0.84, 2: 0.85, 3: 0.82, 4: 0.795, 5: 0.77, 6: 0.745, 7: 0.72, 8: 0.68, 9: 0.63, 10: 0.58, 11: 0.44, 12: 0.30}
HALF_THICKNESS = 3.0  # mm; twice as tall as thick


def rib_balls(anatomy: VariedAnatomy) -> Points:
    """Ball centres and radii (N, 4; body mm) of 24 bony ribs, 2.2 mm apart along each."""
    return np.concatenate([_path(anatomy, number, side, 0.13, ENDS[number]) for number in ENDS for side in (-1.0, 1.0)])


def cartilage_balls(anatomy: VariedAnatomy) -> Points:
    """Calcified stretches of the first to seventh costal cartilages, (N, 4; body mm); may be empty."""
    parts = [np.zeros((0, 4))]
    for number in range(1, 8):
        reach = anatomy.cartilage * (1.0 if number == 1 else 0.75)
        if reach > 0.12:
            for side in (-1.0, 1.0):
                start, stop = ENDS[number], ENDS[number] + (0.93 - ENDS[number]) * reach
                part = _path(anatomy, number, side, start, stop)
                wave = np.sin(np.arange(len(part)) * 0.9 + number * 2 + side)
                parts.append(part[wave > 0.4 - reach])
    return np.concatenate(parts)


def _path(anatomy: VariedAnatomy, number: int, side: float, first: float, last: float) -> Points:
    """One rib between two shares of its way round, falling to the front."""
    height = anatomy.height
    start = height * (1.045 - 0.098 * (number - 1) - 0.0012 * (number - 1) ** 2) + anatomy.rib_shift[number - 1]
    fall = anatomy.rib_slope * height * (0.16 + 0.068 * min(number, 7) ** 0.9 - 0.012 * max(number - 8, 0))
    theta = np.linspace(first, last, 40) * np.pi  # 0 at the back, pi at the front
    share = theta / np.pi
    # A rib lies in a plane that falls to the front: level behind, steep at the side.
    forward = (1 + np.sign(theta - np.pi / 2) * np.abs(np.cos(theta)) ** 0.8) / 2
    z = start - 1.1 * fall * (0.22 * share + 0.78 * forward) + 6.0 * np.sin(np.clip(share / 0.3, 0, 1) * np.pi)
    top = np.minimum(z, 0.985 * height).astype(np.float32)
    wall = HALF_THICKNESS
    front, back = anatomy.front_y(top) - wall, anatomy.back_y(top) + wall
    width = anatomy.outer(top) + wall
    if number <= 2:
        narrow = np.clip(1.0 - 0.5 * np.clip((z - 0.93 * height) / (0.12 * height), 0, 1), 0.4, 1)
        width = (np.maximum(anatomy.outer(top), 0.80 * anatomy.outer(np.float32(0.86 * height))) + wall) * narrow
    sine, cosine = np.sin(theta), -np.cos(theta)
    x = width * np.abs(sine) ** 0.8  # the superellipse of the chest wall, walked by angle
    y = (front + back) / 2 - (back - front) / 2 * np.sign(cosine) * np.abs(cosine) ** 0.8
    radius = HALF_THICKNESS * (1 + 0.10 * np.sin(share * np.pi)) * (1.15 if number == 1 else 1.0)
    line = np.stack([side * x, y, z, radius], axis=1)
    if first < 0.2:
        line = np.concatenate([[[side * 17.0, 46.0, start - 3.0, 2.8]], line])
    line[:, 0] += anatomy.spine_x(line[:, 2].astype(np.float32)) * (1 - np.abs(line[:, 0]) / anatomy.half_width)
    return sampled(line, 2.2)
