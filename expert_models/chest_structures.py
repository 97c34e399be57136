"""The structures expert: airways, clavicles, ribs and diaphragm on a frontal chest radiograph, tubes, lines, implants.

Nearly all that it knows comes from phantoms, so that a device is only ever told as possible, and only where its sign is
stronger than on films without it. Where an endotracheal tube ends is measured from the carina, the trachea from the
middle between the clavicles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    ENDOTRACHEAL_TUBE,
    LEFTWARD_SHIFT,
    LINES_AND_DEVICES,
    MILLIMETER,
    PIXEL,
    RIB,
    RIGHTWARD_SHIFT,
    TIP_ABOVE_CARINA,
)
from expert_models.finding import Code, ExpertTag, Finding, Line, Measurement, Presence
from expert_models.input_check import refuses_radiograph
from expert_models.measure import Mask, middle_of_row, midpoint_between
from expert_models.once import Once
from expert_models.ports import Masks

if TYPE_CHECKING:
    from torch import nn

    from expert_models.preprocess import Letterbox
    from expert_models.segment import Segmenter

CARD = "cxr-structures"
LUNGS_AND_HEART = ("right lung", "left lung", "heart")
ORGANS = ("airways", "right clavicle", "left clavicle", "ribs")
DIAPHRAGM_FROM = "abdomen"  # whose upper edge it is
CARINA = "carina"
DEVICES = (
    "endotracheal tube",
    "nasogastric tube",
    "central line",
    "chest drain",
    "pacemaker",
    "sternal wires",
    "ECG leads",
)
LEAST_ORGAN = 20  # pixels of the frame that an outline must have
EDGE = 1.5  # frame pixels to either side of the diaphragm's line
SIGN_PIXELS = 60  # of the frame: the surest ones, whose mean is a device's score; a thin line of 6 cm has as many
SPECK = 12  # frame pixels below which a part of a device is left out

UNTOLD = (
    "the network learned devices from phantoms alone, so only strong signs of one are told, as possible; none was seen"
)


@dataclass(frozen=True, slots=True, eq=False)
class Structures:
    """One picture read. maps: (H, W) in [0, 1] by label, in the frame. box: the way back."""

    maps: dict[str, npt.NDArray[np.float32]]
    box: Letterbox

    def score(self, device: str) -> float:
        """How strong the sign of a device is, in [0, 1]."""
        return float(np.sort(self.maps[device], axis=None)[-SIGN_PIXELS:].mean())

    def mask(self, label: str) -> Mask:
        """Where a structure is in the frame, without specks."""
        numbered, _ = ndimage.label(self.maps[label] > 0.5, np.ones((3, 3)))
        sizes = np.bincount(numbered.ravel())
        sizes[0] = 0
        return np.asarray((sizes >= SPECK)[numbered])

    def diaphragm(self) -> Mask:
        """The upper edge of the abdomen in the frame, as a band."""
        below = self.mask(DIAPHRAGM_FROM)
        columns = np.flatnonzero(below.any(axis=0))
        top = below[:, columns].argmax(axis=0)
        band = np.zeros(below.shape, bool)
        rows = np.arange(len(below))[:, None]
        band[:, columns] = np.abs(rows - top) <= EDGE
        return band

    def point(self, label: str) -> tuple[float, float] | None:
        """The (row, column) in the frame of a label that stands for a point; None where it is not seen."""
        shown = np.where(self.mask(label), self.maps[label], 0)
        if not shown.any():
            return None
        row, column = ndimage.center_of_mass(shown)
        return float(row), float(column)

    def at_source(self, mask: Mask) -> Mask:
        """A mask of the frame at the picture's own resolution."""
        return np.asarray(self.box.lift(mask.astype(np.float32)) > 0.5)


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
        """Airways, clavicles, ribs, diaphragm, and lines and devices as a whole."""
        return AIRWAYS, CLAVICLE, RIB, DIAPHRAGM, LINES_AND_DEVICES

    def refuses(self, series: Series) -> str | None:
        """Why this series is not a frontal chest radiograph that can be read, in one sentence; None when it may be."""
        return refuses_radiograph(series, self.card)

    def examine(self, series: Series, masks: Masks) -> Sequence[Finding]:
        """What is outlined and what may be there; all not assessed where no two lungs and a heart are seen."""
        read = self.read(np.asarray(series.volume.voxels[0], dtype=np.float32))
        if isinstance(read, str):
            return [Finding("f1", each, Presence.NOT_ASSESSED, self.tag, reason=read) for each in self.concepts]
        devices = list(self._devices(read, series, masks))
        untold = Finding("f1", LINES_AND_DEVICES, Presence.NOT_ASSESSED, self.tag, reason=UNTOLD)
        return [*self._organs(read, series, masks), *(devices or [untold])]

    def read(self, picture: npt.NDArray[np.float32]) -> Structures | str:
        """What the network sees on a picture (rows, columns) in [0, 1]; in one sentence why nothing is told."""
        outlined, maps, box = self._segmenter().outlined(picture, LUNGS_AND_HEART)
        if reason := doubt_of_lungs(outlined, self.card.calibration):
            return reason
        return Structures(maps, box)

    def is_told(self, read: Structures, device: str) -> bool:
        """Whether the sign of a device is strong enough to tell it."""
        return read.score(device) >= self.card.calibration[f"{device.lower().replace(' ', '_')}_alarm"]

    def _organs(self, read: Structures, series: Series, masks: Masks) -> Iterator[Finding]:
        found = {name: read.mask(name) for name in ORGANS} | {DIAPHRAGM_FROM: read.diaphragm()}
        for name, mask in found.items():
            label = self.card.label(name)
            concept = DIAPHRAGM if name == DIAPHRAGM_FROM else label.code
            at_source = read.at_source(mask)
            if mask.sum() < LEAST_ORGAN or not at_source.any():
                yield self._unseen(concept, f"no {name} could be outlined")
                continue
            region = region_of(series, at_source, masks)
            finding = Finding("f1", concept, Presence.PRESENT, self.tag, side=label.side, regions=(region,))
            shift = self._shift(read, series) if concept == AIRWAYS else None
            yield replace(finding, measurements=(shift,)) if shift else finding

    def _unseen(self, concept: Code, reason: str) -> Finding:
        return Finding("f1", concept, Presence.NOT_ASSESSED, self.tag, reason=reason)

    def _devices(self, read: Structures, series: Series, masks: Masks) -> Iterator[Finding]:
        for name in DEVICES:
            if not self.is_told(read, name):
                continue
            at_source = read.at_source(read.mask(name))
            if not at_source.any():
                continue
            code = self.card.label(name).code
            finding = Finding(
                "f1", code, Presence.INDETERMINATE, self.tag, regions=(region_of(series, at_source, masks),)
            )
            tip = self._tip(read, series) if code == ENDOTRACHEAL_TUBE else None
            yield replace(finding, measurements=(tip,)) if tip else finding

    def _shift(self, read: Structures, series: Series) -> Measurement | None:
        """How far the trachea lies from the middle between the clavicles, half way from them to the carina."""
        carina = read.point(CARINA)
        airways, right, left = (read.mask(name) for name in ORGANS[:3])
        middle = midpoint_between(right, left)
        if carina is None or middle is None:
            return None
        row = (middle[0] + carina[0]) / 2
        column = middle_of_row(airways, row)
        if column is None:
            return None
        code = LEFTWARD_SHIFT if column > middle[1] else RIGHTWARD_SHIFT
        return self._length(read, series, code, (row, middle[1]), (row, column))

    def _tip(self, read: Structures, series: Series) -> Measurement | None:
        """How far above the carina an endotracheal tube ends."""
        carina, tube = read.point(CARINA), read.mask(DEVICES[0])
        if carina is None or not tube.any():
            return None
        lowest = int(np.flatnonzero(tube.any(axis=1))[-1])
        column = float(np.flatnonzero(tube[lowest]).mean())
        made = self._length(read, series, TIP_ABOVE_CARINA, (lowest, column), (carina[0], column))
        return replace(made, value=-made.value) if lowest > carina[0] else made

    def _length(
        self, read: Structures, series: Series, code: Code, start: tuple[float, float], stop: tuple[float, float]
    ) -> Measurement:
        """A length between two points of the frame, in mm where the spacing is known and in pixels where it is not."""
        ends = read.box.to_source([start, stop])
        geometry = series.volume.geometry
        unit, size = (MILLIMETER, geometry.spacing_mm[1:]) if geometry.is_calibrated else (PIXEL, (1.0, 1.0))
        (a, b), (c, d) = ends.tolist()
        line = Line(series.uid, (0.0, a, b), (0.0, c, d), series.source[0])
        return Measurement(code, float(np.hypot((a - c) * size[0], (b - d) * size[1])), unit, (line,))

    def _loaded(self) -> Segmenter:
        # Here and not above: naming the expert must not cost the seconds that torch and MONAI take to load.
        from expert_models.segment import Segmenter

        return Segmenter(self.card, self._device, self._network)
