"""What every DICOM file of a synthetic patient has in common: who, when, why, and which identifiers."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid5

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_io.phantom.lesion import LesionKind
from dicom_io.phantom.patient import Patient

NAMESPACE = UUID("5f0c6c1e-2b43-5d0e-9a57-0d6f4c1b7a42")
IMPLEMENTATION = UID("2.25.126422838493027430312344071166203018818")
SERIES_NUMBER = {"DX": 1, "CR": 1, "CT": 2}
COMPLAINTS = {
    LesionKind.NODULE: "Cough for six weeks, smoker",
    LesionKind.MASS: "Weight loss and haemoptysis",
    LesionKind.CONSOLIDATION: "Fever and productive cough",
    LesionKind.EFFUSION: "Increasing breathlessness, dull base",
    LesionKind.PNEUMOTHORAX: "Sudden pleuritic chest pain",
    LesionKind.CARDIOMEGALY: "Breathless on exertion, ankle swelling",
    LesionKind.ATELECTASIS: "Low oxygen saturation after surgery",
    LesionKind.EDEMA: "Acute breathlessness, known heart failure",
}


def derived_uid(*parts: object) -> str:
    """A UID that follows from its parts (PS3.5 B.2: 2.25 and a UUID as an integer)."""
    return f"2.25.{uuid5(NAMESPACE, '/'.join(str(part) for part in parts)).int}"


def study_key(patient: Patient, visit_index: int, modality: str) -> str:
    """The start of file names: phantom-42-1-CT."""
    return f"phantom-{patient.seed}-{visit_index}-{modality}"


def acquired_on(patient: Patient, visit_index: int, modality: str) -> datetime:
    """When a modality imaged the patient at this visit: the CT follows the film."""
    later = timedelta(minutes=15) if modality == "CT" else timedelta()
    return patient.visits[visit_index].acquired_on + later


def indication(patient: Patient, visit_index: int) -> str:
    """Why the study was made, in a referrer's words; it fits the patient, and does not name the findings."""
    kinds = [lesion.kind for visit in patient.visits for lesion in visit.lesions]
    complaint = COMPLAINTS[kinds[0]] if kinds else "Routine check before surgery"
    return complaint if visit_index == 0 else f"{complaint}; follow-up"


def common(
    patient: Patient, visit_index: int, modality: str, storage: UID, instance: int, *, view: str = ""
) -> Dataset:
    """Patient, study, series, equipment and SOP common attributes of one instance."""
    when = acquired_on(patient, visit_index, modality)
    born = date(patient.visits[-1].acquired_on.year - patient.age_years, 1 + patient.seed % 12, 1 + patient.seed % 28)
    age = when.year - born.year - ((when.month, when.day) < (born.month, born.day))
    place = (patient.seed, visit_index, modality)
    grid = patient.visits[visit_index].hu.shape if modality == "CT" else view
    procedure = "CT chest" if modality == "CT" else "Chest radiograph, one view"
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = storage
    dataset.SOPInstanceUID = derived_uid("instance", *place, grid, instance)
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = when.strftime("%Y%m%d")
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = when.strftime("%H%M%S")
    dataset.AccessionNumber = f"PH{patient.seed % 10**9}-{visit_index}{modality}"
    dataset.Modality = modality
    dataset.Manufacturer = "Wetread"
    dataset.ManufacturerModelName = "Phantom"
    dataset.SoftwareVersions = "1"
    dataset.InstitutionName = "Synthetic"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = procedure
    dataset.SeriesDescription = f"Synthetic {procedure}" + (f" {view}" if view else "")
    dataset.PatientName = f"PHANTOM^{patient.seed:06d}"
    dataset.PatientID = f"PHANTOM-{patient.seed}"
    dataset.PatientBirthDate = born.strftime("%Y%m%d")
    dataset.PatientSex = patient.sex
    dataset.PatientAge = f"{age:03d}Y"
    if patient.stature_m is not None and patient.weight_kg is not None:
        dataset.PatientSize, dataset.PatientWeight = round(patient.stature_m, 2), round(patient.weight_kg, 1)
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "Synthetic patient, no person"
    dataset.AdmittingDiagnosesDescription = indication(patient, visit_index)[:64]
    dataset.StudyInstanceUID = derived_uid("study", *place)
    dataset.SeriesInstanceUID = derived_uid("series", *place, grid)
    dataset.StudyID = str(visit_index + 1)
    dataset.SeriesNumber = SERIES_NUMBER[modality]
    dataset.InstanceNumber = instance
    dataset.BodyPartExamined = "CHEST"
    request = Dataset()
    request.RequestedProcedureID = f"{patient.seed % 10**9}-{visit_index}"
    request.ScheduledProcedureStepID = "1"
    request.RequestedProcedureDescription = procedure
    request.ReasonForTheRequestedProcedure = indication(patient, visit_index)[:64]
    dataset.RequestAttributesSequence = [request]
    return dataset


def coded(value: str, scheme: str, meaning: str) -> Dataset:
    """A code sequence item."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def save(dataset: Dataset, path: Path) -> Path:
    """Write one instance as a DICOM file, explicit VR little endian."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION
    meta.ImplementationVersionName = "WETREAD_PHANTOM"
    file = FileDataset(str(path), dataset, file_meta=meta, preamble=b"\0" * 128)
    file.save_as(path, enforce_file_format=True)
    return path
