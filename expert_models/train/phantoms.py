"""Phantom radiographs for training and evaluation: drawn from seeds, so that nothing of them need be kept."""

from __future__ import annotations

import numpy as np

from dicom_io.phantom.patient import draw_patient
from dicom_io.phantom.project import radiograph
from expert_models.train.radiographs import Labelled

HELD_OUT = 1_000_000  # seeds from here on are for evaluation alone


def phantom_radiograph(seed: int, rows: int, spacing_mm: float) -> Labelled:
    """The phantom of this seed as one labelled film, every third AP. rows: of the square film, in pixels."""
    visit = draw_patient(seed, spacing_mm=spacing_mm).visits[-1]
    film = radiograph(visit, view="AP" if seed % 3 == 0 else "PA", rows=rows, seed=seed)
    return Labelled(
        name=f"phantom {seed}",
        patient=str(seed),
        view=film.view,
        group="phantom",
        picture=film.image.astype(np.float32),
        masks=np.stack([film.masks[name] for name in ("right_lung", "left_lung", "heart")]),
        known=(True, True, True),
    )
