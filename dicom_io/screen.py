"""Which DICOM instances wetread can use, judged by their headers alone."""

from __future__ import annotations

import re

from pydicom.dataset import Dataset
from pydicom.uid import (
    BasicTextSRStorage,
    ComprehensiveSRStorage,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    EncapsulatedPDFStorage,
    EnhancedCTImageStorage,
    EnhancedSRStorage,
    LegacyConvertedEnhancedCTImageStorage,
    MediaStorageDirectoryStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicom_io.read import text
from dicom_io.study import Modality

IMAGES = {
    CTImageStorage: Modality.CT,
    EnhancedCTImageStorage: Modality.CT,
    LegacyConvertedEnhancedCTImageStorage: Modality.CT,
    ComputedRadiographyImageStorage: Modality.CR,
    DigitalXRayImageStorageForPresentation: Modality.DX,
    DigitalXRayImageStorageForProcessing: Modality.DX,
}
MODALITIES = frozenset(each.value for each in Modality)
REPORTS = frozenset([BasicTextSRStorage, EnhancedSRStorage, ComprehensiveSRStorage])
MULTI_FRAME_CT = frozenset([EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage])

LONGEST_UID = 64  # characters (PS3.5 section 9.1)
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")

# What other objects are called in a sentence, by SOP class, and by the start of its UID for whole families of them.
OTHERS = {
    EncapsulatedPDFStorage: "it is a PDF document wrapped as DICOM, not an image",
    SegmentationStorage: "it is a segmentation, not an image",
    MediaStorageDirectoryStorage: "it is a DICOM directory, which names other files and holds no image",
}
FAMILIES = (
    (SecondaryCaptureImageStorage, "it is a secondary capture (a picture of a picture), whose values mean nothing"),
    ("1.2.840.10008.5.1.4.1.1.88.59", "it is a key object selection, not an image"),
    ("1.2.840.10008.5.1.4.1.1.88.", "it is a structured report of measurements or events, not a report's text"),
    ("1.2.840.10008.5.1.4.1.1.104.", "it is a document wrapped as DICOM, not an image"),
    ("1.2.840.10008.5.1.4.1.1.66.", "it is a segmentation, a surface or a registration, not an image"),
    ("1.2.840.10008.5.1.4.1.1.11.", "it is a presentation state, not an image"),
)


def sop_class(dataset: Dataset) -> str:
    """SOP Class UID, from the meta information where the dataset lacks it; "" when neither states one."""
    meta = getattr(dataset, "file_meta", None)
    return text(dataset, "SOPClassUID") or (text(meta, "MediaStorageSOPClassUID") if meta is not None else "")


def is_image(dataset: Dataset) -> bool:
    """True for CT, CR and DX images, whether or not they can be used."""
    return sop_class(dataset) in IMAGES


def is_report(dataset: Dataset) -> bool:
    """True for the structured reports whose text is read: Basic Text, Enhanced and Comprehensive SR."""
    return sop_class(dataset) in REPORTS


def modality_of(dataset: Dataset) -> Modality:
    """CT, CR or DX: as the image says, or else as its SOP class does. Only for an image that was not refused."""
    stated = text(dataset, "Modality").upper()
    return Modality(stated) if stated in MODALITIES else IMAGES[sop_class(dataset)]  # type: ignore[index]


def refusal(dataset: Dataset) -> str | None:
    """Why this instance is of no use, in one sentence; None when it is a usable image or a report's text.

    Judged in this order: what kind of object it is, its modality, its identity, its pixels' kind, its image type.
    Body parts are not judged here: each expert says what it accepts.
    """
    kind, modality = sop_class(dataset), text(dataset, "Modality").upper()
    if kind in OTHERS:
        return OTHERS[kind]  # type: ignore[index]
    if kind not in REPORTS:
        for start, reason in FAMILIES:
            if kind.startswith(start):
                return reason
    if kind not in IMAGES and kind not in REPORTS:
        if modality and re.fullmatch(r"[A-Z0-9_ ]{1,16}", modality):
            is_ours = modality in MODALITIES
            return f"it is a kind of {modality} object that is not read" if is_ours else _not_reported_on(modality)
        return "it does not say what kind of DICOM object it is"
    if not (text(dataset, "StudyInstanceUID") and text(dataset, "SOPInstanceUID")):
        return "it does not say which study it belongs to, or lacks an instance UID"
    if any(len(text(dataset, keyword)) > LONGEST_UID for keyword in UIDS):
        return f"one of its UIDs is longer than the {LONGEST_UID} characters that DICOM allows"
    if kind in REPORTS:
        return None
    if modality and modality not in MODALITIES:
        return _not_reported_on(modality)
    if not text(dataset, "SeriesInstanceUID"):
        return "it does not say which series it belongs to"
    return _pixels_refusal(dataset) or _image_type_refusal(dataset)


def _not_reported_on(modality: str) -> str:
    name = modality if re.fullmatch(r"[A-Z0-9_ ]{1,16}", modality) else "(unreadable)"
    return f"modality {name} is not reported on"


def _pixels_refusal(dataset: Dataset) -> str | None:
    if "PixelData" not in dataset:
        return "it holds no pixel data: it is a header alone, or cut short"
    if text(dataset, "PhotometricInterpretation").upper() not in ("MONOCHROME1", "MONOCHROME2"):
        return "it is a colour picture, not a grayscale one"
    try:
        rows, columns, samples = (int(dataset.get(word) or 0) for word in ("Rows", "Columns", "SamplesPerPixel"))
        bits_allocated, bits_stored = int(dataset.get("BitsAllocated") or 0), int(dataset.get("BitsStored") or 0)
        frames = int(dataset.get("NumberOfFrames") or 1)
    except (TypeError, ValueError):
        return "the description of its pixels cannot be read"
    if samples != 1:
        return "it is a colour picture, not a grayscale one"
    if rows < 1 or columns < 1 or bits_allocated not in (8, 16, 32) or not 1 < bits_stored <= bits_allocated:
        return "the description of its pixels is impossible"
    if frames > 1 and sop_class(dataset) not in MULTI_FRAME_CT:
        return "it is a multi-frame image of a kind that is not read"
    return None


def _image_type_refusal(dataset: Dataset) -> str | None:
    values = set(text(dataset, "ImageType").upper().replace("\\", " ").replace("_", " ").split())
    if values & {"LOCALIZER", "SCOUT", "TOPOGRAM"}:
        return "it is a localizer (scout), not a slice of the volume"
    if modality_of(dataset).is_projection:
        return None
    if values & {"MIP", "MINIP", "VRT", "PROJECTION"}:
        return "it is a projection made from the slices, not a slice"
    if values & {"SCREEN", "DOSE"}:
        return "it is a picture of a screen, not of the patient"
    return None
