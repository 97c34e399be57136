"""The server process: REST, the workbench, and a worker beside them, until it is told to stop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from threading import Event, Thread
from time import monotonic
from types import TracebackType

import structlog
from fastapi import FastAPI

from app.bootstrap import Program
from app.pacs.deliver import deliver_due
from app.pacs.priors import bring_priors
from app.rest.api import make_api
from app.rest.listen import GRACE_S, address_of, check_listening, listening, server_of
from app.worker import desk_of, end_process, stop_on_signals, work

log = structlog.get_logger()


def serve(program: Program, *, with_worker: bool, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; then answer what was asked, and let the worker end its report.

    A report that takes longer than GRACE_S is left, and the process ended around it: its lease ends, and another worker
    makes it. ready: called with the server's address when connections are accepted. Raises BadSetting when others could
    reach the server and it would ask nobody who they are, and when it cannot listen.
    """
    check_listening(program.settings)
    workers = Workers(program)
    with listening(program.settings) as server_socket, workers if with_worker else nullcontext():
        server = server_of(mount_workbench(make_api(program), program), program.settings)
        stop_on_signals()  # uvicorn raises again what stopped it: by default that would end us before the worker has
        ready(address_of(server_socket))
        server.run(sockets=[server_socket])
    if workers.are_left:
        log.warning("the report in hand was left; a worker will make it")
        end_process(0)


def mount_workbench(api: FastAPI, program: Program) -> FastAPI:
    """The application with the workbench under /workbench; loads Gradio."""
    from app.workbench.page import mount

    return mount(api, program)


class Workers:
    """A worker in a thread of this process while this is open; another one in its place when it hangs."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._over = Event()
        self._threads: list[Thread] = []

    @property
    def are_left(self) -> bool:
        """True when a thread still works, or hangs: the process cannot end by itself."""
        return any(thread.is_alive() for thread in self._threads)

    def __enter__(self) -> None:
        self._start()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        until = monotonic() + GRACE_S
        for thread in self._threads:
            thread.join(max(until - monotonic(), 0))

    def _start(self) -> None:
        hangs = Event()

        def is_over() -> bool:
            return self._over.is_set() or hangs.is_set()

        def replace() -> None:
            hangs.set()
            log.error("the thread of a report hangs and stays until the server is started again; another one works on")
            self._start()

        program = self._program
        desk = desk_of(
            program, before=partial(bring_priors, program), deliver=partial(deliver_due, program), hung=replace
        )
        thread = Thread(target=work, args=(desk, is_over), name="worker", daemon=True)
        self._threads.append(thread)
        thread.start()
