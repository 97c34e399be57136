"""Questions to the model, and its answers: words, and a mask for every `<SEG>` among them.

An input with a grammar is answered within it. A report, or whatever has several lines, that reached the limit of its
length loses its last line, whose last id or number may be cut; a report of one line is then empty. An answer of one
line that was held to its grammar ends after its last complete word or tag.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from expert_models.once import Once
from medmllm.constrain import Constrained, Held, Vocabulary
from medmllm.decode import greedy, is_known
from medmllm.grammar import Grammar
from medmllm.images import Encoded
from medmllm.model import WetreadForReporting
from medmllm.processor import Batch, Input, WetreadProcessor, planes, uncovered
from medmllm.tokens import END, PAD, START

MOST_TOKENS = 768
# Of a text that was cut: whole `<ref>..</ref>` and `<box>..</box>`, other tags and calls, words that something follows.
COMPLETE = re.compile(r"(?:<(ref|box)>[^<]*</\1>|<(?!/?(?:ref|box)>)[^<>]*>|[^<>\s]+(?=[\s<])|\s)*")

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """What was answered. masks: one for each `<SEG>`, (rows, columns) of the input's first picture or slice."""

    text: str
    masks: tuple[Mask, ...] = ()


class Asked(Protocol):
    """Whatever answers inputs."""

    def answers(self, inputs: Sequence[Input]) -> list[Answered]:
        """One answer for each input, in order."""


class Asker:
    """A model that is asked; deterministic: the most probable word each time."""

    def __init__(self, model: WetreadForReporting, processor: WetreadProcessor, most_tokens: int = MOST_TOKENS) -> None:
        self._model, self._processor, self._most_tokens = model.eval(), processor, most_tokens
        self._vocabulary: Once[Vocabulary] = Once(lambda: Vocabulary(processor.tokenizer))

    @property
    def reads_volumes(self) -> bool:
        """Whether the model has an eye for CT."""
        return bool(self._model.config.slabs)

    def answers(self, inputs: Sequence[Input]) -> list[Answered]:
        """See Asked. Every image is encoded once, for the words and for the masks.

        ValueError when some inputs have a grammar and others none.
        """
        batch = self._processor.batch([replace(each, answer=None, segments=()) for each in inputs])
        with torch.no_grad():
            encoded = self._model.encode(batch.images)
            new = self._written(batch, encoded, self._grammars(inputs))
            masks = self._masks(inputs, batch, encoded, new)
        texts = [self._text(row, given) for row, given in zip(new, inputs, strict=True)]
        return [Answered(text, drawn) for text, drawn in zip(texts, masks, strict=True)]

    def _grammars(self, inputs: Sequence[Input]) -> list[Grammar]:
        grammars = [each.grammar for each in inputs if each.grammar is not None]
        if grammars and len(grammars) < len(inputs):
            raise ValueError("either every input of a batch has a grammar, or none has")
        return grammars

    def _written(self, batch: Batch, encoded: Encoded, grammars: Sequence[Grammar]) -> Tensor:
        """New tokens (B, N): the same by both ways, the first of which is faster and not for every decoder."""
        decoder, most = self._model.decoder, self._most_tokens
        if is_known(decoder):
            embedded = self._model.embedded(batch.input_ids, encoded, batch.regions)
            held = Held(self._vocabulary(), *grammars) if grammars else None
            return greedy(decoder, embedded, batch.attention_mask, most, held)
        new: Tensor = self._model.generate(
            batch.input_ids,
            batch.attention_mask,
            regions=batch.regions,
            encoded=encoded,
            max_new_tokens=most,
            do_sample=False,
            logits_processor=[Constrained(self._vocabulary(), *grammars)] if grammars else [],
        )
        return new

    def _text(self, ids: Tensor, given: Input) -> str:
        text: str = self._processor.tokenizer.decode(ids)
        mode = given.grammar.mode if given.grammar else None
        if END not in text and (mode == "report" or "\n" in text):
            text = text.rpartition("\n")[0]
        elif END not in text and mode == "answer" and (complete := COMPLETE.match(text)):
            text = complete.group()
        for each in (START, PAD, END):
            text = text.replace(each, "")
        return text.strip()

    def _masks(self, inputs: Sequence[Input], batch: Batch, encoded: Encoded, new: Tensor) -> list[tuple[Mask, ...]]:
        """Of every `<SEG>` that was said of a picture or slice; said of none, it draws nothing."""
        has_plane = torch.tensor([bool(each.pictures or each.slices) for each in inputs])
        said = (new == self._model.config.seg_token_id) & has_plane[:, None]
        made: list[list[Mask]] = [[] for _ in inputs]
        if not said.any():
            return [() for _ in inputs]
        attention = torch.cat([batch.attention_mask, torch.ones_like(new)], dim=1)
        embedded = self._model.embedded(torch.cat([batch.input_ids, new], dim=1), encoded, batch.regions)
        out = self._model.decoder(inputs_embeds=embedded, attention_mask=attention, output_hidden_states=True)
        states = out.hidden_states[-1][:, batch.input_ids.shape[1] :][said]
        rows = said.nonzero()[:, 0].tolist()
        numbers = planes(inputs)
        owners = torch.tensor([numbers[row][0] for row in rows])
        for row, logits in zip(rows, self._model.masks(states, encoded, owners), strict=True):
            given = inputs[row]
            height, width = given.pictures[0].shape if given.pictures else given.slices[0].shape
            made[row].append(uncovered(logits.sigmoid(), (height, width), self._processor.side))
        return [tuple(each) for each in made]
