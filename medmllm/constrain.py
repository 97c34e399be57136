"""Holds a model to a grammar while it writes: over llguidance, for any tokenizer of transformers.

`Constrained` is a LogitsProcessor for `generate`; `Held` serves a greedy loop of one's own (medmllm/decode.py), faster.

The grammar is followed byte by byte: a token that ends within a character is allowed where some allowed character goes
on from there, so that structure, which is ASCII, never sees one, and a text that is complete is valid UTF-8. Special
tokens that spell a tag of the grammar are the tag. The end is allowed exactly where the text is complete.

There is no guard of the length: of a text without its end, the caller drops the last line, whose last id may be cut.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from medmllm.grammar import Grammar

BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # sentencepiece's token of one byte
BYTES = {character: byte for byte, character in bytes_to_unicode().items()}  # GPT-2's alphabet of bytes
BROKEN = "\N{REPLACEMENT CHARACTER}"
BEFORE = "i"  # what a token is decoded after, so that the space at its start is kept
WORK = 10_000_000  # what one step may cost llguidance: a vocabulary with every number has a state for each pair of them

Place = tuple[int, tuple[int, ...]]  # the number of a row's grammar, and the tokens that the row wrote


class Vocabulary:
    """What every token of a tokenizer writes; made once. Raises ValueError for a tokenizer without an end token."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if tokenizer.eos_token_id is None:
            raise ValueError("the tokenizer has no end token, so that no text of it can end")
        self.end = int(tokenizer.eos_token_id)
        self.tokens = _written(tokenizer)
        self.is_space_eaten = _eats_space(tokenizer, self.tokens)
        self._known = LLTokenizer(TokenizerWrapper(_Bytes(self.tokens, self.end)))

    def __len__(self) -> int:
        return len(self.tokens)

    def matcher(self, grammar: Grammar) -> LLMatcher:
        """The grammar's automaton at its start. ValueError when the tokens cannot write what the grammar needs.

        Made anew each time: copies share what was met, so that a kept one would hold every box of every call.
        """
        whole, ends = set(self.tokens), {bytes([each]) for each in range(128, 192)}
        for each in sorted(grammar.characters()):
            if each.encode() not in whole and not {bytes([byte]) for byte in each.encode()} <= whole:
                raise ValueError(f"the tokenizer has no token that writes {each!r} alone, which the grammar needs")
        if not ends <= whole and any(_is_broken(each) for each in whole):
            raise ValueError("the tokenizer has tokens that end within a character, and not every byte that ends one")
        lark = grammar.lark()
        if self.is_space_eaten:  # this tokenizer's first word starts with a space that its decoding drops
            lark = lark.replace("start: WHOLE", 'start: " "? WHOLE')
        limits = LLParserLimits(initial_lexer_fuel=WORK, step_lexer_fuel=WORK, max_lexer_states=WORK)
        matcher = LLMatcher(self._known, LLMatcher.grammar_from_lark(lark), limits=limits)
        _check(matcher)
        return matcher

    def allowed(self, matcher: LLMatcher) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """(vocabulary,): the tokens that may follow; the end alone after the end. ValueError when none can be found."""
        if matcher.is_stopped():
            mask = np.zeros(len(self), dtype=np.bool_)
            mask[self.end] = True
            return mask
        packed = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        _check(matcher)
        return np.unpackbits(packed, count=len(self), bitorder="little").view(np.bool_)

    def takes(self, matcher: LLMatcher, token: int) -> bool:
        """True, and the matcher is one token on, when this token may follow; else it stays where it is."""
        return token < len(self) and matcher.try_consume_tokens([token]) == 1


class Constrained(LogitsProcessor):
    """Allows what the grammar allows, row by row, in one call of `generate`; with beams and several sequences too.

    grammars: one for all prompts of the batch, or one for each of them in order. Where a row stands is kept by what it
    wrote, so that a step reads one token of each row, whichever beam it came from. The first call shows the prompt, so
    that one processor serves one call of `generate`; ValueError when it sees another.
    """

    def __init__(self, vocabulary: Vocabulary, *grammars: Grammar) -> None:
        made = {grammar: vocabulary.matcher(grammar) for grammar in grammars}
        self._vocabulary = vocabulary
        self._starts = [made[grammar] for grammar in grammars]
        self._prompt: int | None = None
        self._states: dict[Place, LLMatcher] = {}

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """input_ids: (rows, tokens so far); scores: (rows, vocabulary). Returns scores, -inf where not allowed."""
        rows, known = scores.shape
        _check_size(known, self._vocabulary)
        if rows % len(self._starts):
            raise ValueError(f"{rows} rows cannot be shared among {len(self._starts)} grammars")
        if self._prompt is None:
            self._prompt = input_ids.shape[1]
        written = input_ids[:, self._prompt :].tolist()
        places = [(row * len(self._starts) // rows, tuple(each)) for row, each in enumerate(written)]
        self._states = {place: self._state(*place) for place in dict.fromkeys(places)}
        masks = {place: self._vocabulary.allowed(state) for place, state in self._states.items()}
        allowed = np.zeros((rows, known), dtype=np.bool_)
        for row, place in enumerate(places):
            allowed[row, : len(self._vocabulary)] = masks[place]
        return scores.masked_fill(torch.from_numpy(~allowed).to(scores.device), float("-inf"))

    def _state(self, number: int, history: tuple[int, ...]) -> LLMatcher:
        """Where a row stands: a copy of where it stood, one token on. After the end, whatever follows is padding."""
        if not history:
            return self._starts[number]
        before = self._states.get((number, history[:-1]))
        if before is None:
            raise ValueError("a constrained generation cannot be continued by another: make one processor for each")
        if before.is_stopped():
            return before
        state = before.deep_copy()
        _go_on(state, history[-1])
        return state


class Held:
    """Chooses what the grammar allows, row by row, in one greedy generation: no beams, no row taken from another.

    grammars: one for each row, in order. Every row goes on in place. What the model would say anyway is tried first,
    which costs far less than to ask which of all tokens are allowed; what is chosen is the same.
    """

    def __init__(self, vocabulary: Vocabulary, *grammars: Grammar) -> None:
        made = {grammar: vocabulary.matcher(grammar) for grammar in grammars}
        self._vocabulary = vocabulary
        self._states = [made[grammar].deep_copy() for grammar in grammars]

    def choose(self, scores: Tensor) -> list[int]:
        """The most probable token of each row that is allowed; the end alone after the end. scores: (rows, vocabulary).

        ValueError when a row cannot go on, or the scores are not of as many rows as there are grammars.
        """
        _check_size(scores.shape[1], self._vocabulary)
        if len(scores) != len(self._states):
            raise ValueError(f"{len(scores)} rows, {len(self._states)} grammars for them")
        chosen: list[int] = scores.argmax(dim=1).tolist()
        for row, (state, best) in enumerate(zip(self._states, chosen, strict=True)):
            if state.is_stopped():
                chosen[row] = self._vocabulary.end
            elif not self._vocabulary.takes(state, best):
                allowed = torch.from_numpy(self._vocabulary.allowed(state)).to(scores.device)
                known = scores[row, : len(self._vocabulary)]
                chosen[row] = int(known.masked_fill(~allowed, float("-inf")).argmax())
                _go_on(state, chosen[row])
        return chosen


class _Bytes:
    """What llguidance asks of a tokenizer: the bytes of each token, and any way to write bytes in tokens."""

    def __init__(self, tokens: Sequence[bytes], end: int) -> None:
        self.tokens = tokens
        self.eos_token_id = end
        self.bos_token_id = None
        self.special_token_ids = [end]
        self._single = {each: number for number, each in enumerate(tokens) if len(each) == 1}

    def __call__(self, text: bytes | str) -> list[int]:
        written = text if isinstance(text, bytes) else text.encode()
        return [self._single[bytes([each])] for each in written if bytes([each]) in self._single]


def _written(tokenizer: PreTrainedTokenizerBase) -> list[bytes]:
    """The bytes of every token, by the tokenizer's own decoding after another token; none for a number without one."""
    before = tokenizer(BEFORE, add_special_tokens=False)["input_ids"]
    start = tokenizer.decode(before)
    special = set(tokenizer.all_special_ids)
    numbers = sorted(tokenizer.get_vocab().items(), key=lambda each: each[1])
    written = [b""] * (numbers[-1][1] + 1)
    for token, number in numbers:
        if number in special:
            written[number] = token.encode() if token.startswith("<") else b""  # "[UNK]" would be plain text
        elif is_byte := BYTE.fullmatch(token):
            written[number] = bytes.fromhex(is_byte.group(1))
        elif BROKEN in (text := str(tokenizer.decode([*before, number]))[len(start) :]):
            written[number] = bytes(BYTES[each] for each in token if each in BYTES)
        else:
            written[number] = text.encode()
    return written


def _eats_space(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[bytes]) -> bool:
    """True when a word's space is there after another token and gone at the start of a text (sentencepiece)."""
    first = next((number for number, each in enumerate(tokens) if re.fullmatch(rb" \w+", each)), None)
    return first is not None and not str(tokenizer.decode([first])).startswith(" ")


def _is_broken(token: bytes) -> bool:
    try:
        token.decode()
    except UnicodeDecodeError:
        return True
    return False


def _check_size(known: int, vocabulary: Vocabulary) -> None:
    if known < len(vocabulary):
        raise ValueError(f"the model knows {known} tokens and the tokenizer {len(vocabulary)}")


def _go_on(matcher: LLMatcher, token: int) -> None:
    matcher.consume_token(token)
    _check(matcher)


def _check(matcher: LLMatcher) -> None:
    if matcher.is_error():
        raise ValueError(f"the grammar cannot be followed: {matcher.get_error().splitlines()[0]}")
