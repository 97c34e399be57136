"""Whether a picture is what the experts read: by its header and simple counts, and by a small network on its pixels.

What the header tells is answered by `refuses_radiograph` and `refuses_child` before anything runs. `RadiographInput` is
an expert on the picture itself: the panel asks it first, and takes what it finds for a reason not to ask the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dicom_io.study import Series
from expert_models.card import Card, packaged_card
from expert_models.codes import PICTURE_FITNESS
from expert_models.finding import Code, ExpertTag, Finding, Presence
from expert_models.once import Once
from expert_models.ports import Masks

if TYPE_CHECKING:
    from torch import nn

    from expert_models.runtime import Run

CARD = "cxr-input"
MIRRORED = "mirrored"  # the label that is told, and never refused: a heart may lie on the right
SMALLEST_SIDE = 128  # pixels; below it neither a lung's edge nor the heart's can be placed to a hundredth of the width
LEAST_CONTRAST = 0.02  # between the 2nd and 98th percentile
MOST_EXTREME = 0.75  # share of pixels at the lowest or highest value; 832 real films have 0.25 or less, but one 0.5
LEAST_LIKENESS = 0.5  # correlation of neighbouring pixels of a CT; real and phantom ones have 0.9 and more
ADULT_YEARS = 16  # the experts were trained on, and their limits are those of, adults

# BodyPartExamined values (PS3.16 Annex L) that exclude a chest. Words that are not listed are left to the picture
# itself: sites write this attribute in many languages, and often not at all.
_OTHER_BODY_PARTS = """
ABDOMEN ANKLE ARM BREAST BUTTOCK CALCANEUS CALF CLAVICLE COCCYX CSPINE CTSPINE ELBOW EXTREMITY EYE FACE FEMUR FINGER
FOOT FOREARM HAND HEAD HIP HUMERUS JAW KNEE LEG LSPINE LSSPINE MAXILLA MANDIBLE NECK ORBIT PATELLA PELVIS RADIUS SACRUM
SCAPULA SHOULDER SINUS SKULL SPINE SSPINE TEETH THIGH THUMB TIBIA TIBIAFIBULA TOE TMJ TSPINE ULNA WRIST ZYGOMA
"""
OTHER_BODY_PARTS = frozenset(_OTHER_BODY_PARTS.split())

# What each kind of unfit picture is called after "Series 1 of 2 was not read:". Keys: values of the codes in the card.
_SAID = {
    "picture-not-chest": "the picture does not look like a frontal chest radiograph",
    "picture-lateral": "the picture looks like a lateral view",
    "picture-inverted": "the grey scale of the picture seems to be inverted",
    "picture-sideways": "the picture seems to lie on its side",
    "picture-upside-down": "the picture seems to be upside down",
    "picture-mirrored": "the heart seems to lie on the right: either it does, or the picture is mirrored, and left and "
    "right are exchanged in this report",
}


def refuses_radiograph(series: Series, card: Card) -> str | None:
    """Why a series is not a frontal chest radiograph of an adult that can be read; None when it may be.

    By header, size, contrast and saturation alone: it costs milliseconds.
    """
    if series.modality.value not in card.input.modality:
        return f"the modality {series.modality.value} is not a radiograph"
    view = (series.view or "").upper().strip()
    if view and not view.startswith(card.input.views):
        return f"the view {view} is not frontal"
    if reason := refuses_body_part(series, OTHER_BODY_PARTS) or refuses_child(series):
        return reason
    picture = series.volume.voxels[0]
    if min(picture.shape) < SMALLEST_SIDE:
        return f"the picture has only {picture.shape[0]} x {picture.shape[1]} pixels"
    sample = picture[::4, ::4]
    low, high = np.percentile(sample, [2, 98])
    if high - low < LEAST_CONTRAST:
        return "the picture is blank or nearly so"
    if np.mean((sample == sample.min()) | (sample == sample.max())) > MOST_EXTREME:
        return "the picture is saturated: nearly all of it is black or white"
    return None


def refuses_body_part(series: Series, others: frozenset[str]) -> str | None:
    """Why a series is not of the chest, by what it says of itself."""
    body_part = series.body_part.upper().replace(" ", "").replace("_", "")
    return f"the body part is given as {series.body_part}, not the chest" if body_part in others else None


def refuses_child(series: Series) -> str | None:
    """Why a series is not of an adult, by the age in its header; None where that is not stated."""
    if series.age_years is None or series.age_years >= ADULT_YEARS:
        return None
    return f"the patient's age is {series.age_years}, and the expert reads adults (from {ADULT_YEARS}) only"


def refuses_noise(series: Series) -> str | None:
    """Why a CT is no picture at all: in its middle slice neighbouring pixels have nothing in common."""
    middle = series.volume.voxels[series.volume.shape[0] // 2].astype(np.float32)
    one, other = middle[:, :-1].ravel(), middle[:, 1:].ravel()
    spread = float(one.std() * other.std())
    likeness = float(np.mean((one - one.mean()) * (other - other.mean()))) / spread if spread else 1.0
    return "neighbouring pixels have nothing in common: this is noise" if likeness < LEAST_LIKENESS else None


class RadiographInput:
    """The expert on the picture: says what speaks against reading it as an upright frontal chest radiograph."""

    def __init__(self, device: str = "cpu", card: Card | None = None, network: nn.Module | None = None) -> None:
        """network: to be used instead of the card's weights, in training. It runs on the CPU: it is tiny."""
        self._card = card or packaged_card(CARD)
        self._run: Once[Run] = Once(lambda: network or self._loaded())

    @property
    def tag(self) -> ExpertTag:
        """Name, version, weights."""
        return self._card.tag

    @property
    def concepts(self) -> tuple[Code, ...]:
        """The fitness of the picture: this makes it a check, which the panel asks before the others."""
        return (PICTURE_FITNESS,)

    def refuses(self, series: Series) -> str | None:
        """Anything but a radiograph that the experts may read, by its header."""
        return refuses_radiograph(series, self._card)

    def examine(self, series: Series, masks: Masks) -> Sequence[Finding]:
        """Nothing for a fit picture. Present: a reason to refuse it. Indeterminate: something to tell its reader."""
        probability = self.probabilities(np.asarray(series.volume.voxels[0], dtype=np.float32))
        told = []
        for label in self._card.labels:
            refuse = self._card.calibration.get(f"refuse_{label.name.replace(' ', '_')}", 1.0)
            if probability[label.name] >= label.threshold:
                presence = Presence.PRESENT if probability[label.name] >= refuse else Presence.INDETERMINATE
                told.append(Finding("f1", label.code, presence, self.tag, round(probability[label.name], 4)))
        return told

    def probabilities(self, picture: npt.NDArray[np.float32]) -> Mapping[str, float]:
        """By label, of a picture (rows, columns) in [0, 1]."""
        import torch

        from expert_models.preprocess import network_input

        rows, columns = self._card.input.size
        frame, _ = network_input(picture, (rows, columns))
        with torch.inference_mode():
            logits = self._run()(torch.from_numpy(frame)[None, None])[0]
        return {label.name: float(value) for label, value in zip(self._card.labels, logits.sigmoid(), strict=True)}

    def prepare(self) -> None:
        """Load the weights now."""
        self._run()

    def _loaded(self) -> Run:
        # Here and not above: naming the expert must not cost the seconds that torch and MONAI take to load.
        from expert_models.segment import loaded_runner

        return loaded_runner(self._card)


def said(concept: Code) -> str:
    """What a finding of a check says of the picture, as a clause."""
    return _SAID.get(concept.value, f"the picture was found to be unfit ({concept.meaning})")
