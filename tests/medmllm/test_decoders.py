"""Decoders that come with weights, of several families: what of them learns, and that what is saved is our model."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from grammar_by_hand import is_answer, is_report
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from app.cli_train import train_mllm_command
from app.errors import BadSetting
from expert_models.train.phantoms import HELD_OUT
from medmllm.adapters.local import LocalModel
from medmllm.answer import Asker
from medmllm.brief import PICTURE
from medmllm.constrain import Held, Vocabulary
from medmllm.grammar import Grammar
from medmllm.model import WetreadForReporting
from medmllm.processor import Batch, Input, WetreadProcessor
from medmllm.tokens import OWN
from medmllm.train import mllm
from medmllm.train.decoders import check_adapters, model_with
from medmllm.train.exams import Exam, exams
from medmllm.train.tasks import draw_task

FAMILIES = ("llama", "qwen2", "gemma")
ENDS = {"llama": ("<|im_start|>", "<|im_end|>", None), "qwen2": (None, "<|endoftext|>", None)}  # start, end, padding
ENDS["gemma"] = ("<bos>", "<eos>", "<pad>")
SIZES = {"width": 16, "heads": 2, "side": 64, "dropout": 0}
ALIGN = replace(mllm.ALIGN, steps=1, batch=2, frozen=(*mllm.ALIGN.frozen, "decoder"))
INSTRUCT = replace(mllm.INSTRUCT, steps=1, batch=2, rate=0.04)  # a fortieth of it in the first step


needs_peft = pytest.mark.skipif(find_spec("peft") is None, reason="peft is not installed")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Exam]:
    return list(exams(range(HELD_OUT + 51, HELD_OUT + 53), tmp_path_factory.mktemp("exams")))


def words(family: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE with the special tokens of a family; some lack a start, some padding."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    start, end, padding = ENDS[family]
    made.train_from_iterator(
        ["findings | The heart is enlarged, 12 mm, right pleural effusion. | -"] * 3,
        trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=[each for each in ENDS[family] if each],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token=start, eos_token=end, pad_token=padding)


def written(family: str, folder: Path) -> Path:
    """A tiny language model that knows nothing, as transformers saves one; its tables have rows without a word."""
    tokenizer = words(family)
    config = AutoConfig.for_model(
        family,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=len(tokenizer) + 7,
        head_dim=8,
        tie_word_embeddings=family != "llama",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(3)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(request.param, tmp_path_factory.mktemp("decoder") / request.param)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written("llama", tmp_path_factory.mktemp("decoder") / "llama")


def after(
    folder: Path, drawn: Sequence[Exam], plan: mllm.Plan, out: Path, told: list[str] | None = None
) -> tuple[WetreadForReporting, WetreadProcessor, dict[str, torch.Tensor]]:
    """The model after one stage, its processor, and what it was before."""
    model, tokenizer = model_with(folder, **SIZES)
    processor = WetreadProcessor.of(model, tokenizer)
    begun = {name: value.clone() for name, value in model.state_dict().items()}
    said: list[str] = [] if told is None else told
    mllm.train_stage(model, processor, drawn, plan, out, said.append)
    return model, processor, begun


def moved_of(model: WetreadForReporting, begun: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What each tensor that is not what it was has become more, by name; it has no others than before."""
    now = model.state_dict()
    assert now.keys() == begun.keys()
    return {name: now[name] - value for name, value in begun.items() if not torch.equal(now[name], value)}


def rows_of(processor: WetreadProcessor) -> set[int]:
    return {processor.tokenizer.get_vocab()[each] for each in OWN}


def is_table(name: str) -> bool:
    return "embed_tokens" in name or "lm_head" in name


@torch.no_grad()
def test_a_decoder_says_what_it_said_before(folder: Path) -> None:
    """Old words have the scores that transformers' own loading gives; start and end begin as the decoder's own."""
    model, tokenizer = model_with(folder, **SIZES)
    old = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    known = AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor([tokenizer("The heart is enlarged.")["input_ids"]])
    assert ids.tolist() == [known("The heart is enlarged.")["input_ids"]]
    assert ids.max() < len(known)
    assert torch.allclose(model.decoder(ids).logits[..., : len(known)], old(ids).logits[..., : len(known)], atol=1e-6)
    was, now = old.get_input_embeddings().weight, model.decoder.get_input_embeddings().weight
    assert len(now) == len(tokenizer) == len({*known.get_vocab(), *OWN})
    assert torch.equal(now[tokenizer.eos_token_id], was[known.eos_token_id])
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<s>", "</s>", "<pad>")
    assert model.decoder.generation_config.eos_token_id == tokenizer.get_vocab()["</s>"]


def test_align_holds_the_decoder_but_for_the_rows_of_our_tokens(
    folder: Path, drawn: Sequence[Exam], tmp_path: Path
) -> None:
    model, processor, begun = after(folder, drawn, ALIGN, tmp_path)
    moved = moved_of(model, begun)
    in_decoder = {name: value for name, value in moved.items() if name.startswith("decoder.")}
    assert in_decoder
    for name, value in in_decoder.items():
        assert is_table(name), name
        assert set(value.abs().sum(dim=1).nonzero()[:, 0].tolist()) <= rows_of(processor), name
    assert "decoder.lm_head.weight" in in_decoder  # its own where it is not tied, else the same as what is read
    assert not any(name.startswith("picture_encoder.body") for name in moved)
    for part in ("picture_encoder", "alignment", "packer"):
        assert any(name.startswith(part) for name in moved), part


@needs_peft
def test_instruct_learns_by_adapters_which_are_merged(folder: Path, drawn: Sequence[Exam], tmp_path: Path) -> None:
    told: list[str] = []
    model, processor, begun = after(folder, drawn, INSTRUCT, tmp_path / "run", told)
    moved = moved_of(model, begun)
    for name in begun:
        if name.startswith("decoder.") and not is_table(name):
            assert (name in moved) == name.endswith("_proj.weight"), name
    for name, value in moved.items():
        if name.endswith("_proj.weight"):  # a product of two that are 16 thin, but for rounding
            sizes = torch.linalg.svdvals(value)
            assert (sizes[16:] < 1e-3 * sizes[0]).all(), name
        if is_table(name):
            assert set(value.abs().sum(dim=1).nonzero()[:, 0].tolist()) <= rows_of(processor), name
    assert any(name.startswith("picture_encoder.body") for name in moved)
    # By hand: q and o 32x32, k and v 16x32, three of 48x32, each with 16 x (rows + columns); rows of 32 for our tokens.
    adapters = 16 * (2 * 64 + 2 * 48 + 3 * 80)
    tables = 2 if folder.name == "llama" else 1
    outside = sum(each.numel() for name, each in model.named_parameters() if not name.startswith("decoder."))
    assert told[0].startswith(f"instruct: {outside + adapters + tables * 32 * len(OWN):,} of ")


@needs_peft
def test_what_instruct_leaves_is_a_model_of_ours(folder: Path, drawn: Sequence[Exam], tmp_path: Path) -> None:
    model, processor, _ = after(folder, drawn, INSTRUCT, tmp_path / "run")
    film = np.random.default_rng(0).random((80, 64), dtype=np.float32)
    report = "findings | Clear.<box>[[0,0,9,9]]</box> | -\nimpression | No <ref>air</ref><box>[[1,2,8,7]]</box>. | -"
    given = Input(f"{PICTURE}\nWhat is there?", [film], grammar=Grammar("report"))
    teach(model, processor.batch([replace(given, answer=report)]))
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert LocalModel(tmp_path).answers([given])[0].text == report
    again = WetreadForReporting.from_pretrained(tmp_path, local_files_only=True, use_safetensors=True)
    words = WetreadProcessor.from_pretrained(tmp_path, local_files_only=True)
    assert Asker(again, words).answers([given])[0].text == report
    (cut,) = Asker(again, words, most_tokens=40).answers([replace(given, grammar=Grammar("answer"))])
    assert not cut.text or is_answer(cut.text, {})


def teach(model: WetreadForReporting, batch: Batch) -> None:
    """The decoder learns one answer by heart."""
    optimizer = torch.optim.Adam(model.decoder.requires_grad_(True).parameters(), lr=0.01)
    for _ in range(150):
        with torch.no_grad():  # anew, since what is outlined is said in the words that are being learned
            encoded = model.encode(batch.images)
        loss = model(batch.input_ids, batch.attention_mask, batch.labels, encoded=encoded).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class EagerToEnd:
    """Scores of a model that says anything, and favours what ends a sentence, a line and a text."""

    def __init__(self, vocabulary: Vocabulary, seed: int) -> None:
        self._random = torch.Generator().manual_seed(seed)
        self._bias = torch.tensor([9.0 if each in (b" ", b"|", b" |", b"\n") else 0.0 for each in vocabulary.tokens])
        self._bias[vocabulary.end] = 9.0

    def scores(self) -> torch.Tensor:
        return 2 * torch.randn((1, len(self._bias)), generator=self._random) + self._bias


def test_a_decoders_tokenizer_is_held_to_the_grammar(folder: Path) -> None:
    _, tokenizer = model_with(folder, **SIZES)
    vocabulary = Vocabulary(tokenizer)
    complete = 0
    for seed in range(4):
        held, model = Held(vocabulary, Grammar("report", ("f1", "c2"))), EagerToEnd(vocabulary, seed)
        ids: list[int] = []
        while len(ids) < 400 and tokenizer.eos_token_id not in ids:
            ids += held.choose(model.scores())
        if tokenizer.eos_token_id in ids:
            complete += 1
            assert is_report(tokenizer.decode(ids[:-1]), ("f1", "c2")), tokenizer.decode(ids)
    assert complete


def test_what_is_learned_is_of_the_grammar_in_a_decoders_tokens(folder: Path, drawn: Sequence[Exam]) -> None:
    _, tokenizer = model_with(folder, **SIZES)
    vocabulary = Vocabulary(tokenizer)
    for number in range(4):
        task = draw_task(drawn[number % 2], number, task="unaided")
        matcher = vocabulary.matcher(Grammar("report"))
        ids = [*tokenizer(task.answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        assert all(vocabulary.takes(matcher, each) for each in ids), task.answer
        assert tokenizer.decode(ids[:-1]) == task.answer


class StoppedError(Exception):
    """What ends a run in the middle."""


class UnpluggedProcessor:
    """A processor whose machine is switched off before a certain batch."""

    def __init__(self, processor: WetreadProcessor, stop_at: int) -> None:
        self._processor, self._left, self.tokenizer = processor, stop_at, processor.tokenizer

    def batch(self, inputs: object) -> object:
        if self._left == 0:
            raise StoppedError
        self._left -= 1
        return self._processor.batch(inputs)  # type: ignore[arg-type]


@needs_peft
def test_adapters_of_a_stopped_run_end_as_those_of_one_that_was_not(
    llama: Path, drawn: Sequence[Exam], tmp_path: Path
) -> None:
    plan = replace(INSTRUCT, steps=3, checkpoint_every=1)
    whole = after(llama, drawn, plan, tmp_path / "whole")[0].state_dict()
    model, tokenizer = model_with(llama, **SIZES)
    unplugged = UnpluggedProcessor(WetreadProcessor.of(model, tokenizer), 2)  # in the third step
    with pytest.raises(StoppedError):
        mllm.train_stage(model, unplugged, drawn, plan, tmp_path / "parts", lambda _: None)  # type: ignore[arg-type]
    with safe_open(tmp_path / "parts/instruct.safetensors", "pt") as file:
        assert [step for step, _ in json.loads(file.metadata()["curve"])] == [0, 1]
    resumed = after(llama, drawn, plan, tmp_path / "parts")[0].state_dict()
    for name, value in whole.items():
        assert torch.allclose(value, resumed[name], atol=1e-6), name


@needs_peft
def test_speak_learns_by_adapters_and_leaves_what_is_seen(llama: Path, drawn: Sequence[Exam], tmp_path: Path) -> None:
    plan = replace(mllm.SPEAK, steps=1, batch=2, films=2, rate=0.04)
    model, _, begun = after(llama, drawn, plan, tmp_path)
    moved = moved_of(model, begun)
    assert any("self_attn.q_proj" in name for name in moved)
    assert not [name for name in moved if name.startswith(plan.frozen)]


@pytest.fixture
def reached() -> Iterator[list[str]]:
    """What this process looks up, and to whom it speaks, from now on."""
    seen: list[str] = []
    is_on = [True]

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if is_on[0] and event in ("socket.getaddrinfo", "socket.connect", "socket.sendto"):
            seen.append(f"{event} {arguments}")

    sys.addaudithook(watch)  # it cannot be taken away again
    yield seen
    is_on[0] = False


@needs_peft
def test_both_stages_around_a_decoder_speak_to_nobody(llama: Path, tmp_path: Path, reached: list[str]) -> None:
    with pytest.raises(ValueError, match="begins with the model of align"):
        mllm.train_mllm("instruct", tmp_path, patients=1, decoder=llama)
    mllm.train_mllm("align", tmp_path, patients=1, decoder=llama, steps=1, batch=1)
    made = mllm.train_mllm("instruct", tmp_path, patients=1, steps=1, batch=1)
    assert not reached
    assert json.loads((made / "config.json").read_text())["decoder_from"] == "llama"
    assert not any("lora" in name for name in load_file(made / "model.safetensors"))
    with pytest.raises(ValueError, match="the model of align began with llama, not with other"):
        mllm.train_mllm("instruct", tmp_path, patients=1, decoder=tmp_path / "other")


def test_what_was_seen_is_aligned_without_the_package_for_adapters(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)  # as where it is not installed
    mllm.train_mllm("see", tmp_path, patients=1, decoder=llama, steps=1, batch=1)
    with pytest.raises(ValueError, match="the model of see began with llama, not with other"):
        mllm.train_mllm("align", tmp_path, patients=1, decoder=tmp_path / "other")
    made = mllm.train_mllm("align", tmp_path, patients=1, steps=1, batch=1)
    assert json.loads((made / "config.json").read_text())["decoder_from"] == "llama"


def test_without_peft_one_sentence_says_what_to_install(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = model_with(llama, **SIZES)
    monkeypatch.setitem(sys.modules, "peft", None)  # as where it is not installed
    with pytest.raises(ImportError, match=r"peft: install wetread\[lora\]"):
        check_adapters(model)


def test_folders_that_hold_no_decoder_are_refused(llama: Path, tmp_path: Path) -> None:
    def broken(name: str, *without: str) -> Path:
        made = tmp_path / name
        made.mkdir()
        for each in llama.iterdir():
            if each.name not in without:
                (made / each.name).write_bytes(each.read_bytes())
        return made

    with pytest.raises(ValueError, match=r"holds no decoder: config\.json is missing"):
        model_with(tmp_path)
    pickled = broken("pickled", "model.safetensors")
    torch.save(load_file(llama / "model.safetensors"), pickled / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"holds no decoder: \*.safetensors is missing"):
        model_with(pickled)
    with pytest.raises(ValueError, match=r"holds no decoder: tokenizer\* is missing"):
        model_with(broken("wordless", "tokenizer.json", "tokenizer_config.json"))
    partial = broken("partial", "model.safetensors")
    weights = load_file(llama / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, partial / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"no model.layers.0.mlp.up_proj.weight among its weights"):
        model_with(partial)
    own = broken("own")
    config = json.loads((own / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}}
    (own / "config.json").write_text(json.dumps(config))
    (own / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    with pytest.raises(ValueError, match="holds no decoder that can be used"):
        model_with(own)
    with pytest.raises(BadSetting, match=r"training cannot start: .*own holds no decoder"):
        train_mllm_command("align", decoder=own, out=tmp_path / "out")
    assert not (tmp_path / "ran").exists()


def test_a_tokenizer_that_cannot_write_the_grammar_is_refused(llama: Path, tmp_path: Path) -> None:
    """WordPiece as of BERT: punctuation stands alone, so that a box has spaces in it."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    text = "findings impression | The heart is enlarged, 12 mm. [[100,33,450,207]] -"
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]", "[SEP]"], show_progress=False)
    made.train_from_iterator([text], trainer)
    for each in ("config.json", "model.safetensors"):
        (tmp_path / each).write_bytes((llama / each).read_bytes())
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token="[SEP]", unk_token="[UNK]").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="the tokenizer"):
        model_with(tmp_path)
