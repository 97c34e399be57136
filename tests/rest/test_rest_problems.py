"""Errors, health, logs and metrics: what is said, and above all what is not."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families
from rest_site import Site, radiograph, served, settings_of, uid_of

from app.accounts import Scope
from app.bootstrap import Program, open_program
from app.errors import QueueUnavailable, StorageFailed
from app.orders import Order
from app.outgoing import DeliveryState
from app.rest.accept import wanted

PATIENT = "Doe^Jane 1.2.840.113619.2.55.3.604688"


@dataclass(frozen=True)
class BrokenWorklist:
    """A worklist with a defect, which says too much."""

    error: Exception

    def rows(self, limit: int = 100, *, before: int = 0) -> tuple[()]:
        raise self.error


@dataclass(frozen=True)
class DeadQueue:
    """A queue that nobody answers for."""

    def send(self, job_id: str) -> None:
        raise QueueUnavailable("the queue of jobs does not answer")

    def waiting(self) -> int:
        raise QueueUnavailable("the queue of jobs does not answer")


@dataclass(frozen=True)
class DeadJobs:
    """A database that is gone."""

    def counts(self) -> dict[str, int]:
        raise StorageFailed("the database does not work")


def program_in(home: Path, **parts: object) -> Program:
    return replace(open_program(settings_of(home)), **parts)  # type: ignore[arg-type]


def is_problem(answer: httpx.Response, status: int) -> dict[str, object]:
    """RFC 9457: the members, and that status says what the status line says."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, object] = answer.json()
    assert (told["type"], told["status"]) == ("about:blank", status)
    assert isinstance(told["title"], str)
    assert isinstance(told["detail"], str)
    return told


def test_every_error_is_a_problem(site: Site) -> None:
    client = site.client(Scope.READ, Scope.WRITE)
    is_problem(client.get("/v1/nothing"), 404)
    is_problem(client.get("/docs"), 404)
    wrong = client.delete("/v1/studies/" + "0" * 32)
    is_problem(wrong, 405)
    assert wrong.headers["allow"] == "GET"
    is_problem(client.get("/v1/studies/not-a-key"), 422)
    is_problem(client.get("/v1/studies", params={"limit": 0}), 422)
    is_problem(client.post("/v1/reports", content=b"{}", headers={"Content-Type": "text/plain"}), 415)
    is_problem(client.post("/v1/reports", content=b"{", headers={"Content-Type": "application/json"}), 422)
    for body in ({}, {"study": "0" * 32, "study_instance_uid": "1.2"}, {"study": "0" * 32, "extra": 1}):
        assert is_problem(client.post("/v1/reports", json=body), 422)["errors"]
    missing = is_problem(client.post("/v1/reports", json={"study_instance_uid": "1.2.3"}), 404)
    assert "POST /v1/studies" in str(missing["detail"])
    for key in ('""', "x" * 202, "ä".encode()):
        asked = client.post("/v1/reports", json={"study": "0" * 32}, headers={"Idempotency-Key": key})
        assert asked.status_code in (400, 404, 422)
    is_problem(client.post("/v1/orders", json={"resourceType": "Patient"}), 422)
    is_problem(client.post("/v1/orders", json=[1]), 422)


def test_an_error_repeats_nothing_of_what_was_sent(site: Site) -> None:
    client = site.client(Scope.READ, Scope.WRITE)
    bodies = ({"study": PATIENT}, {"resourceType": PATIENT}, {"identifier": [{"value": PATIENT}]})
    for address in ("/v1/reports", "/v1/orders"):
        for body in bodies:
            assert "Doe" not in client.post(address, json=body).text
    assert "Doe" not in client.get(f"/v1/studies/{PATIENT}").text


@pytest.mark.parametrize(("error", "status"), [(RuntimeError(PATIENT), 500), (StorageFailed(PATIENT), 503)])
def test_a_fault_is_told_without_what_it_says(error: Exception, status: int, tmp_path: Path) -> None:
    with (
        served(program_in(tmp_path, worklist=BrokenWorklist(error))) as site,
        structlog.testing.capture_logs() as lines,
    ):
        client = site.client(Scope.READ)
        told = client.get("/v1/studies")
        is_problem(told, status)
        assert "Doe" not in told.text
        assert client.get("/live").status_code == 200
    failed = [line for line in lines if line["event"] == "a request failed"]
    if status == 500:
        assert [(line["error"], line["route"]) for line in failed] == [("RuntimeError", "/v1/studies")]
        assert PATIENT not in repr(lines)


def test_ready_says_what_is_missing(tmp_path: Path) -> None:
    with served(program_in(tmp_path / "well")) as site:
        assert site.client().get("/ready").json() == {"status": "ready"}
    home = tmp_path / "ill"
    program = program_in(home, queue=DeadQueue(), jobs=DeadJobs())
    (home / "archive").write_text("a file stands where the archive's folder should")
    with served(program) as site:
        told = is_problem(site.client().get("/ready"), 503)
        assert told["missing"] == ["database", "archive", "queue"]
        metrics = site.client().get("/metrics")
        assert "wetread_database_up 0.0" in metrics.text


def test_a_queue_that_is_away_costs_no_request(tmp_path: Path) -> None:
    with served(program_in(tmp_path, queue=DeadQueue())) as site:
        key = site.bring_in(radiograph())
        asked = site.client(Scope.WRITE).post("/v1/reports", json={"study": key})
        assert (asked.status_code, asked.json()["state"]) == (202, "waiting")


def test_a_request_sent_eight_times_at_once_is_done_once(site: Site) -> None:
    client, key = site.client(Scope.WRITE), site.bring_in(radiograph("eight"))

    def ask(_: int) -> tuple[int, str]:
        answer = client.post("/v1/reports", json={"study": key}, headers={"Idempotency-Key": '"eight"'})
        return answer.status_code, answer.headers.get("Location", "")

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(ask, range(8)))
    assert [status for status, _ in answers] == [202]
    requested = [each for each in site.program.audit.entries(study_key=key) if each.action == "report requested"]
    assert len({each.detail["job"] for each in requested}) == 1, "each that came before it was remembered is audited"


def test_an_order_needs_a_number_to_be_kept_under(site: Site) -> None:
    client = site.client(Scope.WRITE)
    key = site.bring_in(radiograph("no number"))
    told = is_problem(client.post("/v1/reports", json={"study": key, "indication": "Cough"}), 422)
    assert "accession" in str(told["detail"])
    with_number = site.bring_in(radiograph("a number", AccessionNumber="A-77"))
    assert client.post("/v1/reports", json={"study": with_number, "indication": "Cough"}).status_code == 202
    assert site.program.orders.get("A-77") == Order("A-77", "Cough")


def test_an_order_is_new_once(site: Site) -> None:
    client = site.client(Scope.WRITE)
    order = {
        "resourceType": "ServiceRequest",
        "identifier": [{"system": "urn:wetread:accession", "value": "A-88"}],
        "reasonCode": [{"text": "Fall from a ladder"}],
    }
    fhir = {"Content-Type": "application/fhir+json"}
    assert [client.post("/v1/orders", json=order, headers=fhir).status_code for _ in range(2)] == [201, 200]
    assert site.program.orders.get("A-88").indication == "Fall from a ladder"
    assert "A-88" not in repr(site.program.audit.entries(limit=10))


def test_metrics_and_log_lines_hold_counts_and_no_study(site: Site) -> None:
    film = radiograph("watched")
    key = site.bring_in(film)
    with structlog.testing.capture_logs() as lines:
        client = site.client(Scope.READ)
        for path in (f"/v1/studies/{key}", "/v1/studies/" + "f" * 32, f"/{PATIENT}"):
            client.get(path)
        client.request("PROPFIND", "/v1/studies")
    assert not re.search(key + "|" + re.escape(uid_of(film)) + "|Doe", repr(lines))
    requests = [(line["method"], line["route"], line["status"]) for line in lines if line["event"] == "request"]
    assert requests[:3] == [
        ("GET", "/v1/studies/{study}", 200),
        ("GET", "/v1/studies/{study}", 404),
        ("GET", "unmatched", 404),
    ]
    answer = site.client().get("/metrics")
    assert key not in answer.text
    assert not re.search(r"[0-9a-f]{32}|Doe|PROPFIND", answer.text)
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    counted = {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"])
        for sample in families["wetread_http_requests"].samples
    }
    assert {
        ("GET", "/v1/studies/{study}", "200"),
        ("GET", "unmatched", "404"),
        ("other", "/v1/studies", "405"),
    } <= counted
    states = {sample.labels["state"] for sample in families["wetread_deliveries"].samples}
    assert states == {state.value for state in DeliveryState}
    assert "wetread_http_request_seconds" in families


def test_a_page_of_a_name_of_ours_may_ask_behind_a_proxy_that_changes_the_host(tmp_path: Path) -> None:
    program = open_program(settings_of(tmp_path, serve_names="wetread.hospital.example, 127.0.0.1"))
    with served(program) as site:
        client = site.client(Scope.READ)
        for origin, status in (("https://wetread.hospital.example", 200), ("https://[", 403), ("null", 403)):
            assert client.get("/v1/studies", headers={"Origin": origin}).status_code == status
        assert client.get("/v1/studies", headers={"Host": "localhost"}).status_code == 421


def test_answers_keep_browsers_careful(site: Site) -> None:
    client = site.client(Scope.READ)
    for path in ("/v1/studies", "/v1/nothing", "/live", "/v1/openapi.json"):
        headers = client.get(path, headers={"Origin": site.url}).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["cache-control"] == "no-store"
        assert not [name for name in headers if name.startswith("access-control-")]
        assert "server" not in headers
    assert client.get("/v1/studies", headers={"Origin": "https://elsewhere.example"}).status_code == 403


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
        ("application/pdf, application/json;q=0.5", "application/pdf"),
        ("application/*;q=0.2, text/*;q=0.3", "text/html"),
        ("application/json;q=0, */*", "text/html"),
        ("application/fhir+json; fhirVersion=4.0", "application/fhir+json"),
        ("TEXT/HTML;level=1;Q=0.4", "text/html"),
        ("image/png", None),
        ("nonsense", None),
        ("*/*;q=0", None),
    ],
)
def test_negotiation_by_hand(accept: str | None, expected: str | None) -> None:
    offered = ["application/json", "text/html", "application/pdf", "application/fhir+json"]
    assert wanted(accept, offered) == expected
