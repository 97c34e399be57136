"""The structures expert: airways, clavicles and diaphragm on a frontal chest radiograph.

Nearly all that it knows comes from phantoms. Ribs are outlined by the network and not told: single ones run into each
other, and all of them together hide the picture. The trachea is measured from the middle between the clavicles, and
told to be shifted where it lies further off than on films without anything wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_io.study import Series
from expert_models.card import Card, packaged_card
from expert_models.chest_radiograph import doubt_of_lungs, region_of
from expert_models.codes import (
    AIRWAYS,
    CLAVICLE,
    DIAPHRAGM,
    LEFTWARD_SHIFT,
    MILLIMETER,
    PIXEL,
    RIGHTWARD_SHIFT,
)
from expert_models.finding import Code, ExpertTag, Finding, Line, Measurement, Presence
from expert_models.input_check import refuses_radiograph
from expert_models.measure import Mask, horizontal_width, middle_of_row, midpoint_between
from expert_models.once import Once
from expert_models.ports import Masks

if TYPE_CHECKING:
    from torch import nn

    from expert_models.preprocess import Letterbox
    from expert_models.segment import Segmenter

CARD = "cxr-structures"
LUNGS_AND_HEART = ("right lung", "left lung", "heart")
ORGANS = ("airways", "right clavicle", "left clavicle")
DIAPHRAGM_FROM = "abdomen"  # whose upper edge it is
CARINA = "carina"
RIBS = "ribs"
EDGE = 1.5  # frame pixels to either side of the diaphragm's line
SPECK = 12  # frame pixels below which a part of a structure is left out


@dataclass(frozen=True, slots=True, eq=False)
class Structures:
    """One picture read. maps: (H, W) in [0, 1] by label, in the frame; thresholds by label. box: the way back."""

    maps: Mapping[str, npt.NDArray[np.float32]]
    thresholds: Mapping[str, float]
    box: Letterbox

    def organ(self, label: str) -> Mask:
        """Where a structure is in the frame: its largest part, of ribs all but specks."""
        if label != RIBS:
            return self.part(label)
        numbered, sizes = self._parts(label)
        return np.asarray((sizes >= SPECK)[numbered])

    def part(self, label: str) -> Mask:
        """The largest connected part of a structure in the frame; empty where there are specks alone."""
        numbered, sizes = self._parts(label)
        largest = int(sizes.argmax())
        return np.asarray((numbered == largest) & (sizes[largest] >= SPECK))

    def _parts(self, label: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        numbered, _ = ndimage.label(self.maps[label] > self.thresholds[label], np.ones((3, 3)))
        sizes = np.bincount(numbered.ravel())
        sizes[0] = 0
        return numbered, sizes

    def diaphragm(self) -> Mask:
        """The upper edge of the abdomen in the frame, as a band."""
        below = self.part(DIAPHRAGM_FROM)
        columns = np.flatnonzero(below.any(axis=0))
        top = below[:, columns].argmax(axis=0)
        band = np.zeros(below.shape, bool)
        rows = np.arange(len(below))[:, None]
        band[:, columns] = np.abs(rows - top) <= EDGE
        return band

    def centre(self, label: str) -> tuple[float, float] | None:
        """The (row, column) in the frame of a label that stands for a point; None where it is not seen."""
        part = self.part(label)
        if not part.any():
            return None
        row, column = ndimage.center_of_mass(part)
        return float(row), float(column)

    @property
    def width(self) -> float:
        """Of both lungs together, in columns of the frame: what other lengths are held against."""
        return horizontal_width(self.part("right lung") | self.part("left lung")).pixels

    def at_source(self, mask: Mask) -> Mask:
        """A mask of the frame at the picture's own resolution."""
        return np.asarray(self.box.lift(mask.astype(np.float32)) > 0.5)

    def shift(self) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """From the middle between the clavicles to the trachea, half way down to the carina: two (row, column)."""
        carina = self.centre(CARINA)
        airways, right, left = (self.part(name) for name in ORGANS)
        middle = midpoint_between(right, left)
        if carina is None or middle is None or carina[0] <= middle[0]:
            return None
        row = (middle[0] + carina[0]) / 2
        column = middle_of_row(airways, row)
        return None if column is None else ((row, middle[1]), (row, column))


class ChestStructures:
    """Outlines what is no lung and no heart on a frontal chest radiograph.

    network: to be used instead of the card's weights, in training.
    """

    def __init__(self, device: str = "cpu", card: Card | None = None, network: nn.Module | None = None) -> None:
        self.card = card or packaged_card(CARD)
        self._device, self._network = device, network
        self._segmenter: Once[Segmenter] = Once(self._loaded)

    @property
    def tag(self) -> ExpertTag:
        """Name, version, weights."""
        return self.card.tag

    @property
    def concepts(self) -> tuple[Code, ...]:
        """Airways, clavicles, diaphragm."""
        return AIRWAYS, CLAVICLE, DIAPHRAGM

    def refuses(self, series: Series) -> str | None:
        """Why this series is not a frontal chest radiograph that can be read, in one sentence; None when it may be."""
        return refuses_radiograph(series, self.card)

    def examine(self, series: Series, masks: Masks) -> Sequence[Finding]:
        """What is outlined; all not assessed where no two lungs with a heart between them are seen."""
        read = self.read(np.asarray(series.volume.voxels[0], dtype=np.float32))
        if isinstance(read, str):
            return [Finding("f1", each, Presence.NOT_ASSESSED, self.tag, reason=read) for each in self.concepts]
        found = {name: read.organ(name) for name in ORGANS} | {DIAPHRAGM_FROM: read.diaphragm()}
        return [self._outlined(name, read.at_source(mask), read, series, masks) for name, mask in found.items()]

    def read(self, picture: npt.NDArray[np.float32]) -> Structures | str:
        """What the network sees on a picture (rows, columns) in [0, 1]; in one sentence why nothing is told."""
        outlined, maps, box = self._segmenter().outlined(picture, LUNGS_AND_HEART)
        limits = dict(self.card.calibration)
        for name in ("smallest_lung", "smallest_heart"):  # of the picture, which need not fill the frame
            limits[name] *= box.scale**2 * picture.size / maps[CARINA].size
        if reason := doubt_of_lungs(outlined, limits):
            return reason
        return Structures(maps, {label.name: label.threshold for label in self.card.labels}, box)

    def _outlined(self, name: str, mask: Mask, read: Structures, series: Series, masks: Masks) -> Finding:
        """One organ by its label's name, whose mask (rows, columns) may be empty."""
        label = self.card.label(name)
        concept = DIAPHRAGM if name == DIAPHRAGM_FROM else label.code
        if not mask.any():
            reason = "it could not be outlined"
            return Finding("f1", concept, Presence.NOT_ASSESSED, self.tag, side=label.side, reason=reason)
        region = region_of(series, mask, masks)
        finding = Finding("f1", concept, Presence.PRESENT, self.tag, side=label.side, regions=(region,))
        shift = self._shift(read, series) if concept == AIRWAYS else None
        return replace(finding, measurements=(shift,)) if shift else finding

    def _shift(self, read: Structures, series: Series) -> Measurement | None:
        """How far the trachea lies from the middle; None where it is as near as without anything wrong."""
        shift = read.shift()
        if shift is None:
            return None
        (_, middle), (_, column) = shift
        if abs(column - middle) < self.card.calibration["least_shift"] * read.width:
            return None
        code = LEFTWARD_SHIFT if column > middle else RIGHTWARD_SHIFT
        geometry = series.volume.geometry
        unit, size = (MILLIMETER, geometry.spacing_mm[2]) if geometry.is_calibrated else (PIXEL, 1.0)
        start, stop = read.box.to_source(shift).tolist()
        line = Line(series.uid, (0.0, *start), (0.0, *stop), series.source[0])
        return Measurement(code, abs(stop[1] - start[1]) * size, unit, (line,))

    def _loaded(self) -> Segmenter:
        # Here and not above: naming the expert must not cost the seconds that torch and MONAI take to load.
        from expert_models.segment import Segmenter

        return Segmenter(self.card, self._device, self._network)
