"""DICOM in, Study out."""
