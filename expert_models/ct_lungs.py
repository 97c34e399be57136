"""The lungs on CT, by a method without weights: thresholding, connectivity and morphology.

The steps follow Hu, Hoffman and Reinhardt (IEEE Trans Med Imaging 2001;20:490-498): optimal threshold, internal air,
removal of the large airways, separation of left and right, smoothing. The airways are followed slice by slice with
stop conditions as in De Nunzio et al. (J Digit Imaging 2011;24:11-27); the closing that takes vessels and nodules at
the wall back in is the three-dimensional morphology of the same paper. All of it runs on an upright 2.5 mm grid,
so side is decided in the patient, never by the order of the columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_io.study import Modality, Series, Volume
from expert_models.card import packaged_card
from expert_models.codes import (
    EMPHYSEMA,
    EMPHYSEMA_INDEX,
    HOUNSFIELD_UNIT,
    LUNG,
    MEAN_ATTENUATION,
    MILLILITER,
    PERCENT,
    VOLUME,
)
from expert_models.ct_emphysema import CUT_MM2, low_attenuation_percent, why_no_index
from expert_models.ct_grid import OUTSIDE_HU, Grid, on_source, resample, upright_grid
from expert_models.finding import Box, Code, ExpertTag, Finding, Measurement, Presence, Region, Side
from expert_models.input_check import refuses_body_part, refuses_child, refuses_noise
from expert_models.ports import Masks

IMAGED_VOLUME = Code("imaged-lung-volume", "99WETREAD", "Volume of the part of the lung that was imaged")
NO_LUNGS = "no lungs were found in this series"

SPACING_MM = 2.5  # of the working grid
CLOSING_MM = 10.0  # radius of the ball that takes vessels and juxtapleural nodules back in
LEAST_LUNG_ML = 60.0  # a smaller piece of aerated tissue is not taken for a lung
LEAST_BASE_ML = 15.0  # unless the scan ends in it and the other lung is found
BELOW_MM = 150.0  # gas that begins so far below the top of the lungs is bowel
LEAST_SLICES = 5
# BodyPartExamined of CT that shows no lung. Abdomen, spine and neck are not here: a lung's base or apex is in them.
NO_CHEST_IN = frozenset(["HEAD", "BRAIN", "SKULL", "FACE", "SINUS", "ORBIT", "PELVIS", "HIP", "KNEE", "ANKLE", "FOOT"])
MOST_EROSIONS = 6  # before the two lungs are reported as one

Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Lungs:
    """What was found on the working grid: (side, mask) pairs, at most one of each side, and the airways.

    One pair of side BILATERAL when the two could not be told apart.
    """

    grid: Grid
    hu: npt.NDArray[np.float32]
    sides: tuple[tuple[Side, Mask], ...]
    airways: Mask


class ChestCtLungs:
    """The expert: left and right lung with mask, volume and mean attenuation."""

    def __init__(self, device: str = "cpu") -> None:
        """device: accepted like any expert's; the method runs on the processor."""
        self.device = device
        self._card = packaged_card("ct-lungs")

    @property
    def tag(self) -> ExpertTag:
        """Name, version; no weights."""
        return self._card.tag

    @property
    def concepts(self) -> tuple[Code, ...]:
        """The lung, and emphysema by its index alone."""
        return LUNG, EMPHYSEMA

    def refuses(self, series: Series) -> str | None:
        """Anything but CT, and what is too thin to be a volume."""
        return refuses_ct(series)

    def examine(self, series: Series, masks: Masks) -> Sequence[Finding]:
        """One finding per lung; one not-assessed finding when the series shows none.

        A lung that goes on beyond the first or last slice is measured as IMAGED_VOLUME, never as VOLUME. Where the
        emphysema index would mean nothing, a last finding says that emphysema was not assessed, and why.
        """
        lungs = find_lungs(series.volume)
        if not lungs.sides:
            return [
                Finding("f1", concept, Presence.NOT_ASSESSED, self.tag, reason=NO_LUNGS) for concept in self.concepts
            ]
        placed = [on_source(mask.astype(np.float32), 0.5, lungs.grid, series.volume) for _, mask in lungs.sides]
        no_index = why_no_index(series.volume, lungs, placed)
        findings = []
        for (side, _), (box, native) in zip(lungs.sides, placed, strict=True):
            slice_index = box.start[0] + int(native.sum((1, 2)).argmax())
            region = Region(series.uid, box, series.source[slice_index], masks.save(native))
            measured = _measurements(native, box, series.volume)
            if not no_index:
                percent = low_attenuation_percent(series.volume, native, box)
                measured += (Measurement(EMPHYSEMA_INDEX, round(percent, 2), PERCENT),)
            findings.append(
                Finding("f1", LUNG, Presence.PRESENT, self.tag, side=side, regions=(region,), measurements=measured)
            )
        if no_index:
            findings.append(Finding("f1", EMPHYSEMA, Presence.NOT_ASSESSED, self.tag, reason=no_index))
        return findings


def refuses_ct(series: Series) -> str | None:
    """Why a series is not a CT volume that can hold lungs; None when it may."""
    if series.modality is not Modality.CT:
        return "the series is not a CT"
    if series.volume.shape[0] < LEAST_SLICES:
        return f"the series has fewer than {LEAST_SLICES} slices"
    if not series.volume.geometry.is_calibrated:
        return "the series does not state its spacing"
    return refuses_body_part(series, NO_CHEST_IN) or refuses_child(series) or refuses_noise(series)


def find_lungs(volume: Volume) -> Lungs:
    """Both lungs of a CT on an upright 2.5 mm grid; no side at all when there is no lung."""
    grid = upright_grid(volume, SPACING_MM)
    hu = resample(volume.voxels, volume.geometry, grid)
    air = _internal_air(hu, _lung_threshold(hu))
    airways = _airways(hu, air)
    lungs = _lung_pieces(hu, air & ~airways)
    sides = tuple((side, _closed(mask, hu, others=lungs & ~mask | airways)) for side, mask in _split(lungs, hu))
    return Lungs(grid, hu, _disjoint(sides), airways)


def _measurements(native: Mask, box: Box, volume: Volume) -> tuple[Measurement, ...]:
    slice_mm2 = volume.geometry.voxel_ml * 1000.0 / volume.geometry.spacing_mm[0]
    ends = [native[0].sum() if box.start[0] == 0 else 0, native[-1].sum() if box.stop[0] == volume.shape[0] else 0]
    is_cut = max(ends) * slice_mm2 > CUT_MM2
    volume_ml = float(native.sum()) * volume.geometry.voxel_ml
    mean_hu = float(volume.voxels[box.slices][native].mean())
    return (
        Measurement(IMAGED_VOLUME if is_cut else VOLUME, round(volume_ml, 1), MILLILITER),
        Measurement(MEAN_ATTENUATION, round(mean_hu, 1), HOUNSFIELD_UNIT),
    )


def _lung_threshold(hu: Array) -> float:
    """The optimal threshold of Hu et al.: halfway between the means of what it parts, over the scanned voxels."""
    values = hu[::2, ::2, ::2]
    values = values[(values > -980.0) & (values < 500.0)]  # air outside and bone would pull it
    threshold = -500.0
    for _ in range(20):
        if not (np.any(values < threshold) and np.any(values >= threshold)):
            break
        moved = float(values[values < threshold].mean() + values[values >= threshold].mean()) / 2
        if abs(moved - threshold) < 1.0:
            break
        threshold = moved
    return float(np.clip(threshold, -550.0, -320.0))


def _internal_air(hu: Array, threshold: float) -> Mask:
    """Air that is not around the patient: in each axial slice, what does not reach the edge as plain air.

    A lung cut by the edge of a small field of view reaches the edge too, but not at the attenuation of air.
    """
    scanned = hu > OUTSIDE_HU + 1
    air: Mask = (hu < threshold) & scanned
    edge = scanned & ~_each_slice_eroded(scanned)
    flat = ndimage.generate_binary_structure(3, 1)
    flat[[0, 2]] = False
    labels, count = ndimage.label(air, flat)
    if not count:
        return air
    rim = air & edge
    medians = np.full(count + 1, 0.0)
    touched = np.unique(labels[rim])
    medians[touched] = ndimage.median(hu[rim], labels[rim], touched)
    outside = medians < -930.0
    air &= ~outside[labels]
    # What lies close to outside air and is as thin as it (between arm and chest, above the table) is outside as well.
    pieces, count = ndimage.label(air)
    if count:
        sizes = np.bincount(pieces[air])
        thin = np.bincount(pieces[air], hu[air]) / np.maximum(sizes, 1) < -955.0
        thin[0] = False
        air &= ~thin[pieces] | _near_nothing(pieces, thin, outside[labels])
    return air


def _near_nothing(pieces: Array, thin: Array, outside: Mask) -> Mask:
    """Keep thin pieces (the trachea, bowel) that do not lie within 15 mm of the air around the patient."""
    near = ndimage.maximum_filter(outside, size=13)
    close = np.zeros_like(thin)
    close[np.unique(pieces[near & (pieces > 0)])] = True
    kept: Mask = ~(thin & close)[pieces]
    return kept


def _each_slice_eroded(mask: Mask) -> Mask:
    flat = ndimage.generate_binary_structure(3, 1)
    flat[[0, 2]] = False
    eroded: Mask = ndimage.binary_erosion(mask, flat)
    return eroded


def _airways(hu: Array, air: Mask) -> Mask:
    """Trachea and main bronchi, followed from the top slice by slice while they stay round, small and full of air."""
    found: Mask = np.zeros_like(air)
    lumen = (hu < -860.0) & air
    tracked: Mask | None = None
    lost = 0
    for plane in range(air.shape[0] - 1, -1, -1):
        labels, count = ndimage.label(lumen[plane])
        if not count:
            lost, tracked = lost + 1, tracked if lost < 3 else None
            continue
        if tracked is None:
            current = _trachea_like(hu[plane], labels, count, air[plane])
        else:
            current = _continued(hu[plane], labels, count, tracked)
        if current.any():
            found[plane], tracked, lost = current, current, 0
        elif tracked is not None:
            lost += 1
            tracked = tracked if lost < 3 else None
            if tracked is None and found.sum() * SPACING_MM**3 > 10_000:
                break
    if found.sum() * SPACING_MM**3 < 4000:
        return np.zeros_like(air)
    lumen_and_wall: Mask = ndimage.binary_dilation(found) & air
    return lumen_and_wall


def _trachea_like(hu: Array, labels: Array, count: int, air: Mask) -> Mask:
    """The most central round lumen of 80 to 600 mm² in one slice, by itself; empty when there is none."""
    body_columns = np.flatnonzero((hu > -300).any(0))
    if not body_columns.size:
        return np.zeros(labels.shape, bool)
    middle, width = body_columns.mean(), np.ptp(body_columns) + 1
    whole, _ = ndimage.label(air)
    best, best_distance = np.zeros(labels.shape, bool), 0.15 * width
    for number, where in enumerate(ndimage.find_objects(labels), start=1):
        lumen = labels[where] == number
        area_mm2 = lumen.sum() * SPACING_MM**2
        rows, columns = lumen.shape
        if not 80 <= area_mm2 <= 600 or max(rows, columns) > 2.2 * min(rows, columns):
            continue
        if lumen.mean() < 0.6 or hu[where][lumen].mean() > -900:
            continue
        around = np.unique(whole[where][lumen])
        if (whole == around[-1]).sum() * SPACING_MM**2 > 900:
            continue  # part of a lung
        distance = abs((where[1].start + where[1].stop - 1) / 2 - middle)
        if distance < best_distance:
            best, best_distance = labels == number, distance
    return best


def _continued(hu: Array, labels: Array, count: int, above: Mask) -> Mask:
    """Lumens below those of the slice above; a branch that opens into a lung is dropped."""
    current = np.zeros(labels.shape, bool)
    above_mm2 = above.sum() * SPACING_MM**2
    for number in np.unique(labels[above]):
        if number == 0:
            continue
        lumen = labels == number
        if lumen.sum() * SPACING_MM**2 > min(2.0 * above_mm2 + 60.0, 900.0) or hu[lumen].mean() > -880:
            continue
        current |= lumen
    return current


def _lung_pieces(hu: Array, air: Mask) -> Mask:
    """The pieces of internal air that are lung: large, with the attenuation of lung, and not bowel."""
    labels, count = ndimage.label(air)
    kept = np.zeros_like(air)
    if not count:
        return kept
    voxel_ml = SPACING_MM**3 / 1000
    spans = ndimage.find_objects(labels)
    sizes_ml = np.bincount(labels.ravel()) * voxel_ml
    accepted: list[tuple[int, int]] = []
    for number in np.argsort(-sizes_ml[1:]) + 1:
        if sizes_ml[number] < (LEAST_BASE_ML if accepted else LEAST_LUNG_ML):
            break
        where = spans[number - 1]
        piece = labels[where] == number
        core = ndimage.binary_erosion(piece, iterations=2)
        values = hu[where][core]
        if values.size < 100 or np.mean(values < -965.0) > 0.5 or not -965.0 < np.median(values) < -500.0:
            continue  # bowel gas and free air have the attenuation of air itself
        accepted.append((int(number), where[0].stop))
    highest = max((top for _, top in accepted), default=0)
    for number, top in accepted:
        is_base = top >= air.shape[0] - 1  # a small piece is lung only where the scan ends in it
        if is_base or (sizes_ml[number] >= LEAST_LUNG_ML and top >= highest - BELOW_MM / SPACING_MM):
            kept |= labels == number
    return kept


def _split(lungs: Mask, hu: Array) -> list[tuple[Side, Mask]]:
    """Left and right: by connectivity where they are apart, else by eroding until they part and growing back."""
    if not lungs.any():
        return []
    middle = _body_middle(hu, lungs)
    where = ndimage.find_objects(lungs.astype(np.uint8))[0]
    part = lungs[where]
    for depth in range(MOST_EROSIONS + 1):
        core = ndimage.binary_erosion(part, iterations=depth) if depth else part
        labels, count = ndimage.label(core)
        if not count:
            break
        columns, straddles = _placed(labels, count, middle - where[2].start)
        if straddles:
            continue
        is_left = np.concatenate([[False], columns > middle - where[2].start])
        if depth:
            nearest = ndimage.distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
            labels = labels[tuple(nearest)]
        left = np.zeros_like(lungs)
        left[where] = is_left[labels] & part
        both = ((Side.RIGHT, lungs & ~left), (Side.LEFT, left))
        return [(side, mask) for side, mask in both if mask.sum() * SPACING_MM**3 / 1000 >= LEAST_BASE_ML]
    return [(Side.BILATERAL, lungs)]


def _placed(labels: Array, count: int, middle: float) -> tuple[Array, bool]:
    """The mean column of each piece, and whether a large one holds much lung on both sides of the middle."""
    per_column = np.zeros((count + 1, labels.shape[2]))
    for column in range(labels.shape[2]):
        per_column[:, column] = np.bincount(labels[:, :, column].ravel(), minlength=count + 1)
    sizes = per_column[1:].sum(1)
    columns = np.arange(labels.shape[2])
    share = per_column[1:, columns > middle].sum(1) / sizes
    large = sizes * SPACING_MM**3 / 1000 > LEAST_LUNG_ML / 2
    return per_column[1:] @ columns / sizes, bool(np.any(large & (share > 0.15) & (share < 0.85)))


def _body_middle(hu: Array, lungs: Mask) -> float:
    """The column of the midsagittal plane: that of the spine where bone is seen behind, else of the body."""
    planes = np.flatnonzero(lungs.any((1, 2)))
    part = hu[planes[0] : planes[-1] + 1]
    body = part > -200
    rows = np.flatnonzero(body.any((0, 2)))
    columns = np.flatnonzero(body.sum((0, 1)) > 0.02 * body.sum((0, 1)).max())
    fallback = float(columns.mean())
    width_columns = columns[-1] - columns[0] + 1
    bone = (part > 150)[:, int(rows.mean()) :].sum((0, 1)).astype(float)
    if bone.sum() == 0 or width_columns * SPACING_MM < 200.0:
        return float(np.average(np.arange(len(bone)), weights=bone)) if bone.sum() else fallback
    smooth = ndimage.uniform_filter1d(bone, int(40 / SPACING_MM))
    near = np.abs(np.arange(len(bone)) - fallback) < 0.2 * width_columns
    return float(np.argmax(np.where(near, smooth, -1.0)))


def _closed(mask: Mask, hu: Array, others: Mask) -> Mask:
    """Close by a ball of CLOSING_MM and fill holes, without entering the other lung, the airways or bone."""
    margin = int(CLOSING_MM / SPACING_MM) + 2
    where = ndimage.find_objects(mask.astype(np.uint8))[0]
    padded = np.pad(mask[where], margin)
    radius = CLOSING_MM / SPACING_MM
    grown = ndimage.distance_transform_edt(~padded) <= radius
    closed = ndimage.distance_transform_edt(grown) > radius
    closed |= padded
    inner = tuple(slice(margin, -margin) for _ in range(3))
    filled = ndimage.binary_fill_holes(closed)[inner]
    result = mask.copy()
    result[where] |= filled & ~others[where] & (hu[where] < 250.0)
    return result


def _disjoint(sides: tuple[tuple[Side, Mask], ...]) -> tuple[tuple[Side, Mask], ...]:
    """Voxels that two closings both took belong to neither lung's aerated part; the first keeps them."""
    taken: Mask | None = None
    result = []
    for side, mask in sides:
        own = mask if taken is None else mask & ~taken
        taken = own if taken is None else taken | own
        result.append((side, own))
    return tuple(result)
