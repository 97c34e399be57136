"""A PACS by DICOMweb (PS3.18): QIDO-RS, WADO-RS, STOW-RS."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pydicom
import requests
from dicomweb_client.web import DICOMwebClient
from pydicom.dataset import Dataset

from dicom_io.dimse import ANSWER_S, CONNECT_S
from dicom_io.errors import PeerDeclines, PeerRefused, PeerSilent
from dicom_io.ports import Fetched, Keep, RemoteStudy
from dicom_io.query import MOST_STUDIES, RETURNED, Refusals, is_for_good, remote_study
from dicom_io.read import quiet

CONFLICT = 409  # how STOW-RS answers when it took not one of the objects (PS3.18 table 10.5.3-1)
AS_STORED = (("application/dicom", "*"),)  # whatever transfer syntax an instance is kept in


class DicomWebPeer:
    """Implements Peer for dicomweb+http(s)://[user:password@]host[:port]/path.

    An empty user makes the password a bearer token: dicomweb+https://:TOKEN@host/path.
    """

    def __init__(self, url: str) -> None:
        """Raises ValueError when the URL is none of these. Connects to nothing."""
        parts = urlsplit(url)
        scheme = parts.scheme.removeprefix("dicomweb+")
        if scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ValueError("a DICOMweb server is written dicomweb+https://[user:password@]host[:port]/path")
        try:
            port = parts.port
        except ValueError:  # its own words would repeat what stands there, which may be half of a password
            raise ValueError("its port is no number; in a password, write / : @ # ? and , as %2F %3A ...") from None
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        where = f"{host}:{port}" if port else host
        self._url = f"{scheme}://{where}{parts.path.rstrip('/')}"
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        self.name = f"DICOMweb at {where}"

    def echo(self) -> None:
        """A query for at most one study: DICOMweb has no echo."""
        with self._asking():
            self._client().search_for_studies(limit=1)

    def find(self, match: Mapping[str, str]) -> tuple[RemoteStudy, ...]:
        """QIDO-RS for studies."""
        filters = {keyword: value for keyword, value in match.items() if value}
        fields = [keyword for keyword in (*RETURNED, "IssuerOfPatientID") if keyword not in filters]
        with self._asking(), quiet():
            answers = self._client().search_for_studies(search_filters=filters, fields=fields, limit=MOST_STUDIES)
            return tuple(remote_study(Dataset.from_json(answer)) for answer in answers)

    def fetch(self, study_uid: str, keep: Keep, deadline_s: float) -> Fetched:
        """WADO-RS of the study, each instance as it is stored there."""
        until, count = time.monotonic() + deadline_s, 0
        with self._asking(), quiet():
            for dataset in self._client(min(ANSWER_S, deadline_s)).iter_study(study_uid, media_types=AS_STORED):
                buffer = BytesIO()
                dataset.save_as(buffer, enforce_file_format=True)
                keep(buffer.getvalue())
                count += 1
                if time.monotonic() > until:
                    raise PeerSilent(f"{self.name} did not send the study in time")
        return Fetched(count)

    def store(self, files: Sequence[Path]) -> tuple[str, ...]:
        """STOW-RS, one request for each file, so that a large study does not have to fit in the memory."""
        client, refusals = self._client(), Refusals()
        for file in files:
            with refusals.noted():
                self._store_one(client, file)
        return refusals.declined()

    def _store_one(self, client: DICOMwebClient, file: Path) -> None:
        with self._asking(), quiet():
            sent = pydicom.dcmread(file)
            try:
                answer = client.store_instances([sent])
            except requests.HTTPError as exc:
                if exc.response is None or exc.response.status_code != CONFLICT or not exc.response.content:
                    raise
                answer = Dataset.from_json(exc.response.json())
            failed = answer.get("FailedSOPSequence")
            code = int(failed[0].get("FailureReason") or 0) if failed else 0
        if failed and is_for_good(code):
            raise PeerDeclines(f"{self.name} does not take {sent.SOPClassUID.name} (0x{code:04X})")
        if failed:
            raise PeerRefused(f"{self.name} did not take an object (0x{code:04X})")

    def _client(self, answer_s: float = ANSWER_S) -> DICOMwebClient:
        logging.getLogger("dicomweb_client").setLevel(logging.CRITICAL)  # its lines quote UIDs
        session = requests.Session()
        session.trust_env = False  # neither proxies nor passwords that the environment names
        if self._password and not self._user:
            session.headers["Authorization"] = f"Bearer {self._password}"
        elif self._user:
            session.auth = (self._user, self._password)
        client = DICOMwebClient(self._url, session, timeout=(CONNECT_S, answer_s), permissive_uid=True)
        client.set_http_retry_params(retry=False)  # whoever asks has a way of asking again
        return client

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Say in our words what went wrong: what requests raises quotes URLs, and so UIDs and patient ids."""
        try:
            yield
        except requests.HTTPError as exc:
            code = exc.response.status_code if exc.response is not None else 0
            why = {401: ": it wants other credentials", 403: ": it does not allow that"}.get(code, "")
            raise PeerRefused(f"{self.name} answered HTTP {code}{why}") from None
        except requests.RequestException as exc:
            raise PeerSilent(f"{self.name} does not answer ({type(exc).__name__})") from None
        except (ValueError, KeyError, TypeError) as exc:
            raise PeerRefused(f"{self.name} gave an answer that is not DICOMweb ({type(exc).__name__})") from None
