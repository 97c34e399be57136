"""The pictures of a report: which cuts of which series are shown, with the findings' regions as shapes over them.

Index space is (slice, row, column) of a series. Picture space is (x, y) in pixels of the rendered picture, y down;
the pixel of index column c covers [c, c + 1) before scaling, so a voxel's centre lies at c + 0.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from app.results.outlines import Point, outlines
from app.results.record import Record
from app.results.shapes import Cut, Shape, merged
from app.results.words import PRESENCES, amount, described, title_of
from dicom_io.study import Geometry, Series, Study
from expert_models.codes import ANATOMY
from expert_models.finding import Finding, Line, Measurement, Presence, Region

LONGEST_SIDE = 1024  # pixels; a radiograph is shrunk to this, its shapes with it
MOST_SLICES = 8  # key slices shown of one CT series
WINDOWS = {"Lung": (-600.0, 1500.0), "Mediastinum": (40.0, 400.0)}  # name -> (centre, width) in HU
PLAIN = "Image"
FINDING_TONES = ("#F0E442", "#E69F00", "#CC79A7", "#FF7F50", "#7CFC9A")  # after Okabe and Ito's colour-blind safe set
ORGAN_TONES = ("#56B4E9", "#8DD3C7", "#B3A2F0")
OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "H": "F", "F": "H"}


@dataclass(frozen=True, slots=True)
class Picture:
    """One cut, rendered. images: (window's name, 8-bit grey PNG), all of one size; edges: left, right, top, bottom.

    sources: the SOP instances that it shows.
    """

    caption: str
    is_prior: bool
    images: tuple[tuple[str, bytes], ...]
    width: int
    height: int
    shapes: tuple[Shape, ...]
    edges: tuple[str, str, str, str] = ("", "", "", "")
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Drawn:
    """What is drawn for one finding, or for one sentence that names regions of its own."""

    targets: tuple[str, ...]
    label: str
    tone: str
    rank: int  # lesions that are there come first, then doubtful ones, then organs, then the rest
    regions: tuple[Region, ...]
    lines: tuple[tuple[Measurement, Line], ...] = ()
    is_organ: bool = False

    @property
    def series_uids(self) -> set[str]:
        """Where it has a place."""
        return {region.series_uid for region in self.regions} | {line.series_uid for _, line in self.lines}


def drawn(finding: Finding, targets: tuple[str, ...], tone: str) -> Drawn:
    """A finding as it is drawn; its label says when it is not simply there, for a picture is seen without the text."""
    is_organ = finding.concept in ANATOMY
    label = title_of(finding)
    if finding.presence is not Presence.PRESENT:
        label += f": {PRESENCES[finding.presence]}"
    rank = 2 if is_organ else {Presence.PRESENT: 0, Presence.INDETERMINATE: 1}.get(finding.presence, 3)
    return Drawn(targets, label, tone, rank, finding.regions, tuple(lines_of(finding)), is_organ)


def sentence_id(position: int) -> str:
    """The id by which a sentence's own regions are lit."""
    return f"s{position}"


def pictures_of(record: Record) -> tuple[Picture, ...]:
    """Every picture of the report: the study's series first, each followed by the priors it is compared with."""
    artist = Artist(record)
    pictures: list[Picture] = []
    current = artist.current()
    for series in record.study.series:
        pictures += artist.of_series(record.study, series, current, is_prior=False)
    before = artist.before()
    shown = {uid for each in before for uid in each.series_uids}
    for prior in record.study.priors:
        wanted = [series for series in prior.series if series.uid in shown]
        if not wanted and prior is record.study.priors[0]:
            wanted = list(prior.series[:1])
        for series in wanted:
            pictures += artist.of_series(prior, series, before, is_prior=True)
    return tuple(pictures)


class Artist:
    """Draws one record; keeps the masks it has loaded."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self._masks: dict[str, npt.NDArray[np.bool_] | None] = {}

    def current(self) -> list[Drawn]:
        """The report's findings with their colours, and regions that a sentence names without a finding."""
        tones = Tones()
        current = []
        for finding in self.record.report.findings:
            comparison = self.record.comparison_of(finding)
            targets = (finding.id,) if comparison is None else (finding.id, comparison.id)
            current.append(drawn(finding, targets, tones.of(finding)))
        known = {region for each in current for region in each.regions}
        for position, sentence in enumerate(self.record.report.sentences):
            if own := tuple(region for region in sentence.grounding.regions if region not in known):
                current.append(Drawn((sentence_id(position),), "Named in the text", FINDING_TONES[0], 1, own))
        return current

    def before(self) -> list[Drawn]:
        """The priors' findings, in the colour of what they have become."""
        tones = {each.targets[0]: each.tone for each in self.current()}
        before = []
        for comparison in self.record.report.comparisons:
            if comparison.prior_finding is not None:
                targets = tuple(each for each in (comparison.finding_id, comparison.id) if each)
                before.append(drawn(comparison.prior_finding, targets, tones.get(targets[0], FINDING_TONES[0])))
        return before

    def of_series(self, study: Study, series: Series, all_drawn: list[Drawn], *, is_prior: bool) -> list[Picture]:
        """The pictures of one series: a radiograph as it is, a CT by its key slices and a coronal plane."""
        if series.modality.is_projection:
            cuts = [Cut(0, 0, scale=scale_of(series), height=series.volume.shape[1])]
        else:
            slices = self.key_slices(series, all_drawn)
            cuts = [Cut(0, index, scale=scale_of(series), height=series.volume.shape[1]) for index in slices]
            if not is_prior and (coronal := self.coronal(series, all_drawn)) is not None:
                cuts.append(coronal)
        return [self.picture(study, series, cut, all_drawn, is_prior=is_prior) for cut in cuts]

    def picture(self, study: Study, series: Series, cut: Cut, all_drawn: list[Drawn], *, is_prior: bool) -> Picture:
        """One cut, rendered in its windows, with the shapes that lie in it."""
        plane = cut.plane(series.volume.voxels)
        size = round(plane.shape[1] * cut.scale[0]), round(plane.shape[0] * cut.scale[1])
        images = tuple((name, png_of(grey, size)) for name, grey in greys_of(series, plane))
        shapes = merged(
            shape for each in sorted(all_drawn, key=lambda each: each.rank) for shape in self.shapes(series, cut, each)
        )
        sources = (series.source[cut.index],) if cut.axis == 0 else series.source
        caption = caption_of(study, series, cut, is_prior)
        return Picture(caption, is_prior, images, *size, shapes, self.edges(series, cut), sources)

    def shapes(self, series: Series, cut: Cut, drawn: Drawn) -> Iterator[Shape]:
        """The finding's regions and measuring lines in this cut."""
        blank = Shape("", drawn.targets, (), drawn.label, drawn.tone, drawn.is_organ)
        for region in drawn.regions:
            if region.series_uid == series.uid and cut.cuts(region):
                kind, paths = self.paths(region, cut, series)
                if paths:
                    yield replace(blank, kind=kind, paths=paths)
        for measurement, line in drawn.lines:
            if line.series_uid == series.uid and cut.axis == 0 and round(line.start[0]) == cut.index:
                path = (cut.point(line.start), cut.point(line.stop))
                yield replace(
                    blank,
                    kind="line",
                    paths=(path,),
                    label=described(measurement),
                    amount=amount(measurement) if line == measurement.lines[0] else "",
                    read_from=len(measurement.lines),
                )

    def paths(self, region: Region, cut: Cut, series: Series) -> tuple[str, tuple[tuple[Point, ...], ...]]:
        """A region's outline in this cut, its box where there is no mask."""
        down = 1 if cut.axis == 0 else 0
        (top, left), (bottom, right) = (
            (region.box.start[down], region.box.start[2]),
            (region.box.stop[down], region.box.stop[2]),
        )
        mask = self.mask(region)
        if mask is None:
            box = ((left, top), (right, top), (right, bottom), (left, bottom))
            return "box", (tuple(cut.corner((float(x), float(y))) for x, y in box),)
        inside = cut.index - region.box.start[cut.axis]
        plane = mask[inside] if cut.axis == 0 else mask[:, inside]
        polygons = outlines(plane)
        return "outline", tuple(tuple(cut.corner((x + left, y + top)) for x, y in each) for each in polygons)

    def mask(self, region: Region) -> npt.NDArray[np.bool_] | None:
        """The region's mask; None when it has none, or when the store no longer holds it: then its box is drawn."""
        key = region.mask_key
        if key is None:
            return None
        if key not in self._masks:
            try:
                self._masks[key] = self.record.masks.load(key)
            except KeyError:
                self._masks[key] = None
        return self._masks[key]

    def key_slices(self, series: Series, all_drawn: list[Drawn]) -> list[int]:
        """At most MOST_SLICES slices, in order, that show the findings best; the middle one when there are none.

        Lesions choose first. A slice that shows at least four fifths of a region's largest area serves it too.
        """
        chosen: list[int] = []
        for each in sorted(all_drawn, key=lambda each: each.rank):
            for region in each.regions:
                if region.series_uid != series.uid:
                    continue
                areas = self.areas(region)
                enough = 0.8 * areas.max()
                start = region.box.start[0]
                if not any(start <= s < region.box.stop[0] and areas[s - start] >= enough for s in chosen):
                    chosen.append(start + int(np.argmax(areas)))
        return sorted(chosen[:MOST_SLICES]) or [series.volume.shape[0] // 2]

    def areas(self, region: Region) -> npt.NDArray[np.float64]:
        """Marked voxels per slice of the region's box; for a bare box, most in its middle."""
        mask = self.mask(region)
        if mask is not None:
            return np.asarray(mask.sum(axis=(1, 2)), dtype=np.float64)
        count = region.box.shape[0]
        return np.asarray(1.0 + count - np.abs(np.arange(count) - (count - 1) / 2), dtype=np.float64)

    def coronal(self, series: Series, all_drawn: list[Drawn]) -> Cut | None:
        """The coronal plane through the leading lesion, or the middle; None unless the series is an axial stack."""
        affine = series.volume.geometry.affine
        along = int(np.argmax(np.abs(affine[:3, 0])))
        slices, rows, columns = series.volume.shape
        if along != 2 or slices < 8:
            return None
        lesions = [each for each in all_drawn if each.rank == 0]
        places = [r.box.centre[1] for each in lesions for r in each.regions if r.series_uid == series.uid]
        row = round(places[0]) if places else rows // 2
        slice_mm, _, column_mm = series.volume.geometry.spacing_mm
        zoom = min(1.0, LONGEST_SIDE / max(columns, slices * slice_mm / column_mm))
        return Cut(1, row, flipped=affine[2, 0] > 0, scale=(zoom, zoom * slice_mm / column_mm), height=slices)

    def edges(self, series: Series, cut: Cut) -> tuple[str, str, str, str]:
        """The patient's directions at the left, right, top and bottom edge; "" where nothing states them."""
        if series.modality.is_projection:
            header = self.record.sources.get(series.source[0])
            directions = [str(each)[:1] for each in getattr(header, "PatientOrientation", None) or ()]
            right, bottom = directions if len(directions) == 2 else ("", "")
        else:
            geometry = series.volume.geometry
            right = direction(geometry, 2)
            bottom = direction(geometry, 1 if cut.axis == 0 else 0)
            if cut.flipped:
                bottom = OPPOSITE[bottom]
        return OPPOSITE.get(right, ""), right, OPPOSITE.get(bottom, ""), bottom


class Tones:
    """Hands out colours: one family for organs, one for everything else."""

    def __init__(self) -> None:
        self.organs = self.findings = 0

    def of(self, finding: Finding) -> str:
        """The next colour of the finding's family; only what is drawn uses one up."""
        if finding.concept in ANATOMY:
            tone = ORGAN_TONES[self.organs % len(ORGAN_TONES)]
            self.organs += has_place(finding)
        else:
            tone = FINDING_TONES[self.findings % len(FINDING_TONES)]
            self.findings += has_place(finding)
        return tone


def has_place(finding: Finding) -> bool:
    """Whether there is something of the finding to draw."""
    return bool(finding.regions or lines_of(finding))


def lines_of(finding: Finding) -> list[tuple[Measurement, Line]]:
    """Each measuring line once, with the measurement that says most about it: the one with the fewest lines."""
    best: dict[Line, Measurement] = {}
    for measurement in sorted(finding.measurements, key=lambda each: len(each.lines)):
        for line in measurement.lines:
            best.setdefault(line, measurement)
    return [(measurement, line) for line, measurement in best.items()]


def direction(geometry: Geometry, axis: int) -> str:
    """The patient direction in which an index grows: one of L, R, A, P, H, F."""
    vector = geometry.affine[:3, axis]
    along = int(np.argmax(np.abs(vector)))
    return ("RL", "AP", "FH")[along][int(vector[along] > 0)]


def scale_of(series: Series) -> tuple[float, float]:
    """Picture pixels per column and per row: true to the pixels' shape, the long side at most LONGEST_SIDE."""
    _, rows, columns = series.volume.shape
    _, row_mm, column_mm = series.volume.geometry.spacing_mm
    zoom = min(1.0, LONGEST_SIDE / max(columns, rows * row_mm / column_mm))
    return zoom, zoom * row_mm / column_mm


def greys_of(series: Series, plane: npt.NDArray[np.generic]) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """The plane in 8-bit grey: a radiograph once, a CT plane in every window (linear, PS3.3 C.11.2.1.2)."""
    if series.modality.is_projection:
        yield PLAIN, np.round(plane.astype(np.float32) * 255).astype(np.uint8)
        return
    for name, (centre, width) in WINDOWS.items():
        grey = ((plane.astype(np.float32) - (centre - 0.5)) / (width - 1) + 0.5) * 255
        yield name, np.round(np.clip(grey, 0, 255)).astype(np.uint8)


def png_of(grey: npt.NDArray[np.uint8], size: tuple[int, int]) -> bytes:
    """(rows, columns) uint8 as PNG of `size` (width, height)."""
    image = Image.fromarray(np.ascontiguousarray(grey))
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def caption_of(study: Study, series: Series, cut: Cut, is_prior: bool) -> str:
    """What the picture shows: which study, its date, the view or the slice."""
    when = "Prior" if is_prior else "Current"
    day = f", {study.acquired_on:%Y-%m-%d}" if study.acquired_on else ""
    if series.modality.is_projection:
        what = f"{series.view} radiograph" if series.view else "radiograph"
    elif cut.axis == 0:
        what = f"CT, slice {cut.index + 1} of {series.volume.shape[0]}"
    else:
        what = f"CT, coronal plane at row {cut.index + 1}"
    return f"{when}: {what}{day}"
