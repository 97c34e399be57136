"""A radiograph as the network sees it, and the way back: letterbox and intensity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Picture = npt.NDArray[np.float32]  # (rows, columns) in [0, 1], brighter = denser


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How a picture of (rows, columns) is laid, whole and in proportion, into the middle of a frame of (rows, columns).

    Pixel centres are at integers in both. A source position p becomes (p + 0.5) * scale - 0.5 + offset.
    """

    source: tuple[int, int]
    frame: tuple[int, int]

    def __post_init__(self) -> None:
        if min(*self.source, *self.frame) < 1:
            raise ValueError(f"no pixel to lay from {self.source} into {self.frame}")

    @property
    def scale(self) -> float:
        """Frame pixels per source pixel, the same along both axes."""
        return min(self.frame[0] / self.source[0], self.frame[1] / self.source[1])

    @property
    def offset(self) -> tuple[float, float]:
        """Empty border above and left of the picture, in frame pixels."""
        scale = self.scale
        return (self.frame[0] - self.source[0] * scale) / 2, (self.frame[1] - self.source[1] * scale) / 2

    def to_frame(self, position: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """(N, 2) source (row, column) -> (N, 2) frame (row, column)."""
        position = np.atleast_2d(np.asarray(position, dtype=np.float64))
        return np.asarray((position + 0.5) * self.scale - 0.5 + np.asarray(self.offset))

    def to_source(self, position: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """(N, 2) frame (row, column) -> (N, 2) source (row, column)."""
        position = np.atleast_2d(np.asarray(position, dtype=np.float64))
        return np.asarray((position - np.asarray(self.offset) + 0.5) / self.scale - 0.5)

    def lay(self, picture: npt.NDArray[np.float32]) -> Picture:
        """(rows, columns) of the source -> the frame, linear, smoothed before shrinking, 0 outside the picture."""
        if picture.shape != self.source:
            raise ValueError(f"this letterbox is for pictures of {self.source}, not {picture.shape}")
        if self.source == self.frame:
            return picture.astype(np.float32)
        image = picture.astype(np.float32, copy=False)
        step = 1 / self.scale
        if step >= 2:  # box means first: fast, and it takes most of what the smoothing must take
            factor = int(step)
            rows, columns = (extent // factor * factor for extent in image.shape)
            means = image[:rows, :columns].reshape(rows // factor, factor, columns // factor, factor).mean(axis=(1, 3))
            return _sample(means.astype(np.float32), self, factor)
        return _sample(image, self, 1)

    def lift(self, frame: npt.NDArray[np.float32]) -> Picture:
        """The frame (rows, columns) -> the source's (rows, columns), linear: the way back for a probability map."""
        if frame.shape != self.frame:
            raise ValueError(f"this letterbox has frames of {self.frame}, not {frame.shape}")
        rows, columns = (
            _along(frame_extent, extent, self.scale, border)
            for frame_extent, extent, border in zip(self.frame, self.source, self.offset, strict=True)
        )
        first, second, weight = rows
        lifted = frame[first] * (1 - weight)[:, None] + frame[second] * weight[:, None]
        first, second, weight = columns
        return np.asarray(lifted[:, first] * (1 - weight) + lifted[:, second] * weight, dtype=np.float32)


def _along(
    frame_extent: int, extent: int, scale: float, border: float
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """For every source position of one axis: its two neighbours in the frame and the second one's weight."""
    position = np.clip((np.arange(extent) + 0.5) * scale - 0.5 + border, 0, frame_extent - 1)
    first = np.floor(position).astype(np.intp)
    return first, np.minimum(first + 1, frame_extent - 1), (position - first).astype(np.float32)


def _sample(image: npt.NDArray[np.float32], box: Letterbox, factor: int) -> Picture:
    """Sample a picture that was already shrunk by a whole factor into the frame of its letterbox."""
    step = 1 / (box.scale * factor)
    if step > 1:
        image = ndimage.gaussian_filter(image, 0.35 * step, mode="nearest")
    offset = [(0.5 - border) * step - 0.5 for border in box.offset]
    laid: Picture = ndimage.affine_transform(
        image, [step, step], offset=offset, output_shape=box.frame, order=1, mode="nearest"
    )
    for axis, border in enumerate(box.offset):
        outside = round(border)
        if outside:
            laid[(slice(None),) * axis + (slice(None, outside),)] = 0
            laid[(slice(None),) * axis + (slice(-outside, None),)] = 0
    return laid


def even_tone(picture: npt.NDArray[np.float32]) -> Picture:
    """Stretch a picture so that its 1st and 99th percentile become 0 and 1, whatever the detector's window was.

    The black border of a collimated or scanned film does not count: only values above the darkest are ranked.
    """
    sample = picture[:: max(1, picture.shape[0] // 256), :: max(1, picture.shape[1] // 256)]
    darkest, brightest = float(sample.min()), float(sample.max())
    inside = sample[sample > darkest + 0.02 * (brightest - darkest)]
    if inside.size < sample.size // 10:
        inside = sample.ravel()
    low, high = np.percentile(inside, [1, 99])
    if high - low < 1e-6:
        return np.zeros_like(picture, dtype=np.float32)
    return np.asarray(np.clip((picture - low) / (high - low), 0, 1), dtype=np.float32)


def network_input(picture: npt.NDArray[np.float32], size: tuple[int, int]) -> tuple[Picture, Letterbox]:
    """What the network reads of a radiograph: (size) in [-2, 2], and how to get back."""
    box = Letterbox((picture.shape[0], picture.shape[1]), size)
    return (box.lay(even_tone(picture)) - 0.5) * 4, box
