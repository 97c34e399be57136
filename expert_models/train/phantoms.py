"""Phantom radiographs for training and evaluation: drawn from seeds, so that nothing of them need be kept."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from dicom_io.phantom.devices import draw_device_kinds
from dicom_io.phantom.look import draw_look
from dicom_io.phantom.patient import LesionKind, draw_patient
from dicom_io.phantom.project import Radiograph, radiograph
from expert_models.train.radiographs import Labelled

HELD_OUT = 1_000_000  # seeds from here on are for evaluation alone
VIEWS = {"PA": 0.5, "AP": 0.25, "AP SUPINE": 0.25}  # of varied phantoms


def phantom_radiograph(seed: int, rows: int, spacing_mm: float, *, varied: bool = False) -> Labelled:
    """The phantom of this seed as one labelled film. rows: of the square film, in pixels.

    Every third is AP. varied: another patient, from the wider range of bodies, devices and looks (see varied_film).
    """
    if varied:
        film = varied_film(seed, rows, spacing_mm)
    else:
        visit = draw_patient(seed, spacing_mm=spacing_mm).visits[-1]
        film = radiograph(visit, view="AP" if seed % 3 == 0 else "PA", rows=rows, seed=seed)
    return Labelled(
        name=f"phantom {seed}" + (", varied" if varied else ""),
        patient=str(seed),
        view=film.view,
        group="phantom",
        picture=film.image.astype(np.float32),
        masks=np.stack([film.masks[name] for name in ("right_lung", "left_lung", "heart")]),
        known=(True, True, True),
    )


def varied_film(
    seed: int, rows: int, spacing_mm: float, *, kinds: Collection[LesionKind] | None = None, view: str | None = None
) -> Radiograph:
    """The varied phantom of this seed as one film, with all that is known of it: lesions, devices, their masks, tips.

    kinds: as of draw_patient. view: None draws "PA", "AP" or "AP SUPINE"; "LATERAL" only when asked for. Films taken at
    the bedside show more devices.
    """
    random = np.random.default_rng([seed, 71])
    taken = str(random.choice(list(VIEWS), p=list(VIEWS.values()))) if view is None else view
    devices = draw_device_kinds(random, taken)
    upright = taken != "AP SUPINE"
    patient = draw_patient(
        seed,
        spacing_mm=spacing_mm,
        kinds=kinds,
        upright=upright,
        variety=True,
        arms_down=taken != "LATERAL",
        devices=devices,
    )
    return radiograph(patient.visits[-1], view=taken, rows=rows, seed=seed, look=draw_look(seed, taken))
