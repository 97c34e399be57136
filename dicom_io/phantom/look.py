"""How a film looks: the tube and grid it was taken with, and what the maker's processing did to it.

Makers differ in how they bring the range of a chest into the range of a screen. Four families are drawn: "plain" (a
characteristic curve only, as of film and early storage phosphors), "unsharp" (one unsharp mask and a compression of the
dynamic range), "multiscale" (every scale of detail strengthened, weak detail most), and "flat" (hardly processed).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_io.phantom.film import Exposure, detect, draw_exposure
from dicom_io.phantom.markers import Marker, draw_markers, stamp

Array = npt.NDArray[np.float32]
STYLES = ("plain", "unsharp", "multiscale", "flat")


@dataclass(frozen=True, slots=True)
class Look:
    """One way of taking, processing, framing and labelling a film."""

    exposure: Exposure  # the physics of it: beam, scatter, noise, blur
    style: str
    gains: tuple[float, ...]  # of the detail at 0.7, 1.4, 2.8, ... mm; 1 leaves it alone
    power: float  # below 1 strengthens weak detail more than strong
    compress: float  # of the dynamic range: 0 leaves it, 1 takes every broad difference away
    lung_grey: float  # of the darker lung, 0 black to 1 white
    dense_grey: float  # of the densest tissue
    curve: float  # steepness of the characteristic curve, 0 straight
    floor: float  # grey of the darkest
    grid_lines: float  # amplitude of what an anti-scatter grid leaves
    border: float | None  # grey outside the collimator, None without
    cut: tuple[float, float, float, float]  # share hidden at top, right, bottom, left
    skew: float  # radians that the collimated field is turned
    tilt: float  # radians by which the beam comes from below (positive) or above: lordotic films
    field: float  # side of the field relative to the lungs
    markers: tuple[Marker, ...]


def draw_look(seed: int, view: str) -> Look:
    """The look of this seed for a view ("PA", "AP", "AP SUPINE", "LATERAL")."""
    random = np.random.default_rng([seed, 53])
    mobile = view in ("AP", "AP SUPINE")
    style = str(random.choice(STYLES, p=[0.34, 0.28, 0.30, 0.08]))
    base = {"plain": 1.0, "unsharp": 1.15, "multiscale": 1.35, "flat": 1.0}[style]
    strength = float(random.uniform(0.7, 1.3))
    peak = int(random.integers(0, 4))
    gains = tuple(
        float(1 + (base - 1) * strength * (1.5 if abs(level - peak) <= 1 else 0.7)) if style != "plain" else 1.0
        for level in range(6)
    )
    collimated = random.random() < 0.55
    cut = tuple(float(max(0.0, random.normal(0.0, 0.035))) for _ in range(4))
    return Look(
        exposure=draw_exposure(random, "AP" if mobile else "PA"),
        style=style,
        gains=gains,
        power=float(random.uniform(0.72, 0.95)) if style == "multiscale" else 1.0,
        compress={
            "plain": 0.0,
            "unsharp": float(random.uniform(0.1, 0.5)),
            "multiscale": float(random.uniform(0.25, 0.65)),
            "flat": 0.0,
        }[style],
        lung_grey=float(np.clip(random.normal(0.42, 0.10), 0.12, 0.66)),
        dense_grey=float(np.clip(random.normal(0.82, 0.08), 0.62, 1.0)),
        curve=float(random.uniform(0.0, 1.0)),
        floor=float(max(0.0, random.normal(0.02, 0.05))),
        grid_lines=float(random.uniform(0.002, 0.008)) if mobile and random.random() < 0.12 else 0.0,
        border=float(random.choice([0.0, 0.0, 0.02, 0.08, 1.0], p=[0.4, 0.3, 0.15, 0.1, 0.05])) if collimated else None,
        cut=(cut[0], cut[1], cut[2], cut[3]),
        skew=float(random.normal(0, 0.02)) if random.random() < 0.5 else 0.0,
        tilt=_tilt(random, view),
        field=float(random.uniform(1.06, 1.5)),
        markers=draw_markers(random, view),
    )


def _tilt(random: np.random.Generator, view: str) -> float:
    if view == "LATERAL":
        return 0.0
    if view == "PA":
        return float(random.normal(0, 0.03))
    lordotic = random.random() < 0.3
    return float(random.uniform(0.10, 0.30) if lordotic else random.normal(0.02, 0.06))


def finish(
    path: Array, lungs: npt.NDArray[np.bool_], look: Look, spacing_mm: float, random: np.random.Generator
) -> Array:
    """Line integrals (rows, columns), without unit -> a picture in [0, 1], brighter = denser, framed and marked.

    lungs: the lung fields, where the maker's program sets its window.
    """
    signal = detect(path, look.exposure, spacing_mm, random)
    picture = -np.log(np.clip(signal, 1e-5, None))
    picture += look.exposure.tilt * np.linspace(-1, 1, picture.shape[1], dtype=np.float32)[None]
    picture = _processed(picture, look, spacing_mm)
    picture = _toned(picture, path, lungs, look)
    if look.grid_lines > 0:
        picture += look.grid_lines * np.sin(np.arange(picture.shape[1], dtype=np.float32) * 1.9)[None]
    open_field = _open(picture.shape, look)
    if open_field is not None and look.border is not None:
        picture = look.border + open_field * (picture - look.border)
    return np.clip(stamp(np.clip(picture, 0, 1), look.markers), 0, 1).astype(np.float32)


def _processed(picture: Array, look: Look, spacing_mm: float) -> Array:
    """Detail by scale, each with its gain; what is broad compressed."""
    if look.compress == 0 and all(gain == 1 for gain in look.gains):
        return picture
    result = np.zeros_like(picture)
    rest = picture
    sigma_mm = 0.7
    for gain in look.gains:
        broad = ndimage.gaussian_filter(rest, sigma_mm / spacing_mm)
        detail = rest - broad
        if look.power != 1:
            scale = 0.12  # detail as strong as this keeps its strength
            detail = np.sign(detail) * scale * (np.abs(detail) / scale) ** look.power
        result += gain * detail
        rest, sigma_mm = broad, sigma_mm * 2
    broad = ndimage.gaussian_filter(rest, 28 / spacing_mm)
    middle = float(np.median(picture[picture > 0.5])) if (picture > 0.5).any() else 0.0
    edge = np.clip(picture / 0.8, 0, 1)  # not beyond the skin, where it would light up the air
    return np.asarray(result + rest - look.compress * edge * (broad - middle), dtype=np.float32)


def _toned(picture: Array, path: Array, lungs: npt.NDArray[np.bool_], look: Look) -> Array:
    """Grey levels: the lungs and the densest tissue where the maker wants them, between them a curve."""
    body = path > 0.5
    sample = picture[lungs] if lungs.any() else picture[body]
    dark = float(np.percentile(sample, 25))
    bright = float(np.percentile(picture[body] if body.any() else picture, 97))
    step = (look.dense_grey - look.lung_grey) / max(bright - dark, 0.15)
    grey = look.lung_grey + step * (picture - dark)
    toe = np.float32(0.10)  # no hard black: the curve's foot
    grey = np.where(grey < toe, toe * np.exp(np.clip((grey - toe) / toe, -30, 0)), grey)
    over = np.float32(0.88)
    grey = np.where(grey > over, 1 - (1 - over) * np.exp(-np.clip((grey - over) / (1 - over), 0, 30)), grey)
    grey += look.curve * 0.5 * (grey * grey * (3 - 2 * grey) - grey)
    if look.style == "flat":
        grey = 0.22 + 0.45 * grey
    return np.asarray(look.floor + (1 - look.floor) * grey, dtype=np.float32)


def _open(shape: tuple[int, int], look: Look) -> Array | None:
    """1 inside the collimated field, 0 outside, turned by the skew; None when nothing is hidden."""
    if look.border is None:
        return None
    rows, columns = shape
    down = (np.arange(rows, dtype=np.float32)[:, None] + 0.5) / rows
    along = (np.arange(columns, dtype=np.float32)[None] + 0.5) / columns
    top, right, bottom, left = look.cut
    turned_down = down + look.skew * (along - 0.5)
    turned_along = along - look.skew * (down - 0.5)
    upright = np.minimum(turned_down - top, 1 - bottom - turned_down)
    inside = np.minimum(upright, np.minimum(turned_along - left, 1 - right - turned_along))
    return np.asarray(np.clip(inside * rows / 1.5 + 0.5, 0, 1), dtype=np.float32)
