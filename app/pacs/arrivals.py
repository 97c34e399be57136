"""From the spool into the archive: a study that nothing more came of for a while is complete, and gets its job."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import structlog

from app.bootstrap import Program
from app.errors import AppError
from app.pacs.spool import RETRIEVED, Spool, Waiting
from app.submit import submit
from app.worker import place
from dicom_io.errors import ArchiveUnavailable

REQUESTED_BY = "pacs"
LOOK_EVERY_S = 1.0
RETRY_AFTER_S = 30.0

log = structlog.get_logger()


def take_in_arrivals(program: Program, spool: Spool, stop: Callable[[], bool]) -> None:
    """Take in what is complete until stop() is true.

    The quiet time counts from now at the earliest: a study that was interrupted by a restart is waited for again.
    """
    started, pause_s = time.time(), min(LOOK_EVERY_S, program.settings.quiet_s / 3)
    failed_at: dict[str, float] = {}
    while not stop():
        try:
            take_in_complete(program, spool, started, failed_at)
        except OSError as exc:
            log.error("the spool cannot be read", reason=_said(exc))
        time.sleep(pause_s)


def take_in_complete(
    program: Program, spool: Spool, since: float = 0.0, failed_at: dict[str, float] | None = None
) -> int:
    """Take in every study that has been quiet for as long as the setting quiet_s says; returns how many.

    since: seconds since 1970 from when on quiet counts. What cannot be taken in now stays in the spool. failed_at: when
    that was, by the study's key; kept here, and looked at so that a study is not tried again every second.
    """
    taken, failed = 0, {} if failed_at is None else failed_at
    for study in spool.waiting():
        is_quiet = time.time() - max(study.changed_at, since) >= program.settings.quiet_s
        if not is_quiet or time.time() - failed.get(study.key, 0.0) < RETRY_AFTER_S:
            continue
        try:
            take_in(program, spool, study)
        except Exception as exc:  # whatever one study does to us, the others must come in
            failed[study.key] = time.time()
            log.error("a study that came in cannot be archived now", study=study.key, reason=_said(exc))
        else:
            failed.pop(study.key, None)
            taken += 1
    return taken


def take_in(program: Program, spool: Spool, study: Waiting) -> tuple[str, ...]:
    """Archive these files of a study, submit its job unless we fetched it ourselves, and remove exactly these files.

    A file is removed only when the archive holds its bytes; one that the archive refuses goes to home/refused, unless
    we fetched it. Whatever is interrupted here is done again from the start, which changes nothing that was done.
    Returns the UIDs of what can be reported on. Raises ArchiveUnavailable, StorageFailed or OSError.
    """
    ingested = program.archive.ingest(study.files)
    if not study.is_retrieved:
        for uid in ingested.study_uids:
            submit(program, uid, REQUESTED_BY)
    held = program.archive.holds(study.key)
    refused = [file for file in study.files if file.name.partition(".")[0] not in held]
    for file in study.files:
        if file in refused and not file.name.endswith(RETRIEVED):
            spool.refuse(file)
        else:  # the archive holds it, or it was only a copy of what the PACS holds
            spool.done(file)
    log.info("a study came in", study=study.key, files=len(study.files), refused=len(refused))
    if refused:
        names = {file.name for file in refused}
        reasons = Counter(each.reason for each in ingested.left_out if each.name in names)
        log.warning("files were refused", study=study.key, files=len(refused), reasons=dict(reasons.most_common(5)))
    return ingested.study_uids


def _said(exc: Exception) -> str:
    """The reason in a sentence of ours, or what kind of fault it was and where: never a value, which may be a name."""
    match exc:
        case ArchiveUnavailable() | AppError():
            return str(exc)
        case OSError():
            return exc.strerror or type(exc).__name__
        case _:
            return f"a fault ({type(exc).__name__}) at {place(exc)}"
