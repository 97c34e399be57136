"""One suite over every database for the ports of people and programs: accounts, audit, orders, outbox, worklist."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from app.accounts import Account, Scope
from app.adapters.database.accounts import DatabaseAccounts
from app.adapters.database.deliveries import DatabaseDeliveries, DatabaseOutbox
from app.adapters.database.engine import Database
from app.adapters.database.jobs import DatabaseJobs
from app.adapters.database.orders import DatabaseOrders, DatabaseRequests
from app.adapters.database.tables import audit
from app.adapters.database.trail import DatabaseAudit
from app.adapters.database.versions import DatabaseReports
from app.adapters.database.worklist import DatabaseWorklist
from app.errors import AppError, StorageFailed
from app.jobs import JobState
from app.orders import Order
from app.outgoing import MOST_ATTEMPTS, DeliveryState
from app.worklist import Arrival
from dicom_io.study import Modality
from medmllm.report import Report, Section, Sentence, Signature

READER = Account("reader", "Dr. A. Reader", frozenset({Scope.READ, Scope.SIGN}))
PASSWORD = "correct horse battery"
REPORT = Report("1.2.3", (Sentence("No pneumothorax.", Section.FINDINGS),), (), (), (), "template")


def test_an_account_logs_in_with_its_password_alone(database: Database) -> None:
    accounts = DatabaseAccounts(database)
    accounts.add(READER, PASSWORD)
    assert accounts.check("reader", PASSWORD) == READER
    assert accounts.check("reader", PASSWORD + " ") is None
    assert accounts.check("nobody", PASSWORD) is None
    mark = accounts.get("reader").password_mark
    accounts.add(READER, PASSWORD)
    assert accounts.get("reader").password_mark not in (mark, ""), "whoever holds the mark sees that it was set anew"
    accounts.disable("reader")
    assert accounts.check("reader", PASSWORD) is None
    assert [each.is_disabled for each in accounts.all()] == [True]
    with pytest.raises(AppError, match="12 characters"):
        accounts.add(READER, "short")


def test_a_token_opens_until_it_is_revoked_or_over(database: Database) -> None:
    accounts = DatabaseAccounts(database)
    token, secret = accounts.issue("ehr", [Scope.READ], study_uid="1.2.3", days=1)
    assert accounts.token(secret) == token
    assert token.study_uid == "1.2.3"
    assert accounts.token("guess") is None
    _, over = accounts.issue("old", [Scope.READ], days=0)
    assert accounts.token(over) is None
    accounts.revoke(token.id)
    assert accounts.token(secret) is None
    with pytest.raises(AppError, match="only people sign"):
        accounts.issue("robot", [Scope.SIGN])


def test_the_audit_trail_is_a_chain_without_gaps(database: Database) -> None:
    trail = DatabaseAudit(database)
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(trail.record, "reader", "opened", "k1", version=n) for n in range(12)]:
            done.result()
    trail.record("admin", "logged in")
    assert trail.broken_at() is None
    assert [each.number for each in trail.entries()] == list(range(13, 0, -1))
    assert len(trail.entries(study_key="k1", limit=5)) == 5


def test_the_database_refuses_to_change_the_audit_trail(database: Database) -> None:
    trail = DatabaseAudit(database)
    trail.record("reader", "opened", "k1")
    for change in (audit.update().values(actor="other"), audit.delete()):
        with pytest.raises(StorageFailed, match="only grows"), database.writing() as connection:
            connection.execute(change)
    assert trail.entries()[0].actor == "reader"


def test_an_entry_slipped_in_or_taken_out_breaks_the_chain(database: Database) -> None:
    trail = DatabaseAudit(database)
    trail.record("reader", "opened")
    row = {"at": datetime.now(UTC), "actor": "x", "action": "y", "study_key": "", "detail": "{}", "digest": "0" * 64}
    with database.writing() as connection:
        connection.execute(audit.insert().values(number=2, **row))
    trail.record("reader", "signed")
    assert trail.broken_at() == 2


def test_an_order_sent_again_replaces_the_first(database: Database) -> None:
    orders = DatabaseOrders(database)
    orders.put(Order("A1", "cough", "chest radiograph"))
    orders.put(Order("A1", "fever", "chest radiograph"))
    assert orders.get("A1") == Order("A1", "fever", "chest radiograph")
    with pytest.raises(KeyError):
        orders.get("A2")


def test_a_request_with_a_key_is_remembered_once_for_each_client(database: Database) -> None:
    requests = DatabaseRequests(database)
    requests.remember("ehr", "k", "digest", "job1")
    requests.remember("ehr", "k", "other", "job2")
    assert requests.seen("ehr", "k") == ("digest", "job1")
    assert requests.seen("pacs", "k") is None


def test_a_version_is_sent_once_to_each_destination(database: Database) -> None:
    versions, deliveries = DatabaseReports(database), DatabaseDeliveries(database)
    outbox = DatabaseOutbox(database, versions, ["dicom://PACS@a:104", "dicomweb+http://b/"], b"s" * 32)
    versions.save(REPORT)
    outbox.announce(REPORT)
    outbox.announce(REPORT)
    first, second = deliveries.take("w", 60), deliveries.take("w", 60)
    assert first is not None
    assert second is not None
    assert {first.destination, second.destination} == {"dicom://PACS@a:104", "dicomweb+http://b/"}
    assert deliveries.take("w", 60) is None
    deliveries.sent(first.id)
    deliveries.again(second.id, "the PACS does not answer", 0)
    assert deliveries.take("w", 60) is None, "it is not due yet"
    states = {each.destination: each.state for each in deliveries.of_study("1.2.3")}
    assert states == {first.destination: DeliveryState.SENT, second.destination: DeliveryState.WAITING}


def test_a_delivery_whose_worker_died_is_taken_up_and_one_that_never_arrives_is_given_up(database: Database) -> None:
    versions, deliveries = DatabaseReports(database), DatabaseDeliveries(database)
    versions.save(REPORT)
    DatabaseOutbox(database, versions, ["dicom://PACS@a:104"], b"s" * 32).announce(REPORT)
    for _ in range(MOST_ATTEMPTS):
        taken = deliveries.take("w", 0.01)
        assert taken is not None
        time.sleep(0.02)
    deliveries.again(taken.id, "the PACS does not answer", 0)
    (only,) = deliveries.of_study("1.2.3")
    assert only.state is DeliveryState.DROPPED
    assert "given up" in only.reason


def test_the_worklist_shows_the_newest_job_and_report_of_each_study(database: Database) -> None:
    worklist, jobs, versions = DatabaseWorklist(database), DatabaseJobs(database), DatabaseReports(database)
    now = datetime(2026, 5, 1, 12, tzinfo=UTC)
    for number in (3, 4):
        uid = f"1.2.{number}"
        arrived = now.replace(minute=number)
        worklist.put(Arrival(uid, f"key{number}", "patient", datetime(2026, 4, 30, 9), (Modality.DX,), 1, arrived))
    jobs.submit("1.2.3", "a" * 64, "pacs")
    job, _ = jobs.submit("1.2.3", "b" * 64, "pacs")
    versions.save(REPORT)
    versions.save_as(REPORT, "reader", after=1)
    newest, oldest = worklist.rows()
    assert (newest.arrival.study_uid, newest.job_state, newest.version) == ("1.2.4", None, 0)
    assert (oldest.job_id, oldest.job_state) == (job.id, JobState.WAITING)
    assert (oldest.version, oldest.is_draft, oldest.author, oldest.signed_version) == (2, True, "reader", 0)
    assert oldest.arrival.acquired_on == datetime(2026, 4, 30, 9)
    assert worklist.rows(1, before=1) == (oldest,)
    versions.save_as(replace(REPORT, is_draft=False, signature=Signature("Dr. A.", "Clinic", now)), "reader", after=2)
    versions.save(REPORT)
    row = worklist.row("1.2.3")
    assert (row.version, row.is_draft, row.signed_version) == (4, True, 3), "a draft after a signature hides it not"
    assert worklist.uid_of("key3") == "1.2.3"
    with pytest.raises(KeyError):
        worklist.uid_of("key9")
    with pytest.raises(KeyError):
        worklist.row("9.9")
