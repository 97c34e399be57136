"""Who gets in, and to what: every address, every kind of caller."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI, Request
from pydantic import ValidationError
from rest_site import Site, radiograph, served, settings_of, uid_of, zipped

from app.accounts import Scope
from app.errors import BadSetting
from app.rest.api import make_api
from app.rest.listen import address_of, check_listening, listening, names_of, server_of

FORWARDED = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"}
OWN, OTHER = radiograph("own", AccessionNumber="A-OWN"), radiograph("other", AccessionNumber="A-OTHER")
NOWHERE = "0" * 32


def addresses(key: str, job: str) -> list[tuple[str, str, Scope]]:
    """Every address under /v1 that is about a study, with the scope it needs."""
    return [
        ("GET", "/v1/studies", Scope.READ),
        ("GET", f"/v1/studies/{key}", Scope.READ),
        ("GET", f"/v1/studies/{key}/report", Scope.READ),
        ("GET", f"/v1/studies/{key}/versions", Scope.READ),
        ("GET", f"/v1/studies/{key}/results", Scope.READ),
        ("GET", f"/v1/studies/{key}/results/report.pdf", Scope.READ),
        ("GET", f"/v1/jobs/{job}", Scope.READ),
        ("POST", "/v1/studies", Scope.WRITE),
        ("POST", "/v1/reports", Scope.WRITE),
        ("POST", "/v1/orders", Scope.WRITE),
        ("GET", "/v1/audit", Scope.AUDIT),
    ]


@pytest.fixture(scope="module")
def own(site: Site) -> str:
    return site.bring_in(OWN)


@pytest.fixture(scope="module")
def other(site: Site) -> str:
    return site.bring_in(OTHER)


@pytest.fixture(scope="module")
def job(site: Site, other: str) -> str:
    writer = site.client(Scope.WRITE)
    return str(writer.post("/v1/reports", json={"study": other}).json()["job"])


def test_the_list_of_addresses_is_whole(site: Site) -> None:
    described = site.client().get("/v1/openapi.json").json()["paths"]
    ours = {(method.upper(), path) for path, item in described.items() for method in item if path.startswith("/v1")}
    listed = {(method, path) for method, path, _ in addresses("{study}", "{job}")}
    assert {(method, path.replace("report.pdf", "{name}")) for method, path in listed} == ours


def test_nobody_gets_in_without_a_token(site: Site, own: str, job: str) -> None:
    token, expired = site.program.accounts.issue("old", [Scope.READ, Scope.WRITE, Scope.AUDIT], days=1)
    gone, revoked = site.program.accounts.issue("gone", [Scope.READ, Scope.WRITE, Scope.AUDIT])
    site.program.accounts.revoke(gone.id)
    engine = sa.create_engine(site.program.settings.url_of("database_url"))
    with engine.begin() as connection:
        yesterday = (datetime.now(UTC) - timedelta(days=1)).replace(tzinfo=None)
        connection.execute(
            sa.text("UPDATE tokens SET expires_at = :at WHERE id = :id"), {"at": yesterday, "id": token.id}
        )
    engine.dispose()
    nobody = site.client()
    for method, path, _ in [*addresses(own, job), ("GET", "/v1/nothing", Scope.READ), ("GET", "/docs", Scope.READ)]:
        for credentials in (None, "Basic Og==", "Bearer", "Bearer nonsense", f"Bearer {expired}", f"Bearer {revoked}"):
            headers = {} if credentials is None else {"Authorization": credentials}
            answer = nobody.request(method, path, headers=headers, content=b"{")
            assert answer.status_code == 401, (method, path, credentials)
            assert answer.headers["www-authenticate"].startswith('Bearer realm="wetread"')
            assert answer.headers["content-type"] == "application/problem+json"
            has_token = credentials is not None and len(credentials) > 8 and credentials.startswith("Bearer")
            assert ('error="invalid_token"' in answer.headers["www-authenticate"]) is has_token


def test_a_token_does_what_its_scopes_say_and_no_more(site: Site, own: str, job: str) -> None:
    clients = {scope: site.client(scope, label=f"only {scope}") for scope in (Scope.READ, Scope.WRITE, Scope.AUDIT)}
    for method, path, needed in addresses(own, job):
        for scope, client in clients.items():
            answer = client.request(method, path, headers={"Content-Type": "application/json"}, content=b"{}")
            assert (answer.status_code == 403) is (scope is not needed), (method, path, scope)
            if scope is not needed:
                assert f'error="insufficient_scope", scope="{needed}"' in answer.headers["www-authenticate"]


def test_no_token_can_sign() -> None:
    from app.adapters.database.accounts import DatabaseAccounts
    from app.adapters.database.engine import Database
    from app.errors import AppError

    with pytest.raises(AppError, match="only people sign"):
        DatabaseAccounts(Database("sqlite://")).issue("ehr", [Scope.SIGN])


def test_for_a_token_of_one_study_no_other_exists(site: Site, own: str, other: str, job: str) -> None:
    bound = site.client(Scope.READ, Scope.WRITE, Scope.AUDIT, label="bound", study_uid=uid_of(OWN))
    assert [each["study"] for each in bound.get("/v1/studies").json()["studies"]] == [own]
    assert bound.get("/v1/studies", params={"offset": 1}).json()["studies"] == []
    assert bound.get(f"/v1/studies/{own}").status_code == 200
    assert bound.post("/v1/reports", json={"study": own}).status_code == 202

    def same(left: httpx.Response, right: httpx.Response) -> None:
        assert (left.status_code, left.content) == (right.status_code, right.content)
        assert left.status_code == 404

    for part in ("", "/report", "/versions", "/results", "/results/report.pdf"):
        same(bound.get(f"/v1/studies/{other}{part}"), bound.get(f"/v1/studies/{NOWHERE}{part}"))
    same(bound.get(f"/v1/jobs/{job}"), bound.get(f"/v1/jobs/{NOWHERE}"))
    same(bound.post("/v1/reports", json={"study": other}), bound.post("/v1/reports", json={"study": NOWHERE}))
    by_uid = [{"study_instance_uid": uid} for uid in (uid_of(OTHER), "1.2.3")]
    same(bound.post("/v1/reports", json=by_uid[0]), bound.post("/v1/reports", json=by_uid[1]))
    assert bound.get("/v1/audit", params={"study": other}).status_code == 404
    assert {each["study"] for each in bound.get("/v1/audit").json()["entries"]} == {own}
    assert bound.post("/v1/orders", json={"resourceType": "ServiceRequest"}).status_code == 403


def test_a_token_of_one_study_brings_in_that_study_alone(site: Site, own: str, other: str) -> None:
    bound = site.client(Scope.WRITE, label="bound", study_uid=uid_of(OWN))
    more = radiograph("own", InstanceNumber=2)
    before = site.program.archive.row(uid_of(OTHER)).instances
    mixed = bound.post(
        "/v1/studies",
        content=zipped(own=more, other=radiograph("other", InstanceNumber=2), third=radiograph("third")),
        headers={"Content-Type": "application/zip"},
    )
    assert mixed.status_code == 404
    assert site.program.archive.row(uid_of(OTHER)).instances == before
    with pytest.raises(KeyError):
        site.program.archive.row(uid_of(radiograph("third")))
    assert site.program.archive.row(uid_of(OWN)).instances == 1
    fits = bound.post("/v1/studies", content=more, headers={"Content-Type": "application/dicom"})
    assert fits.status_code == 201
    assert fits.json()["studies"][0]["instances"] == 2


def test_a_refusal_is_in_the_audit_trail(site: Site, own: str, other: str) -> None:
    bound = site.client(Scope.READ, label="curious", study_uid=uid_of(OWN))
    bound.get(f"/v1/studies/{other}")
    entry = site.program.audit.entries(limit=1)[0]
    assert (entry.actor, entry.action, entry.study_key) == ("curious", "refused", other)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "wetread.hospital.example"])
def test_nothing_beyond_loopback_is_served_without_authentication(host: str, tmp_path) -> None:
    check_listening(settings_of(tmp_path, serve_host=host))
    with pytest.raises(BadSetting, match="authentication may not be none"):
        check_listening(settings_of(tmp_path, serve_host=host, authentication="none"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_on_loopback_one_may_do_without(host: str, tmp_path) -> None:
    check_listening(settings_of(tmp_path, serve_host=host, authentication="none"))


def test_without_authentication_the_caller_is_local_and_a_web_page_is_nobody(site: Site, tmp_path) -> None:
    from app.bootstrap import open_program

    with served(open_program(settings_of(tmp_path, authentication="none"))) as alone:
        client = alone.client()
        assert client.get("/v1/studies").status_code == 200
        assert client.get("/v1/audit").status_code == 403
        assert alone.program.audit.entries(limit=2)[1].actor == "local"
        form = {"files": ("film.dcm", OWN)}
        for origin in ("http://evil.example", "null"):
            assert client.post("/v1/studies", files=form, headers={"Origin": origin}).status_code == 403
        rebound = client.get("/v1/studies", headers={"Host": "evil.example:8080"})
        assert (rebound.status_code, rebound.headers["content-type"]) == (421, "application/problem+json")
        assert client.get("/v1/studies", headers={"Host": "localhost:1234"}).status_code == 200
        assert client.post("/v1/studies", files=form).status_code == 201


def test_names_are_this_machines_own_unless_others_can_reach_it(tmp_path) -> None:
    assert {"localhost", "127.0.0.1", "::1"} <= set(names_of(settings_of(tmp_path)))
    assert names_of(settings_of(tmp_path, serve_host="0.0.0.0")) == ()
    assert names_of(settings_of(tmp_path, serve_names="Wetread.example, [::1]")) == ("wetread.example", "::1")


def test_an_api_opens_nothing_until_it_is_asked(tmp_path) -> None:
    from app.bootstrap import open_program

    make_api(open_program(settings_of(tmp_path)))
    assert not (tmp_path / "wetread.db").exists()


@pytest.mark.parametrize(
    ("proxies", "seen"), [("127.0.0.1", "https 192.0.2.7"), ("10.0.0.0/8", "http 127.0.0.1"), ("", "http 127.0.0.1")]
)
def test_only_a_proxy_that_is_named_is_believed(tmp_path: Path, proxies: str, seen: str) -> None:
    api = FastAPI()

    @api.get("/")
    def who(request: Request) -> str:
        return f"{request.url.scheme} {request.client.host if request.client else ''}"

    settings = settings_of(tmp_path, trusted_proxies=proxies)
    with listening(settings) as server_socket:
        server = server_of(api, settings)
        thread = Thread(target=server.run, kwargs={"sockets": [server_socket]})
        thread.start()
        assert httpx.get(address_of(server_socket), headers=FORWARDED, trust_env=False).json() == seen
        server.should_exit = True
        thread.join(30)


def test_a_proxy_is_named_by_its_address(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="IP address"):
        settings_of(tmp_path, trusted_proxies="proxy.example")
