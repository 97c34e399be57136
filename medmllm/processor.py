"""Texts with markers, pictures and regions to the tensors of the model: the one way in, in training and in use.

Every picture is laid whole and in proportion into a square (the experts' letterbox), and every mask with it. Boxes in
the text are in 0..999 of the picture's own width and height, never of the square's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoProcessor, PreTrainedTokenizerBase, ProcessorMixin

from expert_models.preprocess import Letterbox, network_input
from medmllm.brief import PICTURE, REGION, SLICE, VOLUME
from medmllm.grammar import Grammar
from medmllm.images import Images, Regions
from medmllm.losses import SIDES, UNKNOWN, OutlineTargets
from medmllm.model import WetreadConfig, WetreadForReporting
from medmllm.vision import FINE_STRIDE, STRIDE

WINDOWS = ((-600.0, 1500.0), (40.0, 400.0), (500.0, 2000.0))  # centre and width in HU: lung, mediastinum, bone

Float32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A region on one of the planes of an input (its pictures, then its slices): a mask (rows, columns) of it."""

    owner: int
    mask: Mask


@dataclass(frozen=True, slots=True, eq=False)
class Outlines:
    """What is true of each of K things on a picture and on its prior, to be learned.

    now, then: (K, rows, columns) masks, then None without a prior; *_known: (K,) whether a mask is the whole truth.
    there, course: (K, 3) and (K,), as in losses.OutlineTargets.
    """

    now: Mask
    now_known: Mask
    then: Mask | None
    then_known: Mask
    there: npt.NDArray[np.int64]
    course: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """One text and what its markers stand for, in their order.

    pictures: (rows, columns) in [0, 1]; priors: one or None for each. volumes: (S, rows, columns) HU, feet first, each
    with a prior or None. slices: (rows, columns) HU. regions: for the `<region>` markers. answer: to be learned.
    segments: masks of the answer's `<SEG>`. grammar: what may be answered; None leaves it free. outlines: of the one
    picture, to be learned.
    """

    text: str
    pictures: Sequence[Float32] = ()
    priors: Sequence[Float32 | None] = ()
    volumes: Sequence[npt.NDArray[np.int16]] = ()
    prior_volumes: Sequence[npt.NDArray[np.int16] | None] = ()
    slices: Sequence[npt.NDArray[np.int16]] = ()
    regions: Sequence[Place] = ()
    answer: str | None = None
    segments: Sequence[Place] = ()
    grammar: Grammar | None = None
    outlines: Outlines | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """What the model takes. labels are None where there is no answer, mask_* where there is no `<SEG>`, outlines where
    they are not known or not learned."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor | None
    images: Images
    regions: Regions | None
    mask_owners: Tensor | None
    mask_targets: Tensor | None
    outlines: OutlineTargets | None = None


class WetreadProcessor(ProcessorMixin):
    """The tokenizer and the sizes of a model. `batch` makes its tensors."""

    attributes: ClassVar[list[str]] = ["tokenizer"]
    tokenizer_class = "AutoTokenizer"

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        side: int = 256,
        slice_side: int = 128,
        picture_tokens: int = 64,
        volume_tokens: int = 128,
        slice_tokens: int = 64,
    ) -> None:
        self.side = side
        self.slice_side = slice_side
        self.repeats = {PICTURE: picture_tokens, VOLUME: volume_tokens, SLICE: slice_tokens}
        self.picture_tokens = picture_tokens
        self.volume_tokens = volume_tokens
        self.slice_tokens = slice_tokens
        super().__init__(tokenizer)

    @classmethod
    def of(cls, model: WetreadForReporting, tokenizer: PreTrainedTokenizerBase) -> WetreadProcessor:
        """The processor that fits a model."""
        config = model.config
        tokens = model.tokens_of_picture(), model.tokens_of_volume(), model.tokens_of_slice()
        return cls(tokenizer, config.side, config.slice_side, *tokens)

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, every marker of an image repeated as often as the image has tokens."""
        for marker, times in self.repeats.items():
            text = text.replace(marker, marker * times)
        made: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return made

    def batch(self, inputs: Sequence[Input]) -> Batch:
        """Texts with answers are padded on the right, to be learned; without, on the left, to be continued.

        ValueError when some have answers and others none, or when markers and what they stand for differ in number.
        """
        with_answer = [each.answer is not None for each in inputs]
        if any(with_answer) and not all(with_answer):
            raise ValueError("either every text of a batch has an answer, or none has")
        for each in inputs:
            _check(each)
        prompts = [[self.tokenizer.bos_token_id, *self.ids(each.text + "\n")] for each in inputs]
        answers = [
            [] if each.answer is None else [*self.ids(each.answer), self.tokenizer.eos_token_id] for each in inputs
        ]
        longest = max(len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True))
        ids = torch.full((len(inputs), longest), int(self.tokenizer.pad_token_id))
        attention = torch.zeros_like(ids)
        labels = torch.full_like(ids, UNKNOWN)
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            tokens = torch.tensor(prompt + answer)
            where = slice(0, len(tokens)) if answer else slice(longest - len(tokens), longest)
            ids[row, where] = tokens
            attention[row, where] = 1
            labels[row, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer, dtype=labels.dtype)
        regions = self._regions(inputs)
        owners, targets = self._segments(inputs)
        learned = labels if all(with_answer) else None
        images, outlines = self._images(inputs), self._outlines(inputs)
        return Batch(ids, attention, learned, images, regions, owners, targets, outlines)

    def _images(self, inputs: Sequence[Input]) -> Images:
        films, shown = _films(inputs)
        pictures, priors = [picture for picture, _ in films], [prior for _, prior in films]
        volumes = [volume for each in inputs for volume in each.volumes]
        earlier = [prior for each in inputs for prior in (each.prior_volumes or [None] * len(each.volumes))]
        slices = [plane for each in inputs for plane in each.slices]
        return Images(
            pictures=torch.stack([self._picture(each) for each in pictures]) if pictures else None,
            priors=torch.stack([self._picture(each) for each in priors])
            if any(each is not None for each in priors)
            else None,
            has_prior=torch.tensor([each is not None for each in priors]) if pictures else None,
            shown=torch.tensor(shown) if len(shown) > len(films) else None,
            volumes=[self._volume(each) for each in volumes],
            prior_volumes=[None if each is None else self._volume(each) for each in earlier],
            slices=torch.stack([self._slice(each, self.side) for each in slices]) if slices else None,
        )

    def _picture(self, picture: Float32 | None) -> Tensor:
        if picture is None:  # a place in the batch that is not looked at
            return torch.zeros(1, self.side, self.side)
        return torch.from_numpy(network_input(picture, (self.side, self.side))[0])[None]

    def _slice(self, plane: npt.NDArray[np.int16], side: int) -> Tensor:
        box = Letterbox((plane.shape[0], plane.shape[1]), (side, side))
        shown = [np.clip((plane - (centre - width / 2)) / width, 0, 1) for centre, width in WINDOWS]
        return torch.from_numpy(np.stack([box.lay(each.astype(np.float32)) for each in shown]))

    def _volume(self, volume: npt.NDArray[np.int16]) -> Tensor:
        return torch.stack([self._slice(plane, self.slice_side) for plane in volume])

    def _regions(self, inputs: Sequence[Input]) -> Regions | None:
        places = [(each.mask, owner) for each, owner in _owned(inputs, [each.regions for each in inputs])]
        if not places:
            return None
        grid = self.side // STRIDE
        masks = torch.stack([torch.from_numpy(covered(mask, self.side, grid)) for mask, _ in places]).flatten(1)
        boxes = torch.tensor([corners(mask) for mask, _ in places])
        return Regions(masks, boxes, torch.tensor([owner for _, owner in places]))

    def _segments(self, inputs: Sequence[Input]) -> tuple[Tensor | None, Tensor | None]:
        places = [(each.mask, owner) for each, owner in _owned(inputs, [each.segments for each in inputs])]
        if not places:
            return None, None
        fine = self.side // FINE_STRIDE
        targets = torch.stack([torch.from_numpy(covered(mask, self.side, fine)) for mask, _ in places])
        return torch.tensor([owner for _, owner in places]), targets

    def _outlines(self, inputs: Sequence[Input]) -> OutlineTargets | None:
        """Of every picture of the batch; of one without outlines nothing is known. None where no input has any."""
        some = next((each.outlines for each in inputs if each.outlines is not None), None)
        if some is None:
            return None
        things, fine = len(some.now), self.side // FINE_STRIDE
        films, shown = _films(inputs)
        maps = torch.zeros(2, len(films), things, fine, fine)
        known = torch.zeros(2, len(films), things, dtype=torch.bool)
        there = torch.full((len(films), things, SIDES), UNKNOWN)
        course = torch.full((len(films), things), UNKNOWN)
        of_pictures = [each.outlines for each in inputs for _ in each.pictures]
        told = {number: each for number, each in zip(shown, of_pictures, strict=True) if each is not None}
        for number, outlines in told.items():
            for at, masks in enumerate((outlines.now, outlines.then)):
                if masks is not None:
                    known[at, number] = torch.from_numpy(outlines.then_known if at else outlines.now_known)
                    for thing in np.flatnonzero(masks.any(axis=(1, 2))):
                        maps[at, number, thing] = torch.from_numpy(covered(masks[thing], self.side, fine))
            there[number], course[number] = torch.from_numpy(outlines.there), torch.from_numpy(outlines.course)
        return OutlineTargets(maps[0], maps[1], known[0], known[1], there, course)


def covered(mask: Mask, side: int, cells: int) -> Float32:
    """(cells, cells): which share of each cell of the model's square a mask (rows, columns) of the picture covers."""
    frame = Letterbox((mask.shape[0], mask.shape[1]), (side, side)).lay(mask.astype(np.float32))
    step = side // cells
    shares: Float32 = frame.reshape(cells, step, cells, step).mean(axis=(1, 3), dtype=np.float32)
    return shares


def uncovered(shares: Tensor, shape: tuple[int, int], side: int, threshold: float = 0.5) -> Mask:
    """A map (cells, cells) over the model's square of `side` back to a mask of a picture of `shape` (rows, columns)."""
    frame = functional.interpolate(shares[None, None].float(), size=(side, side), mode="bilinear", align_corners=False)
    return np.asarray(Letterbox(shape, (side, side)).lift(frame[0, 0].cpu().numpy()) > threshold)


def corners(mask: Mask) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 of the box around a mask, in [0, 1] of width and height; all 0 for an empty one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return 0.0, 0.0, 0.0, 0.0
    height, width = mask.shape
    return columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height


def _films(inputs: Sequence[Input]) -> tuple[list[tuple[Float32, Float32 | None]], list[int]]:
    """The pictures of a batch with their priors, the same arrays once, and which of these each input's picture is."""
    films: dict[tuple[int, int], tuple[Float32, Float32 | None]] = {}
    keys = []
    for each in inputs:
        for film in zip(each.pictures, each.priors or [None] * len(each.pictures), strict=True):
            keys.append((id(film[0]), id(film[1])))
            films.setdefault(keys[-1], film)
    numbers = {key: number for number, key in enumerate(films)}
    return list(films.values()), [numbers[key] for key in keys]


def planes(inputs: Sequence[Input]) -> list[list[int]]:
    """Of each input the numbers that its pictures, then its slices have in a batch, where all pictures come first."""
    films, shown = _films(inputs)
    pictures, slices = iter(shown), count(len(films))
    return [[*islice(pictures, len(each.pictures)), *islice(slices, len(each.slices))] for each in inputs]


def _owned(inputs: Sequence[Input], places: Sequence[Sequence[Place]]) -> list[tuple[Place, int]]:
    """Every place with its plane's number in the batch."""
    return [(place, own[place.owner]) for own, of in zip(planes(inputs), places, strict=True) for place in of]


def _check(each: Input) -> None:
    for marker, there in (
        (PICTURE, each.pictures),
        (VOLUME, each.volumes),
        (SLICE, each.slices),
        (REGION, each.regions),
    ):
        if each.text.count(marker) != len(there):
            raise ValueError(f"the text has {each.text.count(marker)} {marker}, and {len(there)} were given")
    planes = len(each.pictures) + len(each.slices)
    if any(not 0 <= place.owner < planes for place in (*each.regions, *each.segments)):
        raise ValueError(f"a region lies on none of the {planes} planes")


AutoProcessor.register(WetreadConfig, WetreadProcessor)
