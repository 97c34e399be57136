"""Real servers for the tests that need one: each is started when the first test asks for it, and stopped at the end.

Everything a server writes is in a temporary folder, everything it listens on is a free port of the loopback interface.
A test whose server is not installed, or cannot be started by this user, is skipped with the reason.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

READY_WITHIN_S = 60.0


RedisOn = Callable[[int], AbstractContextManager[str]]


BROWSER = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium that asks nobody for anything by itself; one for all tests, for Playwright has one loop."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = program_or_skip("chromium")
    playwright.expect.set_options(timeout=30_000)  # a loaded machine is no failure
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=BROWSER)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def redis_on() -> RedisOn:
    """What runs a Redis server on a port, for tests that stop it and start it again; it remembers nothing."""
    program = program_or_skip("redis-server")

    @contextmanager
    def on(port: int) -> Iterator[str]:
        with folder_of(None) as folder:
            kept = [
                "--bind",
                "127.0.0.1",
                "--port",
                str(port),
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
                str(folder),
            ]
            with running("redis-server", [program, *kept], folder, None, lambda: answers(port)):
                yield f"redis://127.0.0.1:{port}"

    return on


@pytest.fixture(scope="session")
def redis_url(redis_on: RedisOn) -> Iterator[str]:
    """redis://127.0.0.1:port; a test that cares about what is in it takes a database of its own, or flushes it."""
    with redis_on(free_port()) as url:
        yield url


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """postgresql+psycopg://…/postgres, a server without passwords; see postgres_database."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = os.pathsep.join([os.environ.get("PATH", ""), *map(str, reversed(places))])
    program, initdb = program_or_skip("postgres", found), program_or_skip("initdb", found)
    user, port = user_or_skip("postgres"), free_port()
    with folder_of(user) as folder:
        data = folder / "data"
        made = [initdb, "-D", str(data), "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale", "C"]
        done = subprocess.run(made, user=user, cwd=folder, capture_output=True, text=True, timeout=READY_WITHIN_S)
        if done.returncode:
            pytest.skip(f"initdb cannot be run here: {last_line(done.stderr)}")
        options = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
        command = [program, "-D", str(data), "-p", str(port), *options]
        with running("postgres", command, folder, user, lambda: takes_queries(port), stop_with="SIGINT"):
            yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """The URL of an empty database of this test's own."""
    import psycopg

    name, server = f"test_{uuid4().hex}", postgres_url.replace("+psycopg", "")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    yield postgres_url.removesuffix("postgres") + name
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def rabbitmq_url() -> Iterator[str]:
    """amqp://guest:guest@127.0.0.1:port//, with an Erlang cookie and a port mapper (epmd) of its own."""
    wrapper = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # Debian's /usr/sbin/rabbitmq-server drops the environment
    program = str(wrapper) if wrapper.is_file() else program_or_skip("rabbitmq-server")
    epmd = program_or_skip("epmd")
    user, port, epmd_port, dist_port = user_or_skip("rabbitmq"), free_port(), free_port(), free_port()
    with folder_of(user) as folder:
        (folder / "plugins").write_text("[].")
        (folder / "plugins").chmod(0o644)
        quick = "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"  # one scheduler that does not spin
        environment = {
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"wetread{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(dist_port),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "none"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": quick,
        }
        try:
            with running("rabbitmq-server", [program], folder, user, lambda: greets(port), environment):
                yield f"amqp://guest:guest@127.0.0.1:{port}//"
        finally:  # the port mapper is a daemon of its own
            subprocess.run([epmd, "-port", str(epmd_port), "-kill"], capture_output=True, timeout=30)


@contextmanager
def running(
    name: str,
    command: list[str],
    folder: Path,
    user: str | None,
    is_ready: Callable[[], bool],
    environment: dict[str, str] | None = None,
    stop_with: str = "SIGTERM",
) -> Iterator[None]:
    """A server in the foreground; the test is skipped with its last words when it does not come up."""
    import signal

    log = folder / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            user=user,
            cwd=folder,
            env=os.environ | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that an interrupt of the tests reaches it through this fixture alone
        )
    try:
        end = time.monotonic() + READY_WITHIN_S
        while not is_ready():
            if server.poll() is not None or time.monotonic() > end:
                pytest.skip(f"{name} does not start here: {last_line(log.read_text(errors='replace'))}")
            time.sleep(0.05)
        yield
    finally:
        server.send_signal(signal.Signals[stop_with])
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


@contextmanager
def folder_of(user: str | None) -> Iterator[Path]:
    """A temporary folder that this user can write. Not pytest's: those are closed to other users."""
    folder = Path(tempfile.mkdtemp(prefix="wetread-test-"))
    try:
        if user is not None:
            shutil.chown(folder, user)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def program_or_skip(name: str, path: str | None = None) -> str:
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def user_or_skip(name: str) -> str | None:
    """The user to run a server as that refuses to be root; None, for oneself, when one is not root."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(name)
    except KeyError:
        pytest.skip(f"there is no user {name}, and this server does not run as root")
    return name


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int, words: bytes = b"", reply: bytes = b"") -> bool:
    """Whether something listens on the port, and replies as it should."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as client:
            client.sendall(words)
            return client.recv(len(reply)) == reply if reply else True
    except OSError:
        return False


def greets(port: int) -> bool:
    """Whether an AMQP broker answers the protocol header with a method frame (AMQP 0-9-1, section 2.2.4)."""
    return answers(port, b"AMQP\x00\x00\x09\x01", b"\x01")


def takes_queries(port: int) -> bool:
    """Whether PostgreSQL lets one in, which it does some time after it listens."""
    import psycopg

    try:
        with psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres", connect_timeout=2):
            return True
    except psycopg.OperationalError:
        return False


def last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it says nothing"
