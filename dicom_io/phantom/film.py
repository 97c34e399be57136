"""What tube, grid, detector and processing make of line integrals: from path lengths to a picture in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Exposure:
    """One way of taking and processing a film."""

    bone_factor: float  # weight of calcium: 1.1 hard beam, 1.7 soft
    scatter: float  # scattered over primary intensity behind the chest
    scatter_mm: float  # width of the scatter kernel
    photons: float  # per mm2 and pixel area at the detector without a patient
    blur_mm: float  # detector and focal spot
    gamma: float
    detail: float  # strength of unsharp masking
    detail_mm: float
    equalise: float  # 0 none, 1 full local contrast equalisation
    darkest: float  # percentile of the picture that becomes black
    brightest: float
    shoulder: float  # how much of the response is an S curve
    range: tuple[float, float]  # grey levels of air and of the densest part
    border: float  # value outside the collimator, below 0 without collimation
    collimated: tuple[float, float, float, float]  # share cut at top, right, bottom, left
    marker: str
    marker_place: tuple[float, float]
    tilt: float  # gradient across the field (heel effect, uneven grid)


def draw_exposure(random: np.random.Generator, view: str) -> Exposure:
    """An exposure and processing of a fixed unit (PA) or of a mobile one (AP: more scatter, more noise)."""
    mobile = view == "AP"
    cut = tuple(float(max(0.0, random.normal(-0.01, 0.035))) for _ in range(4))
    corner = (float(random.uniform(0.80, 0.94)), float(random.uniform(0.03, 0.14)))
    return Exposure(
        bone_factor=float(random.uniform(1.05, 1.7)),
        scatter=float(random.uniform(0.6, 2.2) if mobile else random.uniform(0.25, 1.1)),
        scatter_mm=float(random.uniform(22, 48)),
        photons=float(np.exp(random.uniform(np.log(3e4), np.log(1.2e5) if mobile else np.log(4e5)))),
        blur_mm=float(random.uniform(0.15, 0.5) + (0.15 if mobile else 0)),
        gamma=float(np.exp(random.normal(-0.28, 0.22))),
        detail=float(max(0.0, random.normal(0.55, 0.45))),
        detail_mm=float(random.uniform(4, 18)),
        equalise=float(max(0.0, random.normal(0.15, 0.2))),
        darkest=float(random.uniform(0.2, 3.0)),
        brightest=float(random.uniform(97.5, 99.9)),
        shoulder=float(random.uniform(0, 0.7)),
        range=(float(random.uniform(0.0, 0.14)), float(random.uniform(0.78, 1.0))),
        border=float(random.choice([-1.0, 0.0, 0.02, 1.0], p=[0.5, 0.3, 0.15, 0.05])),
        collimated=(cut[0], cut[1], cut[2], cut[3]),
        marker=str(random.choice(["", "L", "L", "AP" if mobile else "L"])),
        marker_place=corner,
        tilt=float(random.normal(0, 0.05)),
    )


def develop(path: Array, exposure: Exposure, spacing_mm: float, random: np.random.Generator) -> Array:
    """Line integrals (rows, columns), without unit -> a picture of the same shape in [0, 1], brighter = denser."""
    signal = detect(path, exposure, spacing_mm, random)
    picture = -np.log(np.clip(signal, 1e-5, None))
    picture += exposure.tilt * np.linspace(-1, 1, picture.shape[1], dtype=np.float32)[None]
    picture = _process(picture, exposure, spacing_mm)
    _collimate(picture, exposure)
    _mark(picture, exposure)
    return np.clip(picture, 0, 1).astype(np.float32)


def detect(path: Array, exposure: Exposure, spacing_mm: float, random: np.random.Generator) -> Array:
    """Relative intensity at the detector: primary, scatter and quantum noise."""
    primary = np.exp(-path)
    reduced = primary[::8, ::8]
    sigma = exposure.scatter_mm / (spacing_mm * 8)
    veil = ndimage.gaussian_filter(reduced * (path[::8, ::8] > 0.3), sigma, mode="nearest")
    zoom = (path.shape[0] / veil.shape[0], path.shape[1] / veil.shape[1])
    veil = ndimage.zoom(veil, zoom, order=1, grid_mode=True, mode="nearest")[: path.shape[0], : path.shape[1]]
    signal = ndimage.gaussian_filter(primary, exposure.blur_mm / spacing_mm) + exposure.scatter * veil
    counts = exposure.photons * spacing_mm**2 * signal
    noise = ndimage.gaussian_filter(random.standard_normal(path.shape, dtype=np.float32), 0.35)
    return np.asarray(signal * (1 + noise / np.sqrt(np.clip(counts, 1, None))), dtype=np.float32)


def _process(picture: Array, exposure: Exposure, spacing_mm: float) -> Array:
    """Window to the chest, sharpen, equalise, S curve and gamma."""
    inside = picture[picture > 0.5]
    sample = inside if inside.size > 0.2 * picture.size else picture.ravel()
    low, high = np.percentile(sample, [exposure.darkest, exposure.brightest])
    picture = np.clip((picture - low) / max(float(high - low), 1e-3), -0.3, 1.3).astype(np.float32)
    picture += exposure.detail * (picture - ndimage.gaussian_filter(picture, exposure.detail_mm / spacing_mm)) * 0.6
    if exposure.equalise > 0:
        broad = ndimage.gaussian_filter(picture, 30 / spacing_mm)
        picture += 0.6 * min(exposure.equalise, 0.8) * (0.5 - broad) * np.clip(8 * picture, 0, 1)
    picture = np.clip(picture, 0, 1)
    curve = picture * picture * (3 - 2 * picture)
    picture += exposure.shoulder * (curve - picture)
    low, high = exposure.range
    return np.asarray(low + (high - low) * picture**exposure.gamma, dtype=np.float32)


def _collimate(picture: Array, exposure: Exposure) -> None:
    if exposure.border < 0:
        return
    rows, columns = picture.shape
    top, right, bottom, left = exposure.collimated
    kept = np.zeros(picture.shape, dtype=bool)
    kept[int(top * rows) : rows - int(bottom * rows), int(left * columns) : columns - int(right * columns)] = True
    picture[~kept] = exposure.border


def _mark(picture: Array, exposure: Exposure) -> None:
    """A lead letter at the patient's left, in an upper corner."""
    if not exposure.marker:
        return
    rows, columns = picture.shape
    plate = Image.new("L", (columns, rows), 0)
    font = ImageFont.load_default(size=max(8.0, rows * 0.035))
    place = (exposure.marker_place[0] * columns, exposure.marker_place[1] * rows)
    ImageDraw.Draw(plate).text(place, exposure.marker, fill=255, font=font)
    lead = np.asarray(plate, dtype=np.float32) / 255
    picture += lead * (np.maximum(0.95, picture) - picture)
