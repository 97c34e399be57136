"""Where the server may listen, and for which names it answers."""

from __future__ import annotations

from ipaddress import ip_address

from app.errors import BadSetting
from app.settings import Settings

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
