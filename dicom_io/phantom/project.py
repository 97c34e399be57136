"""A radiograph of a synthetic patient: line integrals through the voxels, then what tube and detector make of them.

The beam diverges from a point: a coronal slab at depth d in front of the detector is magnified by SID / (SID - d), so
the film is the sum of the slabs, each enlarged about the central ray. (The slant of the rays within a slab, below
0.5 % of path length in a chest at 1.8 m, is left out.) Intensity then follows Beer-Lambert.

The masks are projected from the same voxels, see outlines.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_io.phantom.devices import Device
from dicom_io.phantom.film import develop, draw_exposure
from dicom_io.phantom.lesion import Lesion, LesionKind
from dicom_io.phantom.look import Look, finish
from dicom_io.phantom.markers import Marker
from dicom_io.phantom.outlines import outlines
from dicom_io.phantom.patient import Visit
from dicom_io.phantom.strands import Numbers, Points, cast

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
WATER_PER_MM = 0.0196  # attenuation of water for a filtered 110 kV beam, about 65 keV effective
SEEN = 0.01  # attenuation from which a device is in its mask
LUNG_HU = -820.0  # of breathed-in lung, against which a lesion stands out
VISIBLE = 0.15  # attenuation that a lesion must add, or take away, to be seen: a solid nodule of 9 mm does
SLAB_MM = 6.0  # slabs this thick share one magnification: below 0.6 mm at the film's edge
VIEWS = ("PA", "AP", "AP SUPINE", "LATERAL")
FIELD_MM = (330.0, 435.0)  # side of the square field at the detector, least and most


@dataclass(frozen=True, slots=True, eq=False)
class Radiograph:
    """One film.

    image: (rows, columns) float32 in [0, 1], brighter = denser, upright, the patient's right (lateral: the front) at
    image left. spacing_mm: at the detector. masks: bool (rows, columns): those of outlines.ORGANS, and
    one per lesion and device by tracking id. cardiothoracic_ratio: width of the heart mask over the distance of the
    outermost lung edges, not a number on a lateral film. contrasts: what each lesion but a large heart changes of the
    attenuation along the ray where it changes most. devices, and the (row, column) of the tip of each that has one
    (tips, by tracking id), which may lie beyond the film's edge. markers: the letters on it. carina: (row, column).
    """

    image: Array
    spacing_mm: float
    view: str
    masks: Mapping[str, Mask]
    lesions: tuple[Lesion, ...]
    cardiothoracic_ratio: float
    contrasts: Mapping[str, float] = field(default_factory=dict)
    devices: tuple[Device, ...] = ()
    tips: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    markers: tuple[Marker, ...] = ()
    carina: tuple[float, float] = (np.nan, np.nan)

    @property
    def visible(self) -> tuple[Lesion, ...]:
        """The lesions that a reader of the film could see; the others are there, and no film shows them.

        Half of the nodules up to 10 mm were not to be found on radiographs by readers who knew the CT (Ketai et al.,
        "Small nodules detected on chest radiography").
        """
        return tuple(each for each in self.lesions if self.contrasts.get(each.tracking_id, VISIBLE) >= VISIBLE)


@dataclass(frozen=True, slots=True)
class Beam:
    """Where tube and detector stand. Distances in mm, places in patient space (LPS).

    The beam runs along y, in a lateral view along x. detector_at: y (or x) of the detector. ray_mm: (x, z) of the
    central ray (or (y, z)). tilt: tangent of the angle by which the beam rises on its way to the detector (from below:
    lordotic), about the plane at pivot.
    """

    view: str
    source_to_detector: float
    detector_at: float
    ray_mm: tuple[float, float]
    tilt: float = 0.0
    pivot: float = 0.0

    @property
    def is_lateral(self) -> bool:
        """Whether the beam runs along x."""
        return self.view == "LATERAL"

    def magnification(self, along: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Enlargement of what lies at this patient y (of a lateral: x)."""
        gap = np.abs(np.asarray(along) - self.detector_at)
        return self.source_to_detector / (self.source_to_detector - gap)

    def ray_z(self, along: float) -> float:
        """z of the central ray where it crosses patient y (of a lateral: x)."""
        return self.ray_mm[1] - self.tilt * (abs(along - self.detector_at) - abs(self.pivot - self.detector_at))

    def at(self, points_mm: Points, rows: int, spacing_mm: float) -> tuple[Points, Numbers]:
        """Where points (N, 3; LPS mm) fall on a square film: (N, 2) fractional (row, column), (N,) magnifications."""
        along, side = (points_mm[:, 0], points_mm[:, 1]) if self.is_lateral else (points_mm[:, 1], points_mm[:, 0])
        scale = self.magnification(along)
        gap = np.abs(along - self.detector_at) - abs(self.pivot - self.detector_at)
        up = points_mm[:, 2] - self.ray_mm[1] + self.tilt * gap
        across = side - self.ray_mm[0]
        place = np.stack([-up, across], axis=1) * (scale / spacing_mm)[:, None] + (rows - 1) / 2
        return np.asarray(place, dtype=np.float64), scale


def radiograph(
    visit: Visit, *, view: str = "PA", rows: int = 512, seed: int = 0, look: Look | None = None
) -> Radiograph:
    """Take a film of a visit: rows x rows pixels over a field of about 40 cm.

    view: "PA" (detector at the chest, tube 1.8 m away) or "AP" (detector at the back, tube 1.1 to 1.3 m away, which
    enlarges the heart), "AP SUPINE" (the same of a patient drawn lying), or "LATERAL" (the left side at the detector,
    the patient facing image left; the arms should be drawn raised). seed: exposure, scatter, noise, processing
    and collimation; the anatomy does not change. look: how it is taken, processed and marked; None is one plain way.
    Raises ValueError for another view, a view that does not fit how the patient was drawn, or fewer than 64 rows.
    """
    if view not in VIEWS:
        raise ValueError(f"a view is PA or AP, AP SUPINE or LATERAL, got {view}")
    if (view == "AP SUPINE") == visit.is_upright:
        raise ValueError(f"a patient drawn {'upright' if visit.is_upright else 'lying'} gives no {view} film")
    if rows < 64:
        raise ValueError(f"a radiograph has at least 64 rows, got {rows}")
    random = np.random.default_rng([seed, 17, 0 if view == "PA" else 1])
    beam = _aim(visit, view, random)
    if look is not None:
        beam = replace(beam, tilt=look.tilt)
    field_mm = _field(visit, beam, random, look)
    projector = Projector(visit, beam, rows, field_mm / rows)
    masks = outlines(visit, projector)
    lungs = masks["right_lung"] | masks["left_lung"]
    exposure = draw_exposure(random, view) if look is None else look.exposure
    path = projector.integrals(attenuation(visit.hu, exposure.bone_factor))
    if visit.strands:
        path = _sharpened(path, lungs, visit, projector) + _detail(visit, projector, exposure.bone_factor)
    shadows, tips = _devices(visit, projector)
    for name, shadow in shadows.items():
        path += shadow
        masks[name] = shadow > SEEN
    if look is None:
        image = develop(path, exposure, projector.spacing_mm, random)
    else:
        image = finish(path, lungs, look, projector.spacing_mm, random)
    return Radiograph(
        image=image,
        spacing_mm=projector.spacing_mm,
        view=view,
        masks=MappingProxyType(masks),
        lesions=visit.lesions,
        contrasts=MappingProxyType(_contrasts(visit, projector, exposure.bone_factor)),
        cardiothoracic_ratio=np.nan if beam.is_lateral else cardiothoracic_ratio(masks["heart"], lungs),
        devices=visit.devices,
        tips=MappingProxyType(tips),
        markers=() if look is None else look.markers,
        carina=projector.place(visit.carina_mm),
    )


def _voxel_blur(visit: Visit, projector: Projector) -> float:
    """SD in pixels of what a voxel's box and the interpolation between voxels blur: half a voxel, magnified."""
    return 0.5 * float(np.mean(visit.geometry.spacing_mm[::2])) * 1.1 / projector.spacing_mm


def _sharpened(path: Array, lungs: Mask, visit: Visit, projector: Projector) -> Array:
    """The voxels' line integrals with most of the voxels' blur taken back, twice the same unsharp mask.

    Only in and about the lungs: where the skin of the shoulders runs along the slices, it would bring
    out the voxels' steps.
    """
    blur = _voxel_blur(visit, projector)
    near = np.clip(2.5 * ndimage.gaussian_filter(lungs.astype(np.float32), 14.0 / projector.spacing_mm), 0, 1)
    for _ in range(2):
        path = path + 0.7 * near * (path - ndimage.gaussian_filter(path, blur))
    return path


def _detail(visit: Visit, projector: Projector, bone_factor: float) -> Array:
    """What the voxels are too coarse for: tubes as they are, less what the voxels already show of them."""
    total = np.zeros((projector.rows, projector.rows), dtype=np.float32)
    blur = _voxel_blur(visit, projector)
    weight = {"soft": WATER_PER_MM / 1000, "bone": WATER_PER_MM / 1000 * bone_factor}
    for strands in visit.strands:
        sharp = cast(strands, projector.beam, projector.rows, projector.spacing_mm) * np.float32(weight[strands.tissue])
        total += sharp - ndimage.gaussian_filter(sharp, blur) if strands.drawn else sharp
    return total


def _contrasts(visit: Visit, projector: Projector, bone_factor: float) -> dict[str, float]:
    lung = np.float32(WATER_PER_MM * (1 + LUNG_HU / 1000))
    contrasts = {}
    for lesion in visit.lesions:
        if lesion.kind is not LesionKind.CARDIOMEGALY:
            added = np.where(lesion.mask, attenuation(visit.hu[lesion.box], bone_factor) - lung, np.float32(0))
            contrasts[lesion.tracking_id] = float(np.abs(projector.integrals(added, lesion.start)).max())
    return contrasts


def _devices(visit: Visit, projector: Projector) -> tuple[dict[str, Array], dict[str, tuple[float, float]]]:
    """The attenuation of each device, and where its tip falls (row, column)."""
    shadows: dict[str, Array] = {}
    tips: dict[str, tuple[float, float]] = {}
    for device in visit.devices:
        shadow = np.zeros((projector.rows, projector.rows), dtype=np.float32)
        for strands in device.strands:
            shadow += cast(strands, projector.beam, projector.rows, projector.spacing_mm)
        shadows[device.tracking_id] = shadow
        if device.tip_mm is not None:
            tips[device.tracking_id] = projector.place(device.tip_mm)
    return shadows, tips


def cardiothoracic_ratio(heart: Mask, lungs: Mask) -> float:
    """Greatest width of the heart over the distance of the outermost lung columns; masks (rows, columns)."""
    spans = []
    for name, mask in (("heart", heart), ("lung", lungs)):
        columns = np.flatnonzero(mask.any(axis=0))
        if columns.size == 0:
            raise ValueError(f"the {name} mask is empty: there is no ratio")
        spans.append(int(columns[-1] - columns[0] + 1))
    return spans[0] / spans[1]


def attenuation(hu: npt.NDArray[np.int16], bone_factor: float) -> Array:
    """HU to linear attenuation per mm: water's by definition, what is denser than soft tissue weighted as bone.

    bone_factor > 1 for a soft beam: calcium's photoelectric share exceeds what its HU at CT energies says.
    """
    values = np.arange(-1024, 3072, dtype=np.float32)
    mu = WATER_PER_MM * (1 + values / 1000)
    mu = np.clip(mu + WATER_PER_MM * (bone_factor - 1) * np.clip(values - 90, 0, None) / 1000, 0, None)
    mu[values < -995] = 0.0
    return np.asarray(mu.astype(np.float32)[hu.astype(np.int32) + 1024])


class Projector:
    """Sums of a visit's voxels along the rays to each pixel."""

    def __init__(self, visit: Visit, beam: Beam, rows: int, spacing_mm: float) -> None:
        affine = visit.geometry.affine
        self.spacing_mm = float(spacing_mm)
        self.beam, self.rows = beam, rows
        depth, across = (float(affine[1, 3]), float(affine[1, 1])), (float(affine[0, 3]), float(affine[0, 2]))
        count = visit.hu.shape[1]
        if beam.is_lateral:
            depth, across, count = across, depth, visit.hu.shape[2]
        self._step = abs(depth[1])
        self._along = depth[0] + depth[1] * np.arange(count)
        self._across = across
        self._z = (float(affine[2, 3]), float(affine[2, 0]))

    def place(self, point_mm: Points) -> tuple[float, float]:
        """Where a point (3,; LPS mm) falls: fractional (row, column)."""
        row, column = self.beam.at(point_mm[None], self.rows, self.spacing_mm)[0][0]
        return float(row), float(column)

    def integrals(self, values: npt.NDArray[np.float32 | np.bool_], start: tuple[int, int, int] = (0, 0, 0)) -> Array:
        """Values per mm (slices, rows, columns), cropped from `start` of the grid, summed along rays: (rows, rows)."""
        if self.beam.is_lateral:
            values, start = values.swapaxes(1, 2), (start[0], start[2], start[1])
        image = np.zeros((self.rows, self.rows), dtype=np.float32)
        step = max(1, round(SLAB_MM / self._step))
        for first in range(0, values.shape[1], step):
            slab = values[:, first : first + step].sum(axis=1, dtype=np.float32)
            rows_hit, columns_hit = (np.flatnonzero(slab.any(axis=axis)) for axis in (1, 0))
            if rows_hit.size == 0:
                continue
            at = start[1] + first
            middle = self._along[at : at + min(step, values.shape[1] - first)].mean()
            scale = float(self.beam.magnification(middle))
            high, wide = slice(rows_hit[0], rows_hit[-1] + 1), slice(columns_hit[0], columns_hit[-1] + 1)
            down = self._weights(
                scale, self._z, self.beam.ray_z(middle), start[0] + high.start, slab[high].shape[0], True
            )
            along = self._weights(
                scale, self._across, self.beam.ray_mm[0], start[2] + wide.start, slab[:, wide].shape[1], False
            )
            (top, vertical), (left, horizontal) = down, along
            part = vertical @ slab[high, wide] @ horizontal.T
            image[top : top + part.shape[0], left : left + part.shape[1]] += part
        return image * np.float32(self._step)

    def _weights(
        self, scale: float, axis: tuple[float, float], centre: float, start: int, count: int, flip: bool
    ) -> tuple[int, Array]:
        """First pixel hit, and linear interpolation weights (pixels hit, voxels), of one axis of a slab.

        axis: (origin, step) of the voxel centres. flip: pixels count down as the coordinate grows (rows, head up).
        """
        middle = (self.rows - 1) / 2
        pixel_mm = (np.arange(self.rows) - middle) * self.spacing_mm / scale
        place = ((-pixel_mm if flip else pixel_mm) + centre - axis[0]) / axis[1] - start
        hit = np.flatnonzero((place > -1) & (place < count))
        if hit.size == 0:
            return 0, np.zeros((0, count), dtype=np.float32)
        place = place[hit[0] : hit[-1] + 1]
        weights = np.clip(1 - np.abs(place[:, None] - np.arange(count)[None]), 0, None)
        return int(hit[0]), weights.astype(np.float32)


def _aim(visit: Visit, view: str, random: np.random.Generator) -> Beam:
    """Tube and detector, the central ray near the middle of the lung fields."""
    lungs = visit.structures["right_lung"] | visit.structures["left_lung"]
    slices, rows, columns = (np.flatnonzero(lungs.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    ends = visit.geometry.to_patient([[slices[0], rows[0], columns[0]], [slices[-1], rows[-1], columns[-1]]])
    skin = np.flatnonzero((visit.hu > -500).any(axis=(0, 2)))
    front, back = visit.geometry.to_patient([[0, skin[0], 0], [0, skin[-1], 0]])[:, 1]
    middle = ends.mean(axis=0)
    if view == "LATERAL":
        left = visit.geometry.to_patient([[0, 0, np.flatnonzero((visit.hu > -500).any(axis=(0, 1)))[-1]]])[0, 0]
        ray = (float(middle[1] + random.normal(0, 6)), float(middle[2] + random.uniform(-10, 9)))
        return Beam(view, float(random.uniform(1780, 1850)), float(left + random.uniform(10, 40)), ray, 0.0, middle[0])
    ray = (float(middle[0] + random.normal(0, 5)), float(middle[2] + random.uniform(-10, 9)))
    if view == "PA":
        return Beam(view, float(random.uniform(1780, 1850)), float(front - random.uniform(15, 40)), ray, 0.0, middle[1])
    return Beam(view, float(random.uniform(1050, 1350)), float(back + random.uniform(15, 50)), ray, 0.0, middle[1])


def _field(visit: Visit, beam: Beam, random: np.random.Generator, look: Look | None) -> float:
    """Side of the field: the lungs with a margin, as a radiographer would collimate."""
    lungs = visit.structures["right_lung"] | visit.structures["left_lung"]
    extent = [
        np.flatnonzero(lungs.any(axis=axes)).size * spacing
        for axes, spacing in zip(((1, 2), (0, 1)), visit.geometry.spacing_mm[::2], strict=True)
    ]
    wider = random.uniform(1.16, 1.5)
    wanted = float(np.clip(max(extent) * 1.09 * (wider if look is None else look.field), *FIELD_MM))
    corners = visit.geometry.to_patient(np.array([[0, 0, 0], np.array(visit.hu.shape) - 1]))
    room = np.abs(corners[:, ::2] - np.array(beam.ray_mm))  # nothing is drawn beyond the grid
    if beam.is_lateral:  # but air in front and behind
        return min(wanted, 2.0 * float(room[:, 1].min()) * float(beam.magnification(corners[:, 0]).min()))
    return min(wanted, 2.0 * float(room.min()) * float(beam.magnification(corners[:, 1]).min()))
