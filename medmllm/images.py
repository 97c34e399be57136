"""What a batch of texts speaks of, pictures, volumes, slices and regions, and what the model makes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from torch import Tensor

from medmllm.connector import Outlined


@dataclass(frozen=True, slots=True)
class Pictured:
    """What B pictures became before the decoder's words are added, to be used again.

    packed: (B, tokens, hidden). features: (B, P, width). fine: (B, width, side / 4, side / 4). has_prior: (B,) bool.
    outlined: (B, K, hidden), where the model outlines anything.
    """

    packed: Tensor
    features: Tensor
    fine: Tensor
    has_prior: Tensor
    outlined: Tensor | None

    def changed(self, change: Callable[[Tensor], Tensor]) -> Pictured:
        """The same with every tensor changed."""
        outlined = None if self.outlined is None else change(self.outlined)
        packed, features, fine, has_prior = map(change, (self.packed, self.features, self.fine, self.has_prior))
        return Pictured(packed, features, fine, has_prior, outlined)

    def put(self, first: int, part: Pictured) -> None:
        """The pictures from number `first` on become those of `part`."""
        for each in fields(self):
            whole, new = getattr(self, each.name), getattr(part, each.name)
            if new is not None:
                whole[first : first + len(new)] = new


@dataclass(frozen=True, slots=True)
class Images:
    """What a batch of texts speaks of, every kind in the order of its placeholders. Values as the processor makes them.

    pictures: (B, 1, side, side); priors: the same shape, registered where they can be; has_prior: (B,) bool.
    shown: (N,) which picture each placeholder of one stands for; None: each for the next.
    volumes: (S, 3, slice_side, slice_side) each, feet first; prior_volumes: one or None for each.
    slices: (K, 3, side, side), at full detail.
    pictured: what the pictures became before, instead of pictures and priors.
    """

    pictures: Tensor | None = None
    priors: Tensor | None = None
    has_prior: Tensor | None = None
    shown: Tensor | None = None
    volumes: Sequence[Tensor] = ()
    prior_volumes: Sequence[Tensor | None] = ()
    slices: Tensor | None = None
    pictured: Pictured | None = None


@dataclass(frozen=True, slots=True)
class Regions:
    """Regions of pictures and slices, in the order of their placeholders.

    masks: (R, P) share of each patch that is covered; boxes: (R, 4) x1, y1, x2, y2 in [0, 1]; owners: (R,) whose: the
    B pictures first, then the slices.
    """

    masks: Tensor
    boxes: Tensor
    owners: Tensor


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the images became, as the decoder reads them.

    features (B + K, P, width) and fine (B + K, width, side / 4, side / 4): of all planes. outlined: of the pictures,
    where the model outlines anything.
    """

    picture_tokens: Tensor | None
    volume_tokens: Tensor | None
    slice_tokens: Tensor | None
    features: Tensor | None
    fine: Tensor | None
    outlined: Outlined | None = None
