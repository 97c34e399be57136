"""Synthetic patients as DICOM: CT Image Storage, Digital X-Ray Image Storage - For Presentation, Computed Radiography.

Every file says that it is synthetic, in the patient's name, the series description and the de-identification method
(not in Synthetic Data (0008,001C), which validators from before 2024 reject as an unknown attribute). UIDs are
derived from the seed, so the same patient written twice is the same patient; modalities of one visit are studies of
their own, the CT a quarter of an hour after the film.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
)

from dicom_io.phantom.devices import Device
from dicom_io.phantom.lesion import Lesion, LesionKind
from dicom_io.phantom.look import Look
from dicom_io.phantom.patient import Patient, draw_patient
from dicom_io.phantom.project import Radiograph, radiograph
from dicom_io.phantom.scan import Protocol, scan
from dicom_io.phantom.tags import coded, common, derived_uid, save, study_key

FILM_SPACING_MM = (1.2, 3.0, 1.2)  # depth hardly shows on a film, so its voxels are longer that way
CT_SPACING_MM = (2.5, 0.9, 0.9)
VIEWS = {
    "PA": ("272479007", "SCT", "postero-anterior"),
    "AP": ("399348003", "SCT", "antero-posterior"),
    "AP SUPINE": ("399348003", "SCT", "antero-posterior"),
    "LATERAL": ("399173006", "SCT", "left lateral"),
}
VIEW_POSITIONS = {"AP SUPINE": "AP", "LATERAL": "LL"}


def write_patient(
    seed: int,
    folder: Path,
    *,
    visits: int = 2,
    kinds: Collection[LesionKind] | None = None,
    with_ct: bool = True,
    rows: int = 1024,
    film_spacing_mm: tuple[float, float, float] = FILM_SPACING_MM,
    ct_spacing_mm: tuple[float, float, float] = CT_SPACING_MM,
) -> dict[str, Path]:
    """Write a patient: a film per visit (xray-0-prior ... xray-N), the last visit's CT (ct-N) and truth.json.

    seed, visits, kinds, spacings (slice, row, column): as for draw_patient. Returns each folder by its name, and
    truth.json. The film shows the patient upright, the CT supine, both at the same visit.
    """
    folder = Path(folder)
    standing = draw_patient(seed, visits=visits, spacing_mm=film_spacing_mm, kinds=kinds)
    written: dict[str, Path] = {}
    films: dict[int, Radiograph] = {}
    for number in range(visits):
        name = f"xray-{number}" + ("-prior" if number < visits - 1 else "")
        films[number] = film_of(standing, number, rows=rows)
        write_film(standing, number, folder / name, films[number])
        written[name] = folder / name
    lying = None
    if with_ct:
        lying = draw_patient(seed, visits=visits, spacing_mm=ct_spacing_mm, kinds=kinds, upright=False)
        name = f"ct-{visits - 1}"
        write_ct(lying, visits - 1, folder / name)
        written[name] = folder / name
    written["truth.json"] = write_truth(standing, folder / "truth.json", films=films, lying=lying)
    return written


def write_ct(patient: Patient, visit_index: int, folder: Path, protocol: Protocol | None = None) -> list[Path]:
    """Write one visit's voxels as a CT series, one file per slice from the feet up; returns the files.

    Stored values are HU + 1024 in 12 bits, with rescale intercept -1024 and slope 1. protocol: kernel, dose and
    contrast medium; None writes the voxels as drawn.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    visit = patient.visits[visit_index]
    key = study_key(patient, visit_index, "CT")
    voxels = visit.hu if protocol is None else scan(visit, protocol, patient.seed)
    slice_mm, row_mm, column_mm = visit.geometry.spacing_mm
    corners = visit.geometry.to_patient([[number, 0, 0] for number in range(visit.hu.shape[0])])
    files = []
    for number, (plane, corner) in enumerate(zip(voxels, corners, strict=True), start=1):
        dataset = common(patient, visit_index, "CT", CTImageStorage, number)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.PatientPosition = "HFS"
        dataset.FrameOfReferenceUID = visit.geometry.frame_of_reference_uid
        dataset.PositionReferenceIndicator = ""
        dataset.AcquisitionNumber = 1
        dataset.KVP = 120
        dataset.ConvolutionKernel = "SYNTHETIC"
        if protocol is not None:
            dataset.KVP, dataset.Exposure = protocol.kvp, protocol.exposure_mas
            dataset.ConvolutionKernel = f"SYNTH {protocol.kernel}"  # at most 16 characters
            if protocol.phase:
                dataset.ContrastBolusAgent = f"SYNTHETIC {protocol.phase}"
        dataset.SliceThickness = _number(slice_mm)
        dataset.SpacingBetweenSlices = _number(slice_mm)
        dataset.PixelSpacing = [_number(row_mm), _number(column_mm)]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [_number(value) for value in corner]
        dataset.SliceLocation = _number(corner[2])
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = -1024, 1, "HU"
        dataset.WindowCenter, dataset.WindowWidth = [40, -600], [400, 1500]
        dataset.WindowCenterWidthExplanation = ["SOFT TISSUE", "LUNG"]
        _pixels(dataset, (plane.astype(np.int32) + 1024).astype(np.uint16), "MONOCHROME2")
        files.append(save(dataset, folder / f"{key}-{number:04d}.dcm"))
    return files


def film_of(
    patient: Patient, visit_index: int, *, view: str = "PA", rows: int = 1024, look: Look | None = None
) -> Radiograph:
    """The film that write_radiograph writes, with its masks."""
    seed = patient.seed * 101 + visit_index
    return radiograph(patient.visits[visit_index], view=view, rows=rows, seed=seed, look=look)


def write_radiograph(
    patient: Patient,
    visit_index: int,
    folder: Path,
    *,
    view: str = "PA",
    sop_class: str = "DX",
    rows: int = 1024,
    inverted: bool = False,
    look: Look | None = None,
) -> Path:
    """Take and write one visit's film; returns the file.

    sop_class: "DX" (For Presentation) or "CR". inverted: store it as MONOCHROME1, dense = low.
    Raises ValueError for another class or view.
    """
    if sop_class not in ("DX", "CR"):
        raise ValueError(f"a radiograph is written as DX or CR, got {sop_class}")
    film = film_of(patient, visit_index, view=view, rows=rows, look=look)
    return write_film(patient, visit_index, Path(folder), film, sop_class, inverted)


def write_film(
    patient: Patient,
    visit_index: int,
    folder: Path,
    film: Radiograph,
    sop_class: str = "DX",
    inverted: bool = False,
) -> Path:
    """Write a film of this visit that was taken; returns the file. As write_radiograph."""
    folder.mkdir(parents=True, exist_ok=True)
    is_dx = sop_class == "DX"
    storage = DigitalXRayImageStorageForPresentation if is_dx else ComputedRadiographyImageStorage
    dataset = common(patient, visit_index, sop_class, storage, 1, view=film.view)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", ""] if is_dx else ["ORIGINAL", "PRIMARY"]
    dataset.ViewPosition = VIEW_POSITIONS.get(film.view, film.view)
    dataset.PatientOrientation = ["P" if film.view == "LATERAL" else "L", "F"]
    if film.view == "AP SUPINE":
        dataset.PatientPosition = "HFS"
    if film.view == "LATERAL":
        dataset.SeriesNumber = 3
    dataset.ImagerPixelSpacing = [_number(film.spacing_mm)] * 2
    dataset.KVP = 110
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    dataset.WindowCenter, dataset.WindowWidth = 2047.5, 4095
    if is_dx:
        dataset.PresentationIntentType = "FOR PRESENTATION"
        dataset.ImageLaterality = "U"
        dataset.AnatomicRegionSequence = [coded("816094009", "SCT", "Chest")]
        dataset.ViewCodeSequence = [coded(*VIEWS[film.view])]
        dataset.ViewCodeSequence[0].ViewModifierCodeSequence = []
        dataset.PixelIntensityRelationship = "LOG"
        dataset.PixelIntensityRelationshipSign = 1 if inverted else -1
        dataset.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
        dataset.DetectorType = "DIRECT"
        dataset.PositionerType = "COLUMN"
        dataset.AcquisitionContextSequence = []
    stored = np.rint(film.image * 4095).astype(np.uint16)
    _pixels(dataset, 4095 - stored if inverted else stored, "MONOCHROME1" if inverted else "MONOCHROME2")
    key = study_key(patient, visit_index, sop_class)
    return save(dataset, folder / f"{key}-{film.view.replace(' ', '-')}.dcm")


def write_truth(
    patient: Patient,
    path: Path,
    *,
    films: Mapping[int, Radiograph] | None = None,
    lying: Patient | None = None,
) -> Path:
    """Write what is known of every visit as JSON: lesions, changes, volumes of structures (mL), cardiothoracic ratio.

    films: the radiograph of each visit number, for its ratio. lying: the same patient as drawn for the CT, whose
    lesions are measured there (fluid and air move, and small lesions follow the grid).
    """
    visits = []
    for number, visit in enumerate(patient.visits):
        entry: dict[str, object] = {
            "visit": number,
            "acquired_on": visit.acquired_on.isoformat(),
            "xray_study_uid": derived_uid("study", patient.seed, number, "DX"),
            "ct_study_uid": derived_uid("study", patient.seed, number, "CT"),
            "changes": dict(visit.changes),
            "structures_ml": {
                name: round(float(np.count_nonzero(mask)) * visit.geometry.voxel_ml, 1)
                for name, mask in visit.structures.items()
            },
            "lesions": [_lesion(lesion) for lesion in visit.lesions],
        }
        if films and number in films:
            film = films[number]
            entry["view"] = film.view
            entry["cardiothoracic_ratio"] = round(film.cardiothoracic_ratio, 4)
            entry["film_boxes"] = {
                lesion.tracking_id: _film_box(film, lesion.tracking_id)
                for lesion in film.lesions
                if film.masks[lesion.tracking_id].any()
            }
        if visit.devices:
            entry["devices"] = [_device(device, (films or {}).get(number)) for device in visit.devices]
        if lying is not None:
            twin = lying.visits[number]
            centres = {each.tracking_id: _centre(twin.geometry.to_patient(_voxels(each))) for each in twin.lesions}
            entry["ct_lesions"] = [
                {**_lesion(lesion), "centre_lps_mm": centres[lesion.tracking_id]} for lesion in twin.lesions
            ]
        visits.append(entry)
    truth = {
        "synthetic": True,
        "seed": patient.seed,
        "patient_id": f"PHANTOM-{patient.seed}",
        "sex": patient.sex,
        "age_years": patient.age_years,
        "visits": visits,
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    return path


def _lesion(lesion: Lesion) -> dict[str, object]:
    return {
        "tracking_id": lesion.tracking_id,
        "kind": lesion.kind.value,
        "side": lesion.side,
        "lobe": lesion.lobe,
        "attenuation": lesion.attenuation,
        "long_axis_mm": round(lesion.long_axis_mm, 1),
        "short_axis_mm": round(lesion.short_axis_mm, 1),
        "volume_ml": round(lesion.volume_ml, 3),
    }


def _device(device: Device, film: Radiograph | None) -> dict[str, object]:
    result: dict[str, object] = {
        "tracking_id": device.tracking_id,
        "kind": device.kind.value,
        "side": device.side,
        "position": device.position,
    }
    if device.tip_mm is not None:
        result["tip_lps_mm"] = [round(float(value), 1) for value in device.tip_mm]
    if film is not None:
        if film.masks[device.tracking_id].any():
            result["film_box"] = _film_box(film, device.tracking_id)
        if device.tracking_id in film.tips:
            result["film_tip"] = [round(value, 1) for value in film.tips[device.tracking_id]]
    return result


def _voxels(lesion: Lesion) -> npt.NDArray[np.int64]:
    return np.asarray(np.argwhere(lesion.mask) + np.array(lesion.start), dtype=np.int64)


def _centre(points_mm: npt.NDArray[np.float64]) -> list[float]:
    return [round(float(value), 1) for value in points_mm.mean(axis=0)]


def _film_box(film: Radiograph, tracking_id: str) -> list[int]:
    """Half-open [row, column, row, column] of a lesion or device on the film."""
    rows, columns = np.nonzero(film.masks[tracking_id])
    return [int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1]


def _pixels(dataset: Dataset, stored: npt.NDArray[np.uint16], photometric: str) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = photometric
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = np.ascontiguousarray(stored, dtype="<u2").tobytes()


def _number(value: float) -> float:
    """A decimal that fits the 16 characters of a DS."""
    return round(float(value), 6)
