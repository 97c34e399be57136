"""A decoder that comes with weights: a causal language model of transformers, in a folder, with its own tokenizer.

Its weights stay as they came but for the rows of our own tokens, in the table of what is read and in that of what is
written, and in `speak` and `instruct` for adapters on its linear layers (LoRA, Hu et al. 2021, arXiv 2106.09685), which
are merged into it at the end: what is saved is a model like any other of ours. Nothing is fetched, unpickled or run
from the folder.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from medmllm.constrain import Vocabulary
from medmllm.grammar import Grammar
from medmllm.model import WetreadConfig, WetreadForReporting
from medmllm.tokens import OWN, add_own, placeholders, said
from medmllm.train.truth import OUTLINES, SPOKEN

RANK, ALPHA, DROPOUT = 16, 32, 0.05  # of the adapters
LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
LINE = "findings | The <ref>heart</ref><box>[[100,33,450,207]]</box> is enlarged, 12 mm. | -"
WHOLE = f"{LINE}\n{LINE.replace('findings', 'impression')}"  # a report, as it is learned


def model_with(folder: Path, seed: int = 0, **sizes: Any) -> tuple[WetreadForReporting, PreTrainedTokenizerBase]:
    """A model of radiographs around the decoder in a folder, and the decoder's tokenizer with our own tokens.

    folder: config.json, *.safetensors, the tokenizer's files. sizes: of WetreadConfig, instead of its own. Weights are
    in 32 bit. ValueError for a folder that holds no such decoder, and for a tokenizer that cannot write our grammar.
    """
    if missing := [name for name in ("config.json", "*.safetensors", "tokenizer*") if not list(folder.glob(name))]:
        raise ValueError(f"{folder} holds no decoder: {missing[0]} is missing")
    torch.manual_seed(seed)
    try:
        decoder, tokenizer = _loaded(folder)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as exc:
        raise ValueError(
            f"{folder} holds no decoder that can be used: {(str(exc).strip() or type(exc).__name__).splitlines()[0]}"
        ) from exc
    fit(decoder, tokenizer)
    words = said(tokenizer, SPOKEN)
    sizes = {"slabs": 0, "said_token_ids": words, **OUTLINES, **placeholders(tokenizer), **sizes}
    model = WetreadForReporting(WetreadConfig(decoder.config, **sizes, decoder_from=folder.resolve().name))
    model.decoder = decoder
    return model, tokenizer


def _loaded(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """As transformers loads them. ValueError for what is more than a language model, or has not all of its weights."""
    config: Any = AutoConfig.from_pretrained(str(folder), **LOCAL)
    if not hasattr(config, "hidden_size"):
        raise ValueError(f"{config.model_type} is not a language model alone")
    if getattr(config, "quantization_config", None):
        raise ValueError("its weights are quantized")
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        str(folder), **LOCAL, use_safetensors=True, dtype=torch.float32, output_loading_info=True
    )
    decoder, known = loaded
    if without := known["missing_keys"]:
        raise ValueError(f"no {min(without)} among its weights")
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(folder), **LOCAL)
    return decoder, tokenizer


def fit(decoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Our own tokens are added to the tokenizer, and to the decoder's tables rows for them, near the mean of all.

    Start and end begin as what the decoder knew as such. ValueError for a tokenizer that cannot write our grammar.
    """
    before, was = _size(tokenizer), (tokenizer.bos_token_id, tokenizer.eos_token_id)
    add_own(tokenizer)
    check_spelling(tokenizer)
    decoder.resize_token_embeddings(before)  # rows without a word, which many decoders have, go
    decoder.resize_token_embeddings(_size(tokenizer))
    with torch.no_grad():
        for table in tables(decoder):
            for old, new in zip(was, (tokenizer.bos_token_id, tokenizer.eos_token_id), strict=True):
                if old is not None:
                    table[new] = table[old]
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(decoder.config, name, getattr(tokenizer, name))
    decoder.generation_config = GenerationConfig.from_model_config(decoder.config)


def check_spelling(tokenizer: PreTrainedTokenizerBase) -> None:
    """ValueError when a report is not of the grammar in the tokens in which this tokenizer writes it."""
    vocabulary = Vocabulary(tokenizer)
    matcher = vocabulary.matcher(Grammar("report"))
    ids = [*tokenizer(WHOLE, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    if not all(vocabulary.takes(matcher, each) for each in ids):
        raise ValueError("the tokenizer cannot write our grammar: it adds or drops characters beside our tags")


def came_from(model: WetreadForReporting) -> str | None:
    """The name of the folder that the decoder came from with its weights; None for one that started from nothing."""
    name: str | None = getattr(model.config, "decoder_from", None)
    return name


def check_continues(model: WetreadForReporting, folder: Path | None, stage: str) -> None:
    """ValueError when the model of this stage began with another decoder than the folder's."""
    begun = came_from(model)
    if folder is not None and (name := folder.resolve().name) != begun:
        raise ValueError(f"the model of {stage} began with {begun or 'the small decoder'}, not with {name}")


def check_adapters(model: WetreadForReporting) -> None:
    """ImportError where the decoder would get adapters, and their package is not installed."""
    if came_from(model) is not None and find_spec("peft") is None:
        raise ImportError("adapters for a decoder need the package peft: install wetread[lora]")


def tables(decoder: Any) -> list[nn.Parameter]:
    """What the decoder reads words by and what it writes them by, (vocabulary, hidden); one where both are the same."""
    both: list[nn.Parameter] = [
        each.weight for each in (decoder.get_input_embeddings(), decoder.get_output_embeddings())
    ]
    return list({id(each): each for each in both}.values())


def add_adapters(model: WetreadForReporting, seed: int = 0) -> None:
    """Every linear layer of the decoder but its head gets an adapter, which changes nothing until it has learned."""
    from peft import LoraConfig, LoraModel  # here, for it takes seconds and is not always installed

    torch.manual_seed(seed)
    plan = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=DROPOUT, target_modules="all-linear")
    model.decoder = LoraModel(model.decoder, plan, "default")


def merge_adapters(model: WetreadForReporting) -> None:
    """The decoder is again what it was, with what its adapters learned; without adapters nothing changes."""
    if hasattr(model.decoder, "merge_and_unload"):
        model.decoder = model.decoder.merge_and_unload()


class Learning:
    """Which weights of a model with such a decoder learn: adapters, rows of our tokens, outside it all that may.

    Made when the parts that are held are. All other weights of the decoder stay as they are, bit for bit.
    """

    def __init__(self, model: WetreadForReporting, tokenizer: PreTrainedTokenizerBase) -> None:
        for name, parameter in model.decoder.named_parameters():
            parameter.requires_grad_("lora_" in name)
        self._tables = [each.requires_grad_(True) for each in tables(model.decoder)]
        self._rows = torch.tensor(tokenizer.convert_tokens_to_ids([*OWN]), device=model.device)
        own = {id(each) for each in self._tables}
        self._others = [each for each in model.parameters() if each.requires_grad and id(each) not in own]

    @property
    def weights(self) -> int:
        """How many numbers learn."""
        rows = sum(len(self._rows) * each.shape[1] for each in self._tables)
        return rows + sum(each.numel() for each in self._others)

    def groups(self) -> list[dict[str, Any]]:
        """For an optimizer: the tables never decay."""
        return [{"params": self._others}, {"params": self._tables, "weight_decay": 0.0}]

    def hold(self) -> None:
        """After the gradients of a step were found: none is left for a row that does not learn."""
        for table in self._tables:
            if table.grad is not None:
                kept: Tensor = table.grad[self._rows]
                table.grad.zero_()[self._rows] = kept


def _size(tokenizer: PreTrainedTokenizerBase) -> int:
    """The largest id and one: a tokenizer may leave numbers out."""
    return int(max(tokenizer.get_vocab().values())) + 1
