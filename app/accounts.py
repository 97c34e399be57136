"""Who may do what: accounts of people, bearer tokens of programs, and how a password is kept."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

SHORTEST_PASSWORD = 12
SCRYPT = {"n": 2**15, "r": 8, "p": 1, "maxmem": 64 * 1024 * 1024}  # RFC 7914; about 0.1 s and 32 MiB


class Scope(StrEnum):
    """What an account or a token may do."""

    READ = "read"  # see studies, jobs, reports and results
    WRITE = "write"  # bring in studies and orders, start reports
    SIGN = "sign"  # edit and sign reports; people only
    AUDIT = "audit"  # read the audit trail


@dataclass(frozen=True, slots=True)
class Account:
    """A person. name: what they log in with; full_name: what stands under a report they sign.

    password_mark: another one for each password, so that a session notices that it was changed; it reveals nothing.
    """

    name: str
    full_name: str
    scopes: frozenset[Scope]
    is_disabled: bool = False
    password_mark: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.name.strip() or not self.full_name.strip():
            raise ValueError("an account needs a name and a full name")


@dataclass(frozen=True, slots=True)
class Token:
    """A program's key. study_uid: it opens this study alone; None opens every study."""

    id: str
    label: str
    scopes: frozenset[Scope]
    study_uid: str | None = None
    expires_at: datetime | None = None
    is_revoked: bool = False


def hashed(password: str) -> str:
    """The password as it is kept: a random salt and its scrypt hash, in hexadecimal."""
    salt = secrets.token_bytes(16)
    return f"{salt.hex()}${hashlib.scrypt(password.encode(), salt=salt, **SCRYPT).hex()}"


def is_right(password: str, kept: str) -> bool:
    """Whether the password is the one that was kept."""
    salt, _, digest = kept.partition("$")
    made = hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), **SCRYPT).hex()
    return hmac.compare_digest(made, digest)


def token_digest(secret: str) -> str:
    """A token's secret as it is kept. It is random, so a plain hash is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()
