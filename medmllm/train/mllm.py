"""The recipe of our own model, in stages. Two of them may be left out: `see` and `speak`.

`see`, pictures without words: where things lie on a film and on the one before, and what became of them; every place
of a picture is told something, which words alone teach slowly. `align`, the encoder held, and all that `see` taught.
`speak`, all that a picture goes through held: the decoder alone, on films that are encoded once and kept. `instruct`,
all of it.

The decoder is small and starts from nothing, so it learns in `align` already; one that comes with weights is held
there and gets adapters in the two stages after it (medmllm/train/decoders.py). Batches are drawn from (seed, step), so
that an interrupted run goes on as if it had not been.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import AutoConfig, PretrainedConfig, PreTrainedTokenizerFast

from expert_models.card import Card, checked_weights, packaged_card
from expert_models.precision import half_precision, training_device
from expert_models.train.checkpoint import Curve, Training
from expert_models.train.publish import draw_curve
from medmllm.images import Encoded, Regions
from medmllm.losses import voices
from medmllm.model import WetreadConfig, WetreadForReporting
from medmllm.processor import Batch, WetreadProcessor
from medmllm.tokens import make_tokenizer, placeholders, said
from medmllm.train import decoders
from medmllm.train.batches import drawn_batch, on, seen_batch
from medmllm.train.exams import Exam, exams, pairs, shares
from medmllm.train.films import training_films
from medmllm.train.kept import spoken_batches
from medmllm.train.plan import ALIGN, INSTRUCT, SEE, SEEN, SPEAK, STAGES, Plan
from medmllm.train.tasks import draw_task
from medmllm.train.truth import OUTLINES, SPOKEN

START = "cxr-findings"  # the expert whose encoder the picture encoder starts from
VOCABULARY = 1024
AT_ONCE = 8  # inputs of like length that are learned at once: a question would be padded to the length of a report
TOKENS = ("picture_tokens", "volume_tokens", "slice_tokens")  # of Encoded, in the order of the texts
TENSORS = (*TOKENS, "features", "fine")  # of Encoded, that texts ask for
AFTER = {  # the stages whose model a stage begins with, the first that is there
    SEE.stage: (),
    ALIGN.stage: (SEE.stage,),
    SPEAK.stage: (ALIGN.stage,),
    INSTRUCT.stage: (SPEAK.stage, ALIGN.stage),
}
ADAPTED = (SPEAK.stage, INSTRUCT.stage)  # in which a decoder that came with weights learns, by adapters
TEXTS = 4000  # inputs whose words the tokenizer is made of

Progress = Callable[[str], None]


def new_tokenizer(at_hand: Sequence[Exam], size: int = VOCABULARY, texts: int = TEXTS) -> PreTrainedTokenizerFast:
    """Made from so many inputs and answers as training draws them."""
    drawn = (draw_task(at_hand[number * len(at_hand) // texts], number) for number in range(texts))
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
    config = WetreadConfig(decoder, slabs=0, said_token_ids=words, **OUTLINES, **placeholders(tokenizer))
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
    holds it, `instruct` with that of `speak`. Tokenizer, exams and checkpoints are kept in out.
    ValueError for `speak` and `instruct` before `align` has ended there, for another decoder than the stage before
    began with, for one that cannot be used, and for a run there that went on from other weights; ImportError without
    the package that these two need for a decoder.
    """
    plan = {each.stage: each for each in STAGES}[stage]
    plan = replace(plan, steps=steps or plan.steps, batch=batch or plan.batch)
    start = next((out / each for each in AFTER[stage] if (out / each / "model.safetensors").is_file()), None)
    if start is None and stage in ADAPTED:
        raise ValueError(f"{stage} begins with the model of {ALIGN.stage}, which is not in {out.name}")
    if stage == INSTRUCT.stage and start == out / SPEAK.stage and _age(start) < _age(out / ALIGN.stage):
        raise ValueError(f"{SPEAK.stage} in {out.name} is older than {ALIGN.stage}: run it again, or take it away")
    begun = None
    if start is not None:
        processor = WetreadProcessor.from_pretrained(str(start))
        model = WetreadForReporting.kept_in(start)
        decoders.check_continues(model, decoder, start.name)
        if stage in ADAPTED:
            decoders.check_adapters(model)
        begun = model, processor
        with (start / "model.safetensors").open("rb") as weights:
            plan = replace(plan, begun=hashlib.file_digest(weights, "sha256").hexdigest())
        if stage == ALIGN.stage:
            plan = replace(plan, frozen=SEEN)
    elif decoder is not None:
        model, words = decoders.model_with(decoder)
        start_from(model, packaged_card(START))
        begun = model, WetreadProcessor.of(model, words)
    at_hand = list(pairs(exams(range(patients), out / "exams", progress)))
    if data is not None:
        at_hand += training_films(data, out / "films")
    if begun is None:
        model = new_model(tokenizer := new_tokenizer(at_hand))
        begun = model, WetreadProcessor.of(model, tokenizer)
    model, processor = begun
    if stage not in ADAPTED and decoders.came_from(model):
        plan = replace(plan, frozen=(*plan.frozen, "decoder"))
    curve = train_stage(model, processor, at_hand, plan, out, progress, training_device())
    made = out / plan.stage
    model.save_pretrained(str(made))
    processor.save_pretrained(str(made))
    draw_curve(curve, f"Multimodal model, {plan.stage}: loss, mean of 20 steps", out / f"{plan.stage}-curve.png")
    return made


def _age(folder: Path) -> float:
    """When a stage's model was written; 0 where there is none."""
    weights = folder / "model.safetensors"
    return weights.stat().st_mtime if weights.is_file() else 0.0


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
    if plan.stage == SPEAK.stage:
        batches: Iterable[Batch] = spoken_batches(model, processor, at_hand, plan, run.done, progress)
    else:
        left = _Batches(processor, at_hand, plan, run.done)
        workers = (os.cpu_count() or 1) - 1 if torch.device(device).type == "cuda" else 0
        batches = DataLoader(left, batch_size=None, num_workers=workers)
    for step, drawn in enumerate(batches, run.done):
        for group in optimizer.param_groups:
            group["lr"] = plan.rate * min(1.0, (step + 1) / 40) * _falling(step, plan.steps)
        torch.manual_seed(plan.seed * 1_000_003 + step)  # dropout draws from torch's own generator
        model.train()
        for part in held:
            part.eval()
        optimizer.zero_grad()
        learn = seen if plan.stage == SEE.stage else learned
        loss = learn(model, on(drawn, device))
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


def seen(model: WetreadForReporting, batch: Batch) -> Tensor:
    """The loss of a step of `see`, whose gradients are added to the model's."""
    if batch.outlines is None:
        raise ValueError("nothing is known of these films")
    with half_precision(model.device.type):
        loss = model.outline_loss(model.encode(batch.images), batch.outlines)
    loss.backward()
    return loss.detach()


def learned(model: WetreadForReporting, batch: Batch) -> Tensor:
    """The loss of a step, whose gradients are added to the model's. ValueError for a batch without answers.

    The pictures are encoded once. AT_ONCE texts are learned at a time, each padded to their longest, and what they ask
    of the pictures is gathered before it goes back through the encoder.
    """
    if batch.labels is None:
        raise ValueError("there is no answer to learn")
    learns = bool(model.config.outlined) and model.outline_tokens.maps.weight.requires_grad
    with half_precision(model.device.type):
        encoded = model.encode(batch.images)
        outlined = model.outline_loss(encoded, batch.outlines) if learns and batch.outlines is not None else None
    made = {each: tensor for each in TENSORS if (tensor := getattr(encoded, each)) is not None}
    gathered = {name: tensor.detach().float().requires_grad_(tensor.requires_grad) for name, tensor in made.items()}
    masks = 0 if batch.mask_owners is None else len(batch.mask_owners)
    total = torch.zeros((), device=model.device) if outlined is None else outlined.detach()
    for part, of_part in parts(model.config, batch, replace(encoded, **gathered)):
        labels = cast(Tensor, part.labels)
        with half_precision(model.device.type):
            out = model(
                part.input_ids,
                part.attention_mask,
                labels,
                regions=part.regions,
                encoded=of_part,
                mask_owners=part.mask_owners,
                mask_targets=part.mask_targets,
            )
        loss = out.word_loss * (voices(labels) / voices(batch.labels))
        if part.mask_owners is not None:
            loss = loss + out.mask_loss * (len(part.mask_owners) / masks)
        loss.backward()
        total = total + loss.detach()
    back = [
        (tensor, grad.to(tensor.dtype)) for name, tensor in made.items() if (grad := gathered[name].grad) is not None
    ]
    back += [] if outlined is None else [(outlined, torch.ones_like(outlined))]
    if back:
        torch.autograd.backward(*map(list, zip(*back, strict=True)))  # type: ignore[arg-type]
    return total


def parts(config: PretrainedConfig, batch: Batch, encoded: Encoded) -> Iterator[tuple[Batch, Encoded]]:
    """The batch in runs of AT_ONCE texts without the padding that they all have, each with what is encoded of its own.

    Planes keep the numbers that they have in the whole.
    """
    ids = batch.input_ids
    kinds = (config.picture_token_id, config.volume_token_id, config.slice_token_id, config.region_token_id)
    starts = [[0, *(ids == each).sum(dim=1).cumsum(dim=0).tolist()] for each in (*kinds, config.seg_token_id)]
    for first in range(0, len(ids), AT_ONCE):
        rows = slice(first, min(first + AT_ONCE, len(ids)))
        pictures, volumes, slices, regions, segments = (slice(each[rows.start], each[rows.stop]) for each in starts)
        size = int(batch.attention_mask[rows].sum(dim=1).max())
        part = Batch(
            ids[rows, :size],
            batch.attention_mask[rows, :size],
            None if batch.labels is None else batch.labels[rows, :size],
            batch.images,
            None
            if batch.regions is None or regions.start == regions.stop
            else Regions(batch.regions.masks[regions], batch.regions.boxes[regions], batch.regions.owners[regions]),
            None if batch.mask_owners is None or segments.start == segments.stop else batch.mask_owners[segments],
            None if batch.mask_targets is None or segments.start == segments.stop else batch.mask_targets[segments],
        )
        own = zip(TOKENS, (pictures, volumes, slices), strict=True)
        tokens = {name: None if (every := getattr(encoded, name)) is None else every[of] for name, of in own}
        yield part, replace(encoded, **tokens)


class _Batches(Dataset[Batch]):
    """The inputs of every step that is left; where there is a GPU, all other processors draw them ahead of it."""

    def __init__(self, processor: WetreadProcessor, at_hand: Sequence[Exam], plan: Plan, done: int) -> None:
        self._processor, self._at_hand, self._plan, self._done = processor, at_hand, plan, done
        self._often = shares(at_hand)

    def __len__(self) -> int:
        return max(0, self._plan.steps - self._done)

    def __getitem__(self, number: int) -> Batch:
        draw = seen_batch if self._plan.stage == SEE.stage else drawn_batch
        return draw(self._processor, self._at_hand, self._often, self._plan, self._done + number)


def _falling(step: int, steps: int) -> float:
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps))
