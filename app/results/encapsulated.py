"""The report's PDF as a DICOM object (Encapsulated PDF, PS3.3 A.45.1), to be kept beside the images."""

from __future__ import annotations

from pydicom.uid import EncapsulatedPDFStorage

from app.results.coded import REPORT_TITLE, concept
from app.results.instance import file_bytes, new_instance, references
from app.results.record import Record


def encapsulated_pdf(record: Record, pdf: bytes) -> bytes:
    """The PDF, byte for byte, as DICOM file bytes. Raises ResultRefused when no original image is at hand."""
    report = record.report
    made = new_instance(record, EncapsulatedPDFStorage, "pdf", "DOC", "report as PDF")
    made.AcquisitionDateTime = None
    made.BurnedInAnnotation = "YES"  # it names the patient
    made.SourceInstanceSequence = references(
        record, tuple(uid for series in record.study.series for uid in series.source)
    )
    made.DocumentTitle = "Draft report, not verified" if report.is_draft else "Signed report"
    made.ConceptNameCodeSequence = [concept(REPORT_TITLE)]
    made.VerificationFlag = "UNVERIFIED" if report.is_draft else "VERIFIED"
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.EncapsulatedDocumentLength = len(pdf)
    made.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)  # an even length (PS3.5 6.2, VR OB)
    return file_bytes(made)
