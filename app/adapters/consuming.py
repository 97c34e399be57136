"""What the queues' loops share: a handler that raises and a broker that is away end no worker."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, sleep

import structlog

from app.errors import QueueUnavailable

SHORTEST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 15.0
STEADY_S = 60.0  # a connection that held for so long was a good one: the next pause is short again

log = structlog.get_logger()


def call(handle: Callable[[str], None], job_id: str) -> None:
    """Call the handler; what it raises is logged by type alone, for its message may hold anything."""
    try:
        handle(job_id)
    except Exception as exc:
        log.error("a job could not be looked at; it will be sent again", job=job_id, error=type(exc).__name__)


def until_stopped(session: Callable[[], None], stop: Callable[[], bool]) -> None:
    """Run a session, which ends when stop() is true, and run it again each time the broker went away meanwhile.

    A worker outlives a restart of its broker; whoever wants to know at once whether there is one asks waiting().
    """
    pause_s = SHORTEST_PAUSE_S
    while not stop():
        started = monotonic()
        try:
            session()
        except QueueUnavailable as exc:
            if monotonic() - started > STEADY_S:
                pause_s = SHORTEST_PAUSE_S
            log.warning("waiting for the queue", reason=str(exc), again_in_s=pause_s)
            wait(pause_s, stop)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def reason(exc: BaseException) -> str:
    """Why a server does not answer: the system's words where it has some, else the type of the first cause.

    Never the error's own text, which may quote the server's URL with its password.
    """
    link: BaseException | None = exc
    while link is not None:
        if isinstance(link, OSError) and link.strerror:
            return link.strerror.lower()
        exc, link = link, link.__cause__ or link.__context__
    return type(exc).__name__


def wait(seconds: float, stop: Callable[[], bool]) -> None:
    """Sleep, but not past a stop."""
    end = monotonic() + seconds
    while not stop() and (left := end - monotonic()) > 0:
        sleep(min(left, 0.2))
