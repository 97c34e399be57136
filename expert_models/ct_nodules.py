"""Lung nodules and masses on CT: a three-dimensional MONAI network inside the lungs, each candidate measured.

The network reads a 1 mm grid around each lung, window by window. A connected piece of its answer is a candidate; the
mean of its highest logits, by a logistic curve fitted on held-out training patients, is its probability.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_io.study import Geometry, Series, Volume
from expert_models.card import Card, packaged_card
from expert_models.codes import (
    HOUNSFIELD_UNIT,
    LONG_AXIS,
    LUNG,
    LUNG_MASS,
    LUNG_NODULE,
    MEAN_ATTENUATION,
    MILLILITER,
    MILLIMETER,
    PART_SOLID,
    SHORT_AXIS,
    SOLID_LONG_AXIS,
    VOLUME,
)
from expert_models.ct_axes import Axis, axes_of
from expert_models.ct_grid import Grid, on_source, resample, upright_grid
from expert_models.ct_lungs import NO_LUNGS, Lungs, find_lungs, refuses_ct
from expert_models.finding import Attribute, Box, Code, ExpertTag, Finding, Line, Measurement, Presence, Region, Side
from expert_models.nodule_attributes import NoduleAttributes, solid_axis
from expert_models.once import Once
from expert_models.ports import Masks

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expert_models.runtime import Run

CARD = "ct-nodules"
MASS_MM = 30.0  # above this long axis a nodule is called a mass (Hansell et al., Radiology 2008;246:697-722)
LEAST_MM = 3.0  # equivalent diameter below which nothing is reported
MOST_LISTED = 10
MARGIN_MM = 12.0  # of lung wall and mediastinum around each lung that the network sees
REACH_MM = 4.0  # how far outside the closed lung a candidate may begin
TOP_VOXELS = 27  # their mean logit is the score

Mask = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One piece of the network's answer. logits: (slices, rows, columns) on grid, low outside the piece."""

    side: Side
    score: float
    logits: Float32
    grid: Grid


@dataclass(frozen=True, slots=True)
class Marked:
    """A candidate on the voxels of the series, measured. slice_index: where the long axis was read."""

    side: Side
    probability: float
    box: Box
    mask: Mask
    long_axis: Axis
    short_axis: Axis

    @property
    def slice_index(self) -> int:
        """The slice of the long axis."""
        return int(self.long_axis.start[0])


class CtNodules:
    """The expert: nodule and mass candidates with probability, axes, volume, attenuation and what they look like."""

    def __init__(self, device: str = "cpu", card: Card | None = None, network: nn.Module | None = None) -> None:
        """network: to be used instead of the card's weights, in training; else those are loaded at first use."""
        self._card = card or packaged_card(CARD)
        self._device = device
        self._run: Once[Run] = Once(lambda: network or self._loaded())
        self._attributes = NoduleAttributes()

    @property
    def tag(self) -> ExpertTag:
        """Name, version, weights."""
        return self._card.tag

    @property
    def concepts(self) -> tuple[Code, ...]:
        """Nodule and mass."""
        return LUNG_NODULE, LUNG_MASS

    def refuses(self, series: Series) -> str | None:
        """Anything but CT, and what is too thin to be a volume."""
        return refuses_ct(series)

    def examine(self, series: Series, masks: Masks) -> Sequence[Finding]:
        """The most probable candidates, most probable first; one absent finding when there is none to list.

        Candidates between the two bounds of the card's indeterminate band are indeterminate, those below are left
        out. When there are more than MOST_LISTED, a last finding that is not assessed says how many were left out.
        """
        lungs = find_lungs(series.volume)
        if not lungs.sides:
            return [Finding(f"f{number}", concept, Presence.NOT_ASSESSED, self.tag, reason=NO_LUNGS)
                    for number, concept in enumerate(self.concepts, 1)]  # fmt: skip
        marked, scan_probability = self.mark(series.volume, lungs)
        listed = [each for each in marked if each.probability >= self._least_listed]
        findings = [self._finding(number, each, series, masks) for number, each in enumerate(listed[:MOST_LISTED], 1)]
        if not findings:
            findings.append(Finding("f1", LUNG_NODULE, Presence.ABSENT, self.tag, scan_probability, site=LUNG))
        if len(listed) > MOST_LISTED:
            reason = f"{len(listed) - MOST_LISTED} more candidates of lower probability are not listed one by one"
            findings.append(Finding(f"f{MOST_LISTED + 1}", LUNG_NODULE, Presence.NOT_ASSESSED, self.tag, reason=reason))
        return findings

    def mark(self, volume: Volume, lungs: Lungs) -> tuple[list[Marked], float]:
        """Every candidate in these lungs, most probable first, and the probability that there is any nodule."""
        candidates, highest = self._candidates(volume, lungs)
        marked = []
        for candidate in candidates:
            box, mask = on_source(candidate.logits, self._mask_logit, candidate.grid, volume)
            long_axis, short_axis = axes_of(mask, box, volume.geometry)
            probability = self._logistic(candidate.score, "candidate")
            marked.append(Marked(candidate.side, probability, box, mask, long_axis, short_axis))
        marked.sort(key=lambda each: -each.probability)
        return marked, self._logistic(highest, "scan")

    @property
    def _mask_logit(self) -> float:
        return self._card.calibration["mask_logit"]

    @property
    def _least_listed(self) -> float:
        band = self._card.indeterminate
        return band[0] if band else self._card.labels[0].threshold

    def _logistic(self, score: float, of: str) -> float:
        calibration = self._card.calibration
        return 1.0 / (1.0 + exp(-(calibration[f"{of}_slope"] * score + calibration[f"{of}_intercept"])))

    def _candidates(self, volume: Volume, lungs: Lungs) -> tuple[list[Candidate], float]:
        found: list[Candidate] = []
        highest = self._mask_logit - 6.0  # the score of lungs in which nothing at all stands out
        for side, mask in lungs.sides:
            grid = upright_grid(volume, self._card.input.spacing_mm[0], _span_mm(mask, lungs.grid))
            hu = resample(volume.voxels, volume.geometry, grid)
            logits = logits_on(hu, self._run(), self._card, self._device)
            allowed = _allowed(mask, lungs.grid, grid)
            highest = max(highest, float(logits.max(initial=highest, where=allowed)))
            found += _pieces(logits, allowed, side, grid, self._mask_logit)
        highest = max([highest, *(each.score for each in found)])
        return found, highest

    def _finding(self, number: int, marked: Marked, series: Series, masks: Masks) -> Finding:
        volume, instance_uid = series.volume, series.source[marked.slice_index]
        lines = [
            (Line(series.uid, axis.start, axis.stop, instance_uid),) for axis in (marked.long_axis, marked.short_axis)
        ]
        volume_ml = float(marked.mask.sum()) * volume.geometry.voxel_ml
        mean_hu = float(volume.voxels[marked.box.slices][marked.mask].mean())
        attributes = self._attributes.stated(self._attributes.rate(volume, marked.box, marked.mask))
        is_present = marked.probability >= self._card.labels[0].threshold
        return Finding(
            f"f{number}",
            LUNG_MASS if marked.long_axis.length_mm > MASS_MM else LUNG_NODULE,
            Presence.PRESENT if is_present else Presence.INDETERMINATE,
            self.tag,
            probability=marked.probability,
            side=None if marked.side is Side.BILATERAL else marked.side,
            site=LUNG,
            regions=(Region(series.uid, marked.box, instance_uid, masks.save(marked.mask)),),
            measurements=(
                Measurement(LONG_AXIS, round(marked.long_axis.length_mm, 1), MILLIMETER, lines[0]),
                Measurement(SHORT_AXIS, round(marked.short_axis.length_mm, 1), MILLIMETER, lines[1]),
                Measurement(VOLUME, round(volume_ml, 3), MILLILITER),
                Measurement(MEAN_ATTENUATION, round(mean_hu, 1), HOUNSFIELD_UNIT),
                *_solid_part(attributes, marked, series),
            ),
            attributes=attributes,
        )

    def _loaded(self) -> Run:
        from expert_models.segment import loaded_runner

        return loaded_runner(self._card, self._device)


def _solid_part(attributes: Sequence[Attribute], marked: Marked, series: Series) -> Iterator[Measurement]:
    """The long axis of the solid component, where the nodule is said to be part-solid and there is one."""
    if PART_SOLID not in [each.value for each in attributes]:
        return
    axis = solid_axis(series.volume, marked.box, marked.mask)
    if axis is not None:
        line = Line(series.uid, axis.start, axis.stop, series.source[int(axis.start[0])])
        yield Measurement(SOLID_LONG_AXIS, round(axis.length_mm, 1), MILLIMETER, (line,))


def network_input(hu: Float32, card: Card) -> Tensor:
    """HU to what the network reads: the card's range to [-1, 1], clipped. Any shape."""
    import torch

    low, high = card.input.range
    return torch.from_numpy(np.clip((hu - low) * np.float32(2 / (high - low)) - 1, -1, 1).astype(np.float32))


def logits_on(hu: Float32, run: Run, card: Card, device: str = "cpu") -> Float32:
    """A network's logits on a grid of HU (slices, rows, columns), window by window with MONAI's inferer."""
    import torch
    from monai.inferers.utils import sliding_window_inference

    from expert_models.precision import half_precision

    picture = network_input(hu[None, None], card).to(device)
    at_once = 1 if device == "cpu" else 4
    with torch.inference_mode(), half_precision(device):
        logits: Any = sliding_window_inference(picture, card.input.size, at_once, run, overlap=0.25, mode="gaussian")
    result: Float32 = logits[0, 0].float().cpu().numpy()
    return result


def _span_mm(mask: Mask, grid: Grid) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Lowest and highest corner of the box around a mask and its margin, LPS mm."""
    found = ndimage.find_objects(mask.astype(np.uint8))[0]
    ends_mm = grid.geometry.to_patient([[each.start for each in found], [each.stop - 1 for each in found]])
    return ends_mm.min(0) - MARGIN_MM, ends_mm.max(0) + MARGIN_MM


def _allowed(mask: Mask, coarse: Grid, fine: Grid) -> Mask:
    """Where on the fine grid a candidate of this lung may begin: inside it, or at most REACH_MM outside."""
    reach = int(REACH_MM / coarse.geometry.spacing_mm[0])
    steps = np.mgrid[[slice(-reach, reach + 1)] * 3] * coarse.geometry.spacing_mm[0]
    near = ndimage.binary_dilation(mask, np.linalg.norm(steps, axis=0) <= REACH_MM)
    inside: Mask = resample(near.astype(np.float32), coarse.geometry, fine, fill=0.0) > 0.5
    return inside


def _pieces(logits: Float32, allowed: Mask, side: Side, grid: Grid, level: float) -> list[Candidate]:
    """Connected pieces above the level that lie at least half in the allowed part and are not too small."""
    labels, _ = ndimage.label(logits > level)
    voxel_mm3 = grid.geometry.voxel_ml * 1000.0
    least_voxels = np.pi / 6 * LEAST_MM**3 / voxel_mm3
    pieces = []
    for number, where in enumerate(ndimage.find_objects(labels), start=1):
        piece = labels[where] == number
        size = int(piece.sum())
        if size < least_voxels or allowed[where][piece].mean() < 0.5:
            continue
        top = np.partition(logits[where][piece], max(size - TOP_VOXELS, 0))[max(size - TOP_VOXELS, 0) :]
        wide = tuple(slice(max(each.start - 2, 0), each.stop + 2) for each in where)
        near = ndimage.binary_dilation(labels[wide] == number)
        own = np.where(near, logits[wide], level - 4.0).clip(level - 4.0, level + 4.0).astype(np.float32)
        pieces.append(Candidate(side, float(top.mean()), own, _part(grid, wide, own.shape)))
    return pieces


def _part(grid: Grid, where: tuple[slice, ...], shape: tuple[int, ...]) -> Grid:
    affine = grid.geometry.affine.copy()
    affine[:3, 3] = grid.geometry.to_patient([[each.start for each in where]])[0]
    return Grid((shape[0], shape[1], shape[2]), Geometry(affine))
