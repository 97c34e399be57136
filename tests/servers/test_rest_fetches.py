"""A study that the EHR names and only the PACS has: REST fetches it, and says why when it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
import pytest
from fastapi.testclient import TestClient
from pydicom.data import get_testdata_file

from app.bootstrap import Program, open_program
from app.rest.api import make_api
from app.settings import Settings

CT_SMALL = Path(str(get_testdata_file("CT_small.dcm")))
UID = str(pydicom.dcmread(CT_SMALL).StudyInstanceUID)


def asked(home: Path, pacs_url: str, uid: str = UID) -> tuple[Program, int, dict[str, Any]]:
    given: dict[str, Any] = {"queue_url": "huey+memory:", "vectors_url": "memory:", "embedder_url": "hashing:"}
    program = open_program(Settings(home=home, pacs_url=pacs_url, authentication="none", prior_deadline_s=20, **given))
    with TestClient(make_api(program), base_url="http://127.0.0.1:8080") as client:
        answer = client.post("/v1/reports", json={"study_instance_uid": uid})
    return program, answer.status_code, answer.json()


@pytest.mark.parametrize("way", ["dicom+get", "web"])
def test_a_study_that_only_the_pacs_has_is_fetched(way: str, orthanc: Any, tmp_path: Path) -> None:
    orthanc.upload(CT_SMALL)
    url = orthanc.web_url if way == "web" else orthanc.dicom_url.replace("dicom:", f"{way}:")
    program, status, body = asked(tmp_path, url)
    assert status == 202
    assert [row.uid for row in program.archive.studies()] == [UID]
    assert program.jobs.get(body["job"]).study_uid == UID


def test_a_study_that_nobody_has_is_not_found(orthanc: Any, tmp_path: Path) -> None:
    program, status, body = asked(tmp_path, orthanc.web_url, "2.25.404")
    assert (status, "no such study" in body["detail"]) == (404, True)
    assert program.archive.studies() == ()


def test_a_pacs_that_is_away_is_said(tmp_path: Path) -> None:
    _, status, body = asked(tmp_path, "dicom://PACS@127.0.0.1:1")
    assert status == 504
    assert "PACS" in body["detail"]
    assert UID not in str(body)
