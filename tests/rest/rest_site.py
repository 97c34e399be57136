"""A real server on a free port of the loopback interface, over a real program in a temporary home."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import httpx
import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from app.accounts import Scope
from app.bootstrap import Program
from app.rest.api import make_api
from app.rest.listen import address_of, listening, server_of
from app.settings import Settings
from app.submit import note
from app.worker import desk_of, work
from dicom_io.identity import study_key

ACCESSION = "A-2024-0007"
INDICATION = "Cough for three weeks, former smoker"
ORDER = {
    "resourceType": "ServiceRequest",
    "status": "active",
    "intent": "order",
    "identifier": [
        {
            "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]},
            "value": ACCESSION,
        }
    ],
    "code": {"text": "XR chest PA"},
    "reasonCode": [{"text": INDICATION}],
    "subject": {"reference": "Patient/1"},
}


def settings_of(home: Path, **given: object) -> Settings:
    """A program that keeps all in its folder, and needs no time to open."""
    quick = {"embedder_url": "hashing:", "vectors_url": "memory:", "queue_url": "huey+memory:", "serve_port": 0}
    return Settings(home=home, **{**quick, **given})  # type: ignore[arg-type]


def radiograph(study: str = "one", **values: object) -> bytes:
    """A radiograph of 8 x 8 pixels: real DICOM, though nobody can read a chest in it."""
    film = FileDataset(None, {}, preamble=b"\0" * 128)
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.file_meta.MediaStorageSOPClassUID = film.SOPClassUID = DigitalXRayImageStorageForPresentation
    film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID = generate_uid(entropy_srcs=[study, repr(values)])
    film.StudyInstanceUID = generate_uid(entropy_srcs=["study", study])
    film.SeriesInstanceUID = generate_uid(entropy_srcs=["series", study])
    film.PatientID, film.PatientName, film.Modality = f"P-{study}", "Doe^Jane", "DX"
    film.StudyDate, film.StudyTime = "20240131", "081500"
    film.ImageType, film.ViewPosition = ["ORIGINAL", "PRIMARY"], "PA"
    film.Rows = film.Columns = 8
    film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME2"
    film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 16, 12, 11, 0
    film.PixelData = (np.arange(64, dtype="<u2") * 60).tobytes()
    for keyword, value in values.items():
        setattr(film, keyword, value)
    body = io.BytesIO()
    film.save_as(body, enforce_file_format=True)
    return body.getvalue()


def uid_of(dicom: bytes) -> str:
    return str(pydicom.dcmread(io.BytesIO(dicom)).StudyInstanceUID)


def accessioned(film: Path, accession: str) -> bytes:
    """The film as of a study of its own, with an accession number."""
    dataset = pydicom.dcmread(film)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(dataset, keyword, generate_uid(entropy_srcs=[keyword, accession]))
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PatientID, dataset.AccessionNumber = f"P-{accession}", accession
    body = io.BytesIO()
    dataset.save_as(body, enforce_file_format=True)
    return body.getvalue()


def zipped(**members: bytes) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return body.getvalue()


@dataclass(frozen=True)
class Site:
    """A program and the address of its server."""

    program: Program
    url: str
    clients: list[httpx.Client] = field(default_factory=list)

    def client(self, *scopes: Scope, label: str = "ehr", study_uid: str | None = None) -> httpx.Client:
        """A client with a token of these scopes; without a token when there are none."""
        headers = {}
        if scopes:
            _, secret = self.program.accounts.issue(label, scopes, study_uid=study_uid)
            headers["Authorization"] = f"Bearer {secret}"
        self.clients.append(httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False))
        return self.clients[-1]

    def key(self, study_uid: str) -> str:
        return study_key(study_uid, self.program.secret)

    def bring_in(self, dicom: bytes) -> str:
        """Put a study where an upload would put it; its key."""
        (uid,) = self.program.archive.ingest([("film.dcm", dicom)]).study_uids
        note(self.program, uid)
        return self.key(uid)


@contextmanager
def served(program: Program, *, with_worker: bool = False) -> Iterator[Site]:
    """The program behind a real socket."""
    over = Event()
    with listening(program.settings) as server_socket:
        server = server_of(make_api(program), program.settings)
        threads = [Thread(target=server.run, kwargs={"sockets": [server_socket]})]
        if with_worker:
            threads.append(Thread(target=work, args=(desk_of(program), over.is_set)))
        for thread in threads:
            thread.start()
        site = Site(program, address_of(server_socket))
        try:
            yield site
        finally:
            for client in site.clients:
                client.close()
            server.should_exit = True
            over.set()
            for thread in threads:
                thread.join(30)


def until_done(client: httpx.Client, job: str) -> dict[str, object]:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        answer = client.get(f"/v1/jobs/{job}")
        told: dict[str, object] = answer.json()
        if told["state"] in ("done", "failed"):
            assert "Retry-After" not in answer.headers
            return told
        assert int(answer.headers["Retry-After"]) >= 1
        time.sleep(0.3)
    raise AssertionError("the job was not done in time")
