"""A patient's earlier studies, fetched from the PACS before a report is made.

Priors are welcome, never needed: everything here ends by a deadline, and what goes wrong becomes a sentence for the
report's reader.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import structlog

from app.bootstrap import Program, open_peer
from app.errors import AppError
from app.pacs.arrivals import take_in
from app.pacs.spool import Spool
from dicom_io.archive import is_before
from dicom_io.errors import DicomError, PeerError, PeerSilent
from dicom_io.identity import has_patient_id, study_key
from dicom_io.ports import Peer, RemoteStudy
from dicom_io.read import text
from dicom_io.study import Modality

SILENT = "The PACS did not answer in time, so earlier studies that it may hold are not compared with."
REFUSED = "The PACS did not hand over its earlier studies, so they are not compared with."
UNUSED = "Earlier studies at the PACS could not be used, so they are not compared with."
NO_SEARCH = "The patient's id cannot be searched for, so the PACS was not asked for earlier studies."
OURS = frozenset(each.value for each in Modality)
WILDCARDS = frozenset("*?\\")  # in a patient id they would match other patients (PS3.4 C.2.2.2.4)

log = structlog.get_logger()


def bring_priors(program: Program, study_uid: str, peer: Peer | None = None) -> tuple[str, ...]:
    """Put the earlier studies that the report should compare with into the archive, from the PACS at pacs_url.

    Returns sentences for the report's notices: why something may be missing. Never raises for what another system, a
    disk or a database did, and returns about prior_deadline_s seconds after it was called at the latest.
    peer: whom to ask instead of the PACS at pacs_url.
    """
    if not (peer or program.settings.pacs_url) or not program.settings.priors:
        return ()
    until = time.monotonic() + program.settings.prior_deadline_s
    key = study_key(study_uid, program.secret)
    try:
        asked = peer or open_peer(program.settings, program.settings.pacs_url, "pacs_url")
        return _bring(program, asked, study_uid, until)
    except PeerError as exc:
        log.warning("no earlier studies were fetched", study=key, reason=str(exc))
        return (SILENT if isinstance(exc, PeerSilent) else REFUSED,)
    except (DicomError, AppError, OSError, KeyError) as exc:
        log.warning("no earlier studies were fetched", study=key, error=type(exc).__name__)
        return ()


def _bring(program: Program, peer: Peer, study_uid: str, until: float) -> tuple[str, ...]:
    row = program.archive.row(study_uid)
    header = next(iter(program.archive.datasets(study_uid, with_pixels=False).values()))
    if row.acquired_on is None or not has_patient_id(header):
        return ()  # nothing is known to be earlier, or nobody knows whose it is
    patient_id, issuer = text(header, "PatientID"), text(header, "IssuerOfPatientID")
    if WILDCARDS & set(patient_id + issuer):
        return (NO_SEARCH,)
    found = peer.find({"PatientID": patient_id, "IssuerOfPatientID": issuer})
    theirs = [each for each in found if each.patient_id == patient_id and each.issuer in ("", issuer)]
    is_film = any(modality.is_projection for modality in row.modalities)
    wanted = choose(theirs, study_uid, row.acquired_on, is_film=is_film, most=program.settings.priors)
    for earlier in wanted:
        if is_absent(program, earlier):
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise PeerSilent("the time for fetching priors is over")
            retrieve(program, peer, earlier.uid, left_s)
    unused = sum(is_absent(program, earlier) for earlier in wanted)
    if unused:
        log.warning("earlier studies came to nothing", study=study_key(study_uid, program.secret), studies=unused)
    return (UNUSED,) if unused else ()


def choose(
    found: Sequence[RemoteStudy], study_uid: str, acquired_on: datetime, *, is_film: bool, most: int
) -> list[RemoteStudy]:
    """Those to compare with: strictly earlier, of a kind that we read; the same kind first, then the newest."""
    films = {each.value for each in Modality if each.is_projection}

    def is_alike(study: RemoteStudy) -> bool:
        return bool(study.modalities & (films if is_film else OURS - films))

    earlier = [
        (each.acquired_on, each)
        for each in found
        if each.uid != study_uid
        and each.acquired_on is not None
        and is_before(each.acquired_on, acquired_on)
        and (not each.modalities or each.modalities & OURS)
    ]
    earlier.sort(key=lambda pair: (is_alike(pair[1]), pair[0], pair[1].uid), reverse=True)
    return [each for _, each in earlier[:most]]


def is_absent(program: Program, study: RemoteStudy) -> bool:
    """True when the archive does not have the study."""
    try:
        program.archive.row(study.uid)
    except KeyError:
        return True
    return False


def retrieve(program: Program, peer: Peer, study_uid: str, deadline_s: float) -> tuple[str, ...]:
    """Bring a study into the archive, without a job; returns the UIDs of what can be reported on.

    What the peer sent before it failed is dropped: half a study is worse than none. What our listener acknowledged
    stays in the spool and is archived from there. Raises PeerError, ArchiveUnavailable, StorageFailed or OSError.
    """
    spool = Spool(program.settings.home.expanduser(), program.secret)
    kept: list[Path] = []
    try:
        peer.fetch(study_uid, lambda data: kept.append(spool.put(study_uid, data)), deadline_s)
    except (PeerError, OSError):
        for file in kept:
            spool.done(file)
        raise
    waiting = spool.of_study(study_uid)
    return take_in(program, spool, waiting) if waiting is not None else ()
