"""`wetread train experts`: the packaged weights, made again from the data that their cards name.

Weights, cards and curves are written below the folder OUT, never over the installed ones: compare, then copy.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from expert_models.card import CARDS

Progress = Callable[[str], None]

CXR_ANATOMY = "cxr-anatomy"
CT_NODULES = "ct-nodules"
CT_NODULE_ATTRIBUTES = "ct-nodule-attributes"
CXR_INPUT = "cxr-input"
CXR_FINDINGS = "cxr-findings"
CXR_STRUCTURES = "cxr-structures"
CT_CHEST = "ct-chest"
CALIBRATION_SCANS = 16
CALIBRATION_CHESTS = 100


def train_experts(data: Path | None, out: Path, only: str | None, progress: Progress) -> list[Path]:
    """Train the experts that have weights and return the weights written, each beside its card in `out`.

    data: a folder laid out like the development data; None trains on phantoms alone. only: one card's name. A run that
    was interrupted goes on from its last checkpoint in out. ValueError for a name that is not trained here.
    """
    recipes = {
        CXR_INPUT: _cxr_input,
        CXR_ANATOMY: _cxr_anatomy,
        CXR_FINDINGS: _cxr_findings,
        CXR_STRUCTURES: _cxr_structures,
        CT_NODULES: _ct_nodules,
        CT_NODULE_ATTRIBUTES: _ct_nodule_attributes,
        CT_CHEST: _ct_chest,
    }
    if only is not None and only not in recipes:
        raise ValueError(f"there is no recipe for {only!r}; there is {' and '.join(recipes)}")
    out.mkdir(parents=True, exist_ok=True)
    return [recipe(data, out, progress) for name, recipe in recipes.items() if only in (None, name)]


def _cxr_anatomy(data: Path | None, out: Path, progress: Progress) -> Path:
    from expert_models.train.publish import draw_curve, publish
    from expert_models.train.radiograph_stages import train_in_stages

    network, curve = train_in_stages(data, out, progress)
    card, weights = out / f"{CXR_ANATOMY}.toml", out / f"{CXR_ANATOMY}.safetensors"
    shutil.copyfile(CARDS / card.name, card)
    publish(card, weights, network.state_dict(), {}, [])
    draw_curve(curve, "Chest radiograph network: cross-entropy + Dice, mean of 20 steps", out / "cxr-anatomy-curve.png")
    return weights


def _cxr_findings(data: Path | None, out: Path, progress: Progress) -> Path:
    """Calibrated on training patients that the network did not see; without them the card's calibration stays."""
    from expert_models.card import packaged_card
    from expert_models.train.findings_calibration import calibrate
    from expert_models.train.findings_stages import train_findings
    from expert_models.train.publish import draw_curve, publish

    network, curve = train_findings(data, out, progress)
    card, weights = out / f"{CXR_FINDINGS}.toml", out / f"{CXR_FINDINGS}.safetensors"
    shutil.copyfile(CARDS / card.name, card)
    values: dict[str, float] = {}
    if data is not None and (data / "cxr_nih" / "index.csv").is_file():
        values = calibrate(packaged_card(CXR_FINDINGS), network, data / "cxr_nih", progress)
    publish(card, weights, network.state_dict(), values, [])
    draw_curve(curve, "Findings network: sides, films and maps, mean of 20 steps", out / "cxr-findings-curve.png")
    return weights


def _cxr_structures(data: Path | None, out: Path, progress: Progress) -> Path:
    from expert_models.card import packaged_card
    from expert_models.train.cxr_structures import train_structures
    from expert_models.train.publish import draw_curve, publish
    from expert_models.train.structures_calibration import calibrate

    network, curve = train_structures(data, out, progress)
    card, weights = out / f"{CXR_STRUCTURES}.toml", out / f"{CXR_STRUCTURES}.safetensors"
    shutil.copyfile(CARDS / card.name, card)
    limits = calibrate(packaged_card(CXR_STRUCTURES), network, data, progress)
    publish(card, weights, network.state_dict(), limits, [])
    draw_curve(curve, "Structures network: cross-entropy + Dice, mean of 20 steps", out / "cxr-structures-curve.png")
    return weights


def _cxr_input(data: Path | None, out: Path, progress: Progress) -> Path:
    from expert_models.card import packaged_card
    from expert_models.train.cxr_input import refusal_thresholds, train
    from expert_models.train.publish import draw_curve, publish

    network, curve = train(packaged_card(CXR_INPUT), data, out, progress)
    card, weights = out / f"{CXR_INPUT}.toml", out / f"{CXR_INPUT}.safetensors"
    shutil.copyfile(CARDS / card.name, card)
    publish(card, weights, network.state_dict(), refusal_thresholds(network, data), [])
    draw_curve(curve, "Input check: cross-entropy, mean of 20 steps", out / "cxr-input-curve.png")
    return weights


def _ct_nodules(data: Path | None, out: Path, progress: Progress) -> Path:
    from safetensors.torch import load_file

    from expert_models.card import packaged_card
    from expert_models.segment import build_network
    from expert_models.train.ct_calibration import calibrate, write_card
    from expert_models.train.ct_nodules import train, training_crops

    weights, installed = train(data, out, progress=progress), packaged_card(CT_NODULES)
    network = build_network(installed)
    network.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
    crops = training_crops(data, held_out=True) if data else []
    point = calibrate(installed, network.eval(), crops, CALIBRATION_SCANS, progress)
    card = out / f"{CT_NODULES}.toml"
    shutil.copyfile(CARDS / card.name, card)
    write_card(card, weights, point, [])
    return weights


def _ct_chest(data: Path | None, out: Path, progress: Progress) -> Path:
    """Phantoms alone, whatever data there are."""
    from expert_models.card import packaged_card
    from expert_models.segment import build_network
    from expert_models.train.ct_chest import train
    from expert_models.train.ct_chest_calibration import calibrate
    from expert_models.train.publish import draw_curve, publish

    state, curve = train(out, progress=progress)
    card, weights, installed = out / f"{CT_CHEST}.toml", out / f"{CT_CHEST}.safetensors", packaged_card(CT_CHEST)
    network = build_network(installed)
    network.load_state_dict({name: value.cpu().half().float() for name, value in state.items()})
    calibration = calibrate(installed, network.eval(), CALIBRATION_CHESTS, progress)
    shutil.copyfile(CARDS / card.name, card)
    publish(card, weights, state, calibration, [])
    draw_curve(curve, "Chest CT network: cross-entropy + Dice, mean of 20 steps", out / "ct-chest-curve.png")
    return weights


def _ct_nodule_attributes(data: Path | None, out: Path, progress: Progress) -> Path:
    import hashlib
    import re

    import numpy as np
    from safetensors.numpy import save_file

    from expert_models.train.nodule_attributes import train

    if data is None:
        raise ValueError(f"{CT_NODULE_ATTRIBUTES} is fitted to the ratings of ct_nodules: name the data with --data")
    card, weights = out / f"{CT_NODULE_ATTRIBUTES}.toml", out / f"{CT_NODULE_ATTRIBUTES}.safetensors"
    shutil.copyfile(CARDS / card.name, card)
    heads = train(data, card, progress)
    tensors = {"mean": heads.mean, "scale": heads.scale, **heads.weights}
    save_file({name: value.astype(np.float32) for name, value in tensors.items()}, weights)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    card.write_text(re.sub(r'(?m)^sha256 = ".*"$', f'sha256 = "{digest}"', card.read_text(encoding="utf-8")), "utf-8")
    return weights
