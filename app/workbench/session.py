"""Who is at the workbench: sessions, the log-in with its brake, and the guard before every address below /workbench.

Gradio's own `auth=` is not used. It keeps a session without an end, has no brake on guesses, no audit and no place for
scopes, and some of its routes (cancel, reset, stream, token) ask for no log-in at all. Here a session is a random
secret, kept on the server only as its hash, in a cookie that no script can read (HttpOnly), that no other site can make
the browser send (SameSite=Strict), and that is sent to /workbench alone, so that the REST interface beside it never
sees it. The guard stands before Gradio: without a session nothing below /workbench answers but the log-in page, and
with one only those of Gradio's addresses that the workbench uses.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from anyio import to_thread

from app.accounts import Account, Scope
from app.ports import Accounts

ROOT = "/workbench"
COOKIE = "wetread-session"
LONGEST_S = 12 * 3600.0  # a session ends after a shift
MOST_SESSIONS = 1000
RECHECK_S = 5.0  # an account that was disabled, or got another password, is out after so long
FREE_TRIES = 3  # wrong passwords before the brake is felt
LONGEST_PAUSE_S = 300.0
FORGET_S = 3600.0

OPEN = frozenset([f"{ROOT}/login", f"{ROOT}/own/login.css", f"{ROOT}/own/icon.svg"])  # what answers without a session
USED = (  # what the workbench needs of Gradio; the rest (file=, proxy=, info, config, runs ...) is not there
    "/assets/",
    "/static/",
    "/svelte/",
    "/theme.css",
    "/manifest.json",
    "/favicon.ico",
    "/gradio_api/theme.css",
    "/gradio_api/queue/join",
    "/gradio_api/queue/data",
    "/gradio_api/upload",
    "/gradio_api/heartbeat/",
    "/gradio_api/startup-events",
)
UPLOAD = f"{ROOT}/gradio_api/upload"
ELSEWHERE = {"/": f"{ROOT}/", ROOT: f"{ROOT}/", "/favicon.ico": f"{ROOT}/own/icon.svg"}
PAGES = ("/", "/login", "/logout")
OWN = ("/own/", "/studies/")
MOST_BYTES = {f"{ROOT}/login": 8 * 1024, UPLOAD: None}  # of a body; an upload's is Gradio's to limit
MOST_BYTES_ELSEWHERE = 4 * 1024**2
# Gradio compiles its templates in the browser (unsafe-eval) and styles elements directly; nothing else is loosened.
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "manifest-src 'self'; form-action 'self'; base-uri 'self'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)

Asgi = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Asgi]]
Send = Callable[[Asgi], Awaitable[None]]
App = Callable[[Asgi, Receive, Send], Awaitable[None]]


@dataclass(slots=True)
class Session:
    """One log-in. opened: the keys of the studies whose opening was audited; only their images are given out."""

    account: Account
    ends_at: float
    checked_at: float
    opened: set[str] = field(default_factory=set)

    def may(self, scope: Scope) -> bool:
        """Whether the account has this scope."""
        return scope in self.account.scopes


class Sessions:
    """The sessions of one process, in memory: a restart logs everybody out."""

    def __init__(self, accounts: Accounts, clock: Callable[[], float] = time.monotonic) -> None:
        self._accounts = accounts
        self._clock = clock
        self._kept: dict[str, Session] = {}
        self._lock = Lock()

    def open(self, account: Account) -> str:
        """A new session; returns its secret, which is kept nowhere."""
        secret, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            self._kept = {key: each for key, each in self._kept.items() if each.ends_at > now}
            while len(self._kept) >= MOST_SESSIONS:
                del self._kept[next(iter(self._kept))]
            self._kept[_digest(secret)] = Session(account, now + LONGEST_S, now)
        return secret

    def of(self, secret: str | None) -> Session | None:
        """The session with this secret, while it lasts and its account has its password and is not disabled."""
        session = self._kept.get(_digest(secret)) if secret else None
        if session is None or secret is None:
            return None
        now = self._clock()
        if session.ends_at <= now or not self._is_still_allowed(session, now):
            self.close(secret)
            return None
        return session

    def close(self, secret: str) -> None:
        """End the session with this secret, if there is one."""
        with self._lock:
            self._kept.pop(_digest(secret), None)

    def _is_still_allowed(self, session: Session, now: float) -> bool:
        if now - session.checked_at > RECHECK_S:
            try:
                account = self._accounts.get(session.account.name)
            except KeyError:
                return False
            if account.password_mark != session.account.password_mark:
                return False
            session.account, session.checked_at = account, now
        return not session.account.is_disabled


class Brake:
    """Slows guessing: from the fourth wrong password on, each one doubles the pause before the next try.

    It counts for a name from one address, so nobody can lock a colleague out from elsewhere, and, more leniently, for
    an address whatever the name.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: dict[tuple[str, ...], tuple[int, float]] = {}
        self._lock = Lock()

    def pause_s(self, name: str, address: str) -> float:
        """Seconds until the next try is let through; 0 when it is now."""
        now = self._clock()
        with self._lock:
            waits = [self._ends(key, free) - now for key, free in _counters(name, address)]
        return max(0.0, *waits)

    def tried(self, name: str, address: str) -> None:
        """A password is about to be checked. It counts as wrong until it `passed`, so many at once gain nothing."""
        now = self._clock()
        with self._lock:
            self._failed = {key: each for key, each in self._failed.items() if now - each[1] < FORGET_S}
            for key, _ in _counters(name, address):
                self._failed[key] = (self._failed.get(key, (0, now))[0] + 1, now)

    def passed(self, name: str, address: str) -> None:
        """It was the right password: this name's count from here starts anew."""
        with self._lock:
            self._failed.pop((name.casefold(), address), None)
            count, last = self._failed.get((address,), (1, 0.0))
            self._failed[(address,)] = (count - 1, last)

    def _ends(self, key: tuple[str, ...], free: int) -> float:
        count, last = self._failed.get(key, (0, 0.0))
        return last + min(2.0 ** min(count - free, 16), LONGEST_PAUSE_S) if count > free else 0.0


class Guard:
    """ASGI middleware before everything below /workbench; of what lies elsewhere it only leads "/" there."""

    def __init__(self, app: App, sessions: Sessions) -> None:
        self._app = app
        self._sessions = sessions

    async def __call__(self, scope: Asgi, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it."""
        path = scope.get("path", "")
        if scope["type"] == "http" and path in ELSEWHERE:
            await _answer(send, 303, "", [(b"location", ELSEWHERE[path].encode())])
            return
        if scope["type"] == "lifespan" or not path.startswith(ROOT + "/"):
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # nothing here speaks WebSocket
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        most = MOST_BYTES.get(path, MOST_BYTES_ELSEWHERE)
        said = headers.get("content-length", "")
        receive = _limited(receive, most)
        if not _is_known(path):
            await _answer(send, 404, "not found")
        elif most is not None and said.isdigit() and int(said) > most:
            await _answer(send, 413, "the request is too large", [(b"connection", b"close")])
        elif scope["method"] not in ("GET", "HEAD", "POST") or not _is_own_origin(scope["method"], headers):
            await _answer(send, 403, "requests from other sites are refused")
        elif path in OPEN:
            await self._app(scope, receive, _sealed(send, path))
        elif (session := await self._session(headers)) is None:
            if path == f"{ROOT}/":
                await _answer(send, 303, "", [(b"location", f"{ROOT}/login".encode())])
            else:
                await _answer(send, 401, "log in first")
        elif path.startswith(UPLOAD) and not session.may(Scope.WRITE):
            await _answer(send, 403, "this account may not bring in studies")
        else:
            await self._app(scope, receive, _sealed(send, path))

    async def _session(self, headers: Mapping[str, str]) -> Session | None:
        secret = cookie_of(headers.get("cookie", ""))
        return await to_thread.run_sync(self._sessions.of, secret) if secret else None


def cookie_of(header: str) -> str | None:
    """The session's secret in a Cookie header."""
    try:
        morsel = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return None
    return morsel.value if morsel else None


def _digest(secret: str | None) -> str:
    return sha256((secret or "").encode()).hexdigest()


def _counters(name: str, address: str) -> list[tuple[tuple[str, ...], int]]:
    return [((name.casefold(), address), FREE_TRIES), ((address,), 10 * FREE_TRIES)]


def _is_known(path: str) -> bool:
    rest = path[len(ROOT) :]
    return rest in PAGES or rest.startswith(OWN) or rest.startswith(USED)


def _is_own_origin(method: str, headers: Mapping[str, str]) -> bool:
    """A request that changes something comes from a page of ours: browsers say so in Origin (RFC 6454, section 7)."""
    origin = headers.get("origin")
    return method != "POST" or origin is None or urlsplit(origin).netloc == headers.get("host", "")


def _limited(receive: Receive, most: int | None) -> Receive:
    """The body up to this size; who sends more is treated as one who has gone."""
    seen = 0

    async def limited() -> Asgi:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return message if most is None or seen <= most else {"type": "http.disconnect"}

    return limited


def _sealed(send: Send, path: str) -> Send:
    """Adds the headers that keep a page to itself; only Gradio's own static files may be cached."""
    is_static = path.startswith((f"{ROOT}/assets/", f"{ROOT}/static/", f"{ROOT}/svelte/"))

    async def sealed(message: Asgi) -> None:
        if message["type"] == "http.response.start":
            extra = [*HEADERS, *(() if is_static else ((b"cache-control", b"no-store"),))]
            names = {name for name, _ in extra}
            kept = [(name, value) for name, value in message["headers"] if name.lower() not in names]
            message["headers"] = [*kept, *extra]
        await send(message)

    return sealed


async def _answer(send: Send, status: int, sentence: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    body = sentence.encode()
    start = [
        *HEADERS,
        (b"cache-control", b"no-store"),
        (b"content-type", b"text/plain; charset=utf-8"),
        *(headers or []),
    ]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
