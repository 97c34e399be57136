"""What can go wrong with the results; a failing writer never costs the others.

AppError
├── ResultsIncomplete    1  some results could not be made; names them and lists what was written
└── StorageFailed
    └── ResultsUnwritable  4  the folder cannot take the results (full, read-only)

ResultRefused            one writer cannot make its result; its message is one sentence and becomes a Failure
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.errors import AppError, StorageFailed


class ResultRefused(Exception):  # noqa: N818 - named for what is so, as are its siblings
    """One writer cannot make its result: something is missing, or what was written does not read back the same."""


class ResultsUnwritable(StorageFailed):
    """The folder cannot take the results."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A result that could not be made, and why in one sentence."""

    name: str
    reason: str


class ResultsIncomplete(AppError):  # noqa: N818
    """Some results could not be made. `failed` says which and why, `written` lists those that were."""

    def __init__(self, failed: Sequence[Failure], written: Sequence[Path]) -> None:
        told = "; ".join(f"{each.name} could not be made: {each.reason.rstrip('.')}" for each in failed)
        super().__init__(f"{told}; {len(written)} other results were written")
        self.failed = tuple(failed)
        self.written = tuple(written)
