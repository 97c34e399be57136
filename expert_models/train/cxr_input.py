"""The recipe of the input check: is this a frontal, upright chest radiograph that is neither inverted nor mirrored?

Real training radiographs and phantoms are turned, mirrored and inverted; laterals, abdomens and slices come from
phantoms, the rest is drawn (expert_models/train/unfit.py). A seventh of the patients is kept out to choose thresholds
on: above every score that a fit film gets there.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from dicom_io.phantom.patient import draw_patient
from dicom_io.phantom.project import radiograph
from expert_models.card import Card
from expert_models.input_check import MIRRORED as MIRRORED_NAME
from expert_models.input_check import RadiographInput
from expert_models.precision import training_device
from expert_models.preprocess import network_input
from expert_models.segment import build_network
from expert_models.train import unfit
from expert_models.train.augment import diseased, exposed, moved, with_devices
from expert_models.train.checkpoint import Curve, Training

Progress = Callable[[str], None]
Picture = npt.NDArray[np.float32]

NOT_CHEST, LATERAL, INVERTED, SIDEWAYS, UPSIDE_DOWN, MIRRORED = range(6)  # as the card's labels
PACKS = ("cxr_nih", "cxr_anatomy", "cxr_serial")
PHANTOMS = range(40)
DRAWN_EACH = 30
KEPT_OUT = 7  # every seventh patient
LEAST_REFUSAL = 0.5  # probability from which a picture may be refused
STEPS, SEED, RATE = 1600, 5, 3e-3
KINDS = ("right", "inverted")  # of a pool
SHARES = {"film": 32, "lateral": 6, "other": 12}
REPORT_EVERY, CHECKPOINT_EVERY = 50, 100


@dataclass(frozen=True, slots=True)
class Pool:
    """Framed pictures of one kind, uint8 (N, H, W): as they are and with their grey scale inverted."""

    right: Tensor
    inverted: Tensor

    def __len__(self) -> int:
        return len(self.right)


def train(card: Card, data: Path | None, out: Path, progress: Progress) -> tuple[nn.Module, Curve]:
    """Train to the end, or go on from the checkpoint in out. Returns the network on the CPU and its curve."""
    out.mkdir(parents=True, exist_ok=True)
    pools = _kept(out / "cxr-input.pictures.safetensors", lambda: training_pools(card, data, progress))
    device = training_device()
    torch.manual_seed(SEED)
    network = build_network(card).train().to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.02)
    plan = f"{STEPS} steps, seed {SEED}, rate {RATE}"
    run = Training(out / "cxr-input.checkpoint.safetensors", network, optimizer, plan)
    for step in range(run.done, STEPS):
        for group in optimizer.param_groups:
            group["lr"] = (
                RATE * min(1.0, (step + 1) / 50) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / STEPS)))
            )
        pictures, truth, known = (each.to(device) for each in batch(pools, step))
        logits = network(pictures.contiguous(memory_format=torch.channels_last))
        loss = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        mean = (loss * known).sum() / known.sum()
        optimizer.zero_grad()
        mean.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 3.0)
        optimizer.step()
        run.took(mean, 0.0)  # what ships is the network as it ends
        if run.done % REPORT_EVERY == 0:
            progress(f"step {run.done}/{STEPS} loss {run.recent_loss(REPORT_EVERY):.4f}")
        if run.done % CHECKPOINT_EVERY == 0:
            run.keep()
    return network.cpu().eval(), run.curve


def training_pools(card: Card, data: Path | None, progress: Progress) -> Mapping[str, Pool]:
    """Films, laterals and other pictures; real films only where there is data."""
    random = np.random.default_rng(SEED)
    films = [film for _, film in real_films(data, kept_out=False)] if data else []
    others = [unfit.corner(film, random) for film in films]
    others += [unfit.saturated(film) for film in films[::4]]
    progress(f"{len(films)} real radiographs")
    laterals = []
    for seed in PHANTOMS:
        visit = draw_patient(seed, spacing_mm=4.0).visits[-1]
        films.append(radiograph(visit, view="AP" if seed % 3 == 0 else "PA", rows=96, seed=seed).image)
        laterals += [unfit.lateral(visit, random) for _ in range(2)]
        others += [unfit.abdomen(visit, random) for _ in range(2)]
        others += [unfit.slice_of_ct(visit, random) for _ in range(2)]
    others += [draw(random) for draw in unfit.DRAWN.values() for _ in range(DRAWN_EACH)]
    progress(f"{len(PHANTOMS)} phantoms drawn")
    return {"film": _pool(films, card), "lateral": _pool(laterals, card), "other": _pool(others, card)}


def _kept(path: Path, draw: Callable[[], Mapping[str, Pool]]) -> Mapping[str, Pool]:
    """The pools as an earlier run in this folder left them, else drawn and left there."""
    if not path.is_file():
        tensors = {f"{name}.{kind}": getattr(pool, kind) for name, pool in draw().items() for kind in KINDS}
        partial = path.with_name(f"{path.name}.partial")
        save_file(tensors, partial)
        partial.replace(path)
    tensors = load_file(path)
    return {name: Pool(*(tensors[f"{name}.{kind}"] for kind in KINDS)) for name in SHARES}


def real_films(data: Path, *, kept_out: bool) -> Iterator[tuple[str, Picture]]:
    """(patient, picture) of the packs' training rows: those learned from, or the patients kept out of that."""
    for pack in PACKS:
        index = data / pack / "index.csv"
        if not index.is_file():
            continue
        with index.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
        for row in rows:
            is_out = int(hashlib.sha256(row["patient"].encode()).hexdigest(), 16) % KEPT_OUT == 0
            if is_out is kept_out:
                with Image.open(data / pack / row["file"]) as image:
                    yield row["patient"], np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255)


def batch(pools: Mapping[str, Pool], step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures (B, 1, H, W) in [-2, 2], what is true of them (B, 6), and which of it is known (B, 6), of one step."""
    generator = torch.Generator().manual_seed(SEED * 1_000_003 + step)
    made = [
        _drawn(name, pools[name], int(index), generator)
        for name, count in SHARES.items()
        for index in torch.randint(0, len(pools[name]), (count,), generator=generator)
    ]
    pictures, truth, known = (torch.stack(list(each)) for each in zip(*made, strict=True))
    pictures = pictures[:, None].float() / 255
    films = SHARES["film"]
    H, W = pictures.shape[-2:]  # noqa: N806
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, H), torch.linspace(-1, 1, W), indexing="ij")
    chest = ((rows**2 + columns**2) < 0.6).float().expand(films, 1, H, W)
    ill = diseased(pictures[:films], chest, generator)
    pictures, _ = moved(torch.cat([ill, pictures[films:]]), torch.zeros(len(pictures), 1, H, W), generator)
    return (with_devices(exposed(pictures, generator), generator) - 0.5) * 4, truth, known


def _drawn(kind: str, pool: Pool, index: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """One picture (H, W), spoiled or not, with its truth and what of it is known."""
    chance = torch.rand(6, generator=generator)
    rare = bool(chance[5] < 0.12)  # several things wrong at once
    first = float(chance[4])

    def is_so(label: int, low: float, high: float) -> bool:
        return bool(chance[label - INVERTED] < 0.35) if rare else low <= first < high

    is_inverted = is_so(INVERTED, 0.40, 0.58)
    picture = (pool.inverted if is_inverted else pool.right)[index]
    truth, known = torch.zeros(6), torch.ones(6)
    truth[INVERTED] = float(is_inverted)
    if kind == "other":
        truth[NOT_CHEST], known[1:] = 1.0, 0.0
        turns = int(torch.randint(0, 4, (1,), generator=generator)) if chance[3] < 0.3 else 0
        return torch.rot90(picture, turns), truth, known
    if is_so(MIRRORED, 0.58, 0.72):
        picture, truth[MIRRORED] = picture.flip(1), 1.0
    if is_so(UPSIDE_DOWN, 0.72, 0.86):
        picture, truth[UPSIDE_DOWN] = torch.rot90(picture, 2), 1.0
    if is_so(SIDEWAYS, 0.86, 1.01):
        picture, truth[SIDEWAYS] = torch.rot90(picture, 1 if chance[3] < 0.5 else 3), 1.0
        truth[UPSIDE_DOWN] = truth[MIRRORED] = known[UPSIDE_DOWN] = known[MIRRORED] = 0.0
    if kind == "lateral":
        truth[LATERAL], truth[MIRRORED], known[MIRRORED], known[NOT_CHEST] = 1.0, 0.0, 0.0, 0.0
    return picture, truth, known


def _pool(pictures: list[Picture], card: Card) -> Pool:
    """Framed exactly as at inference; inverted before framing, so that the empty border stays black."""
    rows, columns = card.input.size

    def framed(picture: Picture) -> npt.NDArray[np.uint8]:
        return np.asarray((network_input(picture, (rows, columns))[0] / 4 + 0.5) * 255).round().astype(np.uint8)

    right = np.stack([framed(each) for each in pictures])
    inverted = np.stack([framed(unfit.inverted(each)) for each in pictures])
    return Pool(torch.from_numpy(right), torch.from_numpy(inverted))


def refusal_thresholds(network: nn.Module, data: Path | None) -> dict[str, float]:
    """From where a picture is refused, as the card's calibration names it: above all fit films kept out, but for one.

    Never below LEAST_REFUSAL; empty without data.
    """
    films = [film for _, film in real_films(data, kept_out=True)] if data else []
    if not films:
        return {}
    expert = RadiographInput(network=network)
    scores = [expert.probabilities(film) for film in films]
    return {
        f"refuse_{name.replace(' ', '_')}": max(LEAST_REFUSAL, sorted(each[name] for each in scores)[-2])
        for name in scores[0]
        if name != MIRRORED_NAME
    }
