"""The server process: REST, the workbench, and a worker beside them, until it is told to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from threading import Event, Thread

import structlog
from fastapi import FastAPI

from app.bootstrap import Program
from app.pacs.deliver import deliver_due
from app.pacs.priors import bring_priors
from app.rest.api import make_api
from app.rest.listen import GRACE_S, address_of, check_listening, listening, server_of
from app.worker import desk_of, stop_on_signals, work

log = structlog.get_logger()


def serve(program: Program, *, with_worker: bool, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; then answer what was asked, and let the worker end its report.

    A report that takes longer than GRACE_S is left: its lease ends, and another worker makes it. ready: called with the
    server's address when connections are accepted. Raises BadSetting when others could reach the server and it would
    ask nobody who they are, and when it cannot listen.
    """
    check_listening(program.settings)
    with listening(program.settings) as server_socket, working(program) if with_worker else nullcontext():
        server = server_of(mount_workbench(make_api(program), program))
        stop_on_signals()  # uvicorn raises again what stopped it: by default that would end us before the worker has
        ready(address_of(server_socket))
        server.run(sockets=[server_socket])


def mount_workbench(api: FastAPI, program: Program) -> FastAPI:
    """The application with the workbench under /workbench; loads Gradio."""
    from app.workbench.page import mount

    return mount(api, program)


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
