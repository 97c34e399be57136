"""What the Storage SCP (listen.py) and the SCU (query.py) share: what is negotiated, limits, and silence.

pynetdicom's own log lines quote AE titles, UIDs and whole identifiers, so it is silenced; what matters is logged here
and in the modules above in words of our own.
"""

from __future__ import annotations

import logging
import socket
import struct
import warnings

from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import AE, _config, evt

from dicom_io.pixels import COMPRESSED
from dicom_io.screen import IMAGES, REPORTS

IMPLEMENTATION = UID("2.25.265738925157999658036381853509382520229")  # PS3.7 D.3.3.2
IMPLEMENTATION_VERSION = "WETREAD"  # no number: a file received again after an update must have the same bytes

NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)
SYNTAXES_OF: dict[UID, tuple[UID, ...]] = {  # the SOP classes that the archive keeps, by what they are encoded in
    **{UID(uid): (*NATIVE, *COMPRESSED) for uid in sorted(IMAGES)},
    **{UID(uid): NATIVE for uid in sorted(REPORTS)},
}

MAX_PDU_BYTES = 128 * 1024  # what we announce (PS3.8 D.1); a longer one ends the association
CONNECT_S = 10.0
ANSWER_S = 30.0  # for an association, and for a message
IDLE_S = 60.0  # then an association on which nothing happens is ended


def entity(ae_title: str) -> AE:
    """An application entity of this name, silent and with time limits."""
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
    _config.STORE_SEND_CHUNKED_DATASET = True  # a file is sent as it is, piece by piece, not decoded and encoded again
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    for package in ("pydicom", "pynetdicom"):  # their warnings quote values too; for good, as their threads come and go
        warnings.filterwarnings("ignore", module=rf"{package}\b")
    entity = AE(ae_title)
    entity.implementation_class_uid = IMPLEMENTATION
    entity.implementation_version_name = IMPLEMENTATION_VERSION
    entity.maximum_pdu_size = MAX_PDU_BYTES
    entity.connection_timeout = CONNECT_S
    entity.acse_timeout = entity.dimse_timeout = ANSWER_S
    entity.network_timeout = IDLE_S
    return entity


def no_delay(event: evt.Event) -> None:
    """Send small packets at once. With Nagle's algorithm every C-STORE waits some 40 ms for a delayed ACK."""
    wrapped = event.assoc.dul.socket
    if wrapped is not None and wrapped.socket is not None:
        wrapped.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def file_head(sop_class: str, sop_instance: str, syntax: str) -> bytes:
    """What stands before a dataset in a file (PS3.10 section 7.1): preamble, prefix, meta information.

    Holds nothing that differs from one association to the next, so that an instance sent twice makes the same file.
    Put together by hand: through pydicom it would take a tenth of all the time that receiving a CT slice takes.
    """
    elements = b"".join(
        (
            struct.pack("<HH2sHL2s", 0x0002, 0x0001, b"OB", 0, 2, b"\0\1"),  # File Meta Information Version
            _uid_element(0x0002, sop_class),
            _uid_element(0x0003, sop_instance),
            _uid_element(0x0010, syntax),
            _uid_element(0x0012, IMPLEMENTATION),
            struct.pack("<HH2sH8s", 0x0002, 0x0013, b"SH", 8, IMPLEMENTATION_VERSION.ljust(8).encode("ascii")),
        )
    )
    length = struct.pack("<HH2sHL", 0x0002, 0x0000, b"UL", 4, len(elements))
    return b"\0" * 128 + b"DICM" + length + elements


def _uid_element(element: int, uid: str) -> bytes:
    """An element of group 0002 with VR UI, in Explicit VR Little Endian, padded to an even length (PS3.5 section 9)."""
    value = str(uid).encode("ascii", "replace")
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", 0x0002, element, b"UI", len(value)) + value
