"""What the coded concepts of the findings are called in the literature.

A sentence encoder of general English places "air in the pleural space" beside pleural effusion. So the lexical side
of the search treats every way of saying a concept as one word, see `rag/lexical.py`, and the words for the encoder
lead with the concept's own name.
"""

from __future__ import annotations

from dataclasses import dataclass

from dicom_io.study import Modality
from expert_models import codes
from expert_models.finding import Code


@dataclass(frozen=True, slots=True)
class Concept:
    """A finding's concept: its code, the name authors use, other ways to say it, and what a reader wants to know."""

    code: Code
    name: str
    synonyms: tuple[str, ...] = ()
    aspects: str = ""


CONCEPTS = (
    Concept(
        codes.CARDIOMEGALY,
        "cardiomegaly",
        ("enlarged heart", "heart enlargement", "cardiac enlargement", "enlarged cardiac silhouette", "big heart"),
        "enlarged cardiac silhouette, cardiothoracic ratio",
    ),
    Concept(
        codes.CARDIOTHORACIC_RATIO,
        "cardiothoracic ratio",
        ("cardio-thoracic ratio", "heart to chest ratio", "CTR"),
        "measurement of heart size, normal limit",
    ),
    Concept(
        codes.LUNG_NODULE,
        "pulmonary nodule",
        (
            *("lung nodule", "nodule of lung", "nodule in the lung", "coin lesion"),
            *("solid nodule", "subsolid nodule", "ground-glass nodule"),
        ),
        "size, malignancy risk, follow-up",
    ),
    Concept(
        codes.LUNG_MASS,
        "lung mass",
        ("pulmonary mass", "mass in the lung", "lung tumour"),
        "lung cancer, staging, work-up",
    ),
    Concept(
        codes.PLEURAL_EFFUSION,
        "pleural effusion",
        ("pleural fluid", "fluid in the pleural space", "fluid in the pleural cavity", "fluid around the lung"),
        "pleural fluid, volume, blunted costophrenic angle",
    ),
    Concept(
        codes.PNEUMOTHORAX,
        "pneumothorax",
        (
            *("pneumothoraces", "air in the pleural space", "air in the pleural cavity", "air around the lung"),
            *("gas in the pleural space", "gas in the pleural cavity", "pleural air", "pleural gas", "collapsed lung"),
        ),
        "air in the pleural space, size, management",
    ),
    Concept(
        codes.CONSOLIDATION,
        "consolidation",
        ("airspace opacity", "airspace disease", "air space disease", "airspace opacification", "lung infiltrate"),
        "pneumonia, airspace opacification, air bronchogram",
    ),
    Concept(
        codes.LUNG_OPACITY,
        "lung opacity",
        ("pulmonary opacity", "opacity of the lung", "opacity in the lung", "lung opacification"),
        "pneumonia, consolidation, differential diagnosis",
    ),
    Concept(
        codes.ATELECTASIS,
        "atelectasis",
        ("lobar collapse", "collapse of a lobe", "collapsed lobe", "lung volume loss"),
        "lobar collapse, volume loss",
    ),
    Concept(
        codes.PULMONARY_EDEMA,
        "pulmonary edema",
        ("lung oedema", "pulmonary congestion", "pulmonary venous congestion", "fluid in the lungs", "wet lungs"),
        "heart failure, interstitial lines, venous congestion",
    ),
)
BY_CODE = {concept.code: concept for concept in CONCEPTS}

# Topics that say for which images a document holds. One without any of them holds for every image.
MODALITY_TOPICS = {Modality.CT: "ct", Modality.DX: "radiograph", Modality.CR: "radiograph"}
ANY_MODALITY = "any modality"
SOFTWARE_TOPICS = frozenset({"ai", "dataset"})  # papers on programs and data sets are no guidance on a patient
MODALITY_NAMES = {"ct": "chest CT", "radiograph": "chest radiograph"}


def concept_of(code: Code) -> Concept:
    """The concept of a code; one that this list does not hold is searched by its own meaning."""
    return BY_CODE.get(code) or Concept(code, code.meaning.lower())
