"""Synthetic patients: drawn as voxels in Hounsfield units, projected to radiographs, written as DICOM."""
