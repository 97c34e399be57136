"""The two-dimensional segmentation network: built from its card, its weights checked, run on one picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import nn

from expert_models.card import Card, checked_weights, imported
from expert_models.errors import CardInvalid, WeightsMismatch


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
