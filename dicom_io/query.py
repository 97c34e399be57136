"""A PACS by DIMSE, as its client (SCU): C-ECHO, C-FIND, C-MOVE or C-GET, C-STORE (PS3.4 annexes A, B and C)."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext, build_context, build_role
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from dicom_io.dimse import ANSWER_S, MAX_PDU_BYTES, SYNTAXES_OF, entity, file_head, no_delay
from dicom_io.errors import PeerDeclines, PeerError, PeerRefused, PeerSilent
from dicom_io.narrative import acquired_on
from dicom_io.pixels import COMPRESSED
from dicom_io.ports import Fetched, Keep, RemoteStudy
from dicom_io.read import quiet, text
from dicom_io.screen import IMAGES

MOST_CONTEXTS = 128  # of one association (PS3.8 9.3.2.2)
MOST_STUDIES = 10_000  # of one answer; more is a question too wide
PLAIN = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
CONVERTIBLE = (ExplicitVRLittleEndian, ExplicitVRBigEndian)  # to Implicit VR, which every system takes (PS3.5 10.1)
RETURNED = ("StudyDate", "StudyTime", "ModalitiesInStudy", "NumberOfStudyRelatedInstances", "PatientID")
REASONS = {  # PS3.4 tables C.4-1 and C.4-2, PS3.7 annex C, as a person would say it
    0xA700: "it is out of resources",
    0xA701: "it is out of resources",
    0xA702: "it could not send any of the images",
    0xA801: "it does not know our AE title as a destination",
    0x0122: "it does not take this kind of object",
    0x0124: "it does not allow that",
}


class Refusals:
    """What a system did not take of several objects; one that is refused holds up no other."""

    def __init__(self) -> None:
        self._for_good: dict[str, None] = {}
        self._for_now: list[PeerRefused] = []
        self._taken = 0

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Around the sending of one object."""
        try:
            yield
        except PeerDeclines as exc:
            self._for_good[str(exc)] = None
        except PeerRefused as exc:
            self._for_now.append(exc)
        else:
            self._taken += 1

    def declined(self) -> tuple[str, ...]:
        """What it does not take, and the rest is there. Raises PeerRefused as Peer.store says."""
        if self._for_now:
            raise self._for_now[0]
        if self._for_good and not self._taken:
            raise PeerRefused("; ".join(self._for_good))
        return tuple(self._for_good)


@dataclass(frozen=True, slots=True)
class DicomPeer:
    """Implements Peer. title: its AE title; our_title: ours, which is also where C-MOVE sends to."""

    title: str
    host: str
    port: int
    our_title: str
    retrieve: Literal["move", "get"] = "move"

    @classmethod
    def at(cls, url: str, our_title: str) -> DicomPeer:
        """dicom://AET@host:port retrieves by C-MOVE, dicom+get://AET@host:port by C-GET.

        Raises ValueError with the reason.
        """
        parts = urlsplit(url)
        title = unquote(parts.username or "")
        try:
            port = parts.port
        except ValueError:
            port = None
        is_title = 1 <= len(title) <= 16 and title.isascii() and title.isprintable() and "\\" not in title
        if not is_title or not parts.hostname or not port:
            raise ValueError("a PACS is written dicom://AETITLE@host:port, its AE title in at most 16 characters")
        if parts.password or parts.query or parts.path not in ("", "/"):
            raise ValueError("dicom://AETITLE@host:port takes neither password, path nor options")
        return cls(title, parts.hostname, port, our_title, "get" if parts.scheme == "dicom+get" else "move")

    @property
    def name(self) -> str:
        """Its AE title and address."""
        return f"{self.title} at {self.host}:{self.port}"

    def echo(self) -> None:
        """C-ECHO."""
        with self._associated([build_context(Verification)]) as association:
            self._require(association.send_c_echo())

    def find(self, match: Mapping[str, str]) -> tuple[RemoteStudy, ...]:
        """C-FIND of the Study Root, at the level STUDY."""
        identifier = _identifier(match)
        found: list[RemoteStudy] = []
        with self._associated([build_context(StudyRootQueryRetrieveInformationModelFind)]) as association, quiet():
            for status, answer in association.send_c_find(identifier, StudyRootQueryRetrieveInformationModelFind):
                if not _is_pending(status):
                    self._require(status)
                elif answer is None or not text(answer, "StudyInstanceUID"):
                    raise PeerRefused(f"{self.name} answered a query with something that is no study")
                elif len(found) == MOST_STUDIES:
                    raise PeerRefused(f"{self.name} found more than {MOST_STUDIES} studies: the question is too wide")
                else:
                    found.append(remote_study(answer))
        return tuple(found)

    def fetch(self, study_uid: str, keep: Keep, deadline_s: float) -> Fetched:
        """C-MOVE to our AE title, or C-GET. The instances that came before a failure are kept."""
        until = time.monotonic() + deadline_s
        return self._move(study_uid, until) if self.retrieve == "move" else self._get(study_uid, keep, until)

    def store(self, files: Sequence[Path]) -> tuple[str, ...]:
        """C-STORE of every file on one association, as it is encoded; uncompressed ones as Implicit VR if they must."""
        refusals = Refusals()
        waiting = [(file, *_kind(file)) for file in files]
        while waiting:
            kinds = list(dict.fromkeys((sop_class, syntax) for _, sop_class, syntax in waiting))[: MOST_CONTEXTS // 2]
            contexts = [build_context(sop_class, [syntax]) for sop_class, syntax in kinds]
            plain = {sop_class for sop_class, syntax in kinds if syntax in CONVERTIBLE}
            contexts += [build_context(sop_class, [ImplicitVRLittleEndian]) for sop_class in sorted(plain)]
            with self._associated(contexts) as association:
                for file, sop_class, syntax in waiting:
                    if (sop_class, syntax) in kinds:
                        with refusals.noted():
                            self._store_one(association, file, sop_class, syntax)
            waiting = [each for each in waiting if (each[1], each[2]) not in kinds]
        return refusals.declined()

    def _store_one(self, association: Association, file: Path, sop_class: UID, syntax: UID) -> None:
        accepted = {(each.abstract_syntax, each.transfer_syntax[0]) for each in association.accepted_contexts}
        if (sop_class, syntax) in accepted:
            status = association.send_c_store(file)
        elif syntax in CONVERTIBLE and (sop_class, ImplicitVRLittleEndian) in accepted:
            with quiet():
                status = association.send_c_store(pydicom.dcmread(file))
        else:
            raise PeerDeclines(f"{self.name} does not take {sop_class.name} as {syntax.name}")
        if is_for_good(_code(status)):
            raise PeerDeclines(f"{self.name} does not take {sop_class.name} (0x{_code(status):04X})")
        self._require(status)

    def _move(self, study_uid: str, until: float) -> Fetched:
        model = StudyRootQueryRetrieveInformationModelMove
        with self._associated([build_context(model)]) as association:
            association.dimse_timeout = _left(until)
            for status, _ in association.send_c_move(_the_study(study_uid), self.our_title, model):
                if not _is_pending(status):
                    return Fetched(self._brought(status), at_listener=True)
                association.dimse_timeout = _left(until)
        raise PeerSilent(f"{self.name} did not send the study in time")

    def _get(self, study_uid: str, keep: Keep, until: float) -> Fetched:
        model = StudyRootQueryRetrieveInformationModelGet
        failures: list[OSError] = []

        def take(event: evt.Event) -> int:
            event.assoc.dimse_timeout = _left(until)
            request = event.request
            if not isinstance(request, C_STORE):
                return 0x0211  # pynetdicom's types allow others here
            head = file_head(
                str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID), event.context.transfer_syntax
            )
            try:
                keep(head + event.encoded_dataset(include_meta=False))
            except OSError as exc:
                failures.append(exc)
                return 0xA700
            return 0x0000

        contexts, roles = _retrieval()
        with self._associated([build_context(model), *contexts], roles, [(evt.EVT_C_STORE, take)]) as association:
            association.dimse_timeout = _left(until)
            for status, _ in association.send_c_get(_the_study(study_uid), model):
                if failures:
                    raise failures[0]
                if not _is_pending(status):
                    return Fetched(self._brought(status))
        raise PeerSilent(f"{self.name} did not send the study in time")

    @contextmanager
    def _associated(
        self,
        contexts: list[PresentationContext],
        roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
        handlers: Sequence[evt.EventHandlerType] = (),
    ) -> Iterator[Association]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)  # pynetdicom lets a refused connection's socket fall
                association = entity(self.our_title).associate(
                    self.host,
                    self.port,
                    contexts,
                    self.title,
                    max_pdu=MAX_PDU_BYTES,
                    ext_neg=list(roles),
                    evt_handlers=[(evt.EVT_CONN_OPEN, no_delay), *handlers],
                )
        except OSError as exc:
            raise PeerSilent(f"{self.name} cannot be found: {exc.strerror or 'its name is not known'}") from exc
        if association.is_rejected:
            raise PeerRefused(f"{self.name} rejects the association: it does not know {self.our_title}, or is busy")
        if not association.is_established:
            has_none = association.rejected_contexts and not association.accepted_contexts
            if has_none:
                raise PeerRefused(f"{self.name} does not offer what is asked of it")
            raise PeerSilent(f"{self.name} does not answer")
        try:
            yield association
        except (RuntimeError, ValueError) as exc:  # pynetdicom's, when the association ended meanwhile
            association.abort()
            raise PeerSilent(f"{self.name} ended the association") from exc
        except BaseException:
            association.abort()
            raise
        association.release()

    def _require(self, status: Dataset) -> None:
        """Success or a warning, or else the reason as an error."""
        code = _code(status)
        if code is None:
            raise PeerSilent(f"{self.name} did not answer within {ANSWER_S:.0f} s, or ended the association")
        if code != 0x0000 and code >> 12 != 0xB:
            raise PeerRefused(f"{self.name} refused: {REASONS.get(code, 'status')} (0x{code:04X})")

    def _brought(self, status: Dataset) -> int:
        """How many instances a retrieval brought. Raises when it brought none of those that there are."""
        code, done = _code(status), int(status.get("NumberOfCompletedSuboperations") or 0)
        failed = int(status.get("NumberOfFailedSuboperations") or 0)
        if code is None:
            raise PeerSilent(f"{self.name} did not send the study in time")
        if code >> 12 == 0xB and failed and not done:
            raise PeerRefused(f"{self.name} could not send any of the images: is `wetread listen` running?")
        self._require(status)
        return done


def is_for_good(code: int | None) -> bool:
    """Whether a status of a storage says that the object's kind is not taken (PS3.4 table B.2-1, PS3.7 annex C)."""
    return code is not None and (code == 0x0122 or code >> 8 == 0xA9)


def remote_study(answer: Dataset) -> RemoteStudy:
    """What a system says of a study, in a C-FIND or QIDO answer. ValueError when it does not say which."""
    count = text(answer, "NumberOfStudyRelatedInstances")
    return RemoteStudy(
        uid=text(answer, "StudyInstanceUID"),
        patient_id=text(answer, "PatientID"),
        issuer=text(answer, "IssuerOfPatientID"),
        acquired_on=acquired_on(answer),
        modalities=frozenset(part for part in text(answer, "ModalitiesInStudy").upper().split("\\") if part),
        instances=int(count) if count.isdigit() else 0,
    )


def _identifier(match: Mapping[str, str]) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = ""
    for keyword in RETURNED:
        setattr(identifier, keyword, "" if keyword != "NumberOfStudyRelatedInstances" else None)
    with quiet():
        for keyword, value in match.items():
            setattr(identifier, keyword, value)
    if not all(value.isascii() for value in match.values()):
        identifier.SpecificCharacterSet = "ISO_IR 192"
    return identifier


def _the_study(study_uid: str) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = study_uid
    return identifier


def _retrieval() -> tuple[list[PresentationContext], list[SCP_SCU_RoleSelectionNegotiation]]:
    """Contexts for what the archive keeps: compressed images under one each, so that they are sent as they are."""
    contexts = []
    for sop_class in SYNTAXES_OF:
        contexts.append(build_context(sop_class, list(PLAIN)))
        if sop_class in IMAGES:
            contexts += [build_context(sop_class, [syntax]) for syntax in COMPRESSED]
    return contexts, [build_role(sop_class, scp_role=True) for sop_class in SYNTAXES_OF]


def _kind(file: Path) -> tuple[UID, UID]:
    try:
        with quiet():
            meta = read_file_meta_info(file)
        return UID(meta.MediaStorageSOPClassUID), UID(meta.TransferSyntaxUID)
    except (AttributeError, InvalidDicomError) as exc:
        raise PeerError("a file that was to be sent has no meta information") from exc


def _code(status: Dataset) -> int | None:
    """The status of a response; None when there was no response."""
    return int(status.Status) if "Status" in status else None


def _is_pending(status: Dataset) -> bool:
    return _code(status) in (0xFF00, 0xFF01)


def _left(until: float) -> float:
    return max(until - time.monotonic(), 0.001)
