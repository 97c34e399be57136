"""The recipe of the nodule network on CT.

Lungs come from phantoms (seeds below 1,000,000) and, where the research data are at hand, from the real scans of
ct_chest; nodules from phantoms and from the training patients of ct_nodules, pasted. One in ten of those training
patients, and phantom seeds from 900,000, are kept from the network: on them scores become probabilities and the
operating threshold is chosen. The weights that ship are a moving average over the steps. Every step draws from
(seed, step), so a run that was interrupted goes on exactly where it stood.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from monai.losses.dice import DiceCELoss
from safetensors.torch import save_file
from torch import Tensor, nn

from dicom_io.phantom.patient import LesionKind, Visit, draw_patient
from dicom_io.study import Volume
from expert_models.card import Card, packaged_card
from expert_models.ct_nodules import logits_on, network_input
from expert_models.ct_paste import Crop, nodule_crops, read_ct, read_nifti
from expert_models.precision import half_precision, training_device
from expert_models.segment import build_network
from expert_models.train.checkpoint import Training
from expert_models.train.ct_scenes import Scene, Shares, draw_patch, scene_of
from expert_models.train.publish import halved

Progress = Callable[[str], None]

REAL_LUNGS = ("pyradiomics_lung1", "totalseg_heart15mm", "totalseg_aorta15mm")
CHECKPOINT = "ct-nodules.checkpoint.safetensors"
WEIGHTS = "ct-nodules.safetensors"


@dataclass(frozen=True, slots=True)
class Plan:
    """What decides a run, together with the data."""

    steps: int = 8000
    seed: int = 0
    phantoms: int = 24
    batch: int = 6
    rate: float = 2e-3
    average: float = 0.993
    mine_every: int = 1000  # steps between searches for mistakes
    mined_scenes: int = 6


def train(
    data: Path | None, out: Path, *, progress: Progress | None = None, plan: Plan | None = None,
) -> Path:  # fmt: skip
    """Train to the end of the plan, going on from a checkpoint in out, and return the weights written there.

    data: a folder laid out like the development data; None trains on phantoms alone. The GPU is used when there is one.
    ValueError when the checkpoint is of another plan.
    """
    plan, say = plan or Plan(), progress or (lambda _: None)
    card = packaged_card("ct-nodules")
    torch.manual_seed(plan.seed)
    device = training_device()
    network = build_network(card).to(device)
    nn.Module.to(network, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=plan.rate, weight_decay=0.02)
    run = Training(out / CHECKPOINT, network, optimizer, plan)
    crops = training_crops(data) if data else []
    say(f"{len(crops)} real nodules of {len({crop.patient for crop in crops})} training patients")
    scenes = _scenes(card, data, plan, say)
    loss_of = DiceCELoss(sigmoid=True, batch=True, weight=torch.tensor([4.0], device=device), lambda_ce=3.0)
    if run.done:  # a checkpoint was written right after a search
        _mine(card, run.averaged, scenes, plan, run.done, say)
    for step in range(run.done, plan.steps):
        for group in optimizer.param_groups:
            falling = 0.02 + 0.49 * (1 + math.cos(math.pi * step / plan.steps))
            group["lr"] = plan.rate * min(1.0, (step + 1) / 100) * falling
        picture, truth = _batch(np.random.default_rng([plan.seed, step]), scenes, crops, card, plan.batch)
        picture, truth = picture.to(device), truth.to(device)
        network.train()
        with half_precision(device):
            logits = network(picture)
        loss = loss_of(logits.float(), truth)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimizer.step()
        run.took(loss, min(plan.average, (step + 1) / (step + 21)))
        if run.done % 50 == 0:
            say(f"step {run.done}/{plan.steps} loss {run.recent_loss(50):.4f}")
        if run.done % plan.mine_every == 0:
            _mine(card, run.averaged, scenes, plan, run.done, say)
            run.keep()
    run.keep()
    save_file(halved(run.averaged), out / WEIGHTS)
    return out / WEIGHTS


def is_held_out(patient: str) -> bool:
    """One training patient in ten, by a hash of the patient, is kept for calibration."""
    return int(hashlib.sha256(patient.encode()).hexdigest(), 16) % 10 == 0


def training_crops(data: Path, *, held_out: bool = False) -> list[Crop]:
    """Nodules of the training patients of ct_nodules, without (or only) those kept for calibration."""
    return [crop for crop in nodule_crops(data / "ct_nodules", training=True) if is_held_out(crop.patient) is held_out]


def nodules_of(visit: Visit) -> npt.NDArray[np.bool_]:
    """The nodules and masses of a phantom visit, on its voxels."""
    mask = np.zeros(visit.hu.shape, bool)
    for lesion in visit.lesions:
        if lesion.kind in (LesionKind.NODULE, LesionKind.MASS):
            mask |= lesion.on_grid(visit.hu.shape)
    return mask


def _scenes(card: Card, data: Path | None, plan: Plan, say: Progress) -> list[Scene]:
    spacing_mm = card.input.spacing_mm[0]
    scenes: list[Scene] = []
    if data is not None:
        for name in REAL_LUNGS:
            folder = data / "ct_chest" / name
            if not folder.is_dir():
                continue
            tumour = folder / "mask_tumour.nii.gz"
            known = read_nifti(tumour)[0] > 0 if tumour.exists() else None
            scene = scene_of(read_ct(folder / "image.nii.gz"), known, spacing_mm)
            if scene is not None:
                scenes += [scene] * max(1, plan.phantoms // 6)  # drawn more often than one phantom
    for number in range(plan.phantoms):
        random = np.random.default_rng([plan.seed, number, 7])
        visit = draw_patient(
            int(random.integers(0, 900_000)), kinds=_lesions(random), upright=False,
            spacing_mm=(1.5, 1.0, 1.0) if number % 8 == 7 else (float(random.choice([2.0, 2.5])), 1.5, 1.5),
        ).visits[-1]  # fmt: skip
        scene = scene_of(Volume(visit.hu, visit.geometry), nodules_of(visit), spacing_mm)
        if scene is not None:
            scenes.append(scene)
        say(f"phantom {number + 1} of {plan.phantoms}")
    return scenes


def _lesions(random: np.random.Generator) -> list[LesionKind]:
    kinds = [LesionKind.NODULE] * int(random.integers(0, 7)) + [LesionKind.MASS] * int(random.random() < 0.3)
    for other in (LesionKind.CONSOLIDATION, LesionKind.ATELECTASIS, LesionKind.EFFUSION, LesionKind.EDEMA):
        if random.random() < 0.2:
            kinds.append(other)
    return kinds


def _batch(
    random: np.random.Generator, scenes: Sequence[Scene], crops: Sequence[Crop], card: Card, size: int
) -> tuple[Tensor, Tensor]:
    shares = Shares() if crops else Shares(pasted=0.0, own=0.5)
    drawn = [draw_patch(random, scenes, crops, shares) for _ in range(size)]
    picture = network_input(np.stack([hu for hu, _ in drawn])[:, None], card)
    truth = torch.from_numpy(np.stack([truth for _, truth in drawn])[:, None]).float()
    return picture.contiguous(memory_format=torch.channels_last_3d), truth


def _mine(
    card: Card, averaged: dict[str, Tensor], scenes: Sequence[Scene], plan: Plan, step: int, say: Progress
) -> None:
    """Remember where the averaged network sees nodules that are none, and forget where earlier ones did."""
    for scene in scenes:
        scene.hard = []
    random = np.random.default_rng([plan.seed, step, 1])
    device = training_device()
    network = build_network(card).to(device)
    network.load_state_dict(averaged)
    network.eval()
    unique = list({id(scene): scene for scene in scenes}.values())
    found = 0
    for number in random.choice(len(unique), min(plan.mined_scenes, len(unique)), replace=False):
        scene = unique[int(number)]
        logits = logits_on(scene.hu.astype(np.float32), network, card, device)
        coarse = np.zeros(scene.hu.shape, bool)
        coarse[tuple(scene.inside.T)] = True
        wrong = (logits > 0) & ~scene.truth
        places = np.argwhere(wrong & _near(coarse))
        take = random.permutation(len(places))[:40]
        scene.hard = [(int(a), int(b), int(c)) for a, b, c in places[take]]
        found += len(places)
    say(f"searched {min(plan.mined_scenes, len(unique))} scenes: {found} voxels wrongly taken for nodules")


def _near(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Lung voxels were thinned out; whatever lies between them counts."""
    from scipy import ndimage

    return np.asarray(ndimage.maximum_filter(inside, size=7), dtype=bool)
