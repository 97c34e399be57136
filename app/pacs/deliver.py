"""From the outbox to the PACS: what is due is rendered and stored into the original study.

The results' SOP Instance UIDs follow from the report, so sending twice, after a crash or a failure, changes nothing.
"""

from __future__ import annotations

import structlog

from app.bootstrap import Program, open_peer
from app.outgoing import Delivery, pause_s, without_password
from app.results.errors import ResultsUnwritable
from app.results.kept import results_of
from app.worker import place
from dicom_io.errors import ArchiveUnavailable, DicomError, PeerError
from dicom_io.identity import study_key

LEASE_S = 600.0  # to render and to send one study's results; then another worker may try
SENDER = "outbox"

log = structlog.get_logger()


class NothingToSend(Exception):  # noqa: N818 - named for what is so
    """Not one DICOM object could be made of the report."""


def deliver_due(program: Program, worker: str = SENDER) -> int:
    """Send every delivery that is due now; returns how many arrived. What does not arrive is tried again later."""
    arrived = 0
    while (delivery := program.deliveries.take(worker, LEASE_S)) is not None:
        arrived += deliver(program, delivery)
    return arrived


def deliver(program: Program, delivery: Delivery) -> bool:
    """Send one version to one destination, and note how that went; True when it arrived."""
    key = study_key(delivery.study_uid, program.secret)
    why = reason_to_drop(program, delivery)
    if why:
        program.deliveries.drop(delivery.id, why)
        return False
    try:
        peer = open_peer(program.settings, urls_of(program)[delivery.destination], "results_to")
        files = sorted(results_of(program, delivery.study_uid, delivery.version).glob("*.dcm"))
        if not files:
            raise NothingToSend
        declined = "; ".join(peer.store(files))
    except Exception as exc:  # a fault with one delivery must not hold up the others
        put_off(program, delivery, exc)
        return False
    program.deliveries.sent(delivery.id, declined)
    if declined:
        log.warning("results were delivered in part", study=key, version=delivery.version, reason=declined)
    program.audit.record(SENDER, "results delivered", key, version=delivery.version, destination=peer.name)
    log.info("results delivered", study=key, version=delivery.version, destination=peer.name)
    return True


def put_off(program: Program, delivery: Delivery, why: Exception) -> None:
    """Note that it did not arrive, and whether to try again."""
    key = study_key(delivery.study_uid, program.secret)
    match why:
        case PeerError() | ArchiveUnavailable() | ResultsUnwritable():
            reason = str(why)
        case DicomError() | KeyError() | NothingToSend():
            gone = "the study can no longer be read from the archive"
            none = "not one result that a PACS takes could be made"
            program.deliveries.drop(delivery.id, none if isinstance(why, NothingToSend) else gone)
            log.error("results cannot be delivered", study=key, version=delivery.version, error=type(why).__name__)
            return
        case _:
            reason = f"a fault ({type(why).__name__}) at {place(why)}"
    program.deliveries.again(delivery.id, reason, pause_s(delivery.attempts))
    log.warning("results were not delivered", study=key, version=delivery.version, reason=reason)


def reason_to_drop(program: Program, delivery: Delivery) -> str:
    """Why it is not to be sent any more; "" when it is. A draft never takes the place of a signed report."""
    history = program.versions.history(delivery.study_uid)
    own = next((each for each in history if each.number == delivery.version), None)
    if own is None:
        return "there is no report on this study"
    rivals = [each.number for each in history if own.report.is_draft or not each.report.is_draft]
    if rivals[-1] > delivery.version:
        return f"version {rivals[-1]} has taken its place"
    if delivery.destination not in urls_of(program):
        return "results_to does not name this destination any more"
    return ""


def urls_of(program: Program) -> dict[str, str]:
    """The destinations as they are set now, passwords included, by what they are called in a delivery."""
    return {without_password(url): url for url in program.settings.destinations}
