"""`wetread serve`, `tokens`, `users`, `audit` as an administrator runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
import structlog
from rest_site import radiograph, settings_of
from typer.testing import CliRunner

from app.accounts import Scope
from app.bootstrap import open_program
from app.cli import app
from app.errors import AppError, BadSetting
from app.submit import note
from dicom_io.identity import study_key

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in [each for each in os.environ if each.startswith("WETREAD_")]:
        monkeypatch.delenv(name)
    settings = {
        "HOME": str(tmp_path),
        "EMBEDDER_URL": "hashing:",
        "VECTORS_URL": "memory:",
        "QUEUE_URL": "huey+memory:",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"WETREAD_{name}", value)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    structlog.reset_defaults()  # a command sets the logs up for its own process, which is ours here


def wetread(*arguments: str, typed: str = "") -> str:
    """Standard output. Raises what the command raises."""
    done = CliRunner().invoke(app, arguments, input=typed, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_token_is_issued_listed_and_revoked(home: Path) -> None:
    program = open_program(settings_of(home))
    (uid,) = program.archive.ingest([("film.dcm", radiograph())]).study_uids
    key = study_key(uid, program.secret)
    secret = wetread(
        "tokens", "issue", "ris", "--scope", "read", "--scope", "write", "--study", key[:12], "--days", "9"
    )
    token = program.accounts.token(secret.strip())
    assert token is not None
    assert (token.label, token.scopes, token.study_uid) == ("ris", {Scope.READ, Scope.WRITE}, uid)
    assert token.expires_at is not None
    (listed,) = json.loads(wetread("tokens", "list", "--json"))
    assert (listed["token"], listed["study"], listed["scopes"]) == (token.id, key, ["read", "write"])
    assert secret.strip() not in wetread("tokens", "list")
    wetread("tokens", "revoke", token.id)
    assert program.accounts.token(secret.strip()) is None
    for wrong in (
        ("tokens", "revoke", "nonsense"),
        ("tokens", "issue", "x", "--scope", "read", "--study", "f" * 32),
        ("tokens", "issue", "x", "--scope", "read", "--study", ""),
        ("tokens", "issue", " ", "--scope", "read"),
    ):
        with pytest.raises(BadSetting):
            wetread(*wrong)
    with pytest.raises(AppError, match="only people sign"):
        wetread("tokens", "issue", "x", "--scope", "sign")


def test_an_account_is_added_listed_and_disabled(home: Path) -> None:
    add = ("users", "add", "house", "--full-name", "Dr G. House", "--scope", "read", "--scope", "sign")
    wetread(*add, "--password-stdin", typed="correct horse battery\n")
    accounts = open_program(settings_of(home)).accounts
    found = accounts.check("house", "correct horse battery")
    assert found is not None
    assert (found.full_name, found.scopes) == ("Dr G. House", {Scope.READ, Scope.SIGN})
    shown = wetread(*add, typed="another long password\nanother long password\n")
    assert "another" not in shown
    assert accounts.check("house", "another long password") is not None
    wetread("users", "disable", "house")
    assert accounts.check("house", "another long password") is None
    (listed,) = json.loads(wetread("users", "list", "--json"))
    assert (listed["name"], listed["is_disabled"]) == ("house", True)
    assert "disabled" in wetread("users", "list")
    with pytest.raises(AppError, match="12 characters"):
        wetread(*add, "--password-stdin", typed="short\n")
    with pytest.raises(BadSetting):
        wetread("users", "disable", "wilson")


def test_the_audit_trail_is_shown_and_checked(home: Path) -> None:
    program = open_program(settings_of(home))
    for number in range(3):
        program.audit.record("ehr", "report read", "0" * 32, version=number)
    assert wetread("audit", "--verify") == "the audit trail holds\n"
    assert [each["detail"]["version"] for each in json.loads(wetread("audit", "--json", "--most", "2"))] == [2, 1]
    assert "report read" in wetread("audit", "--study", "0" * 32)
    engine = sa.create_engine(program.settings.url_of("database_url"))
    with engine.begin() as connection:
        guards = connection.scalars(sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all()
        for guard in guards:  # what somebody would do who wants an entry to say something else
            connection.execute(sa.text(f"DROP TRIGGER {guard}"))
        connection.execute(sa.text("UPDATE audit SET actor = 'nobody' WHERE number = 2"))
    engine.dispose()
    with pytest.raises(AppError, match="from entry 2 on") as raised:
        wetread("audit", "--verify")
    assert raised.value.exit_code == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_serve_refuses_the_network_without_authentication(
    home: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WETREAD_SERVE_HOST", host)
    monkeypatch.setenv("WETREAD_AUTHENTICATION", "none")
    with pytest.raises(BadSetting, match="authentication may not be none") as raised:
        wetread("serve")
    assert raised.value.exit_code == 2


def test_serve_says_when_it_cannot_listen(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("192.0.2.1", "no.such.host.invalid"):
        monkeypatch.setenv("WETREAD_SERVE_HOST", host)
        with pytest.raises(BadSetting, match="cannot be listened on"):
            wetread("serve")


def test_serve_serves_both_and_ends_when_it_is_told_to(home: Path) -> None:
    program = open_program(settings_of(home))
    (uid,) = program.archive.ingest([("film.dcm", radiograph())]).study_uids
    note(program, uid)
    _, secret = program.accounts.issue("ehr", [Scope.READ])
    command = [sys.executable, "-c", "from app.cli import main; main()", "serve"]
    settings = {"WETREAD_SERVE_PORT": "0", "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    with (home / "stderr").open("wb") as errors:
        server = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=errors, env=os.environ | settings, text=True)
    assert server.stderr is not None
    try:
        line = server.stderr.readline()
        assert line.strip().startswith("serving at http://127.0.0.1:"), line + server.stderr.read()
        with httpx.Client(base_url=line.split()[-1], timeout=60, trust_env=False) as client:
            assert client.get("/ready").json() == {"status": "ready"}
            assert client.get("/v1/studies").status_code == 401
            listed = client.get("/v1/studies", headers={"Authorization": f"Bearer {secret}"}).json()["studies"]
            assert [each["study"] for each in listed] == [study_key(uid, program.secret)]
            page = client.get("/workbench/login")
            assert (page.status_code, page.headers["content-type"].split(";")[0]) == (200, "text/html")
            assert client.get("/workbench/", headers={"Authorization": f"Bearer {secret}"}).status_code != 200
    finally:
        server.send_signal(signal.SIGTERM)
        _, rest = server.communicate(timeout=60)
    assert server.returncode == 0, rest
    assert "Traceback" not in rest
