"""Coming in and going out: the log-in page, the log-out, and the workbench's own style and script."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from threading import BoundedSemaphore
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request, Response
from starlette.responses import HTMLResponse, RedirectResponse

from app.accounts import Scope
from app.workbench.desk import REFUSALS, Desk
from app.workbench.session import COOKIE, LONGEST_S, ROOT
from app.workbench.words import templates

MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
CHECKING = BoundedSemaphore(4)  # passwords at once: each takes 32 MiB, and anybody may ask
WRONG = "The account or the password is not right."


@cache
def assets() -> dict[str, Response]:
    """Our own style, script and icon, by name."""
    found = files("app.workbench").joinpath("assets").iterdir()
    return {
        each.name: Response(each.read_bytes(), media_type=MEDIA_TYPES[Path(each.name).suffix])
        for each in found
        if Path(each.name).suffix in MEDIA_TYPES
    }


def add_entry(router: APIRouter, desk: Desk) -> None:
    """Log-in, log-out, style and script."""

    @router.get("/login")
    def ask() -> Response:
        return login_page()

    @router.post("/login")
    def log_in(request: Request, name: Annotated[str, Form()] = "", password: Annotated[str, Form()] = "") -> Response:
        return logged_in(desk, request, name.strip()[:100], password[:200])

    @router.post("/logout")
    def log_out(request: Request) -> Response:
        secret = request.cookies.get(COOKIE, "")
        if (session := desk.sessions.of(secret)) is not None:
            desk.program.audit.record(session.account.name, "logged out")
        desk.sessions.close(secret)
        answer = RedirectResponse(f"{ROOT}/login", status_code=303)
        answer.delete_cookie(COOKIE, path=ROOT)
        return answer

    @router.get("/own/{name}")
    def own(name: str) -> Response:
        if name not in assets():
            raise HTTPException(404)
        return assets()[name]


def login_page(said: str = "", status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The log-in page, with a sentence about the last try."""
    return HTMLResponse(templates().get_template("login.html.j2").render(root=ROOT, said=said), status, headers)


def logged_in(desk: Desk, request: Request, name: str, password: str) -> Response:
    """A session for the right password; else the page again, and after some tries a pause. Both are audited."""
    address = request.client.host if request.client else ""
    if pause := desk.brake.pause_s(name, address):
        seconds = int(pause) + 1
        said = f"Too many wrong passwords. Try again in {seconds} seconds."
        return login_page(said, 429, {"Retry-After": str(seconds)})
    if not CHECKING.acquire(timeout=1.0):
        return login_page("The server is busy. Try again in a moment.", 503, {"Retry-After": "2"})
    try:
        desk.brake.tried(name, address)
        account = desk.program.accounts.check(name, password)
    finally:
        CHECKING.release()
    if account is None:
        known = any(each.name == name for each in desk.program.accounts.all())
        # A name that is no account's may be a password typed into the wrong field: it is not written down.
        desk.program.audit.record(name if known else "unknown account", "log-in refused", address=address)
        return login_page(WRONG, 403)
    desk.brake.passed(name, address)
    desk.sessions.close(request.cookies.get(COOKIE, ""))
    if Scope.READ not in account.scopes:
        desk.program.audit.record(account.name, "log-in refused", address=address)
        return login_page(REFUSALS[Scope.READ], 403)
    desk.program.audit.record(account.name, "logged in", address=address)
    answer = RedirectResponse(f"{ROOT}/", status_code=303)
    answer.set_cookie(
        COOKIE,
        desk.sessions.open(account),
        max_age=int(LONGEST_S),
        path=ROOT,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return answer
