"""The server process: REST, and a worker beside it, until it is told to stop."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from threading import Event, Thread

import structlog
import uvicorn
from fastapi import FastAPI

from app.bootstrap import Program
from app.errors import WHY, BadSetting
from app.pacs.deliver import deliver_due
from app.pacs.priors import bring_priors
from app.rest.api import make_api
from app.rest.listen import check_listening
from app.settings import Settings
from app.worker import desk_of, stop_on_signals, work

GRACE_S = 20  # for requests that are being answered, and then for the report in hand
WAITING = 128  # connections that wait to be accepted

log = structlog.get_logger()


def serve(program: Program, *, with_worker: bool, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; then answer what was asked, and let the worker end its report.

    A report that takes longer than GRACE_S is left: its lease ends, and another worker makes it. ready: called with the
    server's address when connections are accepted. Raises BadSetting when others could reach the server and it would
    ask nobody who they are, and when it cannot listen.
    """
    check_listening(program.settings)
    api = make_api(program)
    stop_on_signals()  # uvicorn raises again what stopped it, which would end the process before the worker has ended
    with listening(program.settings) as server_socket, working(program) if with_worker else nullcontext():
        ready(address_of(server_socket))
        server_of(api).run(sockets=[server_socket])


def server_of(api: FastAPI) -> uvicorn.Server:
    """Uvicorn without its access log: the gate writes one line for each request, with no study in it."""
    config = uvicorn.Config(
        api, access_log=False, log_config=None, server_header=False, timeout_graceful_shutdown=GRACE_S
    )
    return uvicorn.Server(config)


@contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """A socket that listens as the settings say. Raises BadSetting."""
    host, port = settings.serve_host, settings.serve_port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        found = socket.create_server((host, port), family=family, backlog=WAITING)
    except OSError as exc:  # also a name that is not known
        why = WHY.get(exc.errno or 0, exc.strerror or type(exc).__name__)
        raise BadSetting(f"serve_host {host} and serve_port {port} cannot be listened on: {why}") from exc
    with found:
        yield found


def address_of(server_socket: socket.socket) -> str:
    """The server's address as a URL."""
    host, port = server_socket.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def working(program: Program) -> Iterator[None]:
    """A worker in a thread of its own meanwhile."""
    over = Event()
    desk = desk_of(program, before=partial(bring_priors, program), deliver=partial(deliver_due, program))
    thread = Thread(target=work, args=(desk, over.is_set), name="worker", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(GRACE_S)
        if thread.is_alive():
            log.warning("the report in hand was left; a worker will make it")
