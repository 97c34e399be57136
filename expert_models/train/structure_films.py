"""Films for the structures network: phantoms on which everything is known, and real films without any device.

Real films tell lungs and heart, and airways where they were drawn. Those on which a device was drawn are left out: they
are few, and are kept to test on. On the others every device that the annotators drew is absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dicom_io.phantom.devices import DeviceKind
from dicom_io.phantom.look import draw_look
from dicom_io.phantom.outlines import ORGANS
from dicom_io.phantom.patient import draw_patient
from dicom_io.phantom.project import Radiograph, radiograph
from expert_models.train.cxr_anatomy import Progress
from expert_models.train.findings_films import phantom_kinds
from expert_models.train.radiographs import drawn_bits, in_frame, opened, packed, rows_where

FRAME = (384, 384)  # of the network's input, as its card says
DEVICES = tuple(kind.value for kind in DeviceKind)
CHANNELS = (*ORGANS, "carina", *DEVICES)  # the card has them in this order, but for the devices
DRAWN = {  # bits of the pack's masks, and what we call them; lungs, heart, airways, devices
    "right_lung": 0,
    "left_lung": 1,
    "heart": 2,
    "airways": 3,
    "endotracheal_tube": 8,
    "central_line": 9,
    "ecg_leads": 10,
    "nasogastric_tube": 11,
}
CARINA_RADIUS = 5.0  # frame pixels of the disc that stands for the carina
SHARE = 0.3  # of the phantoms with each device
RULES = 1  # of how a film is drawn and what is true of it: those that were kept under others are drawn anew
SPACING_MM = (2.0, 2.7)  # of the phantoms' voxels: finer and coarser films

Uint16 = npt.NDArray[np.uint16]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """One framed film. picture: (H, W) in 8 bits. bits: (H, W), bit k is channel k. known: (K) 0 or 1."""

    name: str
    picture: npt.NDArray[np.uint8]
    bits: Uint16
    known: npt.NDArray[np.float32]


def drawn_phantom(seed: int, rows: int = FRAME[0]) -> Radiograph:
    """A varied phantom of this seed with more devices than any ward has, in any view."""
    random = np.random.default_rng([seed, 4721])
    view = str(random.choice(["PA", "AP", "AP SUPINE"], p=[0.35, 0.3, 0.35]))
    devices = [kind for kind in DeviceKind if random.random() < SHARE]
    patient = draw_patient(
        seed, spacing_mm=SPACING_MM[0] + (SPACING_MM[1] - SPACING_MM[0]) * (seed * 7 % 10) / 10,
        kinds=phantom_kinds(seed), upright=view != "AP SUPINE", variety=True, arms_down=True, devices=devices,
    )  # fmt: skip
    return radiograph(patient.visits[-1], view=view, rows=rows, seed=seed, look=draw_look(seed, view))


def masks_of(film: Radiograph) -> dict[str, Mask]:
    """The masks (rows, columns) of all CHANNELS, in their order; what is not there is empty."""
    nothing = np.zeros(film.image.shape, bool)
    masks = dict.fromkeys(CHANNELS, nothing) | {name: film.masks[name] for name in ORGANS}
    rows, columns = np.indices(film.image.shape)
    radius = CARINA_RADIUS * film.image.shape[0] / FRAME[0]
    masks["carina"] = np.hypot(rows - film.carina[0], columns - film.carina[1]) <= radius
    return masks | {device.kind.value: film.masks[device.tracking_id] for device in film.devices}


def phantoms(seeds: Iterable[int], kept: Path, progress: Progress) -> Iterator[Film]:
    """A film of each phantom of these seeds, drawn where the folder `kept` does not hold it yet."""
    kept.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds, 1):
        path = kept / f"{seed}-{RULES}.npz"
        if not path.is_file():
            film = drawn_phantom(seed)
            picture, _ = in_frame(film.image.astype(np.float32), FRAME)
            partial = path.with_suffix(".partial.npz")
            np.savez_compressed(partial, picture=picture, bits=packed(list(masks_of(film).values())))
            partial.replace(path)
        with np.load(path) as arrays:
            yield Film(f"phantom {seed}", arrays["picture"], arrays["bits"], np.ones(len(CHANNELS), np.float32))
        if number % 50 == 0:
            progress(f"{number} phantoms at hand")


def real_films(pack: Path) -> Iterator[Film]:
    """The training films of a cxr_anatomy pack on which no device was drawn."""
    for row in rows_where(pack, lambda split: split == "train"):
        bits = drawn_bits(pack / row["mask"])
        if (bits >> min(DRAWN[name] for name in DEVICES if name in DRAWN)).any():
            continue
        picture, box = in_frame(opened(pack / row["file"]), FRAME)
        known = np.zeros(len(CHANNELS), np.float32)
        masks = {name: np.zeros(FRAME, bool) for name in CHANNELS}
        for name, bit in DRAWN.items():
            mask = bits >> bit & 1 == 1
            masks[name] = box.lay(mask.astype(np.float32)) > 0.5
            known[CHANNELS.index(name)] = row["annotated"] == "all" if name in DEVICES else mask.any()
        yield Film(Path(row["file"]).name, picture, packed(list(masks.values())), known)
