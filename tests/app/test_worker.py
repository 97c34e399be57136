"""The worker, over a real store of jobs and reports, with fakes for everything that takes time."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.accounts import Account, Scope
from app.adapters.database.engine import Database
from app.adapters.database.jobs import DatabaseJobs
from app.adapters.database.versions import DatabaseReports
from app.adapters.huey_queue import HueyQueue
from app.errors import StorageFailed
from app.jobs import Job, JobState
from app.pipeline import Parts
from app.signing import signed
from app.worker import Desk, run_job, stop_on_signals, work
from dicom_io.errors import ArchiveUnavailable, NoStudy
from dicom_io.study import Study
from expert_models.errors import MasksUnavailable
from expert_models.finding import Compared, Comparison, Finding
from medmllm.report import Report, Section, Sentence
from rag.evidence import Document, Evidence

UID = "1.2.826.0.1.3680043.8.498.1"


Before = Callable[[str], Sequence[str]]


@dataclass
class FakeParts:
    """Every part of the pipeline at once. fails: what a stage raises; meanwhile: what else happens in it."""

    fails: dict[str, Exception] = field(default_factory=dict)
    meanwhile: dict[str, Callable[[], object]] = field(default_factory=dict)
    announced: list[Report] = field(default_factory=list)
    examined: int = 0

    def _at(self, stage: str) -> None:
        self.meanwhile.get(stage, lambda: None)()
        if stage in self.fails:
            raise self.fails[stage]

    def load(self, study_uid: str) -> Study:
        self._at("load")
        return Study(uid=study_uid, patient_key="k", acquired_on=None, series=())

    def examine(self, study: Study) -> tuple[Finding, ...]:
        self.examined += 1
        self._at("examine")
        return ()

    def compare(self, study: Study, findings: Sequence[Finding]) -> Compared:
        return Compared()

    def remarks(self, study: Study, findings: Sequence[Finding]) -> tuple[str, ...]:
        return ()

    def retrieve(self, study: Study, findings: Sequence[Finding]) -> tuple[Evidence, ...]:
        return ()

    def search(self, text: str, k: int = 5) -> tuple[Evidence, ...]:
        return ()

    def add(self, documents: Sequence[Document]) -> int:
        return 0

    def write(
        self,
        study: Study,
        findings: Sequence[Finding],
        comparisons: Sequence[Comparison],
        evidence: Sequence[Evidence],
        notices: Sequence[str] = (),
    ) -> Report:
        self._at("write")
        return Report(
            study.uid,
            (Sentence(f"Draft {self.examined}.", Section.FINDINGS),),
            (),
            (),
            (),
            "template",
            notices=tuple(notices),
        )

    def announce(self, report: Report) -> None:
        self._at("announce")
        self.announced.append(report)


class Office:
    """A database, a queue in memory, and desks on them."""

    def __init__(self) -> None:
        self.database = Database("sqlite://")
        self.jobs = DatabaseJobs(self.database)
        self.versions = DatabaseReports(self.database)
        self.queue = HueyQueue("huey+memory:")

    def desk(self, parts: FakeParts, *, lease_s: float = 30, before: Before | None = None) -> Desk:
        every = Parts(parts, parts, parts, parts, self.versions, parts)
        given = {} if before is None else {"before": before}
        return Desk(self.jobs, self.queue, self.versions, every, b"secret", lease_s, **given)

    def job(self, study_uid: str = UID) -> Job:
        return self.jobs.submit(study_uid, "hash", "test")[0]

    def drafts(self, study_uid: str = UID) -> list[str]:
        return [each.report.sentences[0].text for each in self.versions.history(study_uid)]


@pytest.fixture
def office() -> Iterator[Office]:
    office = Office()
    yield office
    office.database.close()


def test_a_job_becomes_a_report_once_however_often_its_id_comes(office: Office) -> None:
    parts, job, prepared = FakeParts(), office.job(), []

    def bring_priors(study_uid: str) -> tuple[str, ...]:
        prepared.append(study_uid)
        return ("The PACS did not answer.",)

    desk = office.desk(parts, before=bring_priors)
    for _ in range(3):
        run_job(job.id, desk)
    assert office.jobs.get(job.id).state is JobState.DONE
    assert office.drafts() == ["Draft 1."]
    assert len(parts.announced) == 1
    assert prepared == [UID]
    assert office.versions.load(UID).notices == ("The PACS did not answer.",)
    run_job("no such job", desk)


@pytest.mark.parametrize(
    ("stage", "exc", "reason"),
    [
        ("load", KeyError("no such study"), "the study is not in the archive"),
        ("load", NoStudy("none of its images can be used"), "none of its images can be used"),
        ("examine", KeyError("Doe^Jane"), "a fault (KeyError); the worker's log says where"),
        ("write", RuntimeError("Doe^Jane"), "a fault (RuntimeError); the worker's log says where"),
    ],
)
def test_what_cannot_be_done_fails_with_a_sentence(
    office: Office, stage: str, exc: Exception, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    job = office.job()
    run_job(job.id, office.desk(FakeParts({stage: exc})))
    failed = office.jobs.get(job.id)
    assert (failed.state, failed.reason) == (JobState.FAILED, reason)
    assert "Doe" not in "".join(capfd.readouterr())
    assert office.drafts() == []


@pytest.mark.parametrize(
    ("stage", "exc"),
    [
        ("load", ArchiveUnavailable("the archive cannot be read: the disk is full")),
        ("examine", MasksUnavailable("masks cannot be kept: the disk is full")),
        ("announce", StorageFailed("the database does not work: it is away")),
    ],
)
def test_what_may_come_back_is_waited_for_longer_each_time_and_not_for_ever(
    office: Office, stage: str, exc: Exception
) -> None:
    job, parts = office.job(), FakeParts({stage: exc})
    jobs = Postponed(office.database)
    for attempt in range(1, 6):
        run_job(job.id, Desk(jobs, office.queue, office.versions, office.desk(parts).parts, b"", 30))
        assert jobs.get(job.id).state is (JobState.WAITING if attempt < 5 else JobState.FAILED)
    assert jobs.delays == [10, 20, 40, 80, 160]  # seconds: doubling from ten, see app/outgoing.py
    assert str(exc) in jobs.get(job.id).reason
    # What was saved before the announcement failed is not made again.
    assert parts.examined == (1 if stage == "announce" else 5 if stage == "examine" else 0)


class Postponed(DatabaseJobs):
    """Notes for how long a job is postponed, and has it due at once."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.delays: list[float] = []

    def postpone(self, job_id: str, worker: str, reason: str, delay_s: float) -> None:
        self.delays.append(delay_s)
        super().postpone(job_id, worker, reason, 0)


def test_a_report_that_an_earlier_worker_saved_is_announced_and_not_made_again(office: Office) -> None:
    job = office.job()
    died = FakeParts({"announce": KeyboardInterrupt()})  # type: ignore[dict-item]
    with pytest.raises(KeyboardInterrupt):
        run_job(job.id, office.desk(died, lease_s=0.05))
    time.sleep(0.1)
    parts = FakeParts()
    run_job(job.id, office.desk(parts))
    assert office.jobs.get(job.id).state is JobState.DONE
    assert parts.examined == 0
    assert [each.sentences[0].text for each in parts.announced] == office.drafts() == ["Draft 1."]


def test_a_worker_that_lost_its_lease_stops_at_the_next_stage_and_says_nothing(office: Office) -> None:
    job, other = office.job(), FakeParts()

    def taken_up() -> None:  # as by the thread of a worker that was asleep for longer than its lease
        with office.database.writing() as connection:
            past = datetime.now(UTC) - timedelta(seconds=1)
            connection.exec_driver_sql("UPDATE jobs SET lease_until = ?", (past.isoformat(sep=" "),))
        run_job(job.id, office.desk(other))

    late = FakeParts(meanwhile={"examine": taken_up})
    run_job(job.id, office.desk(late))
    assert office.jobs.get(job.id).state is JobState.DONE
    assert len(office.drafts()) == len(other.announced) == 1
    assert late.announced == []


def test_a_long_job_keeps_its_lease_and_tells_its_stage(office: Office) -> None:
    job, seen = office.job(), []

    def sleep() -> None:
        time.sleep(1.0)
        assert office.jobs.overdue(100) == ()
        seen.append(office.jobs.get(job.id).stage)

    run_job(job.id, office.desk(FakeParts(meanwhile={"examine": sleep}), lease_s=0.5))
    assert seen == ["expert_models"]
    assert office.jobs.get(job.id).state is JobState.DONE


def test_an_interrupted_job_is_given_back_at_once(office: Office) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    job = office.job()
    with pytest.raises(KeyboardInterrupt):
        run_job(job.id, office.desk(FakeParts(meanwhile={"examine": interrupt})))
    run_job(job.id, office.desk(FakeParts()))
    assert office.jobs.get(job.id).state is JobState.DONE


def test_a_draft_after_a_signature_says_so(office: Office) -> None:
    run_job(office.job().id, office.desk(FakeParts()))
    assert office.versions.newest(UID).report.notices == ()
    ada = Account("ada", "Dr. Ada Lovelace", frozenset({Scope.SIGN}))
    office.versions.save_as(signed(office.versions.load(UID), ada, "Test Hospital", datetime.now(UTC)), "ada", after=1)
    run_job(office.jobs.submit(UID, "another hash", "test")[0].id, office.desk(FakeParts()))
    newest = office.versions.newest(UID)
    assert (newest.number, newest.report.is_draft) == (3, True)
    assert newest.report.notices == ("A report on this study was signed before this one was made: it is version 2.",)


def test_a_report_that_hangs_is_given_up_and_somebody_is_told(office: Office) -> None:
    job, released, told = office.job(), threading.Event(), threading.Event()
    parts = FakeParts(meanwhile={"examine": lambda: released.wait(20)})
    desk = replace(office.desk(parts, lease_s=0.3), limit_s=0.5, hung=told.set)
    thread = threading.Thread(target=run_job, args=(job.id, desk))
    thread.start()
    try:
        assert told.wait(10)
        given_up = office.jobs.get(job.id)
        assert given_up.state is JobState.FAILED
        assert given_up.reason == "it was not done within 0.5 s, see job_limit_s"
    finally:
        released.set()
        thread.join(10)
    assert office.drafts() == [], "should it go on after all, the next stage finds that the job is no longer its own"
    assert office.jobs.get(job.id).state is JobState.FAILED


def test_a_process_that_hangs_is_ended_with_a_line_that_says_so(tmp_path: Path) -> None:
    code = f"""
import time
from app.bootstrap import open_program
from app.settings import Settings
from app.worker import desk_of, run_job
program = open_program(Settings(home={str(tmp_path)!r}, embedder_url="hashing:", vectors_url="memory:", job_limit_s=1))
job, _ = program.jobs.submit("1.2.3", "hash", "test")
run_job(job.id, desk_of(program, before=lambda uid: time.sleep(60)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "longer than job_limit_s" in done.stdout + done.stderr
    assert "1.2.3" not in done.stdout + done.stderr


def test_a_hook_that_raises_and_beats_that_fail_cost_no_report(
    office: Office, capfd: pytest.CaptureFixture[str]
) -> None:
    class Deaf(DatabaseJobs):
        def beat(self, job_id: str, worker: str, lease_s: float, stage: str = "") -> bool:
            raise StorageFailed("the database does not work: it is away")

    def broken(study_uid: str) -> tuple[str, ...]:
        raise RuntimeError("Doe^Jane")

    job, desk = office.job(), office.desk(FakeParts(), before=broken)
    run_job(job.id, Desk(Deaf(office.database), desk.queue, desk.versions, desk.parts, b"", 30, desk.before))
    assert office.jobs.get(job.id).state is JobState.DONE
    assert "Doe" not in "".join(capfd.readouterr())


def test_the_loop_makes_what_is_sent_and_what_was_never_sent_and_delivers_until_told_to_stop(office: Office) -> None:
    sent, lost = office.job(), office.job(f"{UID}.2")
    with office.database.writing() as connection:  # as if the queue had lost it an hour ago
        hour_ago = datetime.now(UTC) - timedelta(hours=1)
        connection.exec_driver_sql("UPDATE jobs SET sent_at = ? WHERE id = ?", (hour_ago.isoformat(sep=" "), lost.id))
    office.queue.send(sent.id)
    stop, turns = threading.Event(), [0]

    def deliver() -> int:
        turns[0] += 1
        raise RuntimeError("Doe^Jane")

    desk = office.desk(FakeParts(), lease_s=1)
    desk = Desk(desk.jobs, desk.queue, desk.versions, desk.parts, b"", 1, deliver=deliver)
    thread = threading.Thread(target=work, args=(desk, stop.is_set))
    thread.start()
    try:
        end = time.monotonic() + 20
        while office.jobs.counts()["done"] < 2 or turns[0] < 2:
            assert time.monotonic() < end
            time.sleep(0.02)
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()


def test_the_first_signal_asks_for_an_end_and_the_second_does_not_wait() -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        stop = stop_on_signals()
        assert not stop()
        signal.raise_signal(signal.SIGTERM)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
