"""From which score on the chest expert tells a lesion, found on phantoms that its network never saw.

Scenes of seeds from 900,000, painted and varied as those for training are; each side of each scene is one case for each
lesion. No probability comes of it: how common a lesion is among phantoms says nothing of patients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from dicom_io.study import Geometry, Volume
from expert_models.card import Card
from expert_models.ct_chest import CtChest
from expert_models.ct_chest_parts import LESIONS, SIDES
from expert_models.ct_lungs import find_lungs
from expert_models.train.ct_calibration import alarm_over
from expert_models.train.ct_chest_scenes import CALIBRATION_SEEDS, ChestScene, chest_scene, layers_of, varied

Progress = Callable[[str], None]
SPACING_MM = 2.5
LEAST_ML = 10.0  # a lesion below this is neither a case with it nor one without


def calibrate(card: Card, network: nn.Module, count: int, progress: Progress) -> dict[str, float]:
    """The alarm of each lesion, see `alarm_over`; every side of a scene is a case.

    Which lesions have one is the card's to say. network: in evaluation mode. Scenes whose lungs and outlines disagree
    are left out. ValueError when a lesion was in none, or in all of the cases, or when half of those with it do not
    reach the alarm: the network has not learned it.
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
    told = [name for name in LESIONS if f"{name}_alarm" in card.calibration]
    return {f"{name}_alarm": alarm(name, scores[name], there[name]) for name in told}


def alarm(name: str, scores: Sequence[float], there: Sequence[bool]) -> float:
    """The alarm of one lesion, see `calibrate`. scores: logits of sides; there: which of them have the lesion."""
    with_it, without = ([s for s, has in zip(scores, there, strict=True) if has is wanted] for wanted in (True, False))
    if not with_it or not without:
        raise ValueError(f"the scenes are too few to calibrate {name} on")
    score = alarm_over(without)
    if np.median(with_it) < score:
        raise ValueError(f"half of the scenes with {name} do not reach its alarm, so the network has not learned it")
    return score


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
