"""Chest CT but for nodules: effusion, pneumothorax, consolidation.

A three-dimensional MONAI network outlines them on a coarse upright grid; `ct_chest_parts` holds what it saw against the
attenuation and against lungs found without it; `ct_chest_sizes` measures. The network learned from phantoms, and no
real scan with such a lesion was at hand to measure it on: a strong sign alone is told, as possible, and what is not
seen is not called absent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dicom_io.study import Series, Volume
from expert_models.card import Card, packaged_card
from expert_models.codes import (
    CARDIAC_DIAMETER,
    CARDIOTHORACIC_RATIO,
    CONSOLIDATION,
    EFFUSION_DEPTH,
    HEART,
    LUNG,
    MILLILITER,
    MILLIMETER,
    PERCENT,
    PLEURA,
    PLEURAL_EFFUSION,
    PNEUMOTHORAX,
    RATIO,
    SHARE_OF_LUNG,
    THORACIC_DIAMETER,
    VOLUME,
)
from expert_models.ct_chest_network import CARD, logits_on
from expert_models.ct_chest_parts import FLOOR, LESIONS, SIDES, Lesion, Parts, chest_grid, largest, parts_of
from expert_models.ct_chest_sizes import (
    Length,
    effusion_depth,
    greatest_width,
)
from expert_models.ct_emphysema import CUT_MM2
from expert_models.ct_grid import OUTSIDE_HU, Grid, on_source, resample
from expert_models.ct_lungs import NO_LUNGS, Lungs, find_lungs, refuses_ct
from expert_models.finding import Code, ExpertTag, Finding, Line, Measurement, Presence, Region, Side
from expert_models.once import Once
from expert_models.ports import Masks

if TYPE_CHECKING:
    from torch import nn

    from expert_models.runtime import Run

CONCEPTS = {"effusion": PLEURAL_EFFUSION, "pneumothorax": PNEUMOTHORAX, "consolidation": CONSOLIDATION}
UNTOLD = "a mass could not be told from it"
UNPROVEN = "no strong sign is seen, and how often the expert misses one on real scans is not known"
UNREAD = Presence.NOT_ASSESSED
STEEP = 2.0  # logits are cut to this before a mask is placed, so that its edge lies between voxels

Float32 = npt.NDArray[np.float32]


class CtChest:
    """The expert: what is in the pleura and the lungs."""

    def __init__(self, device: str = "cpu", card: Card | None = None, network: nn.Module | None = None) -> None:
        """network: to be used instead of the card's weights, in training; else those are loaded at first use."""
        self._card = card or packaged_card(CARD)
        self._device = device
        self._run: Once[Run] = Once(lambda: network or self._loaded())

    @property
    def tag(self) -> ExpertTag:
        """Name, version, weights."""
        return self._card.tag

    @property
    def concepts(self) -> tuple[Code, ...]:
        """Effusion, pneumothorax, consolidation."""
        return tuple(CONCEPTS.values())

    def refuses(self, series: Series) -> str | None:
        """Anything but CT, and what is too thin to be a volume."""
        return refuses_ct(series)

    def examine(self, series: Series, masks: Masks) -> Sequence[Finding]:
        """What was seen in pleura and lungs on either side."""
        lungs = find_lungs(series.volume)
        if not lungs.sides:
            return [self._unanswered(concept, NO_LUNGS) for concept in self.concepts]
        return self.findings(self.look(series.volume, lungs), series, masks)

    def findings(self, parts: Parts, series: Series, masks: Masks) -> Sequence[Finding]:
        """What is told of what was seen on a series."""
        if parts.doubt:
            return [self._unanswered(concept, parts.doubt) for concept in self.concepts]
        return list(self._lesions(parts, series, masks))

    def look(self, volume: Volume, lungs: Lungs) -> Parts:
        """What the network sees around these lungs, after the rules."""
        grid = chest_grid(volume, lungs, self._card.input.spacing_mm[0])
        hu = resample(volume.voxels, volume.geometry, grid)
        logits = logits_on(hu, self._run(), self._card, self._device)
        return parts_of(grid, hu, {label.name: logits[k] for k, label in enumerate(self._card.labels)}, lungs)

    def presence(self, name: str, lesion: Lesion) -> Presence:
        """INDETERMINATE from the score on that the card calls an alarm, where it has an outline; else NOT_ASSESSED."""
        alarm = self._card.calibration.get(f"{name}_alarm")
        is_strong = alarm is not None and lesion.score >= alarm and lesion.volume_ml > 0
        return Presence.INDETERMINATE if is_strong else Presence.NOT_ASSESSED

    def _lesions(self, parts: Parts, series: Series, masks: Masks) -> Iterator[Finding]:
        for name in LESIONS:
            strong = [side for side in SIDES if self.presence(name, parts.lesions[name, side]) is not UNREAD]
            for side in SIDES if strong else ():
                if side in strong:
                    yield self._lesion(name, side, parts, series, masks)
                else:
                    yield self._unanswered(CONCEPTS[name], UNPROVEN, side)
            if not strong:
                is_told = f"{name}_alarm" in self._card.calibration
                yield self._unanswered(CONCEPTS[name], UNPROVEN if is_told else UNTOLD)

    def _lesion(self, name: str, side: Side, parts: Parts, series: Series, masks: Masks) -> Finding:
        lesion = parts.lesions[name, side]
        region, volume_ml = outlined(lesion.logits, parts.grid, series, masks)
        measurements = tuple(_of_lesion(name, side, lesion, volume_ml, parts, series))
        return Finding(
            "f1", CONCEPTS[name], Presence.INDETERMINATE, self.tag, None, side,
            LUNG if name == "consolidation" else PLEURA, (region,), measurements,
        )  # fmt: skip

    def heart(self, parts: Parts, series: Series, masks: Masks) -> Finding:
        """The heart's outline and width: scored, and not reported, since on a real scan it ran into the liver."""
        heart = only_largest(between_cavities(parts.logits["heart"], parts))
        if not (heart > 0).any():
            return self._unanswered(HEART, "no heart could be outlined")
        region, _ = outlined(heart, parts.grid, series, masks)
        widths = () if is_cut(heart, parts.grid) else heart_width(heart, parts, series)
        return Finding("f1", HEART, Presence.PRESENT, self.tag, regions=(region,), measurements=widths)

    def _unanswered(self, concept: Code, reason: str, side: Side | None = None) -> Finding:
        return Finding("f1", concept, Presence.NOT_ASSESSED, self.tag, side=side, reason=reason)

    def _loaded(self) -> Run:
        from expert_models.segment import loaded_runner

        return loaded_runner(self._card, self._device)


def outlined(logits: Float32, grid: Grid, series: Series, masks: Masks) -> tuple[Region, float]:
    """Where logits on a grid are above 0, as a region of the series, and its volume in mL."""
    box, native = on_source(np.clip(logits, -STEEP, STEEP), 0.0, grid, series.volume)
    number = box.start[0] + int(native.sum((1, 2)).argmax())
    region = Region(series.uid, box, series.source[number], masks.save(native))
    return region, float(native.sum()) * series.volume.geometry.voxel_ml


def between_cavities(logits: Float32, parts: Parts) -> Float32:
    """Logits with FLOOR in front of and behind both pleural cavities of each slice: the chest wall is no heart."""
    inside = np.asarray((parts.cavity(Side.RIGHT) | parts.cavity(Side.LEFT)).any(axis=2))
    behind_first = np.maximum.accumulate(inside, axis=1)
    before_last = np.maximum.accumulate(inside[:, ::-1], axis=1)[:, ::-1]
    between = np.logical_and(behind_first, before_last, dtype=bool)
    return np.where(np.expand_dims(between, 2), logits, np.float32(FLOOR))


def only_largest(logits: Float32) -> Float32:
    """Logits with FLOOR wherever they are above 0 outside their largest connected piece."""
    return np.where((logits > 0) & ~largest(logits > 0), np.float32(FLOOR), logits)


def is_cut(logits: Float32, grid: Grid) -> bool:
    """Whether a shape goes on beyond the first or last slice of the grid."""
    area_mm2 = grid.geometry.spacing_mm[1] * grid.geometry.spacing_mm[2]
    return float(max((logits[0] > 0).sum(), (logits[-1] > 0).sum())) * area_mm2 > CUT_MM2


def heart_width(heart: Float32, parts: Parts, series: Series) -> tuple[Measurement, ...]:
    """Both diameters and their ratio, as `greatest_width` reads them; nothing of a scan narrower than the chest."""
    chest = np.maximum(parts.logits["right thorax"], parts.logits["left thorax"])
    inside = parts.cavity(Side.RIGHT) | parts.cavity(Side.LEFT)
    cardiac = greatest_width(heart, parts.grid)
    thoracic = greatest_width(np.where((chest > 0) & ~inside, np.float32(FLOOR), chest), parts.grid)
    if cardiac is None or thoracic is None or _is_narrow(inside, parts):
        return ()
    lines = (_line(cardiac, series), _line(thoracic, series))
    return (
        _measured(CARDIAC_DIAMETER, cardiac, series),
        _measured(THORACIC_DIAMETER, thoracic, series),
        Measurement(CARDIOTHORACIC_RATIO, round(cardiac.length_mm / thoracic.length_mm, 3), RATIO, lines),
    )


def _is_narrow(inside: npt.NDArray[np.bool_], parts: Parts) -> bool:
    """Whether the chest cavities reach a side of the field of view, so that their width is not the chest's."""
    seen = np.flatnonzero((parts.hu > OUTSIDE_HU + 1).any((0, 1)))
    outermost = inside[:, :, [seen[0], seen[-1]]]
    return bool(outermost.any())


def _of_lesion(
    name: str, side: Side, lesion: Lesion, volume_ml: float, parts: Parts, series: Series
) -> Iterator[Measurement]:
    if name != "pneumothorax":  # whose volume was too small by half on phantoms: thin air is lost on a coarse grid
        yield Measurement(VOLUME, round(volume_ml, 1), MILLILITER)
    if name == "effusion":
        depth = effusion_depth(lesion.logits, parts.cavity(side), parts.grid)
        if depth is not None:
            yield _measured(EFFUSION_DEPTH, depth, series)
    elif name == "consolidation":
        lung_ml = lung_volume_ml(parts, side)
        if lung_ml > 0:
            yield Measurement(SHARE_OF_LUNG, round(min(100.0, 100.0 * volume_ml / lung_ml), 1), PERCENT)


def lung_volume_ml(parts: Parts, side: Side) -> float:
    """The volume of a lung, airless parts included: its cavity less the fluid and air around it."""
    around = np.logical_or(*(parts.lesions[name, side].logits > 0 for name in ("effusion", "pneumothorax")))
    return float((parts.cavity(side) & ~around).sum()) * parts.grid.geometry.voxel_ml


def _measured(code: Code, length: Length, series: Series) -> Measurement:
    return Measurement(code, round(length.length_mm, 1), MILLIMETER, (_line(length, series),))


def _line(length: Length, series: Series) -> Line:
    start, stop = series.volume.geometry.to_index([length.start_mm, length.stop_mm])
    number = int(np.clip(round(float(start[0] + stop[0]) / 2), 0, len(series.source) - 1))
    return Line(series.uid, _index(start), _index(stop), series.source[number])


def _index(place: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    return float(place[0]), float(place[1]), float(place[2])
