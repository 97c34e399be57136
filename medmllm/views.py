"""The pictures a language model is shown, and the one place where index boxes become its 0..999 grid and back.

Nothing is drawn or written on a picture: regions travel as numbers beside it. No text of the file reaches the pixels.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import floor

import numpy as np
import numpy.typing as npt
from PIL import Image

from dicom_io.study import Series, Study
from expert_models.finding import Box, Comparison, Finding
from medmllm import wording
from medmllm.brief import best_slices
from medmllm.ports import View

GRID = 1000  # the grid's coordinates are 0..999 (MedRegA)
LONG_SIDE = 1024
WINDOWS = {"lung": (-600.0, 1500.0), "mediastinal": (40.0, 400.0)}  # centre and width, HU

Corners = tuple[int, int, int, int]  # (x0, y0, x1, y1), 0..999


@dataclass(frozen=True, slots=True)
class Frame:
    """Which plane of which series a picture shows. shape is (rows, columns) of the plane, in source pixels."""

    series_uid: str
    instance_uid: str
    slice_index: int
    shape: tuple[int, int]
    is_prior: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """A view together with where it was taken from; the frame stays on this side of the model."""

    view: View
    frame: Frame


def views_of(study: Study, findings: Sequence[Finding], comparisons: Sequence[Comparison]) -> tuple[Picture, ...]:
    """Radiographs whole; CT at the slices of its findings, each in two windows; then the prior's, by the same rule.

    The slices of a CT are those of `best_slices`; a CT without a located finding is shown at its middle slice.
    """
    pictures = [picture for series in study.series for picture in _of_series(series, findings, "current study")]
    for uid in dict.fromkeys(each.prior_study_uid for each in comparisons):
        prior = next((each for each in study.priors if each.uid == uid), None)
        earlier = [e.prior_finding for e in comparisons if e.prior_finding and e.prior_study_uid == uid]
        if prior is not None:
            name = f"prior study, {wording.earlier_study(study, uid).removeprefix('the study ')}"
            pictures += [each for series in prior.series for each in _of_series(series, earlier, name, is_prior=True)]
    return tuple(pictures)


def to_grid(box: Box, shape: tuple[int, int]) -> Corners:
    """The edges of an index box on a plane of `shape` (rows, columns) to (x0, y0, x1, y1) in 0..999 of its size."""
    rows, columns = shape
    (_, top, left), (_, bottom, right) = box.start, box.stop
    return (_unit(left, columns), _unit(top, rows), _unit(right, columns), _unit(bottom, rows))


def from_grid(corners: Corners, shape: tuple[int, int], slice_index: int = 0) -> Box:
    """(x0, y0, x1, y1) in 0..999 to an index box of one slice; never empty, never outside `shape` (rows, columns)."""
    rows, columns = shape
    x0, y0, x1, y1 = corners
    left, right = _span(x0, x1, columns)
    top, bottom = _span(y0, y1, rows)
    return Box((slice_index, top, left), (slice_index + 1, bottom, right))


def _unit(edge: int, length: int) -> int:
    """A pixel edge 0..length to the nearest of 0..999."""
    return min(GRID - 1, max(0, round(edge * (GRID - 1) / length)))


def _span(low: int, high: int, length: int) -> tuple[int, int]:
    """Two grid coordinates to half-open pixel edges."""
    low, high = sorted((min(GRID - 1, max(0, low)), min(GRID - 1, max(0, high))))
    start = min(length - 1, floor(low * length / (GRID - 1) + 0.5))
    return start, max(start + 1, min(length, floor(high * length / (GRID - 1) + 0.5)))


def _of_series(series: Series, findings: Sequence[Finding], where: str, is_prior: bool = False) -> Iterator[Picture]:
    name = wording.picture(series)
    rows, columns = series.volume.shape[1:]
    if series.modality.is_projection:
        frame = Frame(series.uid, series.source[0], 0, (rows, columns), is_prior)
        plane = np.asarray(series.volume.voxels[0], dtype=np.float64)
        yield Picture(View(png(plane), f"{where}: {name}", _regions(findings, frame)), frame)
        return
    for index in best_slices(series, findings):
        frame = Frame(series.uid, series.source[index], index, (rows, columns), is_prior)
        plane = np.asarray(series.volume.voxels[index], dtype=np.float64)
        for window, (centre, width) in WINDOWS.items():
            caption = f"{where}: {name}, slice {index + 1} of {series.volume.shape[0]}, {window} window"
            levels = (plane - (centre - width / 2)) / width
            yield Picture(View(png(levels), caption, _regions(findings, frame)), frame)


def _regions(findings: Sequence[Finding], frame: Frame) -> tuple[tuple[str, Corners], ...]:
    """Every finding's regions on this plane, named by the finding's id ("f1"; for a prior's, "prior f1")."""
    return tuple(
        (f"prior {finding.id}" if frame.is_prior else finding.id, to_grid(region.box, frame.shape))
        for finding in findings
        for region in finding.regions
        if region.series_uid == frame.series_uid and region.box.start[0] <= frame.slice_index < region.box.stop[0]
    )


def png(plane: npt.NDArray[np.float64]) -> bytes:
    """(rows, columns) values, 0 black and 1 white, to an 8-bit grey PNG whose long side is at most 1024."""
    grey = Image.fromarray(np.round(np.clip(plane, 0.0, 1.0) * 255).astype(np.uint8))
    if max(grey.size) > LONG_SIDE:
        scale = LONG_SIDE / max(grey.size)
        size = (max(1, round(grey.width * scale)), max(1, round(grey.height * scale)))
        grey = grey.resize(size, Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    grey.save(stream, format="PNG")
    return stream.getvalue()
