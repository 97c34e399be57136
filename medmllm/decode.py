"""Greedy generation for decoders of the Llama class: the tokens of transformers' `generate`, in a fraction of its time.

A small decoder spends most of a step of `generate` between its operations. Here the prompt goes through the decoder as
it is; every token after it takes only the operations of the layers (Touvron et al. 2023, arXiv 2302.13971; rotary
positions: Su et al. 2021, arXiv 2104.09864; grouped heads: Ainslie et al. 2023, arXiv 2305.13245), on the decoder's own
weights and rounded where it rounds, with room for all keys and values made once.

A report repeats itself. So where a text is written alone in 32 bit, what followed the last words the time before is
guessed and read along in the same step, and as much of it is kept as the decoder would have written by itself
(Leviathan et al. 2022, arXiv 2211.17192; guesses from the text as of prompt lookup decoding, Saxena 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention
from transformers import LlamaForCausalLM, PreTrainedModel

from medmllm.constrain import Held

FIXED = {"default", "linear", "llama3", "yarn"}  # rotary positions that do not change with the length of the text
SETTINGS = {  # of a generation that do not change what is chosen greedily
    "bos_token_id", "eos_token_id", "pad_token_id", "max_length", "max_new_tokens", "use_cache", "output_attentions",
    "output_hidden_states", "do_sample", "temperature", "top_k", "top_p", "transformers_version", "_from_model_config",
}  # fmt: skip
AHEAD = 7  # tokens guessed at most: eight are read in half as much time again as one
ALIKE = (3, 2, 1)  # how many last tokens stood there before, the most telling first


def is_known(decoder: PreTrainedModel) -> bool:
    """True for a decoder that `greedy` can run: the class itself, its layers as they come, no settings that steer."""
    if type(decoder) is not LlamaForCausalLM or (decoder.config.rope_parameters or {}).get("rope_type") not in FIXED:
        return False
    if any(value is not None for key, value in _settings(decoder).items() if key not in SETTINGS):
        return False
    plain = [decoder.lm_head, *(each for layer in decoder.model.layers for each in _linears(layer))]
    is_moved = any("forward" in vars(each) for each in decoder.modules())  # by accelerate, to several devices
    return not is_moved and all(type(each) is nn.Linear for each in plain)


def greedy(
    decoder: LlamaForCausalLM, embedded: Tensor, attention_mask: Tensor, most: int, held: Held | None = None
) -> Tensor:
    """New tokens (B, N), N <= most: those of `generate` with `do_sample=False`, rows that ended filled with padding.

    embedded: (B, T, hidden); attention_mask: (B, T), padded on the left. most: at least 1. held: to grammars, one for
    each row. Any device and floating type. ValueError where a row cannot follow its grammar. Guesses are scored several
    at once, which rounds in another order: a tie to the last of 24 bits may fall the other way.
    """
    return torch.tensor(_written(decoder, embedded, attention_mask, most, held), device=embedded.device).T.contiguous()


@torch.inference_mode()
def _written(
    decoder: LlamaForCausalLM, embedded: Tensor, attention_mask: Tensor, most: int, held: Held | None
) -> list[list[int]]:
    """The tokens of all rows, a list for each step."""
    settings = decoder.generation_config
    ends = settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
    padding = ends[0] if settings.pad_token_id is None else settings.pad_token_id
    guesses = Guesses() if len(embedded) == 1 and decoder.dtype == torch.float32 else None
    has_ended = [False] * len(embedded)
    written: list[list[int]] = []
    steps = _Steps(decoder, embedded, attention_mask, most)
    scores, guessed = steps.first, list[int]()
    while True:
        for at in range(len(guessed) + 1):  # every guess is right up to here
            chosen = held.choose(scores[:, at]) if held else scores[:, at].argmax(dim=1).tolist()
            chosen = [padding if ended else token for token, ended in zip(chosen, has_ended, strict=True)]
            written.append(chosen)
            has_ended = [ended or token in ends for token, ended in zip(chosen, has_ended, strict=True)]
            if all(has_ended) or len(written) == most:
                return written
            if guesses:
                guesses.add(chosen[0])
            if guessed[at : at + 1] != chosen:
                break
        guessed = guesses.next(most - len(written) - 1) if guesses else []
        read = torch.tensor([[token, *guessed] for token in chosen], device=embedded.device)
        scores = steps.next(read, len(written) - 1)


class Guesses:
    """What may come next in a text: what followed its last tokens the time before."""

    def __init__(self) -> None:
        self._text: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}  # where the text went on after these tokens the last time
        self._found: int | None = None

    def add(self, token: int) -> None:
        """The text is one token longer."""
        self._text.append(token)
        at, self._found = len(self._text), None
        for count in ALIKE:
            if count <= at:
                last = tuple(self._text[at - count :])
                if self._found is None:
                    self._found = self._after.get(last)
                self._after[last] = at

    def next(self, most: int) -> list[int]:
        """At most `most` tokens, and at most AHEAD; none where the last token was never there before."""
        if self._found is None:
            return []
        return self._text[self._found : self._found + min(most, AHEAD)]


class _Layer(NamedTuple):
    """Weights and biases, and the room for keys and values: (B, key heads, T + most, head width)."""

    before: Tensor
    query: tuple[Tensor, Tensor | None]
    key: tuple[Tensor, Tensor | None]
    value: tuple[Tensor, Tensor | None]
    joined: tuple[Tensor, Tensor | None]
    between: Tensor
    gate: tuple[Tensor, Tensor | None]
    up: tuple[Tensor, Tensor | None]
    down: tuple[Tensor, Tensor | None]
    act: Callable[[Tensor], Tensor]
    keys: Tensor
    values: Tensor


class _Steps:
    """Scores (B, K, vocabulary) of what follows each of K tokens, 32 bit. first: after the prompt, K = 1."""

    def __init__(self, decoder: LlamaForCausalLM, embedded: Tensor, attention_mask: Tensor, most: int) -> None:
        config, model = decoder.config, decoder.model
        self._width = int(config.head_dim or config.hidden_size // config.num_attention_heads)
        self._groups = int(config.num_key_value_heads or config.num_attention_heads)
        self._epsilon, self._shape = config.rms_norm_eps, (config.hidden_size,)
        rows, self._length = attention_mask.shape
        whole = self._length + most
        counted = attention_mask.long().cumsum(dim=1)
        out = decoder(
            inputs_embeds=embedded,
            attention_mask=attention_mask,
            position_ids=(counted - 1).clamp_min(0),
            use_cache=True,
            logits_to_keep=1,
        )
        self.first: Tensor = out.logits.float()
        self._layers = [
            _layer(layer, kept.keys, kept.values, whole)
            for layer, kept in zip(model.layers, out.past_key_values.layers, strict=True)
        ]
        self._words, self._last = model.embed_tokens.weight, model.norm.weight
        self._head = (decoder.lm_head.weight, decoder.lm_head.bias)
        self._is_padded = not bool(attention_mask.all())
        self._allowed = attention_mask.new_ones((rows, 1, 1, whole), dtype=torch.bool)
        self._allowed[:, 0, 0, : self._length] = attention_mask.bool()
        positions = counted[:, -1:] + torch.arange(most, device=embedded.device)
        self._cos, self._sin = (each[:, :, None] for each in model.rotary_emb(embedded, positions))
        self._sin[..., : self._width // 2].neg_()  # half of a turn is rolled and negative: the sign stands here

    def next(self, tokens: Tensor, done: int) -> Tensor:
        """tokens: (B, K), after `done` new ones; what was read after those before is written over."""
        start, count = self._length + done, tokens.shape[1]
        stop = start + count
        cos, sin = self._cos[:, done : done + count], self._sin[:, done : done + count]
        allowed = self._mask(start, stop)
        hidden = self._words[tokens]
        for layer in self._layers:
            seen = self._normed(hidden, layer.before)
            query = self._turned(linear(seen, *layer.query), cos, sin)
            layer.keys[:, :, start:stop] = self._turned(linear(seen, *layer.key), cos, sin).transpose(1, 2)
            layer.values[:, :, start:stop] = self._split(linear(seen, *layer.value)).transpose(1, 2)
            found = self._attend(query, layer.keys[:, :, :stop], layer.values[:, :, :stop], allowed)
            hidden = hidden + linear(found, *layer.joined)
            seen = self._normed(hidden, layer.between)
            hidden = hidden + linear(layer.act(linear(seen, *layer.gate)) * linear(seen, *layer.up), *layer.down)
        scores: Tensor = linear(self._normed(hidden, self._last), *self._head)
        return scores.float()

    def _mask(self, start: int, stop: int) -> Tensor | None:
        """(B or 1, 1, K, stop) for one head of each group, or None where all is seen."""
        padded = self._allowed[..., :stop] if self._is_padded else None
        if stop - start == 1:
            return padded
        shape = (stop - start, stop)
        causal = torch.ones(shape, dtype=torch.bool, device=self._allowed.device).tril(start)
        return causal[None, None] if padded is None else causal & padded

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, allowed: Tensor | None) -> Tensor:
        """(B, K, heads, width) -> (B, K, heads * width).

        Queries that share a key stand as several queries of one head, so that no key is repeated.
        """
        rows, count, heads, width = query.shape
        each = heads // self._groups
        grouped = query.view(rows, count, self._groups, each, width).permute(0, 2, 3, 1, 4)
        if allowed is not None and allowed.shape[2] > 1 < each:
            allowed = allowed.repeat(1, 1, each, 1)
        found = scaled_dot_product_attention(
            grouped.reshape(rows, self._groups, each * count, width), keys, values, attn_mask=allowed
        )
        return found.view(rows, self._groups, each, count, width).permute(0, 3, 1, 2, 4).reshape(rows, count, -1)

    def _turned(self, heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(B, K, heads * width) -> (B, K, heads, width), turned to their positions."""
        split = self._split(heads)
        return split * cos + split.roll(self._width // 2, -1) * sin

    def _split(self, heads: Tensor) -> Tensor:
        return heads.view(*heads.shape[:2], -1, self._width)

    def _normed(self, hidden: Tensor, weight: Tensor) -> Tensor:
        """Rounded where the decoder rounds: in half precision, before the weight."""
        return weight * rms_norm(hidden.float(), self._shape, None, self._epsilon).to(hidden.dtype)


def _layer(layer: Any, keys: Tensor, values: Tensor, whole: int) -> _Layer:
    query, key, value, joined, gate, up, down = ((each.weight, each.bias) for each in _linears(layer))
    before, between = layer.input_layernorm.weight, layer.post_attention_layernorm.weight
    roomy = [_with_room(each, whole) for each in (keys, values)]
    return _Layer(before, query, key, value, joined, between, gate, up, down, layer.mlp.act_fn, *roomy)


def _with_room(kept: Tensor, whole: int) -> Tensor:
    """(B, heads, T, width) -> (B, heads, whole, width), what follows not yet written."""
    rows, heads, length, width = kept.shape
    made = kept.new_empty((rows, heads, whole, width))
    made[:, :, :length] = kept
    return made


def _linears(layer: Any) -> list[nn.Linear]:
    attend, mlp = layer.self_attn, layer.mlp
    return [attend.q_proj, attend.k_proj, attend.v_proj, attend.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj]


def _settings(decoder: PreTrainedModel) -> dict[str, Any]:
    settings: dict[str, Any] = decoder.generation_config.to_diff_dict()
    return settings
