"""The loop of our own beside the `generate` of transformers: the same tokens, for every decoder that it knows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from grammar_by_hand import is_answer, is_report
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config

from expert_models.train.phantoms import HELD_OUT
from medmllm.adapters.local import PACKAGED
from medmllm.answer import Asker
from medmllm.brief import PICTURE, REGION, SLICE, VOLUME
from medmllm.constrain import Constrained, Held, Vocabulary
from medmllm.decode import Guesses, greedy, is_known
from medmllm.grammar import Grammar
from medmllm.model import WetreadConfig, WetreadForReporting
from medmllm.processor import Input, WetreadProcessor
from medmllm.tokens import SEG, make_tokenizer
from medmllm.train.exams import exams
from medmllm.train.tasks import unaided_report, where_is_anatomy

WORDS, PADDING, ENDS = 97, 0, [5, 11]
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "grouped heads": {"num_key_value_heads": 2},
    "one key for all": {"num_key_value_heads": 1},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "wide heads": {"head_dim": 12},
    "tied head": {"tie_word_embeddings": True},
    "other positions": {"rope_parameters": {"rope_type": "default", "rope_theta": 50.0}},
    "stretched positions": {"rope_parameters": {"rope_type": "llama3", "rope_theta": 100.0, **LLAMA3}},
    "large epsilon": {"rms_norm_eps": 0.3},
    "other activation": {"hidden_act": "gelu"},
}
LINES = [
    "findings | The <ref>heart</ref><box>[[100,33,450,200]]</box> is enlarged, 12 mm. | f1",
    "impression | There is a right pleural effusion <SEG> as in <region 1>. | f1 f2",
]
REPORT = Grammar("report", ("f1", "f2"), regions=1)
ANSWER = Grammar("answer", experts=(("CXR", ("",)),))


def varied(seed: int = 0, ends: list[int] | None = ENDS, **kind: Any) -> LlamaForCausalLM:
    """Random, and of large weights: with those that a decoder starts from, it would say one word for ever."""
    config = {"num_hidden_layers": 3, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4} | kind
    model = LlamaForCausalLM(
        LlamaConfig(**{"vocab_size": WORDS, "pad_token_id": PADDING, "eos_token_id": ends} | config)
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, each in model.named_parameters():
            scale = 1.0 if "embed" in name else 0.3
            each.copy_(scale * torch.randn(each.shape, generator=generator) + float("norm" in name))
    return model.eval()


def prompts(model: LlamaForCausalLM, missing: list[int], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Embedded texts of 9 tokens, and their attention: so many are missing on the left of each row."""
    ids = torch.randint(12, WORDS, (len(missing), 9), generator=torch.Generator().manual_seed(seed))
    attention = torch.ones_like(ids)
    for row, count in enumerate(missing):
        attention[row, :count] = 0
    return model.get_input_embeddings()(ids).detach(), attention


def by_generate(model: Any, embedded: torch.Tensor, attention: torch.Tensor, most: int, **how: Any) -> torch.Tensor:
    how = {"max_new_tokens": most, "do_sample": False} | how
    return model.generate(inputs_embeds=embedded, attention_mask=attention, **how)


def lengths(written: torch.Tensor) -> list[int]:
    """Tokens of each row up to its end."""
    return [int((row != PADDING).sum()) for row in written]


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_written_as_by_generate(kind: str) -> None:
    said = []
    for seed in range(3):
        model = varied(seed, **KINDS[kind])
        assert is_known(model)
        given = prompts(model, [4, 0, 7, 1], seed)
        expected = by_generate(model, *given, most=60)
        assert torch.equal(greedy(model, *given, most=60), expected)
        said += expected.tolist()
    assert len(set(lengths(torch.tensor([row + [PADDING] * (60 - len(row)) for row in said])))) > 4
    assert sum(len(set(row)) > 8 for row in said) >= 4


@pytest.mark.parametrize("kind", ["plain", "grouped heads"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_as_generate_does(kind: str, dtype: torch.dtype) -> None:
    model = varied(1, ends=None, **KINDS[kind]).to(dtype)
    given = prompts(model, [4, 0, 7, 1])
    written = greedy(model, *given, most=40)
    assert torch.equal(written, by_generate(model, *given, most=40))
    assert len(written.unique()) > 30


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("missing", [0, 3])
def test_what_is_guessed_and_read_at_once_is_what_generate_writes(kind: str, missing: int) -> None:
    read: list[int] = []
    right = False
    for seed in range(4):
        model = varied(seed, ends=None, **KINDS[kind])
        given = prompts(model, [missing], seed)
        expected = by_generate(model, *given, most=80)
        activation = model.model.layers[0].mlp.act_fn.register_forward_hook(
            lambda part, seen, out: read.append(seen[0].shape[1])
        )
        before = len(read)
        assert torch.equal(greedy(model, *given, most=80), expected)
        activation.remove()
        right |= len(read) - before < 80
    assert right  # some guesses were kept,
    assert sum(read) > 4 * (9 + 80)  # and some were not
    assert max(each for each in read if each != 9) == 8


def test_every_limit_is_kept_also_in_the_midst_of_guesses() -> None:
    model = varied(2, ends=None)
    given = prompts(model, [0])
    whole = by_generate(model, *given, most=40)
    for most in range(1, 41):
        assert torch.equal(greedy(model, *given, most=most), whole[:, :most])


def test_guesses_are_what_followed_the_longest_same_words_the_last_time() -> None:
    guesses = Guesses()

    def after(*tokens: int, most: int = 100) -> list[int]:
        for each in tokens:
            guesses.add(each)
        return guesses.next(most)

    assert after(1, 2, 3) == []  # nothing was there before
    assert after(1) == [2, 3, 1]
    assert after(4) == []
    assert after(1, most=2) == [4, 1]  # the last time of one, which is the longest
    assert after(2) == [3, 1, 4, 1, 2]  # 1, 2 as at the start
    assert after(8, 3, 8, 3, 1) == [4, 1, 2, 8, 3, 8, 3]  # seven at most
    assert after(9, most=0) == []


def test_it_leaves_to_generate_what_it_does_not_know() -> None:
    assert is_known(varied())
    assert not is_known(varied(rope_parameters={"rope_type": "dynamic", "rope_theta": 100.0, "factor": 2.0}))
    changed = varied()
    changed.lm_head = torch.nn.Sequential(changed.lm_head)
    assert not is_known(changed)
    changed = varied()
    changed.model.layers[1].mlp.up_proj = torch.nn.Sequential(changed.model.layers[1].mlp.up_proj)
    assert not is_known(changed)
    changed = varied()
    changed.model.layers[1].forward = changed.model.layers[1].forward
    assert not is_known(changed)
    changed = varied()
    changed.generation_config.temperature = 0.6  # which says nothing where nothing is drawn
    assert is_known(changed)
    changed.generation_config.repetition_penalty = 1.3
    assert not is_known(changed)
    seen = varied()
    seen(torch.tensor([[1, 2]]), output_hidden_states=True)  # transformers leaves hooks behind
    assert is_known(seen)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer(LINES * 3, size=330)


def fond(tokenizer: PreTrainedTokenizerFast, vocabulary: Vocabulary, seed: int) -> LlamaForCausalLM:
    """Varied, and fond of what ends a sentence, a line and a text, or opens a box."""
    model = varied(seed, vocab_size=len(vocabulary) + 3, eos_token_id=vocabulary.end, pad_token_id=PADDING)
    ending = [at for at, each in enumerate(vocabulary.tokens) if each in (b" |", b" | ", b"|", b"\n", b"<box>")]
    bias = torch.zeros(model.config.vocab_size)
    bias[[*ending, vocabulary.end]] = 12.0
    model.lm_head.bias = torch.nn.Parameter(bias)
    return model


@pytest.mark.parametrize("grammars", [[REPORT], [ANSWER], [REPORT, ANSWER, REPORT]])
def test_held_to_grammars_it_writes_as_generate_does(
    grammars: list[Grammar], tokenizer: PreTrainedTokenizerFast
) -> None:
    vocabulary = Vocabulary(tokenizer)
    complete, differ = 0, 0
    for seed in range(6):
        model = fond(tokenizer, vocabulary, seed)
        given = prompts(model, list(range(len(grammars))), seed)
        written = greedy(model, *given, most=120, held=Held(vocabulary, *grammars))
        constrained = [Constrained(vocabulary, *grammars)]
        assert torch.equal(written, by_generate(model, *given, most=120, logits_processor=constrained))
        free = greedy(model, *given, most=120)
        differ += not torch.equal(free, written)
        for row, grammar in zip(written.tolist(), grammars, strict=True):
            if vocabulary.end in row:
                text = str(tokenizer.decode(row[: row.index(vocabulary.end)]))
                complete += 1
                assert is_report(text, ("f1", "f2"), 1) if grammar is REPORT else is_answer(text, {"CXR": [""]}), text
    assert differ == 6
    assert complete


def test_a_row_without_its_own_grammar_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    vocabulary = Vocabulary(tokenizer)
    model = fond(tokenizer, vocabulary, 0)
    with pytest.raises(ValueError, match="2 rows, 1 grammars"):
        greedy(model, *prompts(model, [0, 0]), most=3, held=Held(vocabulary, ANSWER))


class Other(LlamaForCausalLM):
    """A decoder of another class, which the loop does not know."""


def questions() -> list[Input]:
    picture = np.linspace(0, 1, 40 * 30, dtype=np.float32).reshape(40, 30)
    return [
        Input(f"{PICTURE} where is the heart", pictures=(picture,), priors=(None,), grammar=ANSWER),
        Input("report", grammar=REPORT),
    ]


def asked(tokenizer: PreTrainedTokenizerFast, decoder: Any) -> WetreadForReporting:
    torch.manual_seed(0)
    markers = {"picture": PICTURE, "volume": VOLUME, "slice": SLICE, "region": REGION, "seg": SEG}
    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(each) for name, each in markers.items()}
    return WetreadForReporting(WetreadConfig(decoder, width=16, heads=2, side=64, slabs=0, **ids)).eval()


@pytest.mark.parametrize("is_free", [False, True])
def test_an_answer_is_the_same_by_both_ways(is_free: bool, tokenizer: PreTrainedTokenizerFast) -> None:
    vocabulary = Vocabulary(tokenizer)
    decoder = fond(tokenizer, vocabulary, 3)
    model = asked(tokenizer, decoder.config)
    model.decoder = decoder
    asker = Asker(model, WetreadProcessor.of(model, tokenizer), most_tokens=60)
    given = [replace(each, grammar=None) if is_free else each for each in questions()]
    ours = asker.answers(given)
    decoder.__class__ = Other
    assert not is_known(decoder)
    theirs = asker.answers(given)
    assert [each.text for each in ours] == [each.text for each in theirs]
    assert any(each.text for each in ours)


def test_a_decoder_of_another_family_answers_by_generate(tokenizer: PreTrainedTokenizerFast) -> None:
    size = len(Vocabulary(tokenizer))
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    special = {f"{each}_token_id": getattr(tokenizer, f"{each}_token_id") for each in ("bos", "eos", "pad")}
    model = asked(tokenizer, Qwen2Config(vocab_size=size, num_key_value_heads=2, **sizes, **special))
    assert not is_known(model.decoder)
    answered = Asker(model, WetreadProcessor.of(model, tokenizer), most_tokens=30).answers(questions()[:1])
    assert len(answered) == 1


def test_the_model_that_ships_answers_the_same_by_both_ways(tmp_path: Path) -> None:
    """A report alone, with its guesses; and two questions of different lengths, with their masks."""
    model = WetreadForReporting.from_pretrained(str(PACKAGED), dtype=torch.float32)
    asker = Asker(model, WetreadProcessor.from_pretrained(str(PACKAGED)), most_tokens=300)
    exam = next(iter(exams(range(HELD_OUT + 31, HELD_OUT + 32), tmp_path)))
    report = replace(unaided_report(exam), answer=None, grammar=Grammar("report"))
    right, _, heart = where_is_anatomy(exam)
    batches = [[report], [replace(each, grammar=Grammar("answer")) for each in (right, heart)]]
    assert is_known(model.decoder)
    ours = [each for batch in batches for each in asker.answers(batch)]
    model.decoder.__class__ = Other
    theirs = [each for batch in batches for each in asker.answers(batch)]
    assert [each.text for each in ours] == [each.text for each in theirs]
    assert is_report(ours[0].text, ("-",))
    assert ["heart" in each.text for each in ours[1:]] == [False, True]
    assert [len(each.masks) for each in ours] == [0, 1, 1]
    for one, other in zip(ours[1:], theirs[1:], strict=True):
        assert np.array_equal(one.masks[0], other.masks[0])
