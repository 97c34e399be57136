"""A server without a worker, one with, and a film to report on."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pydicom
import pytest
from rest_site import ACCESSION, Site, served, settings_of

from app.bootstrap import open_program
from dicom_io.phantom.patient import draw_patient
from dicom_io.phantom.write import write_radiograph


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server without a worker, for tests that need no report to be made."""
    program = open_program(settings_of(tmp_path_factory.mktemp("site"), max_upload_mb=1))
    with served(program) as site:
        yield site


@pytest.fixture(scope="session")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with a worker that makes reports."""
    with served(open_program(settings_of(tmp_path_factory.mktemp("ward"))), with_worker=True) as site:
        yield site


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A phantom's chest radiograph with an accession number."""
    patient = draw_patient(12, visits=1, spacing_mm=3.0, kinds=[])
    path = write_radiograph(patient, 0, tmp_path_factory.mktemp("film"))
    dataset = pydicom.dcmread(path)
    dataset.AccessionNumber = ACCESSION
    body = io.BytesIO()
    dataset.save_as(body, enforce_file_format=True)
    return body.getvalue()
