"""A server with a worker, two accounts and a CT that was reported on, and a headless Chromium that watches itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser
from workbench_site import PASSWORD, Site, Visit, reported_ct, wait_for

from app.accounts import Account, Scope
from app.bootstrap import open_program
from app.settings import load_settings
from dicom_io.identity import study_key
from dicom_io.phantom.write import write_patient


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """`wetread serve` as a process of its own, over a home that the tests look into as well."""
    place = tmp_path_factory.mktemp("workbench")
    given = {
        "home": str(place / "home"),
        "vectors_url": "memory:",
        "embedder_url": "hashing:",
        "organization": "Sample Hospital",
        "threads": "1",
        "serve_port": "0",
    }
    program = open_program(load_settings(**given))
    program.accounts.add(Account("reader", "Dr. Ada Reader", frozenset(Scope)), PASSWORD)
    program.accounts.add(Account("nurse", "Nina Nurse", frozenset([Scope.READ])), PASSWORD)
    write_patient(12, place / "films", with_ct=False, rows=512, film_spacing_mm=(3.0, 3.0, 3.0))
    ct_uid = reported_ct(program, place / "ct")
    log = place / "server.log"
    environment = os.environ | {f"WETREAD_{name.upper()}": value for name, value in given.items()}
    with log.open("wb") as output:
        command = [sys.executable, "-c", "from app.cli import main; main()", "serve"]
        server = subprocess.Popen(command, env=environment, cwd=place, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: re.search(r"serving at .*\n", log.read_text()) is not None or server.poll() is not None, 90)
        told = re.search(r"serving at (http://\S+)", log.read_text())
        assert told, log.read_text()
        yield Site(told.group(1), program, place / "films", study_key(ct_uid, program.secret), ct_uid)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)
    said = log.read_text()
    assert "Traceback" not in said
    assert "PHANTOM" not in said


@pytest.fixture
def visit(site: Site, browser: Browser) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1600, "height": 900}, accept_downloads=True)
    context.set_default_timeout(60_000)
    page = context.new_page()
    made = Visit(page, site.url)
    page.on("request", lambda request: made.requests.append(request.url))
    page.on("pageerror", lambda error: made.complaints.append(str(error)))
    page.on("response", lambda answer: made.refusals.append(answer.url) if answer.status >= 400 else None)
    page.on("console", lambda said: made.complaints.append(said.text) if said.type == "error" else None)
    yield made
    context.close()
    elsewhere = [each for each in made.requests if not each.startswith((f"{site.url}/", "data:", "blob:"))]
    assert elsewhere == []
    assert made.refusals == []
    assert made.complaints == []
