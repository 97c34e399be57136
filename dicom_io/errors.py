"""What can go wrong below: every message is one sentence for the user, free of patient data.

DicomError
├── Unreadable          a file or a source of files cannot be read at all
├── UnsupportedImage    readable DICOM that wetread does not report on, or cannot decode
├── NoStudy             nothing usable was found; carries what was left out and why
├── ArchiveUnavailable  the archive's folder cannot be read or written (full disk, read-only)
└── PeerError           something with another system, a PACS
    ├── PeerSilent      it does not answer, or not in time
    └── PeerRefused     it answers, but does not do what it is asked
        └── PeerDeclines  it never will: another try is of no use
"""

from __future__ import annotations

from collections.abc import Sequence

from dicom_io.study import LeftOut


class DicomError(Exception):
    """The root of this package's errors."""


class Unreadable(DicomError):  # noqa: N818 - named for what is so, as are its siblings
    """A file or a source of files cannot be read at all."""


class UnsupportedImage(DicomError):  # noqa: N818
    """Readable DICOM that wetread does not report on, or cannot decode."""


class NoStudy(DicomError):  # noqa: N818
    """Nothing usable was found; `left_out` lists every input with its reason."""

    def __init__(self, message: str, left_out: Sequence[LeftOut] = ()) -> None:
        super().__init__(message)
        self.left_out = tuple(left_out)


class ArchiveUnavailable(DicomError):  # noqa: N818
    """The archive's folder cannot be read or written."""


class PeerError(DicomError):
    """Something with another system, a PACS."""


class PeerSilent(PeerError):  # noqa: N818
    """It does not answer, or not in time."""


class PeerRefused(PeerError):  # noqa: N818
    """It answers, but does not do what it is asked."""


class PeerDeclines(PeerRefused):
    """It does not take this kind of object, and never will: another try is of no use."""
