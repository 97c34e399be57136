"""C-STORE requests written to disk fragment by fragment, so that an image larger than the memory can be received.

pynetdicom can do that by itself (STORE_RECV_CHUNKED_DATASET), but into the system's folder for temporary files, which
may be another disk; what an aborted association leaves there stays; and a full disk ends the thread that reads the
connection, so that the sender never hears "out of resources". Hence the small classes below, which use the same places
of pynetdicom as its own way does. They also keep a peer that makes no sense from holding an association for long.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket, RequestHandler

from dicom_io.dimse import IDLE_S, MAX_PDU_BYTES, file_head

log = logging.getLogger(__name__)

OpenPart = Callable[[Path], BinaryIO]
MOST_PDU_BYTES = 2 * MAX_PDU_BYTES  # some senders count the header in, and some do not


def open_part(path: Path) -> BinaryIO:
    """A new file, for its owner alone. Raises OSError."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=1 << 20)


class Part:
    """A file that grows with each fragment. What goes wrong is remembered and raised by `finish`."""

    def __init__(self, path: Path, opened: OpenPart) -> None:
        self.path = path
        self.name = str(path)
        self._digest = sha256()
        self._failure: OSError | None = None
        self._file: BinaryIO | None = None
        try:
            self._file = opened(path)
        except OSError as exc:
            self._failure = exc

    @property
    def file(self) -> Part:
        """Where pynetdicom flushes after every fragment; that would cost more than it is good for."""
        return self

    def flush(self) -> None:
        """Nothing: `finish` syncs."""

    def write(self, data: bytes) -> int:
        """Add a fragment, or let it go when an earlier one failed: the rest of the message must be read anyhow."""
        if self._failure is None and self._file is not None:
            try:
                self._file.write(data)
                self._digest.update(data)
            except OSError as exc:
                self._failure = exc
        return len(data)

    def finish(self) -> str:
        """Sync the file to the disk and close it; returns its sha256. Raises OSError, also for an earlier failure."""
        if self._failure is not None:
            raise self._failure
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        return self._digest.hexdigest()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as exc:  # what was buffered does not fit on the disk either
                self._failure = self._failure or exc

    def discard(self) -> None:
        """Close the file and remove it, if it is still there."""
        self.close()
        self.path.unlink(missing_ok=True)


class Intake(DIMSEServiceProvider):
    """Receives messages; the datasets of C-STORE requests go to files in `folder`."""

    def __init__(self, association: Association, folder: Path, opened: OpenPart) -> None:
        super().__init__(association)
        self._folder = folder
        self._opened = opened
        self._parts: list[Part] = []

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the fragments one by one: a C-STORE's file must be there before the first of its dataset."""
        try:
            for value in primitive.presentation_data_value_list:
                fragment = P_DATA()
                fragment.presentation_data_value_list.append(value)
                super().receive_primitive(fragment)
                if isinstance(self.message, C_STORE_RQ) and self.message._data_set_file is None:
                    self._open_file(self.message)
        except Exception:  # a message that pynetdicom cannot make sense of: it would end the thread that reads
            log.warning("a message makes no sense: its association is ended")
            self.dul.event_queue.put("Evt19")  # "unrecognised or invalid PDU", which aborts (PS3.8 table 9-10)

    def discard(self) -> None:
        """Remove what an ended association has left."""
        for part in self._parts:
            part.discard()
        self._parts.clear()

    def _open_file(self, message: C_STORE_RQ) -> None:
        command = message.command_set
        context = self.assoc._accepted_cx[message.context_id or 0]
        part = Part(self._folder / f"{secrets.token_hex(16)}.part", self._opened)
        part.write(file_head(command.AffectedSOPClassUID, command.AffectedSOPInstanceUID, context.transfer_syntax[0]))
        self._parts = [each for each in self._parts if each.path.exists()] + [part]
        holder: Any = message  # pynetdicom says that this is its own NamedTemporaryFile
        holder._data_set_file, holder._data_set_path = part, part.path


class BoundedSocket(AssociationSocket):
    """A connection that reads a PDU in one go, refuses one that is impossibly long, and never waits for ever."""

    def recv(self, nr_bytes: int) -> bytearray:
        """As its parent does; raises OSError when more is announced than was negotiated, and after IDLE_S seconds."""
        if nr_bytes > MOST_PDU_BYTES:
            raise OSError("a PDU is longer than what was negotiated")
        if self.socket is None:
            raise OSError("the connection is closed")
        self.socket.settimeout(IDLE_S)
        received = bytearray(nr_bytes)
        view, count = memoryview(received), 0
        while count < nr_bytes:
            read = self.socket.recv_into(view[count:])
            if not read:
                break
            count += read
        return received[:count]


class IntakeProvider(DULServiceProvider):
    """Reads a connection in a thread of its own, which ends quietly whatever the peer does."""

    def __init__(self, association: Association) -> None:
        super().__init__(association)
        self.daemon = True
        self._idle_timer.timeout = association.network_timeout
        self.artim_timer.timeout = association.acse_timeout

    def run_reactor(self) -> None:
        """As its parent does; then nobody waits any longer for a request that will not come."""
        try:
            super().run_reactor()
        except Exception:  # what the peer did has no place in the state machine (PS3.8 section 9.2)
            log.warning("what a peer sent has no place in the protocol: its association is ended")
            if self.socket is not None:
                self.socket.close()
        finally:
            if self.assoc.requestor.primitive is None:
                waiting: Any = self.to_user_queue
                waiting.put(None)


class IntakeHandler(RequestHandler):
    """Puts the classes above into each new association. `folder` and `opened` are set by a subclass."""

    folder: Path
    opened: staticmethod[[Path], BinaryIO]

    def _create_association(self) -> Association:
        association = super()._create_association()
        association.dimse = Intake(association, self.folder, self.opened)
        association.dul = IntakeProvider(association)
        association.set_socket(BoundedSocket(association, client_socket=self._connection()))
        return association

    def _connection(self) -> Any:
        return self.request
