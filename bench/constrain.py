"""What the grammar costs while a model writes: constrained against unconstrained steps over the same random scores.

    python bench/constrain.py [--steps 400] [--rows 1]

For vocabularies of 2,048 and 50,000 tokens: byte-level BPE of all bytes, of all numbers to 999 in the larger one, and
words of random letters. A step is what `generate` does greedily with scores: process them, take the largest, append.
The scores are drawn beforehand and favour what ends a sentence, so that lines, ids and boxes are written and not text
alone. Printed are the median, mean and slowest step with their ratios, in processor time, and what is paid once:
for the
tokenizer, and for the grammar of a report.
"""

from __future__ import annotations

import argparse
from statistics import fmean, median
from time import thread_time

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LogitsProcessorList, PreTrainedTokenizerFast

from medmllm.constrain import Constrained, Vocabulary
from medmllm.grammar import Grammar

SIZES = (2_048, 50_000)
IDS = tuple(f"f{each}" for each in range(1, 25)) + tuple(f"c{each}" for each in range(1, 7)) + ("e1", "e2", "e3")
GRAMMAR = Grammar("report", IDS, regions=8)
FAVOURED = (" |", " | ", "|", "\n", "<box>", "</box>")
POOL = 32  # different scores; drawing them is no part of a step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rows", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for size in SIZES:
        tokenizer = tokenizer_of(size)
        start = thread_time()
        vocabulary = Vocabulary(tokenizer)
        made = thread_time() - start
        start = thread_time()
        processor = Constrained(vocabulary, GRAMMAR)
        built = thread_time() - start
        scores = scores_of(vocabulary, arguments.rows)
        free = steps(LogitsProcessorList(), scores, arguments.steps, arguments.rows)
        held = steps(LogitsProcessorList([processor]), scores, arguments.steps, arguments.rows)
        print(f"{size} tokens, {arguments.rows} rows; once: tokenizer {made:.2f} s, grammar {built:.2f} s")
        for name, of in (("median", median), ("mean", fmean), ("slowest", max)):
            print(f"  {name:7} step: free {1e3 * of(free):.3f} ms, held {1e3 * of(held):.3f} ms", end="")
            print(f", ratio {of(held) / of(free):.1f}")


def tokenizer_of(size: int) -> PreTrainedTokenizerFast:
    random = np.random.default_rng(0)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    words = dict.fromkeys(["</s>", *alphabet, "<SEG>", "<ref>", "</ref>", "<box>", "</box>", "Ġ|", "Ġ|Ġ"])
    if size > 10_000:
        words |= dict.fromkeys(f"{each}" for each in range(10, 1000))
    while len(words) < size:
        letters = "".join(chr(97 + each) for each in random.integers(26, size=random.integers(2, 10)))
        words["Ġ" * int(random.random() < 0.6) + letters] = None
    made = Tokenizer(models.BPE({each: number for number, each in enumerate(words)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", clean_up_tokenization_spaces=False)


def scores_of(vocabulary: Vocabulary, rows: int) -> torch.Tensor:
    """(POOL, rows, vocabulary)"""
    bias = torch.zeros(len(vocabulary))
    bias[[vocabulary.tokens.index(each.encode()) for each in FAVOURED]] = 3.0
    return torch.randn((POOL, rows, len(vocabulary)), generator=torch.Generator().manual_seed(0)) + bias


def steps(processors: LogitsProcessorList, scores: torch.Tensor, count: int, rows: int) -> list[float]:
    """Seconds of processor time of each step. The end is never favoured, so that every row goes on."""
    ids = torch.zeros((rows, 16), dtype=torch.long)
    taken = []
    for each in range(count):
        start = thread_time()
        chosen = processors(ids, scores[each % POOL]).argmax(dim=-1, keepdim=True)
        ids = torch.cat([ids, chosen], dim=1)
        taken.append(thread_time() - start)
    return taken


if __name__ == "__main__":
    main()
