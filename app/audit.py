"""The audit trail's noun, and the chain that shows when an entry was changed or taken out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing done. number counts from 1 without gaps; digest covers the entry and the digest before it."""

    number: int
    at: datetime
    actor: str
    action: str
    study_key: str
    detail: Mapping[str, str | int]
    digest: str


def chained(
    before: str, number: int, at: datetime, actor: str, action: str, study_key: str, detail: Mapping[str, str | int]
) -> str:
    """The digest of an entry: sha256 over its fields as canonical JSON and the digest of the entry before it."""
    moment = at.astimezone(UTC).isoformat(timespec="microseconds")
    fields = [before, number, moment, actor, action, study_key, dict(detail)]
    return sha256(json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()
