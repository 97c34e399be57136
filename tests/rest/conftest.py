"""A server without a worker, one with, and a study that is reported on once for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from rest_site import ACCESSION, ORDER, Site, accessioned, served, settings_of, until_done

from app.accounts import Scope
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
    program = open_program(settings_of(tmp_path_factory.mktemp("ward"), organization="Princeton-Plainsboro"))
    with served(program, with_worker=True) as site:
        yield site


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom's chest radiograph."""
    patient = draw_patient(12, visits=1, spacing_mm=3.0, kinds=[])
    return write_radiograph(patient, 0, tmp_path_factory.mktemp("film"))


@pytest.fixture(scope="session")
def film(phantom: Path) -> bytes:
    """The film of the study that the tests share."""
    return accessioned(phantom, ACCESSION)


@pytest.fixture(scope="session")
def ehr(ward: Site) -> httpx.Client:
    """A client that may read and write."""
    return ward.client(Scope.READ, Scope.WRITE)


@pytest.fixture(scope="session")
def here(ehr: httpx.Client, film: bytes) -> str:
    """The path of the shared study; its order came first, then its film, then its report."""
    assert ehr.post("/v1/orders", json=ORDER).status_code == 201
    came = ehr.post("/v1/studies", files={"files": ("film.dcm", film)})
    assert came.status_code == 201, came.text
    (study,) = came.json()["studies"]
    assert came.headers["Location"] == study["links"]["self"]
    assert (study["modalities"], study["instances"], study["state"], study["version"]) == (["DX"], 1, None, 0)
    asked = ehr.post("/v1/reports", json={"study": study["study"]})
    assert asked.status_code == 202, asked.text
    assert asked.headers["Location"] == f"/v1/jobs/{asked.json()['job']}"
    done = until_done(ehr, asked.json()["job"])
    assert (done["state"], done["version"], done["reason"]) == ("done", 1, "")
    return str(study["links"]["self"])
