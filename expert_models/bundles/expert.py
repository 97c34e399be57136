"""Experts that outline: what each channel holds is measured and coded. A MONAI bundle is one, by its card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_io.study import Modality, Series, Volume
from expert_models.bundles.card import Channel
from expert_models.bundles.shelf import Added, read_added
from expert_models.codes import (
    HOUNSFIELD_UNIT,
    IMAGED_VOLUME,
    LONG_AXIS,
    MEAN_ATTENUATION,
    MILLILITER,
    MILLIMETER,
    SHORT_AXIS,
    VOLUME,
)
from expert_models.ct_axes import Axis, axes_of
from expert_models.finding import Box, Code, ExpertTag, Finding, Line, Measurement, Presence, Region
from expert_models.once import Once
from expert_models.ports import Masks

if TYPE_CHECKING:
    from expert_models.bundles.run import Outlined

MOST_LISTED = 10
LEAST_SLICES = 3  # below it a CT is no volume
AROUND = np.ones((3, 3, 3), bool)

Mask = npt.NDArray[np.bool_]


class Outlines(Protocol):
    """What outlines a CT: a bundle's pipeline, or another maker's package."""

    def outline(self, volume: Volume) -> Outlined:
        """Its answer on the voxels of a CT in HU."""


class OutliningExpert:
    """An expert that outlines: each channel is an organ or a lesion, measured and coded."""

    def __init__(self, tag: ExpertTag, channels: Sequence[Channel], load: Callable[[], Outlines]) -> None:
        """load: called once, at the first examination."""
        self._tag = tag
        self._channels = tuple(channels)
        self._pipeline = Once(load)

    @property
    def tag(self) -> ExpertTag:
        """The name on the shelf, the version, the weights."""
        return self._tag

    @property
    def concepts(self) -> tuple[Code, ...]:
        """Every concept once, in order."""
        return tuple(dict.fromkeys(channel.code for channel in self._channels))

    def refuses(self, series: Series) -> str | None:
        """Anything but CT, and what is too thin to be a volume."""
        if series.modality is not Modality.CT:
            return f"the modality {series.modality.value} is not CT"
        if series.volume.shape[0] < LEAST_SLICES:
            return f"the CT has only {series.volume.shape[0]} slices"
        return None

    def prepare(self) -> None:
        """Check that no file has changed, build the network and load its weights."""
        self._pipeline()

    def examine(self, series: Series, masks: Masks) -> Sequence[Finding]:
        """Each channel, in its order. An organ that is not seen is not assessed; a lesion is absent."""
        outlined = self._pipeline().outline(series.volume)
        found: list[Finding] = []
        for channel in self._channels:
            mask = outlined.mask(channel.number, channel.threshold)
            found += (
                self._organ(channel, mask, series, masks)
                if channel.is_organ
                else self._lesions(channel, mask, series, masks)
            )
        return found

    def _organ(self, channel: Channel, mask: Mask, series: Series, masks: Masks) -> list[Finding]:
        if not mask.any():
            reason = f"{self.tag.name} does not see it in this scan"
            return [Finding("f1", channel.code, Presence.NOT_ASSESSED, self.tag, side=channel.side, reason=reason)]
        return [self._finding(channel, mask, series, masks)]

    def _lesions(self, channel: Channel, mask: Mask, series: Series, masks: Masks) -> list[Finding]:
        """The largest pieces that touch one another by no corner, and how many more there are."""
        numbered, count = ndimage.label(mask, AROUND)
        voxels = np.bincount(numbered.ravel(), minlength=count + 1)
        voxels[0] = 0
        large = np.flatnonzero(voxels * series.volume.geometry.voxel_ml >= channel.smallest_ml)
        large = large[np.argsort(-voxels[large], kind="stable")]
        found = [self._finding(channel, numbered == piece, series, masks) for piece in large[:MOST_LISTED]]
        if not found:
            return [Finding("f1", channel.code, Presence.ABSENT, self.tag, side=channel.side)]
        if large.size > MOST_LISTED:
            reason = f"{large.size - MOST_LISTED} more, all smaller, are not listed one by one"
            found.append(Finding("f1", channel.code, Presence.NOT_ASSESSED, self.tag, side=channel.side, reason=reason))
        return found

    def _finding(self, channel: Channel, mask: Mask, series: Series, masks: Masks) -> Finding:
        slices, rows, columns = (np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1)))
        start = int(slices[0]), int(rows[0]), int(columns[0])
        box = Box(start, (int(slices[-1]) + 1, int(rows[-1]) + 1, int(columns[-1]) + 1))
        inside = mask[box.slices]
        best = box.start[0] + int(inside.sum(axis=(1, 2)).argmax())
        region = Region(series.uid, box, series.source[best], masks.save(inside))
        return Finding(
            "f1",
            channel.code,
            Presence.PRESENT,
            self.tag,
            side=channel.side,
            regions=(region,),
            measurements=self._measured(channel, inside, box, series),
        )

    def _measured(self, channel: Channel, mask: Mask, box: Box, series: Series) -> tuple[Measurement, ...]:
        """What the card asks for. The volume of what the first or last slice cuts off is never called a whole one's."""
        geometry = series.volume.geometry
        is_cut = box.start[0] == 0 or box.stop[0] == series.volume.shape[0]
        made: list[Measurement] = []
        axes = axes_of(mask, box, geometry) if {"long_axis", "short_axis"} & set(channel.measures) else None
        for name in channel.measures:
            match name:
                case "volume":
                    volume_ml = float(mask.sum()) * geometry.voxel_ml
                    made.append(Measurement(IMAGED_VOLUME if is_cut else VOLUME, round(volume_ml, 3), MILLILITER))
                case "mean_attenuation":
                    mean_hu = float(series.volume.voxels[box.slices][mask].mean())
                    made.append(Measurement(MEAN_ATTENUATION, round(mean_hu, 1), HOUNSFIELD_UNIT))
                case "long_axis" | "short_axis" if axes is not None:
                    axis, code = (axes[0], LONG_AXIS) if name == "long_axis" else (axes[1], SHORT_AXIS)
                    made.append(_length(code, axis, series))
        return tuple(made)


class BundleExpert(OutliningExpert):
    """The expert in one folder of the shelf. Its files are read now, its weights at the first examination."""

    def __init__(self, folder: str, device: str = "cpu") -> None:
        """Raises BundleRefused or CardInvalid when the folder does not hold what was added."""
        self._added: Added = read_added(Path(folder))
        self._device = device
        super().__init__(self._added.tag, self._added.card.channels, self._loaded)

    def _loaded(self) -> Outlines:
        from expert_models.bundles.run import Pipeline

        added, is_trusted = self._added, self._added.record.is_trusted
        added.check_files()
        return Pipeline(added.layout, added.card.settings, self._device, is_trusted=is_trusted)


def _length(code: Code, axis: Axis, series: Series) -> Measurement:
    line = Line(series.uid, axis.start, axis.stop, series.source[int(axis.start[0])])
    return Measurement(code, round(axis.length_mm, 1), MILLIMETER, (line,))
