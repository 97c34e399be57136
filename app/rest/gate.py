"""What every request passes first and last: its host, its size, who sends it; then one line in the log, and a count.

Plain ASGI, around the whole of FastAPI: an unknown path is answered 401 before 404, and nothing that is raised below
gets out with what it says.
"""

from __future__ import annotations

from collections.abc import Collection
from time import perf_counter
from urllib.parse import urlsplit

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.bootstrap import Program
from app.rest.callers import LOCAL, caller_of
from app.rest.metrics import Metrics
from app.rest.problems import Problem, problem_of, response_of
from app.worker import place

WORKBENCH = "/workbench"  # has log-ins, limits and a content policy of its own
# "/" leads to the workbench, where it leads anywhere.
OPEN = frozenset({"/", "/live", "/ready", "/metrics", "/v1/openapi.json"})
UPLOADS = "/v1/studies"
MOST_BYTES = 1024**2  # of a body that is not an upload
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
GONE = 499  # what nginx logs for a client that did not wait for the answer; it is never sent

log = structlog.get_logger()


class Gate:
    """The ASGI middleware. names: the hosts that a request may be for; none: any."""

    def __init__(self, app: ASGIApp, program: Program, metrics: Metrics, names: Collection[str]) -> None:
        self._app = app
        self._program = program
        self._metrics = metrics
        self._names = frozenset(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it with a problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, answer = perf_counter(), Answer(send, is_ours=not is_workbench(scope["path"]))
        try:
            await self._admit(scope)
            await self._app(scope, self._limited(scope, receive), answer.send)
        except ClientDisconnect:
            answer.status = GONE
        except Exception as exc:
            await self._refuse(exc, answer, scope, receive)
        finally:
            self._note(scope, answer.status, perf_counter() - started)

    async def _admit(self, scope: Scope) -> None:
        headers, path = Headers(scope=scope), scope["path"]
        if self._names and host_of(headers.get("host", "")) not in self._names:
            raise Problem(421, "the request is for another host than this server answers for, see serve_names")
        if is_workbench(path) or path in OPEN:
            return
        origin = headers.get("origin")  # programs send none
        if origin is not None and origin_host(origin) not in {host_of(headers.get("host", "")), *self._names}:
            raise Problem(403, "a page of another site may not use this server")
        if self._program.settings.authentication == "none":
            caller = LOCAL
        else:
            caller = await run_in_threadpool(caller_of, headers.get("authorization"), self._program.accounts)
        scope.setdefault("state", {})["caller"] = caller

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """The body, as long as it is not too large: said in advance, or found out while it comes."""
        if is_workbench(scope["path"]):
            return receive
        is_upload = scope["path"] == UPLOADS
        most = self._program.settings.max_upload_mb * 1024**2 if is_upload else MOST_BYTES
        said, seen = Headers(scope=scope).get("content-length", ""), 0

        async def limited() -> Message:
            nonlocal seen
            if said.isdigit() and int(said) > most:
                raise too_large(most)
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                raise too_large(most)
            return message

        return limited

    async def _refuse(self, exc: Exception, answer: Answer, scope: Scope, receive: Receive) -> None:
        problem = problem_of(exc)
        if problem.status_code == 500:
            log.error("a request failed", route=route_of(scope), error=type(exc).__name__, where=place(exc))
        elif problem.status_code == 503:
            log.warning("a request cannot be served now", route=route_of(scope), reason=str(exc))
        if answer.status:
            return  # half of the answer is out: the server closes the connection, and nobody takes it for whole
        await response_of(problem)(scope, receive, answer.send)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = route_of(scope)
        self._metrics.note(route, scope["method"], status, seconds)
        log.info("request", method=scope["method"], route=route, status=status, seconds=round(seconds, 3))


class Answer:
    """Sends a response on, with the headers that keep browsers careful; remembers its status, 0 until it began."""

    def __init__(self, send: Send, *, is_ours: bool) -> None:
        self.status = 0
        self._send = send
        self._is_ours = is_ours

    async def send(self, message: Message) -> None:
        """The ASGI send."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._is_ours:
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
        await self._send(message)


def too_large(most: int) -> Problem:
    """The body is larger than allowed; the rest of it will not be read."""
    detail = f"the body is larger than {most // 1024**2} MiB; an upload may have max_upload_mb"
    return Problem(413, detail, headers={"Connection": "close"})


def is_workbench(path: str) -> bool:
    """Whether the path is below the workbench."""
    return path == WORKBENCH or path.startswith(WORKBENCH + "/")


def host_of(authority: str) -> str:
    """The host in an authority (RFC 3986 section 3.2.2) without its port, in small letters."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:  # a bracket that is never closed
        return ""


def origin_host(origin: str) -> str:
    """The host of an Origin header (RFC 6454 section 7), "null" for a page that has none."""
    try:
        return urlsplit(origin).hostname or "null"
    except ValueError:
        return "null"


def route_of(scope: Scope) -> str:
    """The template of the address, so that neither logs nor metrics hold a study; "unmatched" for any other."""
    if is_workbench(scope["path"]):
        return WORKBENCH
    if scope["path"] in OPEN:
        return str(scope["path"])
    return str(getattr(scope.get("route"), "path", None) or "unmatched")
