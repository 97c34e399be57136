"""A Storage SCP (PS3.4 annex B): what a modality or a PACS sends is on the disk before it is acknowledged.

An instance is written while it comes, read through, synced, and given to the keeper, who moves it to where it stays
and makes that last; only then is success answered. A sender that hears nothing, or a failure, still has the instance.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

from dicom_io.dimse import SYNTAXES_OF, entity, no_delay
from dicom_io.errors import Unreadable
from dicom_io.intake import Intake, IntakeHandler, OpenPart, Part, open_part
from dicom_io.read import ends_early, parse, parse_file, text

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700  # PS3.4 table B.2-1
NOT_ITS_SOP_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000
STALE_SECONDS = 24 * 3600  # what a killed listener has left for so long is removed

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Received:
    """A complete DICOM file (PS3.10), synced. path: where it lies until its keeper moves it.

    sha256: of its bytes, in hexadecimal. is_retrieved: it comes by a C-MOVE of our own.
    """

    path: Path
    sha256: str
    study_uid: str
    is_retrieved: bool


Keeper = Callable[[Received], None]  # moves the file, and returns when that lasts; OSError when it cannot


class Listener:
    """Takes C-ECHO and C-STORE from `start` to `stop`, each association in a thread of its own."""

    def __init__(
        self,
        ae_title: str,
        incoming: Path,
        keeper: Keeper,
        *,
        host: str = "127.0.0.1",
        port: int = 11112,
        callers: Collection[str] = (),
        most_associations: int = 32,
        opened: OpenPart = open_part,
    ) -> None:
        """incoming: a folder on the disk where the keeper moves the files to.

        ae_title: ours; an association that calls another one is rejected. callers: the AE titles that may call; empty:
        any. port: 0 takes a free one. opened: how a file is made; a test that needs a full disk brings its own.
        """
        self._ae_title = ae_title
        self._incoming = incoming
        self._keeper = keeper
        self._address = (host, port)
        self._callers = sorted(callers)
        self._most_associations = most_associations
        self._opened = opened
        self._server: ThreadedAssociationServer | None = None

    def start(self) -> int:
        """Listen; returns the port. Raises OSError when the port is taken or the folder cannot be made."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        _clear_stale(self._incoming)
        ours = entity(self._ae_title)
        ours.require_called_aet = True
        ours.require_calling_aet = self._callers
        ours.maximum_associations = self._most_associations
        ours.add_supported_context(Verification)
        for sop_class, syntaxes in SYNTAXES_OF.items():
            ours.add_supported_context(sop_class, list(syntaxes))

        class Handler(IntakeHandler):
            folder = self._incoming
            opened = staticmethod(self._opened)

        server = ours.make_server(
            self._address,
            evt_handlers=[
                (evt.EVT_CONN_OPEN, no_delay),
                (evt.EVT_CONN_CLOSE, _clean_up),
                (evt.EVT_REJECTED, _say_rejected),
                (evt.EVT_C_ECHO, lambda event: SUCCESS),
                (evt.EVT_C_STORE, self._store),
            ],
            server_class=ThreadedAssociationServer,
            request_handler=Handler,
        )
        ours._servers.append(server)  # where its shutdown expects itself
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True, name="dicom-listener").start()
        self._server = server
        return int(server.server_address[1])

    def stop(self, patience_s: float = 5.0) -> None:
        """Take no more associations, let those that are there end for a while, abort what is left."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        until = time.monotonic() + patience_s
        while server.active_associations and time.monotonic() < until:
            time.sleep(0.05)
        for association in server.active_associations:
            association.abort()

    def _store(self, event: evt.Event) -> int:
        """The answer to a C-STORE. Nothing of what a sender can do wrong raises."""
        part = event.request._dataset_file
        if not isinstance(part, Part):
            return CANNOT_UNDERSTAND  # no dataset came with the request
        try:
            digest = part.finish()
            dataset = _read_through(part.path)
            status = _judge(dataset, event)
            if status == SUCCESS:
                received = Received(part.path, digest, text(dataset, "StudyInstanceUID"), self._is_ours(event))
                self._keeper(received)
        except Unreadable as exc:
            log.warning("an instance was refused (0xC000): %s", exc)
            return CANNOT_UNDERSTAND
        except OSError as exc:
            log.error("an instance was refused (0xA700): it cannot be kept: %s", exc.strerror or type(exc).__name__)
            return OUT_OF_RESOURCES
        finally:
            part.discard()
        if status != SUCCESS:
            log.warning("an instance was refused (0x%04X): it is not what the request says it is", status)
        return status

    def _is_ours(self, event: evt.Event) -> bool:
        originator = event.request.MoveOriginatorApplicationEntityTitle  # type: ignore[union-attr]
        return str(originator or "").strip() == self._ae_title


def _read_through(path: Path) -> Dataset:
    """The dataset; Unreadable when it cannot be parsed to its end."""
    dataset = parse_file(path) if not _is_deflated(path) else parse(path.read_bytes())  # which refuses a bomb
    if not text(dataset, "SOPClassUID"):
        raise Unreadable("its dataset cannot be understood")
    if ends_early(dataset, path.stat().st_size):
        raise Unreadable("it is cut short")
    return dataset


def _is_deflated(path: Path) -> bool:
    with path.open("rb") as file:
        return DeflatedExplicitVRLittleEndian.encode() + b"\0" in file.read(1024)


def _judge(dataset: Dataset, event: evt.Event) -> int:
    """Success when the dataset is what the command says, and says where it belongs."""
    request = event.request
    is_same = (
        text(dataset, "SOPClassUID") == str(request.AffectedSOPClassUID).strip(" \0")
        and text(dataset, "SOPInstanceUID") == str(request.AffectedSOPInstanceUID).strip(" \0")  # type: ignore[union-attr]
    )
    has_place = text(dataset, "StudyInstanceUID") and text(dataset, "SeriesInstanceUID")
    return SUCCESS if is_same and has_place else NOT_ITS_SOP_CLASS


def _clean_up(event: evt.Event) -> None:
    if isinstance(event.assoc.dimse, Intake):
        event.assoc.dimse.discard()


def _say_rejected(event: evt.Event) -> None:
    titles = (event.assoc.requestor.ae_title, getattr(event.assoc.requestor.primitive, "called_ae_title", ""))
    caller, called = ("".join(c if c.isprintable() else "?" for c in str(each).strip()) for each in titles)
    log.warning("an association was rejected: %s called %s", caller, called)


def _clear_stale(folder: Path) -> None:
    for part in folder.glob("*.part"):
        if time.time() - part.stat().st_mtime > STALE_SECONDS:
            part.unlink(missing_ok=True)
