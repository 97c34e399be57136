"""The recipe of our own model: `see`, pictures without words, `align`, the encoder held, then `instruct`, all of it.

`see` learns where things lie on a film and on the one before, and what became of them: every place of a picture is told
something, which words alone teach slowly. It may be left out.

The decoder is small and starts from nothing, so it learns in both stages; one that comes with weights is held in
`align` and gets adapters in `instruct` (medmllm/train/decoders.py). Batches are drawn from (seed, step), so that an
interrupted run goes on as if it had not been.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import AutoConfig, PreTrainedTokenizerFast

from expert_models.card import Card, checked_weights, packaged_card
from expert_models.precision import half_precision, training_device
from expert_models.train.checkpoint import Curve, Training
from expert_models.train.publish import draw_curve
from medmllm.losses import voices
from medmllm.model import Images, Regions, WetreadConfig, WetreadForReporting
from medmllm.processor import Batch, WetreadProcessor
from medmllm.tokens import make_tokenizer, placeholders, said
from medmllm.train import decoders
from medmllm.train.exams import Exam, exams
from medmllm.train.films import training_films
from medmllm.train.tasks import draw_task, film_of
from medmllm.train.truth import OUTLINED, SPOKEN
from medmllm.train.varied import varied

START = "cxr-findings"  # the expert whose encoder the picture encoder starts from
VOCABULARY = 1024
TASKS = 4  # of an exam in a batch: to vary its films and to encode them costs more than to speak of them
PARTS = 4  # of a step's inputs, by length
WITH_PRIOR = 0.9  # of the exams of `see`
TEXTS = 4000  # inputs whose words the tokenizer is made of

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """One stage. batch: inputs of a step; rate: peak learning rate; frozen: parts of the model that do not learn.

    begun: the sha256 of the weights that the stage goes on with, "" where it starts.
    """

    stage: str
    steps: int
    batch: int = 8
    rate: float = 1e-3
    frozen: tuple[str, ...] = ()
    average: float = 0.99
    checkpoint_every: int = 50
    seed: int = 0
    begun: str = ""


SEE = Plan("see", 600, batch=16, rate=1e-3, average=0.995)  # batch: exams, of two films each
ALIGN = Plan("align", 200, frozen=("picture_encoder.body",))
INSTRUCT = Plan("instruct", 1400, rate=6e-4, average=0.997)


def new_tokenizer(at_hand: Sequence[Exam], size: int = VOCABULARY, texts: int = TEXTS) -> PreTrainedTokenizerFast:
    """Made from so many inputs and answers as training draws them."""
    drawn = (draw_task(at_hand[number % len(at_hand)], number) for number in range(texts))
    return make_tokenizer((text for each in drawn for text in (each.text, each.answer or "")), size)


def new_model(
    tokenizer: PreTrainedTokenizerFast, hidden: int = 256, layers: int = 6, seed: int = 0
) -> WetreadForReporting:
    """The small model of radiographs, its picture encoder from the findings expert."""
    torch.manual_seed(seed)
    decoder = AutoConfig.for_model(
        "llama",
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3 // 32 * 32,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 64,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    words = said(tokenizer, SPOKEN)
    config = WetreadConfig(decoder, slabs=0, outlined=OUTLINED, said_token_ids=words, **placeholders(tokenizer))
    model = WetreadForReporting(config)
    start_from(model, packaged_card(START))
    return model


def start_from(model: WetreadForReporting, card: Card) -> None:
    """The picture encoder begins as an expert's encoder."""
    prefix = "encoder."
    weights = load_file(checked_weights(card))
    model.picture_encoder.body.load_state_dict(
        {name.removeprefix(prefix): value.float() for name, value in weights.items() if name.startswith(prefix)}
    )


def train_mllm(
    stage: str,
    out: Path,
    *,
    patients: int,
    data: Path | None = None,
    decoder: Path | None = None,
    steps: int | None = None,
    batch: int | None = None,
    progress: Progress = lambda _: None,
) -> Path:
    """Run one stage in the folder `out` and return the folder of the model that it made, beside its curve.

    data: folder of packs whose real films are learned from as well. decoder: folder of a language model to begin with,
    instead of the small one; later stages go on with it by themselves. `align` begins with the model of `see` where out
    holds it. Tokenizer, exams and checkpoints are kept in out.
    ValueError for `instruct` before `align` has ended there, for another decoder than the stage before began with, for
    one that cannot be used, and for a run there that went on from other weights; ImportError without the package that
    `instruct` needs for a decoder.
    """
    plan = {each.stage: each for each in (SEE, ALIGN, INSTRUCT)}[stage]
    plan = replace(plan, steps=steps or plan.steps, batch=batch or plan.batch)
    start = out / {SEE.stage: "", ALIGN.stage: SEE.stage, INSTRUCT.stage: ALIGN.stage}[stage]
    is_begun = stage != SEE.stage and (start / "model.safetensors").is_file()
    if stage == INSTRUCT.stage and not is_begun:
        raise ValueError(f"{INSTRUCT.stage} begins with the model of {ALIGN.stage}, which is not in {out.name}")
    begun = None
    if is_begun:
        processor = WetreadProcessor.from_pretrained(str(start))
        model = WetreadForReporting.from_pretrained(str(start))
        decoders.check_continues(model, decoder, start.name)
        if stage == INSTRUCT.stage:
            decoders.check_adapters(model)
        begun = model, processor
        with (start / "model.safetensors").open("rb") as weights:
            plan = replace(plan, begun=hashlib.file_digest(weights, "sha256").hexdigest())
    elif decoder is not None:
        model, words = decoders.model_with(decoder)
        start_from(model, packaged_card(START))
        begun = model, WetreadProcessor.of(model, words)
    at_hand = list(exams(range(patients), out / "exams", progress))
    if data is not None:
        at_hand += training_films(data, out / "films")
    if begun is None:
        model = new_model(tokenizer := new_tokenizer(at_hand))
        begun = model, WetreadProcessor.of(model, tokenizer)
    model, processor = begun
    if stage != INSTRUCT.stage and decoders.came_from(model):
        plan = replace(plan, frozen=(*plan.frozen, "decoder"))
    curve = train_stage(model, processor, at_hand, plan, out, progress, training_device())
    made = out / plan.stage
    model.save_pretrained(str(made))
    processor.save_pretrained(str(made))
    draw_curve(curve, f"Multimodal model, {plan.stage}: loss, mean of 20 steps", out / f"{plan.stage}-curve.png")
    return made


def train_stage(
    model: WetreadForReporting,
    processor: WetreadProcessor,
    at_hand: Sequence[Exam],
    plan: Plan,
    out: Path,
    progress: Progress,
    device: torch.device | str = "cpu",
) -> Curve:
    """Train one stage to its end; the model has its averaged weights then. A run in `out` goes on where it stopped.

    A decoder that came with weights learns by adapters, which are merged into it at the end, unless it is held.
    """
    begun = decoders.came_from(model)
    if begun and "decoder" not in plan.frozen:
        decoders.add_adapters(model, plan.seed)
    model.to(torch.device(device))  # type: ignore[arg-type]
    held = [part for name in plan.frozen for part in [model.get_submodule(name)]]
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    for part in held:
        part.requires_grad_(False)
    learning = decoders.Learning(model, processor.tokenizer) if begun else None
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        learning.groups() if learning else trained, lr=plan.rate, weight_decay=0.02, betas=(0.9, 0.98)
    )
    run = Training(out / f"{plan.stage}.safetensors", model, optimizer, f"{plan} of decoder {begun}" if begun else plan)
    if learning:
        progress(f"{plan.stage}: {learning.weights:,} of {model.num_parameters():,} weights learn")
    batches = _Batches(processor, at_hand, plan, run.done)
    workers = (os.cpu_count() or 1) - 1 if torch.device(device).type == "cuda" else 0
    for step, drawn in enumerate(DataLoader(batches, batch_size=None, num_workers=workers), run.done):
        for group in optimizer.param_groups:
            group["lr"] = plan.rate * min(1.0, (step + 1) / 40) * _falling(step, plan.steps)
        torch.manual_seed(plan.seed * 1_000_003 + step)  # dropout draws from torch's own generator
        model.train()
        for part in held:
            part.eval()
        optimizer.zero_grad()
        learn = seen if plan.stage == SEE.stage else learned
        loss = learn(model, [on(each, device) for each in drawn])
        if learning:
            learning.hold()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        run.took(loss, min(plan.average, (step + 1) / (step + 21)))
        if run.done % 10 == 0:
            progress(f"{plan.stage}: step {run.done}/{plan.steps} loss {run.recent_loss(10):.4f}")
        if run.done % plan.checkpoint_every == 0 or run.done == plan.steps:
            run.keep()
    model.load_state_dict(run.averaged)
    decoders.merge_adapters(model)
    model.to(torch.device("cpu")).eval()  # type: ignore[arg-type]
    return run.curve


def seen(model: WetreadForReporting, parts: Sequence[Batch]) -> Tensor:
    """The loss of a step of `see`, whose gradients are added to the model's."""
    total = torch.zeros((), device=model.device)
    for part in parts:
        if part.outlines is not None:
            with half_precision(model.device.type):
                loss = model.outline_loss(model.encode(part.images), part.outlines)
            loss.backward()
            total += loss.detach()
    return total


def learned(model: WetreadForReporting, parts: Sequence[Batch]) -> Tensor:
    """The loss of a step, whose gradients are added to the model's, one part of its inputs after the other."""
    words = [voices(each.labels) for each in parts if each.labels is not None]
    masks = [0 if each.mask_owners is None else len(each.mask_owners) for each in parts]
    outlines_learn = bool(model.config.outlined) and model.outline_tokens.maps.weight.requires_grad
    targets = [each.outlines if outlines_learn else None for each in parts]
    outlines = [0 if each is None else int(each.now_known.any(dim=1).sum()) for each in targets]
    total = torch.zeros((), device=model.device)
    for part, voice, drawn, target, outlined in zip(parts, words, masks, targets, outlines, strict=True):
        with half_precision(model.device.type):
            out = model(
                part.input_ids,
                part.attention_mask,
                part.labels,
                part.images,
                part.regions,
                mask_owners=part.mask_owners,
                mask_targets=part.mask_targets,
                outline_targets=target,
            )
        loss = out.word_loss * (voice / sum(words))
        if drawn:
            loss = loss + out.mask_loss * (drawn / sum(masks))
        if outlined:
            loss = loss + out.outline_loss * (outlined / sum(outlines))
        loss.backward()
        total += loss.detach()
    return total


class _Batches(Dataset[list[Batch]]):
    """The inputs of every step that is left; where there is a GPU, all other processors draw them ahead of it."""

    def __init__(self, processor: WetreadProcessor, at_hand: Sequence[Exam], plan: Plan, done: int) -> None:
        self._processor, self._at_hand, self._plan, self._done = processor, at_hand, plan, done

    def __len__(self) -> int:
        return max(0, self._plan.steps - self._done)

    def __getitem__(self, number: int) -> list[Batch]:
        draw = seen_batch if self._plan.stage == SEE.stage else drawn_batch
        return draw(self._processor, self._at_hand, self._plan, self._done + number)


def seen_batch(processor: WetreadProcessor, at_hand: Sequence[Exam], plan: Plan, step: int) -> list[Batch]:
    """The films of one step of `see`, with their priors and outlines, and no word."""
    random = np.random.default_rng([plan.seed, step, 103])
    drawn = [varied(at_hand[each], random) for each in random.integers(len(at_hand), size=plan.batch)]
    return [processor.batch([film_of(each, bool(random.random() < WITH_PRIOR)) for each in drawn])]


def drawn_batch(processor: WetreadProcessor, at_hand: Sequence[Exam], plan: Plan, step: int) -> list[Batch]:
    """The inputs of one step, in parts of like length: a question would be padded to the length of a report."""
    random = np.random.default_rng([plan.seed, step, 101])
    exams_ = [varied(at_hand[each], random) for each in random.integers(len(at_hand), size=-(-plan.batch // TASKS))]
    inputs = [draw_task(exams_[number // TASKS], int(random.integers(1 << 30))) for number in range(plan.batch)]
    inputs.sort(key=lambda each: len(each.text) + len(each.answer or ""))
    size = -(-len(inputs) // PARTS)
    return [processor.batch(inputs[first : first + size]) for first in range(0, len(inputs), size)]


def on(batch: Batch, device: torch.device | str) -> Batch:
    """The batch on a device."""
    images, regions = batch.images, batch.regions

    def moved(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(device)

    return Batch(
        batch.input_ids.to(device),
        batch.attention_mask.to(device),
        moved(batch.labels),
        Images(
            moved(images.pictures),
            moved(images.priors),
            moved(images.has_prior),
            moved(images.shown),
            [each.to(device) for each in images.volumes],
            [moved(each) for each in images.prior_volumes],
            moved(images.slices),
        ),
        None
        if regions is None
        else Regions(regions.masks.to(device), regions.boxes.to(device), regions.owners.to(device)),
        moved(batch.mask_owners),
        moved(batch.mask_targets),
        batch.outlines and batch.outlines.to(device),
    )


def _falling(step: int, steps: int) -> float:
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps))
