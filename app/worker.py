"""The worker: takes jobs from the queue and makes their reports, one at a time.

The database knows the truth about a job; the queue only says which to look at. A worker holds a job by a lease that it
renews while it works. When it dies the lease ends, some worker sends the job again, and whoever takes it makes the
report, or finds it saved: either way there is one report for one job.

A report that hangs is given up after limit_s: its job fails, and who waits is told. What hangs in a thread cannot be
ended from outside, so the worker's process is: whoever supervises it starts a new one.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from secrets import token_hex
from threading import Event, Thread
from time import monotonic, perf_counter
from traceback import extract_tb
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self

import structlog

from app.errors import AppError, StorageFailed
from app.jobs import Job
from app.outgoing import pause_s
from app.pipeline import Parts, report_on
from app.ports import Jobs, Queue, Versions
from dicom_io.errors import ArchiveUnavailable, DicomError
from dicom_io.identity import study_key
from expert_models.errors import MasksUnavailable

if TYPE_CHECKING:
    from app.bootstrap import Program

BEATS = 3  # in one lease: a beat or two may fail before the job counts as left alone
RESENT_AFTER = 5  # leases: a job that waits for so long may have been lost by the queue, and is sent again
LOOK_EVERY_S = 5.0  # for what is overdue and for deliveries that are due
LIMIT_S = 3600.0  # for one report
ENDING_S = 10.0  # for the threads beside the queue, when the worker stops

log = structlog.get_logger()


class LeaseLost(Exception):  # noqa: N818 - named for what is so
    """The job is no longer this worker's."""


def worker_name() -> str:
    """A name that no two workers share: machine, process, and a random part for threads."""
    return f"{socket.gethostname()[:40]}-{os.getpid()}-{token_hex(4)}"


def prepare_nothing(study_uid: str) -> tuple[str, ...]:
    """For a site that fetches nothing before a report is made."""
    return ()


def deliver_nothing() -> int:
    """For a site that sends nothing out."""
    return 0


def end_process(code: int = 1) -> None:
    """End this process now, with threads that can no longer be ended: waiting for them would be for ever, and letting
    the interpreter end them in the middle of native code aborts it ("terminate called without an active exception")."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@dataclass(frozen=True, slots=True)
class Desk:
    """What a worker works with.

    before: called with the study's UID before a report is made, to bring in its priors; returns what the report's
    reader must know of that, in sentences; what it raises costs no report.
    deliver: sends what is due to where it is to go, and says how much it was.
    limit_s: for one report; then its job has failed, and `hung` is called from another thread than the one that hangs.
    """

    jobs: Jobs
    queue: Queue
    versions: Versions
    parts: Parts
    secret: bytes
    lease_s: float
    before: Callable[[str], Sequence[str]] = prepare_nothing
    deliver: Callable[[], int] = deliver_nothing
    limit_s: float = LIMIT_S
    hung: Callable[[], None] = end_process
    worker: str = field(default_factory=worker_name)


def desk_of(
    program: Program,
    *,
    before: Callable[[str], Sequence[str]] = prepare_nothing,
    deliver: Callable[[], int] = deliver_nothing,
    hung: Callable[[], None] = end_process,
) -> Desk:
    """The desk of a new worker of this program."""
    return Desk(
        jobs=program.jobs,
        queue=program.queue,
        versions=program.versions,
        parts=program.parts,
        secret=program.secret,
        lease_s=program.settings.lease_s,
        before=before,
        deliver=deliver,
        limit_s=program.settings.job_limit_s,
        hung=hung,
    )


def work(desk: Desk, stop: Callable[[], bool]) -> None:
    """Make reports until stop() is true, then end the one in hand; also send what is overdue, and deliver."""
    over = Event()
    pause = min(LOOK_EVERY_S, desk.lease_s / BEATS)
    beside = [
        Thread(target=repeat, args=(act, pause, over), daemon=True)
        for act in (partial(send_overdue, desk), desk.deliver)
    ]
    for thread in beside:
        thread.start()
    try:
        desk.queue.work(partial(run_job, desk=desk), stop)
    finally:
        over.set()
        for thread in beside:
            thread.join(ENDING_S)


def run_job(job_id: str, desk: Desk) -> None:
    """Make the report of a job, if it is to be had; say in the database how it ended. Raises StorageFailed."""
    job = desk.jobs.take(job_id, desk.worker, desk.lease_s)
    if job is None:
        return  # it is done, given up, not due yet, or another worker has it
    with Lease(job, desk) as lease:
        say_how_it_ended = attempt(job, desk, lease)
    if lease.is_lost:
        log.warning("the job was taken up by another worker, or given up", job=job.id)
    else:
        say_how_it_ended()


def attempt(job: Job, desk: Desk, lease: Lease) -> Callable[[], None]:
    """Try to make the report; what is to be said of it in the database, if the job is still this worker's then."""
    try:
        make_report(job, desk, lease)
    except Exception as exc:
        return partial(give_back, job, desk, lease.stage, exc)
    except KeyboardInterrupt:
        with suppress(AppError):  # else its lease ends
            desk.jobs.postpone(job.id, desk.worker, "it was interrupted", 0)
        raise
    return partial(desk.jobs.finish, job.id, desk.worker)


def make_report(job: Job, desk: Desk, lease: Lease) -> None:
    """Report on the job's study, or announce the report that an earlier worker saved before it died."""
    made = desk.versions.made_by(job.id)
    if made is not None:
        desk.parts.outbox.announce(made.report)
        return
    started = perf_counter()
    notices = signed_before(desk, job.study_uid)
    try:
        notices += tuple(desk.before(job.study_uid))
    except Exception as exc:  # priors are welcome, never needed
        log.warning("nothing was brought in before the report", job=job.id, error=type(exc).__name__)
    report_on(job.study_uid, replace(desk.parts, reports=desk.versions.of_job(job.id)), lease.watch, notices)
    seconds = round(perf_counter() - started, 1)
    log.info("a job is done", job=job.id, study=study_key(job.study_uid, desk.secret), seconds=seconds)


def signed_before(desk: Desk, study_uid: str) -> tuple[str, ...]:
    """What the reader of a new draft must know when the study has a signed report: that it stands, and which it is."""
    signed = [each.number for each in desk.versions.history(study_uid) if not each.report.is_draft]
    if not signed:
        return ()
    return (f"A report on this study was signed before this one was made: it is version {signed[-1]}.",)


def give_back(job: Job, desk: Desk, stage: str, why: Exception) -> None:
    """Say why a job is not done: for now, when what it needs may come back, else for good."""
    match why:
        case ArchiveUnavailable() | MasksUnavailable() | StorageFailed():
            desk.jobs.postpone(job.id, desk.worker, str(why), pause_s(job.attempts))
        case KeyError() if stage == "dicom_io":  # the archive's, see app.ports.Archive; elsewhere it is a fault
            desk.jobs.fail(job.id, desk.worker, "the study is not in the archive")
        case DicomError():
            desk.jobs.fail(job.id, desk.worker, str(why))
        case _:
            study = study_key(job.study_uid, desk.secret)
            log.error("a job failed", job=job.id, study=study, error=type(why).__name__, where=place(why))
            desk.jobs.fail(job.id, desk.worker, f"a fault ({type(why).__name__}); the worker's log says where")


def place(why: BaseException) -> str:
    """Where it was raised, as file:line. Its message is left out, for it may hold anything."""
    frames = extract_tb(why.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def send_overdue(desk: Desk) -> None:
    """Send the jobs again that nobody looks after."""
    for job_id in desk.jobs.overdue(RESENT_AFTER * desk.lease_s):
        desk.queue.send(job_id)
        desk.jobs.sent(job_id)


def repeat(act: Callable[[], object], pause_s: float, over: Event) -> None:
    """Do something again and again until it is over; what it raises is logged, and costs one turn."""
    while not over.is_set():
        try:
            act()
        except AppError as exc:
            log.warning("a turn beside the queue failed", reason=str(exc))
        except Exception as exc:
            log.error("a turn beside the queue failed", error=type(exc).__name__, where=place(exc))
        over.wait(pause_s)


class Lease:
    """A job in hand: renewed from a thread and at each stage, for as long as this is open, but no longer than limit_s.

    is_lost: another worker may have the job now, or it was given up, so this one says no more about it.
    """

    def __init__(self, job: Job, desk: Desk) -> None:
        self.stage = ""
        self.is_lost = False
        self._job = job
        self._desk = desk
        self._over = Event()
        self._until = monotonic() + desk.limit_s
        self._thread = Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def watch(self, stage: str, seconds: float | None) -> None:
        """The pipeline's Watch. Raises LeaseLost when a stage starts on a job that is another worker's."""
        if seconds is not None:
            return
        self.stage = stage
        self._beat()
        if self.is_lost:
            raise LeaseLost

    def _renew(self) -> None:
        pause_s = min(self._desk.lease_s / BEATS, self._desk.limit_s)
        while not self.is_lost and not self._over.wait(pause_s):
            if monotonic() < self._until:
                self._beat()
            else:
                self._give_up()

    def _give_up(self) -> None:
        """The report hangs. Should the database be away now, the lease ends by itself."""
        self.is_lost = True
        limit = f"{self._desk.limit_s:g} s"
        log.error("a report is given up, for it takes longer than job_limit_s", job=self._job.id, stage=self.stage)
        try:
            self._desk.jobs.fail(self._job.id, self._desk.worker, f"it was not done within {limit}, see job_limit_s")
        except Exception as exc:
            log.error("that could not be noted", job=self._job.id, error=type(exc).__name__)
        self._desk.hung()

    def _beat(self) -> None:
        try:
            if not self._desk.jobs.beat(self._job.id, self._desk.worker, self._desk.lease_s, self.stage):
                self.is_lost = True
        except Exception as exc:  # the next beat may come through; if none does, the lease ends by itself
            log.warning("the lease of a job was not renewed", job=self._job.id, error=type(exc).__name__)


def stop_on_signals() -> Callable[[], bool]:
    """True once SIGTERM or SIGINT came: the report in hand is finished. A second one ends the process at once."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, note)
    return lambda: bool(came)
