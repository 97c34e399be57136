"""What the program tells its user when it cannot go on: one sentence, and an exit code.

AppError                 1
├── BadSetting           2  a setting is unknown or has a value that cannot be
│   └── UnknownBackend   2  a URL names a backend that does not exist
├── NothingToReport      3  no input held a study that can be reported on
├── StorageFailed        4  a folder or database cannot be read or written (full, read-only, absent)
├── QueueUnavailable     4  the queue of jobs does not answer
├── PeerUnavailable      4  a PACS or another system does not answer, or does not take what it is sent
├── NotAllowed           1  an account may not do what was asked
└── Outdated             1  a report was changed by somebody else meanwhile
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dicom_io.study import LeftOut


class AppError(Exception):
    """The root of the errors that end a command. The message is shown as it is."""

    exit_code = 1


class BadSetting(AppError):  # noqa: N818 - named for what is so, as are its siblings
    """A setting is unknown or has a value that cannot be."""

    exit_code = 2


class UnknownBackend(BadSetting):
    """A URL names a backend that does not exist."""

    def __init__(self, setting: str, scheme: str, known: Sequence[str]) -> None:
        super().__init__(f"{setting} names the backend {scheme!r}; known are {', '.join(known)}")


class NothingToReport(AppError):  # noqa: N818
    """No input held a study that can be reported on; `left_out` lists every input with its reason."""

    exit_code = 3

    def __init__(self, message: str, left_out: Sequence[LeftOut] = ()) -> None:
        super().__init__(message)
        self.left_out = tuple(left_out)


class StorageFailed(AppError):  # noqa: N818
    """A folder or database cannot be read or written."""

    exit_code = 4


class QueueUnavailable(AppError):  # noqa: N818
    """The queue of jobs does not answer."""

    exit_code = 4


class PeerUnavailable(AppError):  # noqa: N818
    """A PACS or another system does not answer, or does not take what it is sent."""

    exit_code = 4


class NotAllowed(AppError):  # noqa: N818
    """An account may not do what was asked."""


class Outdated(AppError):  # noqa: N818
    """A report was changed by somebody else meanwhile."""


WHY = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.ENOTDIR: "a file stands where a folder is needed",
    errno.EEXIST: "a file stands where a folder is needed",
}


@contextmanager
def storage(folder: Path) -> Iterator[Path]:
    """Make sure that the folder exists, and turn what goes wrong inside it into one sentence."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except OSError as exc:
        why = WHY.get(exc.errno or 0, exc.strerror or type(exc).__name__)
        raise StorageFailed(f"{folder} cannot be written: {why}") from exc
