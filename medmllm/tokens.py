"""The words of our own model: a byte-level BPE tokenizer, made from the texts that it will read and write.

Nothing is unknown to it: what it never saw falls apart into bytes. Digits stand alone, so that numbers and places are
spelled. Markers and tags of the grammar are one token each. A decoder that comes with weights keeps its own tokenizer,
to which the same markers and tags are added.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from medmllm.brief import PICTURE, REGION, SLICE, VOLUME

SEG = "<SEG>"
PAD, START, END = "<pad>", "<s>", "</s>"
MARKERS = (PICTURE, VOLUME, SLICE, REGION, SEG)
TAGS = ("<ref>", "</ref>", "<box>", "</box>")
OWN = (PAD, START, END, *MARKERS, *TAGS)


def make_tokenizer(texts: Iterable[str], size: int = 2048) -> PreTrainedTokenizerFast:
    """A tokenizer of at most `size` tokens; the same texts give the same one."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[*OWN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token=PAD,
        bos_token=START,
        eos_token=END,
        additional_special_tokens=[*MARKERS, *TAGS],
        clean_up_tokenization_spaces=False,
    )


def add_own(tokenizer: PreTrainedTokenizerBase) -> None:
    """Add to a decoder's tokenizer what it lacks of OWN, one token each.

    Start, end and padding are ours from then on, so that a text of any of our models is seen to end in the same way.
    """
    tokenizer.add_special_tokens(
        {"pad_token": PAD, "bos_token": START, "eos_token": END, "extra_special_tokens": [*MARKERS, *TAGS]},
        replace_extra_special_tokens=False,
    )
    tokenizer.clean_up_tokenization_spaces = False


def said(tokenizer: PreTrainedTokenizerBase, words: Iterable[str]) -> list[list[int]]:
    """The last token of each word as it stands alone and within a sentence, for WetreadConfig.said_token_ids."""
    return [
        [tokenizer(text, add_special_tokens=False)["input_ids"][-1] for text in (each, f" {each}")] for each in words
    ]


def placeholders(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The ids that medmllm.model.WetreadConfig asks for, by their names there."""
    markers = {"picture": PICTURE, "volume": VOLUME, "slice": SLICE, "region": REGION, "seg": SEG}
    return {f"{name}_token_id": tokenizer.convert_tokens_to_ids(each) for name, each in markers.items()}
