"""What the pipeline, and the ways into it, need from the program around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from app.accounts import Account, Scope, Token
from app.audit import Entry
from app.jobs import Job
from app.orders import Order
from app.outgoing import Delivery
from app.versions import Version
from app.worklist import Arrival, WorkRow
from dicom_io.study import Study
from medmllm.report import Report


class Archive(Protocol):
    """Where studies are kept."""

    def load(self, study_uid: str) -> Study:
        """The study, normalised, its priors attached newest first. KeyError when there is none."""


class Reports(Protocol):
    """Where reports are kept."""

    def save(self, report: Report) -> None:
        """Keep a new version of the study's report."""

    def load(self, study_uid: str) -> Report:
        """The newest version; KeyError when there is none."""


class Histories(Protocol):
    """What became of each report."""

    def history(self, study_uid: str) -> tuple[Version, ...]:
        """Every version, oldest first."""


class Versions(Reports, Histories, Protocol):
    """Every version of every report; a version once saved never changes."""

    def of_job(self, job_id: str) -> Reports:
        """The same store for one job: its save keeps one report however often it is called, the first."""

    def save_as(self, report: Report, author: str, *, after: int | None = None) -> Version:
        """Keep a version made by a person. after: the version it was made from.

        Raises Outdated when a newer one than `after` exists: nobody's work is overwritten.
        """

    def made_by(self, job_id: str) -> Version | None:
        """The version that a job has saved, if it has."""

    def newest(self, study_uid: str) -> Version:
        """The newest version with its number and author; KeyError when there is none."""


class Outbox(Protocol):
    """Tells those who wait for a report that it is there."""

    def announce(self, report: Report) -> None:
        """Called after the report was saved; a second call for the same version changes nothing."""


class Deliveries(Protocol):
    """What is still to be sent, and what was: the outbox's memory."""

    def take(self, worker: str, lease_s: float) -> Delivery | None:
        """The next delivery that is due, for this worker alone until the lease ends; None when nothing is due."""

    def sent(self, delivery_id: str, remark: str = "") -> None:
        """It has arrived. remark: what of it the destination does not take."""

    def again(self, delivery_id: str, reason: str, delay_s: float) -> None:
        """It did not arrive: try again later; given up after as many attempts as app/outgoing.py says."""

    def drop(self, delivery_id: str, reason: str) -> None:
        """It is not to be sent any more, or never can be."""

    def of_study(self, study_uid: str) -> tuple[Delivery, ...]:
        """Everything sent or to be sent of one study, oldest first."""

    def counts(self) -> dict[str, int]:
        """How many deliveries are in each state."""


class Jobs(Protocol):
    """The truth about jobs. The queue only says which to look at."""

    def submit(self, study_uid: str, content_hash: str, requested_by: str) -> tuple[Job, bool]:
        """The job of this study and content, and whether it is new. A failed job is made to wait once more."""

    def take(self, job_id: str, worker: str, lease_s: float) -> Job | None:
        """The job, for this worker alone until the lease ends; None when it is not to be had (done, taken, not due)."""

    def beat(self, job_id: str, worker: str, lease_s: float, stage: str = "") -> bool:
        """Renew the lease, and say the stage when it changed; False when the job is no longer this worker's."""

    def finish(self, job_id: str, worker: str) -> None:
        """Its report is saved."""

    def fail(self, job_id: str, worker: str, reason: str) -> None:
        """It cannot be done."""

    def postpone(self, job_id: str, worker: str, reason: str, delay_s: float) -> None:
        """What it needs is not there now: wait, and try again; it fails after as many attempts as are allowed."""

    def sent(self, job_id: str) -> None:
        """The queue has taken its id, just now."""

    def overdue(self, resend_after_s: float) -> tuple[str, ...]:
        """Ids of jobs that should be sent to the queue, oldest first: due, and it has not taken them, or long ago.

        A job whose worker's lease ended is one of them; one whose workers ended too often becomes failed instead.
        """

    def get(self, job_id: str) -> Job:
        """KeyError when there is none."""

    def newest_of(self, study_uid: str) -> Job | None:
        """The newest job of a study."""

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""


class Queue(Protocol):
    """Carries ids of jobs to workers. At least once, in no promised order; may lose everything when it is restarted."""

    def send(self, job_id: str) -> None:
        """Hand the id to some worker. Raises QueueUnavailable."""

    def work(self, handle: Callable[[str], None], stop: Callable[[], bool]) -> None:
        """Call handle with each id, one at a time, until stop() is true (asked at least every second).

        An id whose handle raises, or whose process dies in it, may come again or be lost: Jobs.overdue finds it.
        """

    def waiting(self) -> int | None:
        """How many ids wait; None where the backend cannot tell."""


class Accounts(Protocol):
    """Who may do what."""

    def add(self, account: Account, password: str) -> None:
        """Add an account or replace it. Raises AppError for a password that is too short."""

    def check(self, name: str, password: str) -> Account | None:
        """The account when name and password are right and it is not disabled; takes as long when they are not."""

    def get(self, name: str) -> Account:
        """KeyError when there is none."""

    def all(self) -> tuple[Account, ...]:
        """By name."""

    def disable(self, name: str) -> None:
        """It can no longer log in. KeyError when there is none."""

    def issue(
        self, label: str, scopes: Sequence[Scope], *, study_uid: str | None = None, days: int | None = None
    ) -> tuple[Token, str]:
        """A new bearer token and its secret, which is shown this once. study_uid: it opens this study alone."""

    def token(self, secret: str) -> Token | None:
        """The token with this secret when it is neither expired nor revoked."""

    def tokens(self) -> tuple[Token, ...]:
        """By label."""

    def revoke(self, token_id: str) -> None:
        """KeyError when there is none."""


class Audit(Protocol):
    """What was done, by whom, when: append-only, each entry chained to the one before it by a hash."""

    def record(self, actor: str, action: str, study_key: str = "", **detail: str | int) -> None:
        """Append an entry. detail: no names, dates or UIDs of patients."""

    def entries(self, *, study_key: str | None = None, limit: int = 1000) -> tuple[Entry, ...]:
        """The newest entries, newest first."""

    def broken_at(self) -> int | None:
        """The number of the first entry whose chain does not hold; None when all do."""


class Orders(Protocol):
    """Why studies were asked for, from the EHR, by accession number."""

    def put(self, order: Order) -> None:
        """Keep an order, or replace the one with its accession number."""

    def get(self, accession: str) -> Order:
        """KeyError when there is none."""


class Worklist(Protocol):
    """The studies that came in, and where their reports stand."""

    def put(self, arrival: Arrival) -> None:
        """Note a study that came in, or what it has become."""

    def uid_of(self, study_key: str) -> str:
        """The Study Instance UID behind a keyed hash; KeyError when no such study came in."""

    def rows(self, limit: int = 100, *, before: int = 0) -> tuple[WorkRow, ...]:
        """The studies that came in last, newest first, after leaving out the first `before` of them."""

    def row(self, study_uid: str) -> WorkRow:
        """The row of one study; KeyError when it never came in."""


class Requests(Protocol):
    """Which request of a client has led to which job, so that one sent twice is done once."""

    def seen(self, actor: str, key: str) -> tuple[str, str] | None:
        """The digest of what was asked under this key before, and the job it led to; None when it is new."""

    def remember(self, actor: str, key: str, request: str, job_id: str) -> None:
        """Keep it; what was kept first stays."""
