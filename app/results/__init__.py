"""One report record, written as JSON, HTML, PDF, DICOM SR and SEG, and FHIR."""
