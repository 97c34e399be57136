"""The modules that every DICOM object written by hand shares: patient, study, series, equipment, SOP common (PS3.3)."""

from __future__ import annotations

from datetime import datetime
from io import BytesIO

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from app.results.coded import instance_uid, series_description, series_number, series_uid, software_version
from app.results.errors import ResultRefused
from app.results.record import MAY_BE_EMPTY, Record
from app.results.words import PRODUCT

# What a result repeats of the patient and the study beyond the attributes that must be there (PS3.3 C.7.1.1, C.7.2.1).
ALSO = ("IssuerOfPatientID", "StudyDescription", "PatientAge", "PatientSize", "PatientWeight")


def new_instance(record: Record, sop_class: str, kind: str, modality: str, what: str, number: int = 1) -> Dataset:
    """An object in the original study and in the series of its kind, complete but for what its own modules say.

    kind: a key of SERIES_NUMBERS. Raises ResultRefused when not one of the original images is at hand.
    """
    source = record.header
    if source is None:
        raise ResultRefused("none of the original images is at hand to refer to")
    report, now = record.report, datetime.now()
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SpecificCharacterSet = "ISO_IR 192"
    for keyword in (*MAY_BE_EMPTY, *ALSO):
        if keyword in source:
            made[keyword] = source[keyword]
    made.StudyInstanceUID = record.study.uid
    made.Modality, made.SeriesInstanceUID = modality, series_uid(kind, report)
    made.SeriesNumber, made.SeriesDescription = series_number(kind, report), series_description(what, report)
    made.Manufacturer = made.ManufacturerModelName = PRODUCT
    made.SoftwareVersions, made.ConversionType = software_version(), "WSD"
    made.SOPClassUID, made.SOPInstanceUID = sop_class, instance_uid(kind, report, str(number))
    made.InstanceNumber = number
    made.InstanceCreationDate = made.ContentDate = f"{now:%Y%m%d}"
    made.InstanceCreationTime = made.ContentTime = f"{now:%H%M%S}"
    return made


def references(record: Record, uids: tuple[str, ...]) -> list[Dataset]:
    """Items that refer to original images, as far as they are at hand."""
    items = []
    for uid in dict.fromkeys(uids):
        if uid in record.sources:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = record.sources[uid].SOPClassUID, uid
            items.append(item)
    return items


def file_bytes(made: Dataset) -> bytes:
    """The object as a DICOM file."""
    buffer = BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
