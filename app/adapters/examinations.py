"""What experts found, in a folder: one small file an examination, the oldest removed when there are too many."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

import structlog
from pydantic import TypeAdapter, ValidationError

from expert_models.finding import Finding

MIB = 1024 * 1024
KEPT_SHARE = 0.9  # of the most, after the oldest were removed: not at every save again
FINDINGS = TypeAdapter(tuple[Finding, ...])

log = structlog.get_logger()


class FolderExaminations:
    """Implements expert_models.ports.Examinations for several processes on one folder.

    A file holds the sha256 of its own JSON in its first line, and is put in place whole. Whatever cannot be read is no
    examination: it is removed, told in the log, and made again. Nothing here ever costs a report.
    """

    def __init__(self, folder: Path, most_mb: int) -> None:
        self._folder = folder
        self._most_bytes = most_mb * MIB

    def load(self, key: str) -> tuple[Finding, ...] | None:
        """The findings of this key; None when there are none, or they cannot be read."""
        path = self._folder / f"{key}.json"
        try:
            digest, _, body = path.read_bytes().partition(b"\n")
            if hashlib.sha256(body).hexdigest().encode() != digest:
                raise ValueError("it is not what was written")
            findings = FINDINGS.validate_json(body)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, ValidationError) as exc:
            log.warning("a kept examination is ignored", key=key, reason=type(exc).__name__)
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):  # another process may have removed it just now
            os.utime(path)  # those not used for longest go first
        return findings

    def save(self, key: str, findings: Sequence[Finding]) -> None:
        """Keep the findings; when they cannot be kept, the log says so."""
        body = FINDINGS.dump_json(tuple(findings))
        path = self._folder / f"{key}.json"
        part = path.with_suffix(f".{token_hex(8)}.part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            part.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
            part.replace(path)
            self._make_room()
        except OSError as exc:
            log.warning("an examination cannot be kept", reason=exc.strerror or type(exc).__name__)
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def size_mb(self) -> float:
        """MiB that are kept now."""
        return sum(each.stat().st_size for each in self._entries()) / MIB

    def count(self) -> int:
        """How many examinations are kept now."""
        return sum(1 for _ in self._entries())

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            yield from entries

    def _make_room(self) -> None:
        """Remove the files that were not used for longest, where another process has not removed them already."""
        files = []
        for entry in self._entries():
            with suppress(OSError):
                files.append((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path))
        total = sum(size for _, size, _ in files)
        if total <= self._most_bytes:
            return
        for _, size, path in sorted(files):
            if total <= KEPT_SHARE * self._most_bytes:
                break
            with suppress(OSError):
                Path(path).unlink()
            total -= size
