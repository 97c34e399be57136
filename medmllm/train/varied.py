"""An exam as another detector and another pose would have it: what training sees in place of the same film again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from expert_models.train.augment import exposed, moved
from medmllm.train.exams import Exam, Film

POSE = 0.4  # strength, so that neither a small lesion nor the ratio of the heart suffers
AS_DRAWN = 0.15  # of exams that stay as they are


def varied(exam: Exam, random: np.random.Generator) -> Exam:
    """Each film moved a little, with its outlines, and developed anew. Lesions that leave the film keep their name."""
    if random.random() < AS_DRAWN:
        return exam
    then = exam.then and _varied(exam.then, random)
    return replace(exam, then=then, now=_varied(exam.now, random))


def _varied(film: Film, random: np.random.Generator) -> Film:
    generator = torch.Generator().manual_seed(int(random.integers(1 << 40)))
    picture = torch.from_numpy(film.picture).float()[None, None] / 255
    outlines = torch.from_numpy(film.outlines).float()[None]
    picture, outlines = moved(picture, outlines, generator, POSE)
    picture = exposed(picture, generator).clamp(0, 1)
    developed = (picture[0, 0] * 255).round().to(torch.uint8).numpy()
    return replace(film, picture=developed, outlines=(outlines[0] > 0.5).numpy())
