"""What goes out, and where to: one delivery is one version of a report for one destination."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from urllib.parse import urlsplit, urlunsplit

MOST_ATTEMPTS = 12  # with the pause doubling from 10 s to an hour: about half a day


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    WAITING = "waiting"
    SENT = "sent"
    DROPPED = "dropped"  # superseded, impossible, or given up; reason says which


@dataclass(frozen=True, slots=True)
class Delivery:
    """One version of a report for one destination. destination: a URL of the setting results_to, less its password."""

    id: str
    study_uid: str
    version: int
    destination: str
    state: DeliveryState
    attempts: int = 0
    reason: str = ""
    sent_at: datetime | None = None


def without_password(url: str) -> str:
    """The URL as it may be kept and shown: a password or token in it stays in the settings alone."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    user = user.partition(":")[0]
    return urlunsplit(parts._replace(netloc=f"{user}@{host}" if user else host))


def pause_s(attempts: int) -> float:
    """How long to wait after so many failed attempts."""
    return float(min(10 * 2 ** max(attempts - 1, 0), 3600))
