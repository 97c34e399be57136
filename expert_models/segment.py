"""The two-dimensional segmentation network: built from its card, its weights checked, run on one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from scipy import ndimage
from torch import nn

from expert_models.card import Card, checked_weights, imported
from expert_models.errors import CardInvalid, WeightsMismatch
from expert_models.measure import dice
from expert_models.once import Once
from expert_models.preprocess import Letterbox, network_input
from expert_models.runtime import Run, runner


def build_network(card: Card) -> nn.Module:
    """The network that a card describes, with random weights."""
    network: Any = imported(card.network)
    try:
        built: nn.Module = network(**card.arguments)
    except (TypeError, ValueError) as exc:
        raise CardInvalid(f"the card {card.name} gives {card.network} arguments it does not take: {exc}") from exc
    return built


def load_network(card: Card, device: str = "cpu") -> nn.Module:
    """The network with the card's weights, in float32, ready to infer.

    Weights may be stored in half precision. WeightsMismatch when the file is not the one the card names or does not
    fit the network.
    """
    network = build_network(card)
    tensors = load_file(checked_weights(card))
    try:
        network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except RuntimeError as exc:
        raise WeightsMismatch(f"the weights of {card.name} do not fit the network its card describes") from exc
    return network.to(device).eval()


def loaded_runner(card: Card, device: str = "cpu") -> Run:
    """The card's network with its weights, on the runtime that is chosen; raises as `load_network` and `runner` do."""
    return runner(load_network(card, device), device)


Frame = npt.NDArray[np.float32]  # (rows, columns) of the network's input
SMALLER = 0.8  # of a second look at every picture: anatomy is outlined alike at both sizes, imagined anatomy is not


@dataclass(frozen=True, slots=True)
class Segmented:
    """Cleaned masks of one picture, (rows, columns) bool by label, and how sure the network was inside each."""

    masks: Mapping[str, npt.NDArray[np.bool_]]
    confidence: Mapping[str, float]  # mean probability inside the mask, 0 for an empty one
    agreement: Mapping[str, float]  # Dice of the outlines of the picture and of its smaller copy


class Segmenter:
    """A card's network, loaded at first use and kept; safe to call from several threads.

    network: to be used instead of the card's weights, in training.
    """

    def __init__(self, card: Card, device: str = "cpu", network: nn.Module | None = None) -> None:
        self.card = card
        self.device = device
        self._run: Once[Run] = Once(lambda: network or loaded_runner(card, device))

    def segment(self, picture: npt.NDArray[np.float32]) -> Segmented:
        """Masks of a picture (rows, columns) in [0, 1], at the picture's own resolution."""
        outlined, maps, box = self.outlined(picture, [label.name for label in self.card.labels])
        masks = {
            name: _at_source(maps[name], mask, self.card.label(name).threshold, box)
            for name, mask in outlined.masks.items()
        }
        return Segmented(masks, outlined.confidence, outlined.agreement)

    def outlined(
        self, picture: npt.NDArray[np.float32], names: Sequence[str]
    ) -> tuple[Segmented, dict[str, Frame], Letterbox]:
        """A picture (rows, columns) in [0, 1] in the network's frame: cleaned masks of the labels of these names, the
        probabilities of all labels by name, each the mean of the picture and its smaller copy, and the way back.
        """
        rows, columns = self.card.input.size
        frame, box = network_input(picture, (rows, columns))
        first, second = self.probabilities(frame), resized(self.probabilities(resized(frame, SMALLER)), 1 / SMALLER)
        maps = {
            label.name: (one + other) / 2 for label, one, other in zip(self.card.labels, first, second, strict=True)
        }
        masks, confidence, agreement = {}, {}, {}
        for label, one, other in zip(self.card.labels, first, second, strict=True):
            if label.name in names:
                masks[label.name] = shape = single_shape(maps[label.name] > label.threshold)
                confidence[label.name] = float(maps[label.name][shape].mean()) if shape.any() else 0.0
                agreement[label.name] = dice(one > label.threshold, other > label.threshold)
        return Segmented(masks, confidence, agreement), maps, box

    def probabilities(self, frame: Frame) -> Frame:
        """(rows, columns) as `network_input` gives it -> (labels, rows, columns) in [0, 1]."""
        with torch.inference_mode():
            logits = self._run()(torch.from_numpy(np.ascontiguousarray(frame))[None, None].to(self.device))
        found: Frame = torch.sigmoid(logits[0].float()).cpu().numpy()
        return found


def resized(picture: Frame, factor: float) -> Frame:
    """A frame (..., rows, columns) scaled about its middle in a frame of the same size; black around it."""
    rows, columns = picture.shape[-2:]
    step = 1 / factor
    offset = [(extent - 1) / 2 * (1 - step) for extent in (rows, columns)]
    outside = float(picture.min())
    layers = [
        ndimage.affine_transform(layer, [step, step], offset=offset, order=1, mode="constant", cval=outside)
        for layer in picture.reshape(-1, rows, columns)
    ]
    return np.asarray(layers, dtype=np.float32).reshape(picture.shape)


def single_shape(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The largest connected part of a mask without its holes and without spurs thinner than three pixels."""
    part = _largest(ndimage.binary_opening(mask, np.ones((3, 3), bool)))
    filled: npt.NDArray[np.bool_] = ndimage.binary_fill_holes(part)
    return filled


def _largest(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    numbered, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(numbered.ravel())
    sizes[0] = 0
    return np.asarray(numbered == sizes.argmax())


def _at_source(probability: Frame, shape: npt.NDArray[np.bool_], threshold: float, box: Letterbox) -> Any:
    """The cleaned shape at source resolution, its edge placed between pixels by the probability."""
    near = ndimage.binary_dilation(shape, np.ones((3, 3), bool))
    inside = ndimage.binary_erosion(shape, np.ones((3, 3), bool))
    edge = np.where(shape, np.maximum(probability, threshold + 0.01), np.minimum(probability, threshold - 0.01))
    edge = np.where(near, edge, 0)
    edge[inside] = 1
    return box.lift(edge.astype(np.float32)) > threshold
