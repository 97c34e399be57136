"""Training goes on where it was stopped, stage after stage, as if nothing had been."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from expert_models.train.phantoms import HELD_OUT
from medmllm.brief import NO_CHEST
from medmllm.model import WetreadConfig, WetreadForReporting
from medmllm.processor import Batch, Input, WetreadProcessor
from medmllm.train import mllm
from medmllm.train.exams import Exam, exams, shares
from medmllm.train.kept import kept_films, spoken_batch, spoken_batches
from medmllm.train.tasks import draw_task

PLAN = replace(mllm.INSTRUCT, steps=3, batch=2, checkpoint_every=1)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Exam]:
    return list(exams(range(HELD_OUT + 9, HELD_OUT + 11), tmp_path_factory.mktemp("exams")))


class StoppedError(Exception):
    """What ends a run in the middle."""


def trained(drawn: Sequence[Exam], out: Path, stop_at: int | None = None) -> WetreadForReporting:
    tokenizer = mllm.new_tokenizer(drawn, size=400, texts=60)
    model = mllm.new_model(tokenizer, hidden=64, layers=1)
    processor = WetreadProcessor.of(model, tokenizer)
    if stop_at is not None:
        with pytest.raises(StoppedError):
            mllm.train_stage(model, StoppedProcessor(processor, stop_at), drawn, PLAN, out, lambda _: None)  # type: ignore[arg-type]
    else:
        curve = mllm.train_stage(model, processor, drawn, PLAN, out, lambda _: None)
        assert [step for step, _ in curve] == [0, 1, 2]
    return model


class StoppedProcessor:
    """A processor whose machine is switched off before a certain batch."""

    def __init__(self, processor: WetreadProcessor, stop_at: int) -> None:
        self._processor, self._left = processor, stop_at

    def batch(self, inputs: object) -> object:
        if self._left == 0:
            raise StoppedError
        self._left -= 1
        return self._processor.batch(inputs)  # type: ignore[arg-type]


def test_a_run_that_was_stopped_ends_as_one_that_was_not(drawn: Sequence[Exam], tmp_path: Path) -> None:
    whole = trained(drawn, tmp_path / "whole").state_dict()
    trained(drawn, tmp_path / "parts", stop_at=2)
    resumed = trained(drawn, tmp_path / "parts").state_dict()
    begun = mllm.new_model(mllm.new_tokenizer(drawn, size=400, texts=60), hidden=64, layers=1).state_dict()
    moved = [name for name, value in whole.items() if not torch.equal(value, begun[name])]
    assert any(name.startswith("picture_encoder.body") for name in moved)
    for name, value in whole.items():
        assert torch.allclose(value, resumed[name], atol=1e-6), name


@pytest.mark.parametrize("stage", ["speak", "instruct"])
def test_later_stages_wait_for_align(tmp_path: Path, stage: str) -> None:
    with pytest.raises(ValueError, match=f"{stage} begins with the model of align"):
        mllm.train_mllm(stage, tmp_path, patients=1)


def test_what_is_seen_is_learned_without_words(drawn: Sequence[Exam], tmp_path: Path) -> None:
    tokenizer = mllm.new_tokenizer(drawn, size=400, texts=60)
    model = mllm.new_model(tokenizer, hidden=64, layers=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plan = replace(mllm.SEE, steps=6, batch=2, checkpoint_every=9)
    curve = mllm.train_stage(model, WetreadProcessor.of(model, tokenizer), drawn, plan, tmp_path, lambda _: None)
    assert curve[-1][1] < curve[0][1]
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.partition(".")[0] for name in moved} == {"picture_encoder", "outline_tokens", "told"}


def seen_in(out: Path, drawn: Sequence[Exam], seed: int, stage: str = "see") -> None:
    """A small model where a stage would leave its own."""
    tokenizer = mllm.new_tokenizer(drawn, size=400, texts=60)
    model = mllm.new_model(tokenizer, hidden=64, layers=1, seed=seed)
    for each in (model, WetreadProcessor.of(model, tokenizer)):
        each.save_pretrained(str(out / stage))


def test_align_goes_on_with_what_was_seen(drawn: Sequence[Exam], tmp_path: Path) -> None:
    seen_in(tmp_path, drawn, seed=3)
    made = mllm.train_mllm("align", tmp_path, patients=1, steps=1, batch=1)
    seen, aligned = (WetreadForReporting.from_pretrained(str(each)).state_dict() for each in (tmp_path / "see", made))
    parts = ("picture_encoder.body", "picture_encoder.down", "picture_encoder.smooth", "outline_tokens", "told")
    held = [name for name in seen if name.startswith(parts)]
    assert held
    assert all(torch.equal(seen[name], aligned[name]) for name in held)
    assert not torch.equal(seen["packer.out.0.weight"], aligned["packer.out.0.weight"])
    assert torch.allclose(seen["packer.out.0.weight"], aligned["packer.out.0.weight"], atol=0.01)  # it began there


def test_a_stage_does_not_go_on_with_other_weights_than_it_began_with(drawn: Sequence[Exam], tmp_path: Path) -> None:
    seen_in(tmp_path, drawn, seed=3)
    mllm.train_mllm("align", tmp_path, patients=1, steps=1, batch=1)
    seen_in(tmp_path, drawn, seed=4)
    with pytest.raises(ValueError, match=r"align\.safetensors is of another run"):
        mllm.train_mllm("align", tmp_path, patients=1, steps=1, batch=1)


def test_the_decoder_alone_learns_to_speak_of_films_that_are_kept(drawn: Sequence[Exam], tmp_path: Path) -> None:
    tokenizer = mllm.new_tokenizer(drawn, size=400, texts=60)
    model = mllm.new_model(tokenizer, hidden=64, layers=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plan = replace(mllm.SPEAK, steps=2, batch=3, films=4)
    mllm.train_stage(model, WetreadProcessor.of(model, tokenizer), drawn, plan, tmp_path, lambda _: None)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.partition(".")[0] for name in moved} <= {"decoder", "region_tokens", "to_mask", "loudness"}
    assert any(name.startswith("decoder") for name in moved)


class Heard:
    """A processor that remembers what it was asked for last."""

    def __init__(self, processor: WetreadProcessor) -> None:
        self._processor = processor
        self.inputs: Sequence[Input] = ()

    def batch(self, inputs: Sequence[Input]) -> Batch:
        self.inputs = inputs
        return self._processor.batch(inputs)


def test_kept_films_are_what_the_model_sees(drawn: Sequence[Exam]) -> None:
    """Each text has its own film, and what was kept of it is what the film itself becomes; 16 bit cost digits."""
    tokenizer = mllm.new_tokenizer(drawn, size=400, texts=60)
    model = mllm.new_model(tokenizer, hidden=64, layers=1).eval()
    processor = WetreadProcessor.of(model, tokenizer)
    plan = replace(mllm.SPEAK, batch=6, films=6)
    heard = Heard(processor)
    kept = kept_films(model, processor, drawn, shares(drawn), plan, round_=0)
    batch = spoken_batch(heard, kept, plan, step=1)  # type: ignore[arg-type]
    whole = processor.batch(heard.inputs)
    assert torch.equal(batch.input_ids, whole.input_ids)
    assert whole.images.pictures is not None
    assert len(whole.images.pictures) == 6
    with torch.no_grad():
        of_kept = model.encode(batch.images)
        of_films = model.encode(whole.images)
    for name in ("picture_tokens", "features", "fine"):
        one, other = (getattr(each, name).reshape(6, -1) for each in (of_kept, of_films))
        middle = other.mean(dim=0)
        alike = torch.cosine_similarity((one - middle)[:, None], (other - middle)[None], dim=2)
        assert alike.argmax(dim=1).tolist() == list(range(6)), name
        assert float(alike.diagonal().min()) > 0.95, name


def test_noise_is_kept_and_spoken_of_as_well(drawn: Sequence[Exam]) -> None:
    tokenizer = mllm.new_tokenizer(drawn, size=400, texts=60)
    model = mllm.new_model(tokenizer, hidden=64, layers=1)
    processor = WetreadProcessor.of(model, tokenizer)
    plan = replace(mllm.SPEAK, batch=40, films=40, seed=1)
    kept = kept_films(model, processor, drawn, shares(drawn), plan, round_=0)
    films = [is_film for *_, is_film in kept.films]
    assert 0 < films.count(False) < 9  # six in a hundred
    heard = Heard(processor)
    spoken_batch(heard, kept, plan, step=0)  # type: ignore[arg-type]
    silent = [each for each in heard.inputs if NO_CHEST.lower() in (each.answer or "").lower()]
    assert len(silent) == films.count(False)


def test_what_is_spoken_of_is_drawn_from_seed_and_step(drawn: Sequence[Exam]) -> None:
    tokenizer = mllm.new_tokenizer(drawn, size=400, texts=60)
    model = mllm.new_model(tokenizer, hidden=64, layers=1)
    processor = WetreadProcessor.of(model, tokenizer)
    plan = replace(mllm.SPEAK, steps=4, batch=2, films=3, renewed=2)
    whole, resumed = (list(spoken_batches(model, processor, drawn, plan, done, lambda _: None)) for done in (0, 3))
    assert len(whole) == 4
    assert torch.equal(whole[3].input_ids, resumed[0].input_ids)
    seen = [each.images.pictured for each in (whole[3], resumed[0], whole[1])]
    here, again, before = (each.features for each in seen if each is not None)
    assert torch.equal(here, again)
    assert not torch.equal(here, before)


def test_instruct_goes_on_with_what_was_spoken(drawn: Sequence[Exam], tmp_path: Path) -> None:
    seen_in(tmp_path, drawn, seed=3, stage="align")
    seen_in(tmp_path, drawn, seed=4, stage="speak")
    made = mllm.train_mllm("instruct", tmp_path, patients=1, steps=1, batch=1)
    names = [tmp_path / "align", tmp_path / "speak", made]
    aligned, spoken, ended = (WetreadForReporting.from_pretrained(str(each)).to_mask[0].weight for each in names)
    assert torch.allclose(ended, spoken, atol=0.01)
    assert not torch.allclose(ended, aligned, atol=0.01)


def test_what_was_spoken_before_align_is_not_gone_on_with(drawn: Sequence[Exam], tmp_path: Path) -> None:
    seen_in(tmp_path, drawn, seed=4, stage="speak")
    seen_in(tmp_path, drawn, seed=3, stage="align")
    with pytest.raises(ValueError, match=r"speak in .* is older than align"):
        mllm.train_mllm("instruct", tmp_path, patients=1, steps=1, batch=1)


def test_a_model_that_outlines_nothing_learns_as_well(drawn: Sequence[Exam]) -> None:
    tokenizer = mllm.new_tokenizer(drawn, size=400, texts=60)
    sizes = mllm.new_model(tokenizer, hidden=64, layers=1).config.to_dict() | {"outlined": [], "said_token_ids": []}
    model = WetreadForReporting(WetreadConfig(**sizes))
    batch = WetreadProcessor.of(model, tokenizer).batch([draw_task(drawn[0], 1, task="unaided")])
    assert batch.outlines is not None
    assert float(mllm.learned(model, batch)) > 0


def test_batches_are_drawn_from_seed_and_step(drawn: Sequence[Exam]) -> None:
    tokenizer = mllm.new_tokenizer(drawn, size=400, texts=60)
    processor = WetreadProcessor.of(mllm.new_model(tokenizer, hidden=64, layers=1), tokenizer)
    one, same, other = (mllm.drawn_batch(processor, drawn, shares(drawn), PLAN, step) for step in (4, 4, 5))
    assert torch.equal(one.input_ids, same.input_ids)
    assert one.input_ids.tolist() != other.input_ids.tolist()


def test_a_step_in_parts_is_the_step_as_a_whole(drawn: Sequence[Exam]) -> None:
    """Without dropout, the gradients are those of the model's own loss of all texts at once, pictures and all."""
    tokenizer = mllm.new_tokenizer(drawn, size=400, texts=60)
    model = mllm.new_model(tokenizer, hidden=64, layers=1).eval()
    tasks = ("ask", "became", "name", "where", "ask", "name", "where", "became", "unaided", "unaided", "where")
    inputs = [draw_task(drawn[number % 2], number, task=task) for number, task in enumerate(tasks)]
    assert len(inputs) > mllm.AT_ONCE
    batch = WetreadProcessor.of(model, tokenizer).batch(inputs)

    def gradients() -> dict[str, torch.Tensor]:
        moved = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
        model.zero_grad()
        return moved

    out = model(
        batch.input_ids,
        batch.attention_mask,
        batch.labels,
        batch.images,
        batch.regions,
        mask_owners=batch.mask_owners,
        mask_targets=batch.mask_targets,
        outline_targets=batch.outlines,
    )
    out.loss.backward()
    whole = gradients()
    loss = mllm.learned(model, batch)
    parts = gradients()
    assert float(loss) == pytest.approx(out.loss.item(), rel=0.02)  # the processor may multiply in half precision
    assert set(parts) == set(whole)
    for name in (
        "decoder.model.embed_tokens.weight",
        "to_mask.0.weight",
        "region_tokens.out.1.weight",
        "packer.out.0.weight",
        "outline_tokens.maps.weight",
        "picture_encoder.down.3.weight",
    ):
        one, other = whole[name].flatten(), parts[name].flatten()
        assert torch.cosine_similarity(one, other, dim=0) > 0.98, name
        assert float(one.norm()) == pytest.approx(float(other.norm()), rel=0.05), name
