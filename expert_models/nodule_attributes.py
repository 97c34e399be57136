"""What a nodule looks like: how readers would rate its attenuation, calcium, border and suspicion.

Not a network: the nodule is described by simple statistics of its Hounsfield units and of its shape on a 1 mm grid, and
each rating of LIDC-IDRI's readers is a softmax of a linear function of them (multinomial logistic regression). The
ratings are opinions of readers, never pathology. See docs/models/ct-nodule-attributes.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from dicom_io.study import Geometry, Volume
from expert_models import codes
from expert_models.card import Card, checked_weights, packaged_card
from expert_models.ct_axes import Axis, axes_of
from expert_models.ct_grid import OUTSIDE_HU, resample, upright_grid
from expert_models.finding import Attribute, Box, Code

CARD = "ct-nodule-attributes"
SPACING_MM = 1.0
MARGIN_MM = 6.0  # of what lies around the nodule
SOLID_HU = -160.0  # the usual threshold of a solid component (Lee et al., PLoS ONE 2018;13:e0205490)
LEAST_VOXELS = 4

RATINGS = {"texture": 5, "calcification": 2, "spiculation": 5, "lobulation": 5, "margin": 5, "malignancy": 5}
SUSPICIOUS = 4  # of malignancy: moderately (4) or highly (5) suspicious
MARKED = 4  # of spiculation and lobulation: from here on the nodule is called so
QUESTIONS: Mapping[Code, Code] = {  # value -> what it answers
    codes.GROUND_GLASS: codes.ATTENUATION_TYPE,
    codes.PART_SOLID: codes.ATTENUATION_TYPE,
    codes.SOLID: codes.ATTENUATION_TYPE,
    codes.CALCIFIED: codes.CALCIFICATION,
    codes.SPICULATED: codes.BORDER_SHAPE,
    codes.LOBULATED: codes.BORDER_SHAPE,
}

Float64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class NoduleAttributes:
    """The attributes of one marked nodule after the other; weights are read at first use."""

    def __init__(self, card: Card | None = None, heads: Heads | None = None) -> None:
        """heads: to be used instead of the card's weights, in training."""
        self.card = card or packaged_card(CARD)
        self._heads = heads

    @cached_property
    def heads(self) -> Heads:
        """The linear functions."""
        return self._heads or Heads.read(self.card)

    def rate(self, volume: Volume, box: Box, mask: Mask) -> dict[str, Float64]:
        """The probability of each rating, lowest first, by the name of what is rated. mask: of the box's shape."""
        return self.heads.ratings(described(volume, box, mask))

    def stated(self, ratings: Mapping[str, Float64]) -> tuple[Attribute, ...]:
        """What is sure enough to be said: the likeliest value of each question, from its threshold in the card on."""
        thresholds = {label.code: label.threshold for label in self.card.labels}
        likeliest: dict[Code, Attribute] = {}
        for value, probability in values_of(ratings).items():
            question = QUESTIONS[value]
            if question not in likeliest or probability > (likeliest[question].probability or 0.0):
                likeliest[question] = Attribute(question, value, round(probability, 3))
        return tuple(
            each for each in likeliest.values() if (each.probability or 0.0) >= thresholds.get(each.value, 2.0)
        )


@dataclass(frozen=True)
class Heads:
    """One linear function for each rating, of statistics brought to mean 0 and spread 1.

    weights: (statistics + 1, ratings) by name; the last row is the intercept.
    """

    mean: Float64
    scale: Float64
    weights: Mapping[str, Float64]

    @staticmethod
    def read(card: Card) -> Heads:
        """Those of the card. WeightsMismatch when they are missing or others."""
        from safetensors.numpy import load_file

        tensors = {name: value.astype(np.float64) for name, value in load_file(checked_weights(card)).items()}
        return Heads(tensors.pop("mean"), tensors.pop("scale"), tensors)

    def ratings(self, statistics: Float64) -> dict[str, Float64]:
        """The probability of each rating, by name. statistics: (..., statistics) as `described` gives them."""
        inputs = (statistics - self.mean) / self.scale
        found = {}
        for name, weights in self.weights.items():
            scores = inputs @ weights[:-1] + weights[-1]
            powers = np.exp(scores - scores.max(-1, keepdims=True))
            found[name] = powers / powers.sum(-1, keepdims=True)
        return found


def values_of(ratings: Mapping[str, Float64]) -> dict[Code, float]:
    """The probability of every value that might be stated.

    Of LIDC's texture, 1 is ground glass, 3 part-solid and 5 solid; 2 and 4 lie between and count half to each side.
    """
    texture = ratings["texture"]
    return {
        codes.GROUND_GLASS: float(texture[0] + texture[1] / 2),
        codes.PART_SOLID: float(texture[1] / 2 + texture[2] + texture[3] / 2),
        codes.SOLID: float(texture[3] / 2 + texture[4]),
        codes.CALCIFIED: float(ratings["calcification"][1]),
        codes.SPICULATED: float(ratings["spiculation"][MARKED - 1 :].sum()),
        codes.LOBULATED: float(ratings["lobulation"][MARKED - 1 :].sum()),
    }


def suspicion_of(ratings: Mapping[str, Float64]) -> float:
    """The probability that readers would rate it moderately or highly suspicious. No probability of cancer."""
    return float(ratings["malignancy"][SUSPICIOUS - 1 :].sum())


def solid_axis(volume: Volume, box: Box, mask: Mask) -> Axis | None:
    """The longest line across the largest piece above SOLID_HU in the mask; None where there is none.

    The largest diameter of the solid part is what the Fleischner Society asks for in part-solid nodules (Bankier et
    al., Radiology 2017;285:584-600).
    """
    pieces, count = ndimage.label(mask & (volume.voxels[box.slices] > SOLID_HU))
    if not count:
        return None
    sizes = np.bincount(pieces.ravel())[1:]
    return axes_of(pieces == 1 + int(sizes.argmax()), box, volume.geometry)[0]


def described(volume: Volume, box: Box, mask: Mask) -> Float64:
    """The statistics of one nodule, (statistics,), in the order of STATISTICS. ValueError for an empty mask."""
    if not mask.any():
        raise ValueError("an empty mask has no attributes")
    affine = volume.geometry.affine.copy()
    affine[:3, 3] = volume.geometry.to_patient([np.array(box.start) - 1])[0]
    padded = np.pad(mask, 1).astype(np.float32)
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(box.shape) - 1) + np.array(box.start)
    ends_mm = volume.geometry.to_patient(corners)
    grid = upright_grid(volume, SPACING_MM, (ends_mm.min(0) - MARGIN_MM, ends_mm.max(0) + MARGIN_MM))
    hu = resample(volume.voxels, volume.geometry, grid)
    share = resample(padded, Geometry(affine), grid, fill=0.0)
    inside = share > 0.5
    if inside.sum() < LEAST_VOXELS:
        inside = share >= np.sort(share, axis=None)[-LEAST_VOXELS]
    return np.array([*_density(hu, inside), *_shape(inside)])


STATISTICS = (
    "hu_5", "hu_25", "hu_50", "hu_75", "hu_95", "hu_99", "hu_mean", "hu_spread", "core", "core_spread", "rim",
    "near", "near_75", "near_95", "far", "far_95", "core_over_near", "above_-600", "above_-400", "above_-160",
    "above_0", "above_100", "above_200", "above_300", "deep_haze", "deep_solid", "deep_both", "edge", "edge_spread",
    "log_volume", "diameter", "longest", "flatness", "roundness", "solidity", "sphericity", "reach",
)  # fmt: skip


def _density(hu: npt.NDArray[np.float32], inside: Mask) -> list[float]:
    """Hounsfield units inside, at the rim, and around."""
    known = hu > OUTSIDE_HU + 100
    hu = np.clip(hu, -1024.0, 1200.0)
    values = hu[inside]
    depth, distance = (ndimage.distance_transform_edt(each) for each in (inside, ~inside))
    core, rim = hu[depth >= max(1.0, 0.5 * depth.max())], hu[inside & (depth <= 1.0)]
    near, far = (_or_air(hu[known & (distance > low) & (distance <= high)]) for low, high in ((0.0, 2.0), (2.0, 5.0)))
    deep = hu[depth > 1.5] if (depth > 1.5).any() else core  # away from the blurred edge
    haze, solid = float((deep < -300.0).mean()), float((deep > SOLID_HU).mean())
    slope = ndimage.gaussian_gradient_magnitude(hu, 0.7)[known & (np.where(inside, depth, distance) <= 1.0)]
    return [
        *(float(np.percentile(values, each)) for each in (5, 25, 50, 75, 95, 99)),
        *(float(each) for each in (values.mean(), values.std(), core.mean(), core.std(), rim.mean())),
        *(float(each) for each in (near.mean(), np.percentile(near, 75), np.percentile(near, 95))),
        *(float(each) for each in (far.mean(), np.percentile(far, 95), core.mean() - near.mean())),
        *(float((values > each).mean()) for each in (-600, -400, -160, 0, 100, 200, 300)),
        haze, solid, 4 * haze * solid, float(slope.mean()), float(slope.std()),
    ]  # fmt: skip


def _or_air(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Where the scan ends at the nodule, aerated lung is assumed around it."""
    return values if values.size else np.array([-800.0], np.float32)


def _shape(inside: Mask) -> list[float]:
    """Size and form, in mm."""
    voxels = float(inside.sum())
    places = np.argwhere(inside).astype(float) * SPACING_MM
    spread = np.sqrt(np.linalg.eigvalsh(np.cov(places.T) + np.eye(3) * SPACING_MM**2 / 12))  # smallest first
    corners = (places[:, None] + (np.array(list(np.ndindex(2, 2, 2))) - 0.5)[None] * SPACING_MM).reshape(-1, 3)
    try:
        hull = ConvexHull(corners).volume
    except QhullError as exc:
        raise ValueError("the mask has no volume") from exc
    padded = np.pad(inside, 1).astype(np.int8)
    surface = float(sum(np.abs(np.diff(padded, axis=axis)).sum() for axis in range(3)))
    diameter = (6 * voxels / np.pi) ** (1 / 3)
    reach = np.linalg.norm(places - places.mean(0), axis=1).max() / diameter
    return [
        float(np.log(voxels)), diameter, float(spread[2]), float(spread[0] / spread[2]), float(spread[1] / spread[2]),
        voxels / hull, (36 * np.pi * voxels**2) ** (1 / 3) / surface, float(reach),
    ]  # fmt: skip
