"""One suite over every database for app.ports.Jobs: the truth about jobs survives whatever happens to workers."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.adapters.database.engine import Database
from app.adapters.database.jobs import DatabaseJobs
from app.jobs import MOST_ATTEMPTS, Job, JobState

HASH = "c" * 64


@pytest.fixture
def jobs(database: Database) -> DatabaseJobs:
    return DatabaseJobs(database)


def submitted(jobs: DatabaseJobs, study_uid: str = "1.2.3") -> Job:
    return jobs.submit(study_uid, HASH, "pacs")[0]


def test_a_study_sent_twice_has_one_job(jobs: DatabaseJobs) -> None:
    first, was_new = jobs.submit("1.2.3", HASH, "pacs")
    second, is_new = jobs.submit("1.2.3", HASH, "rest")
    assert (was_new, is_new) == (True, False)
    assert first == second
    assert first.state is JobState.WAITING


def test_a_study_that_has_grown_has_another_job(jobs: DatabaseJobs) -> None:
    grown, is_new = jobs.submit("1.2.3", "d" * 64, "pacs")
    assert is_new
    assert grown.id != submitted(jobs).id


def test_one_job_submitted_from_many_sides_at_once_is_one(jobs: DatabaseJobs) -> None:
    with ThreadPoolExecutor(6) as pool:
        done = [each.result() for each in [pool.submit(jobs.submit, "1.2.3", HASH, "pacs") for _ in range(18)]]
    assert len({job.id for job, _ in done}) == 1
    assert [is_new for _, is_new in done].count(True) == 1


def test_only_one_worker_gets_a_job(jobs: DatabaseJobs) -> None:
    job = submitted(jobs)
    with ThreadPoolExecutor(6) as pool:
        taken = [each.result() for each in [pool.submit(jobs.take, job.id, f"w{n}", 60) for n in range(12)]]
    assert len([each for each in taken if each is not None]) == 1
    assert jobs.get(job.id).state is JobState.RUNNING
    assert jobs.get(job.id).attempts == 1


def test_a_job_that_is_done_is_not_taken_again(jobs: DatabaseJobs) -> None:
    job = submitted(jobs)
    jobs.take(job.id, "w", 60)
    jobs.finish(job.id, "w")
    assert jobs.take(job.id, "w", 60) is None
    assert jobs.submit("1.2.3", HASH, "pacs")[0].state is JobState.DONE
    assert jobs.overdue(0) == ()


def test_a_killed_workers_job_is_taken_up_again(jobs: DatabaseJobs) -> None:
    job = submitted(jobs)
    jobs.take(job.id, "killed", 0.05)
    time.sleep(0.1)
    assert jobs.overdue(60) == (job.id,)
    jobs.sent(job.id)
    assert jobs.overdue(60) == ()
    assert jobs.take(job.id, "next", 60) is not None
    assert not jobs.beat(job.id, "killed", 60)
    jobs.finish(job.id, "killed")
    assert jobs.get(job.id).state is JobState.RUNNING, "a worker without its lease changes nothing"


def test_a_heartbeat_keeps_the_job_and_says_the_stage(jobs: DatabaseJobs) -> None:
    job = submitted(jobs)
    jobs.take(job.id, "w", 0.05)
    assert jobs.beat(job.id, "w", 60, "expert_models")
    time.sleep(0.1)
    assert jobs.overdue(0) == ()
    assert jobs.get(job.id).stage == "expert_models"


def test_a_job_that_kills_its_workers_is_given_up(jobs: DatabaseJobs) -> None:
    job = submitted(jobs)
    for _ in range(MOST_ATTEMPTS):
        assert jobs.take(job.id, "w", 0.01) is not None
        time.sleep(0.03)
    assert jobs.overdue(0) == ()
    assert jobs.get(job.id).state is JobState.FAILED
    assert "given up" in jobs.get(job.id).reason


def test_a_failed_job_is_tried_again_when_the_study_is_submitted_again(jobs: DatabaseJobs) -> None:
    job = submitted(jobs)
    jobs.take(job.id, "w", 60)
    jobs.fail(job.id, "w", "no image of the study can be used")
    assert jobs.get(job.id).reason == "no image of the study can be used"
    again, is_new = jobs.submit("1.2.3", HASH, "rest")
    assert (again.id, again.state, again.attempts, is_new) == (job.id, JobState.WAITING, 0, False)


def test_a_postponed_job_waits_for_its_time(jobs: DatabaseJobs) -> None:
    job = submitted(jobs)
    jobs.take(job.id, "w", 60)
    jobs.postpone(job.id, "w", "the archive is away", 0.2)
    assert jobs.take(job.id, "w", 60) is None
    assert jobs.overdue(0) == ()
    time.sleep(0.25)
    assert jobs.overdue(60) == (job.id,)
    assert jobs.take(job.id, "w", 60) is not None


def test_a_job_that_the_queue_did_not_take_is_sent_at_once_when_it_is_back(jobs: DatabaseJobs) -> None:
    first, second = submitted(jobs), submitted(jobs, "9.9")
    assert jobs.overdue(60) == (first.id, second.id)
    jobs.sent(first.id)
    assert jobs.overdue(60) == (second.id,), "it was not taken, whoever has looked"
    jobs.take(first.id, "w", 60)
    jobs.fail(first.id, "w", "a fault")
    assert jobs.submit("1.2.3", HASH, "rest")[0].id in jobs.overdue(60), "what was sent before it failed is used up"


def test_a_queue_that_lost_its_ids_is_sent_them_again(jobs: DatabaseJobs) -> None:
    job = submitted(jobs)
    jobs.sent(job.id)
    assert jobs.overdue(60) == ()
    time.sleep(0.05)
    assert jobs.overdue(0.01) == (job.id,)


def test_counts_and_the_newest_job(jobs: DatabaseJobs) -> None:
    job = submitted(jobs)
    submitted(jobs, "9.9")
    jobs.take(job.id, "w", 60)
    assert jobs.counts() == {"waiting": 1, "running": 1, "done": 0, "failed": 0}
    newest = jobs.newest_of("1.2.3")
    assert newest is not None
    assert newest.id == job.id
    assert jobs.newest_of("7.7") is None
    with pytest.raises(KeyError):
        jobs.get("unknown")
