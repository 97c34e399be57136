"""Where the server may listen, and for which names it answers; its socket, and uvicorn on it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import uvicorn
from fastapi import FastAPI

from app.errors import WHY, BadSetting
from app.settings import Settings

GRACE_S = 20  # for requests that are being answered, and then for the report in hand
WAITING = 128  # connections that wait to be accepted
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens here. A name counts only when it is localhost."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_listening(settings: Settings) -> None:
    """Raise BadSetting for a server that others could reach and that would not ask who they are."""
    if settings.authentication == "none" and not is_loopback(settings.serve_host):
        raise BadSetting(
            f"serve_host {settings.serve_host} can be reached from other machines, so authentication may not be none"
        )


def names_of(settings: Settings) -> tuple[str, ...]:
    """The hosts that a request may be for: as set; else this machine's own names, or any when others can reach it.

    Without this check a web page could have its name resolved to 127.0.0.1 and read what the server says to the
    browser of somebody who sits at this machine (DNS rebinding).
    """
    named = tuple(each.strip().strip("[]").lower() for each in settings.serve_names.split(",") if each.strip())
    if named or not is_loopback(settings.serve_host):
        return named
    return (*LOOPBACK_NAMES, settings.serve_host.lower())


def server_of(api: FastAPI, settings: Settings) -> uvicorn.Server:
    """Uvicorn without its access log: the gate writes one line for each request, with no study in it.

    Only proxies that the settings name are believed what they say of the client: on its address stands the brake on
    wrong passwords, on its scheme whether the cookie is Secure.
    """
    config = uvicorn.Config(
        api,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=list(settings.proxies),
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
