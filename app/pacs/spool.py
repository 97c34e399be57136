"""What the listener has acknowledged and the archive does not have yet. Its whole state is the files on the disk.

    <home>/spool/incoming/*.part                            being received
    <home>/spool/<study key>/<sha256>.dcm                   sent to us
                             <sha256>.retrieved.dcm         brought by a retrieval of our own
    <home>/refused/<study key>/<sha256>.dcm                 acknowledged, but of no use to the archive

A file has its name only when it is whole and synced, and keeps it until the archive holds the very same bytes. So a
killed process loses nothing, and whoever looks into the folder next goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from dicom_io.archive import Disk
from dicom_io.identity import study_key

if TYPE_CHECKING:
    from dicom_io.listen import Received

RETRIEVED = ".retrieved.dcm"
SETTLED_S = 60.0  # an empty folder is removed when it was left alone for so long


@dataclass(frozen=True, slots=True)
class Waiting:
    """The files of one study in the spool. changed_at: when the newest was written, in seconds since 1970."""

    key: str
    files: tuple[Path, ...]
    changed_at: float

    @property
    def is_retrieved(self) -> bool:
        """True when nobody but we ourselves asked for it."""
        return all(file.name.endswith(RETRIEVED) for file in self.files)


class Spool:
    """The folder. Any number of processes may use it at once."""

    def __init__(self, home: Path, secret: bytes, disk: Disk | None = None) -> None:
        self._folder = home / "spool"
        self._refused = home / "refused"
        self._secret = secret
        self._disk = disk or Disk()

    @property
    def incoming(self) -> Path:
        """Where files are while they are received: on the same disk."""
        return self._folder / "incoming"

    def prepare(self) -> None:
        """Make the folders, so that they outlast a power cut. Raises OSError."""
        self.incoming.mkdir(parents=True, exist_ok=True)
        for folder in (self._folder, self._folder.parent):
            self._disk.sync(folder)

    def keep(self, received: Received) -> None:
        """Move a received file to its study, for good. Raises OSError. A dicom_io.listen.Keeper."""
        ending = RETRIEVED if received.is_retrieved else ".dcm"
        key = study_key(received.study_uid, self._secret)
        self._move(received.path, self._folder / key / f"{received.sha256}{ending}")

    def put(self, study_uid: str, data: bytes) -> Path:
        """Keep an instance that we have fetched ourselves; returns its file. Raises OSError."""
        target = self._folder / study_key(study_uid, self._secret) / f"{sha256(data).hexdigest()}{RETRIEVED}"
        self.incoming.mkdir(parents=True, exist_ok=True)
        part = self.incoming / f"{token_hex(16)}.part"
        try:
            self._disk.write(part, data)
            self._move(part, target)
        finally:
            part.unlink(missing_ok=True)
        return target

    def waiting(self) -> Iterator[Waiting]:
        """Every study that has files here. Folders that have been empty for a while are removed."""
        if not self._folder.is_dir():
            return
        for folder in sorted(self._folder.iterdir()):
            if folder == self.incoming:
                continue
            study = self._study(folder.name)
            if study is not None:
                yield study
            else:
                _tidy(folder)

    def of_study(self, study_uid: str) -> Waiting | None:
        """The files of one study; None when there are none."""
        return self._study(study_key(study_uid, self._secret))

    def done(self, file: Path) -> None:
        """The archive holds it."""
        file.unlink(missing_ok=True)

    def refuse(self, file: Path) -> None:
        """The archive does not want it: out of the way, but not lost. Raises OSError."""
        digest = file.name.partition(".")[0]
        try:
            self._move(file, self._refused / file.parent.name / f"{digest}.dcm")
        except FileNotFoundError:  # somebody else has done it
            return

    def _study(self, key: str) -> Waiting | None:
        files, times = [], []
        for file in sorted((self._folder / key).glob("*.dcm")):
            try:
                times.append(file.stat().st_mtime)
            except FileNotFoundError:  # taken in by another process
                continue
            files.append(file)
        return Waiting(key, tuple(files), max(times)) if files else None

    def _move(self, file: Path, target: Path) -> None:
        """Rename, and make that last. The folder may be tidied away at the same moment, but a new one is not."""
        is_new = not target.parent.exists()
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            file.replace(target)
        except FileNotFoundError:
            is_new = True
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
        self._disk.sync(target.parent)
        if is_new:
            self._disk.sync(target.parent.parent)


def _tidy(folder: Path) -> None:
    try:
        if time.time() - folder.stat().st_mtime > SETTLED_S:
            folder.rmdir()
    except OSError:  # something has come in meanwhile, or another process was quicker
        return
