"""What a scanner makes of a varied patient's voxels: contrast medium, devices, dose and reconstruction kernel.

The voxels are not reconstructed from projections: metal makes no streaks, and noise is drawn with the texture that a
kernel gives it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_io.phantom.patient import Visit
from dicom_io.phantom.project import WATER_PER_MM

KERNELS = {"SOFT": 0.65, "STANDARD": 0.3, "LUNG": -0.5}  # blur in mm; below 0 it sharpens
PHASES = {
    "": (0.0, 0.0, 0.0),
    "ARTERIAL": (230.0, 150.0, 15.0),
    "VENOUS": (110.0, 105.0, 55.0),
}  # HU: aorta, heart, liver


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a CT was made. noise_hu: SD of noise in soft tissue with the standard kernel. phase: of contrast medium, ""
    without. kvp and exposure_mas go into the header.
    """

    kernel: str
    noise_hu: float
    phase: str
    kvp: int
    exposure_mas: int


def draw_protocol(seed: int) -> Protocol:
    """The protocol of this seed: low dose without contrast for some, contrast for about half of the others."""
    random = np.random.default_rng([seed, 61])
    low_dose = random.random() < 0.3
    phase = "" if low_dose else str(random.choice(["", "ARTERIAL", "VENOUS"], p=[0.45, 0.2, 0.35]))
    exposure = int(random.integers(15, 45) if low_dose else random.integers(70, 220))
    return Protocol(
        kernel=str(random.choice(list(KERNELS), p=[0.3, 0.3, 0.4])),
        noise_hu=float(9.0 * np.sqrt(120 / exposure) * random.uniform(0.8, 1.2)),
        phase=phase,
        kvp=int(random.choice([100, 120, 120, 140])),
        exposure_mas=exposure,
    )


def scan(visit: Visit, protocol: Protocol, seed: int) -> npt.NDArray[np.int16]:
    """The visit's voxels as this protocol shows them: (slices, rows, columns) int16 HU, of the same grid."""
    random = np.random.default_rng([seed, 67])
    hu = visit.hu.astype(np.float32)
    _enhance(hu, visit, protocol)
    for device in visit.devices:
        for strands in device.strands:
            _implant(hu, visit, strands.middles_mm, strands.radii_mm, strands.lengths_mm * strands.values)
    np.clip(hu, -1024, 3071, out=hu)
    blur_mm, in_plane = KERNELS[protocol.kernel], float(np.mean(visit.geometry.spacing_mm[1:]))
    outside = hu < -999
    grain = 0.9 if protocol.kernel == "SOFT" else 0.5
    for number, plane in enumerate(hu):
        noise = ndimage.gaussian_filter(random.standard_normal(plane.shape, dtype=np.float32), grain)
        noise *= protocol.noise_hu * (0.8 if protocol.kernel == "SOFT" else 1.0) / noise.std()
        if blur_mm > 0:
            plane[...] = ndimage.gaussian_filter(plane, blur_mm / in_plane)
        else:
            noise -= ndimage.gaussian_filter(noise, 1.5)
            noise *= 2.2
            plane += -blur_mm * 1.6 * (plane - ndimage.gaussian_filter(plane, 0.8 / in_plane))
        plane += noise * (0.6 + 0.4 * ~outside[number])
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16)


def _enhance(hu: npt.NDArray[np.float32], visit: Visit, protocol: Protocol) -> None:
    """Add contrast medium to blood and liver; lesions keep their attenuation."""
    aorta, heart, liver = PHASES[protocol.phase]
    if aorta == 0:
        return
    structures = visit.structures
    soft = (hu > -20) & (hu < 110)
    hu[structures["heart"] & ~structures["aorta"] & soft] += heart
    hu[structures["aorta"] & soft] += aorta
    hu[structures["liver"] & soft] += liver
    lungs = structures["right_lung"] | structures["left_lung"]
    for lesion in visit.lesions:
        if lesion.attenuation is not None or lesion.side is not None:
            lungs[lesion.box] &= ~lesion.mask
    air = float(np.median(hu[lungs])) if lungs.any() else -850.0
    blood = np.clip((hu - air) / (44.0 - air), 0, 1)
    hu += np.where(lungs & (blood > 0.25), blood * heart, 0).astype(np.float32)


def _implant(
    hu: npt.NDArray[np.float32],
    visit: Visit,
    middles_mm: npt.NDArray[np.float64],
    radii_mm: npt.NDArray[np.float64],
    weight: npt.NDArray[np.float64],
) -> None:
    """Add tubes: each piece's attenuation is spread over 24 points of its cross-section, keeping its sum."""
    golden = np.pi * (3 - np.sqrt(5))
    number = np.arange(24)
    reach, turn = np.sqrt((number + 0.5) / 24), golden * number
    ring = np.stack([reach * np.cos(turn), reach * np.sin(turn), reach * np.sin(2.3 * turn)], axis=1)
    added = weight * np.pi * radii_mm**2 / 24 / WATER_PER_MM * 1000 / (visit.geometry.voxel_ml * 1000)
    for offset in ring:
        cell = np.rint(visit.geometry.to_index(middles_mm + offset * radii_mm[:, None])).astype(int)
        inside = ((cell >= 0) & (cell < np.array(hu.shape))).all(axis=1)
        np.add.at(hu, tuple(cell[inside].T), added[inside].astype(np.float32))
