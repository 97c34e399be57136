"""The findings network on one picture: scores for each side of the chest, and where on it they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional

from expert_models.card import Card
from expert_models.once import Once
from expert_models.preprocess import Letterbox, network_input
from expert_models.runtime import Run
from expert_models.segment import loaded_runner

Mask = npt.NDArray[np.bool_]  # (rows, columns)
Float32 = npt.NDArray[np.float32]

MARGIN = 0.06  # of the lungs' width: how far beyond the outlined lungs pleura, and fluid that hides the lung, may lie
MOST_REGIONS = 3  # of one finding on one side
LEAST_SHARE = 0.2  # of the largest region's evidence, below which a further one is not told


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What the network says of one picture.

    scores: by label, one logit for the right and one for the left; not probabilities. maps: by label, (H, W) in the
    frame, in [0, 1]. threshold: of the maps. halves: the right and the left half of the chest in the frame, (2, H, W).
    box: the way back.
    """

    scores: Mapping[str, tuple[float, float]]
    maps: Mapping[str, Float32]
    threshold: float
    halves: Mask
    box: Letterbox

    def regions(self, label: str, sides: Sequence[int]) -> list[Mask]:
        """Where a label is seen on the sides (0 right, 1 left), as masks (rows, columns) of the picture, largest first.

        Within each half of the chest: where the map is above the threshold, or above half of its height there.
        Never empty: what was found was found somewhere.
        """
        regions: list[Mask] = []
        for side in sides:
            shown = np.where(self.halves[side], self.maps[label], 0).astype(np.float32)
            threshold = min(self.threshold, 0.5 * float(shown.max()))
            for part in _parts(shown, threshold):
                # The edge between two frame pixels is placed by the map's height, as on the frame itself.
                lifted = self.box.lift(np.where(part, np.maximum(shown, threshold), 0).astype(np.float32))
                mask = lifted >= threshold
                if mask.any():
                    regions.append(mask)
        return regions


class FindingsReader:
    """The card's network, loaded at first use and kept; safe to call from several threads.

    network: to be used instead of the card's weights, in training.
    """

    def __init__(self, card: Card, device: str = "cpu", network: nn.Module | None = None) -> None:
        self.card = card
        self.device = device
        self._run: Once[Run] = Once(lambda: network or loaded_runner(card, device))

    def read(self, picture: Float32, right_lung: Mask, left_lung: Mask) -> Reading:
        """Read a picture (rows, columns) in [0, 1] whose lungs are outlined, masks of the same shape."""
        rows, columns = self.card.input.size
        frame, box = network_input(picture, (rows, columns))
        halves = halves_of_chest(*(box.lay(lung.astype(np.float32)) > 0.5 for lung in (right_lung, left_lung)))
        with torch.inference_mode():
            maps, scores = self._run()(
                torch.from_numpy(np.ascontiguousarray(frame))[None, None].to(self.device),
                torch.from_numpy(halves[None]).float().to(self.device),
            )
            maps = functional.interpolate(maps.float(), size=(rows, columns), mode="bilinear")
        shown = torch.sigmoid(maps[0]).cpu().numpy()
        answers = scores[0].float().cpu().numpy()
        names = [label.name for label in self.card.labels]
        return Reading(
            scores={name: (float(right), float(left)) for name, (right, left) in zip(names, answers, strict=True)},
            maps=dict(zip(names, shown, strict=True)),
            threshold=self.card.calibration["map_threshold"],
            halves=halves,
            box=box,
        )


def halves_of_chest(right_lung: Mask, left_lung: Mask) -> Mask:
    """The halves of the chest (2, rows, columns), right and left, of outlined lungs that are not empty.

    Each is the box around its lung with a margin, down to the lower of both lungs, since fluid shortens what can be
    outlined; between the two, what is nearer to one lung is of its half.
    """
    lungs = (right_lung, left_lung)
    spans = [[np.flatnonzero(lung.any(axis=axis)) for axis in (1, 0)] for lung in lungs]
    across = np.flatnonzero((right_lung | left_lung).any(axis=0))
    margin = max(1, round(MARGIN * (across[-1] - across[0])))
    lowest = max(int(rows[-1]) for rows, _ in spans)
    distance = [ndimage.distance_transform_edt(~lung) for lung in lungs]
    halves = np.zeros((2, *right_lung.shape), bool)
    for side, (rows, columns) in enumerate(spans):
        place = (
            slice(max(0, int(rows[0]) - margin), lowest + margin + 1),
            slice(max(0, int(columns[0]) - margin), int(columns[-1]) + margin + 1),
        )
        halves[side][place] = (distance[side] <= distance[1 - side])[place]
    halves[1] &= ~halves[0]
    return halves


def _parts(shown: Float32, threshold: float) -> list[Mask]:
    """Connected parts above the threshold, the one with most evidence first; at most MOST_REGIONS that count."""
    numbered, count = ndimage.label(shown >= threshold)
    if not count:
        return []
    weights = np.bincount(numbered.ravel(), shown.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-weights)[:MOST_REGIONS]
    return [numbered == number + 1 for number in order if weights[number] >= LEAST_SHARE * weights[order[0]]]
