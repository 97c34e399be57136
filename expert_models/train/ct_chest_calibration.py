"""From the chest network's scores to probabilities: logistic curves fitted on phantoms that the network never saw.

Scenes of seeds from 900,000, painted and varied as those for training are, so that the curves are as unsure as the
network is on unlike scans; each side of each scene is one case for each lesion.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from dicom_io.study import Geometry, Volume
from expert_models.card import Card
from expert_models.ct_chest import CtChest
from expert_models.ct_chest_parts import LESIONS, SIDES
from expert_models.ct_lungs import find_lungs
from expert_models.train.ct_calibration import fitted
from expert_models.train.ct_chest_scenes import CALIBRATION_SEEDS, ChestScene, chest_scene, layers_of, varied

Progress = Callable[[str], None]
SPACING_MM = 2.5
LEAST_ML = 10.0  # a lesion below this is neither a case with it nor one without


def calibrate(card: Card, network: nn.Module, count: int, progress: Progress) -> dict[str, float]:
    """Slope and intercept of each lesion's curve (Platt, Advances in Large Margin Classifiers 1999), by their names.

    network: in evaluation mode. Scenes whose lungs and outlines disagree are left out. ValueError when a lesion was in
    none, or in all of the cases, or when its score does not rise with it: then the network has not learned it.
    """
    expert = CtChest(card=card, network=network)
    scores: dict[str, list[float]] = {name: [] for name in LESIONS}
    there: dict[str, list[bool]] = {name: [] for name in LESIONS}
    for number in range(count):
        scene = chest_scene(number, 1, SPACING_MM, CALIBRATION_SEEDS)
        volume = volume_of(scene, number)
        lungs = find_lungs(volume)
        progress(f"calibration scene {number + 1} of {count}")
        if not lungs.sides or (parts := expert.look(volume, lungs)).doubt:
            continue
        for side in SIDES:
            cavity = scene.mask(f"{side.value} thorax")
            for name in LESIONS:
                volume_ml = float((scene.mask(name) & cavity).sum()) * SPACING_MM**3 / 1000
                if volume_ml == 0 or volume_ml >= LEAST_ML:
                    scores[name].append(parts.lesions[name, side].score)
                    there[name].append(volume_ml > 0)
    values: dict[str, float] = {}
    for name in LESIONS:
        if all(there[name]) or not any(there[name]):
            raise ValueError(f"{count} scenes are too few to calibrate {name} on")
        slope, intercept = fitted(scores[name], there[name])
        if slope <= 0:
            raise ValueError(f"the scores of {name} do not rise with it, so the network has not learned it")
        values |= {f"{name}_slope": slope, f"{name}_intercept": intercept}
    return values


def volume_of(scene: ChestScene, number: int) -> Volume:
    """A scene of SPACING_MM as a scan, varied as patches of a training step are."""
    random = np.random.default_rng([number, 13])
    generator = torch.Generator().manual_seed(number)
    layers = layers_of(torch.from_numpy(scene.bits.astype(np.int32)))
    hu = varied(torch.from_numpy(scene.hu.astype(np.float32)), layers, random, generator)
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = SPACING_MM
    affine[3, 3] = 1.0
    return Volume(np.rint(hu.numpy()).astype(np.int16), Geometry(affine))
