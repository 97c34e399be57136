"""The images of a study for the screen: stored values slice by slice, and what is drawn over them.

The browser gets the values themselves (HU, or 12 bits of a radiograph) and windows them, so that a window can be
dragged without a request for each step. What is drawn comes from app/results/pictures.py, so that the screen, the page
and the captures show the same shapes in the same colours. Series go under their position in the list that was opened:
the study's own first, then the priors', newest first.
"""

from __future__ import annotations

import gzip
import os
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import Dataset

from app.bootstrap import Program
from app.results.pictures import Artist, Drawn, scale_of
from app.results.record import Record
from app.results.shapes import Cut, Shape, merged
from app.versions import Version
from dicom_io.identity import study_key
from dicom_io.study import Series, Study, Volume

LONGEST_SIDE = 2048  # pixels of a radiograph on the screen
BRIGHTEST = 4095  # of a radiograph, 12 bits
AXIAL, CORONAL = 0, 1
AERATED_HU = (-900, -500)
CT_PRESETS = (("Lung", -600, 1500), ("Mediastinum", 40, 400), ("Bone", 400, 1800))  # name, centre, width in HU
FILM_PRESETS = (("Full", 2048, 4096), ("Contrast", 2048, 2600), ("Dense", 2900, 2000))

Place = tuple[int, int, bool]  # (position of the series, slice, whether it is an organ)


@dataclass(frozen=True, slots=True)
class Shown:
    """One series that can be looked at, and all that may be drawn on it."""

    study: Study
    series: Series
    drawn: tuple[Drawn, ...]
    is_prior: bool

    def cut(self, axis: int, index: int) -> Cut:
        """A plane of it. IndexError when it has no such plane."""
        slices, rows, columns = self.series.volume.shape
        if axis == AXIAL and 0 <= index < slices:
            return Cut(AXIAL, index, scale=scale_of(self.series), height=rows)
        if axis == CORONAL and self.has_coronal and 0 <= index < rows:
            slice_mm, _, column_mm = self.series.volume.geometry.spacing_mm
            flipped = bool(self.series.volume.geometry.affine[2, 0] > 0)
            zoom = min(1.0, 1024 / max(columns, slices * slice_mm / column_mm))
            return Cut(CORONAL, index, flipped=flipped, scale=(zoom, zoom * slice_mm / column_mm), height=slices)
        raise IndexError("no such plane")

    @property
    def has_coronal(self) -> bool:
        """True for an axial stack of more than a few slices."""
        along = int(np.argmax(np.abs(self.series.volume.geometry.affine[:3, 0])))
        return not self.series.modality.is_projection and along == 2 and self.series.volume.shape[0] >= 8


@dataclass(frozen=True, slots=True)
class Plane:
    """One plane of one series, as the screen asks for it."""

    shown: Shown
    cut: Cut
    artist: Artist

    @property
    def values(self) -> npt.NDArray[np.generic]:
        """(rows, columns), as stored, the head upwards."""
        return self.cut.plane(self.shown.series.volume.voxels)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in picture space, in which the shapes are drawn."""
        rows, columns = self.values.shape
        return round(columns * self.cut.scale[0]), round(rows * self.cut.scale[1])

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """What is drawn over it, lesions first."""
        ranked = sorted(self.shown.drawn, key=lambda drawn: drawn.rank)
        series = self.shown.series
        return merged(shape for drawn in ranked for shape in self.artist.shapes(series, self.cut, drawn))


@dataclass(frozen=True, slots=True)
class Reading:
    """A study that is open on somebody's screen, in its newest version."""

    key: str
    version: Version
    record: Record
    artist: Artist
    shown: tuple[Shown, ...]

    @property
    def nbytes(self) -> int:
        """Memory that its images take."""
        return sum(each.series.volume.voxels.nbytes for each in self.shown)

    def plane(self, position: int, axis: int, index: int) -> Plane:
        """One plane of one series. IndexError when there is none."""
        if not 0 <= position < len(self.shown):
            raise IndexError("no such series")
        shown = self.shown[position]
        return Plane(shown, shown.cut(axis, index), self.artist)

    def places(self) -> dict[str, list[Place]]:
        """For each id that a sentence can cite: where it is seen best, one place in each series that shows it."""
        found: dict[str, list[Place]] = {}
        for position, shown in enumerate(self.shown):
            for drawn in shown.drawn:
                if (at := self.best_slice(shown.series, drawn)) is not None:
                    for target in drawn.targets:
                        found.setdefault(target, []).append((position, at, drawn.is_organ))
        return found

    def best_slice(self, series: Series, drawn: Drawn) -> int | None:
        """The slice of a series that shows most of it, or the line it was measured on; None when it is not there."""
        best, most = None, 0.0
        for region in drawn.regions:
            if region.series_uid == series.uid:
                areas = self.artist.areas(region)
                if areas.max() > most:
                    best, most = region.box.start[0] + int(np.argmax(areas)), float(areas.max())
        lines = [round(line.start[0]) for _, line in drawn.lines if line.series_uid == series.uid]
        return lines[0] if lines and (best is None or not drawn.is_organ) else best

    def partner(self, position: int) -> int | None:
        """The prior's series to show beside one of the study's own: compared with, else alike, newest first."""
        own = self.shown[position].series
        priors = [(at, each) for at, each in enumerate(self.shown) if each.is_prior]
        alike = [pair for pair in priors if pair[1].series.modality.is_projection == own.modality.is_projection]
        if not alike:
            return priors[0][0] if priors else None
        compared = {uid for _, each in priors for drawn in each.drawn for uid in drawn.series_uids}
        return min(alike, key=lambda pair: (pair[1].series.view != own.view, pair[1].series.uid not in compared))[0]


class Readings:
    """The studies that are open, as many as fit into a quarter of the machine's memory, and always the last one."""

    def __init__(self, program: Program, most_bytes: int | None = None) -> None:
        self._program = program
        self._most_bytes = most_bytes or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
        self._kept: OrderedDict[str, Reading] = OrderedDict()
        self._lock = Lock()
        self._reading: dict[str, Lock] = {}  # one at a time reads a study; nobody else's images wait for it

    def of(self, key: str) -> Reading:
        """The study with this key, its images read unless they are still here, with its newest report.

        Raises KeyError when there is no such study, or no report on it yet.
        """
        uid = self._program.worklist.uid_of(key)
        version = self._program.versions.newest(uid)
        with self._lock:
            turn = self._reading.setdefault(key, Lock())
        with turn:
            kept = self._still_kept(key)
            if kept is None or kept.version.number < version.number:
                kept = self._made(uid, version, kept)
                self._keep(key, kept)
        return kept

    def opened(self, key: str) -> Reading:
        """The study as it is in memory, for one request after another; read again when it has gone."""
        return self._still_kept(key) or self.of(key)

    def _still_kept(self, key: str) -> Reading | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _keep(self, key: str, reading: Reading) -> None:
        with self._lock:
            self._kept[key] = reading
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and sum(each.nbytes for each in self._kept.values()) > self._most_bytes:
                self._kept.popitem(last=False)

    def _made(self, uid: str, version: Version, before: Reading | None) -> Reading:
        """A person's version changes the text alone, so images that are here are not read again.

        The writer's is made after images or priors came in.
        """
        history = self._program.versions.history(uid)
        is_text_alone = before is not None and all(e.author for e in history if e.number > before.version.number)
        record = before.record if before is not None and is_text_alone else None
        study = record.study if record else self._program.parts.archive.load(uid)
        sources = record.sources if record else self._headers(study)
        record = Record(version.report, study, self._program.masks, sources)
        artist = Artist(record)
        current, prior = tuple(artist.current()), tuple(artist.before())
        shown = [Shown(study, series, current, False) for series in study.series]
        shown += [Shown(each, series, prior, True) for each in study.priors for series in each.series]
        return Reading(study_key(uid, self._program.secret), version, record, artist, tuple(shown))

    def _headers(self, study: Study) -> dict[str, Dataset]:
        """The study's headers, and those of earlier radiographs: they alone say which side is which."""
        headers = self._program.archive.datasets(study.uid, with_pixels=False)
        for prior in study.priors:
            if any(series.modality.is_projection for series in prior.series):
                headers |= self._program.archive.datasets(prior.uid, with_pixels=False)
        return headers


def lungs_extent(volume: Volume) -> tuple[int, int]:
    """The slices at the feet's and at the head's end of the lungs, so that a prior can be shown at the same height.

    Read from the voxels, for a prior's lungs are not always outlined: a slice belongs to the lungs when it has at least
    a fifth as many voxels of aerated lung (-900 to -500 HU; air around the patient is darker) as the richest one. The
    whole stack where there are none.
    """
    thin = volume.voxels[:, ::4, ::4]
    counts = ((thin > AERATED_HU[0]) & (thin < AERATED_HU[1])).sum(axis=(1, 2))
    found = np.flatnonzero(counts >= max(1.0, 0.2 * float(counts.max())))
    low, high = (int(found[0]), int(found[-1])) if found.size else (0, volume.shape[0] - 1)
    return (low, high) if volume.geometry.affine[2, 0] >= 0 else (high, low)


def values_of(plane: Plane) -> tuple[bytes, int, int]:
    """The plane's values as gzipped little-endian int16, row by row, with its rows and columns as sent."""
    is_film = plane.shown.series.modality.is_projection
    values = _film(plane.values) if is_film else plane.values
    rows, columns = values.shape
    return gzip.compress(np.ascontiguousarray(values, dtype="<i2").tobytes(), compresslevel=1), rows, columns


def _film(plane: npt.NDArray[np.generic]) -> npt.NDArray[np.int16]:
    """A radiograph in 12 bits, its long side at most LONGEST_SIDE."""
    image = Image.fromarray(plane.astype(np.float32))
    zoom = LONGEST_SIDE / max(plane.shape)
    if zoom < 1:
        size = round(plane.shape[1] * zoom), round(plane.shape[0] * zoom)
        image = image.resize(size, Image.Resampling.LANCZOS)
    return np.clip(np.round(np.asarray(image) * BRIGHTEST), 0, BRIGHTEST).astype(np.int16)


def described(reading: Reading) -> dict[str, object]:
    """What the page's script needs to know before it asks for the first slice; JSON types alone."""
    return {
        "key": reading.key,
        "series": [_series(reading, position) for position in range(len(reading.shown))],
        "places": reading.places(),
        "first": _first(reading),
    }


def _first(reading: Reading) -> list[int]:
    """The series and the slice to begin with: where the leading lesion is seen best, else the middle."""
    own = [each for each in reading.shown if not each.is_prior]
    for drawn in sorted(own[0].drawn, key=lambda each: each.rank):
        for position, shown in enumerate(own):
            if drawn.rank < 2 and (at := reading.best_slice(shown.series, drawn)) is not None:
                return [position, at]
    return [0, own[0].series.volume.shape[0] // 2]


def _series(reading: Reading, position: int) -> dict[str, object]:
    shown = reading.shown[position]
    series, study = shown.series, shown.study
    planes = []
    for axis in (AXIAL, CORONAL) if shown.has_coronal else (AXIAL,):
        plane = reading.plane(position, axis, 0)
        width, height = plane.size
        edges = list(reading.artist.edges(series, plane.cut))
        planes.append({"count": series.volume.shape[axis], "width": width, "height": height, "edges": edges})
    view = f" {series.view}" if series.view else ""
    day = f"{study.acquired_on:%Y-%m-%d}" if study.acquired_on else "no date"
    return {
        "label": f"{series.modality.value}{view} · {series.description or 'no description'}",
        "day": day,
        "is_prior": shown.is_prior,
        "is_film": series.modality.is_projection,
        "planes": planes,
        "presets": [list(each) for each in (FILM_PRESETS if series.modality.is_projection else CT_PRESETS)],
        "extent": [0, 0] if series.modality.is_projection else list(lungs_extent(series.volume)),
        "partner": None if shown.is_prior else reading.partner(position),
        "calibrated": series.volume.geometry.is_calibrated,
    }
