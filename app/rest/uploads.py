"""An upload, streamed to files of its own below home: a CT is never held in memory, and no temporary disk sees it."""

from __future__ import annotations

import shutil
import tempfile
import time
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from anyio import CancelScope
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from app.errors import storage
from app.rest.problems import Problem

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

ACCEPTED = ("multipart/form-data", "application/zip", "application/dicom")
MOST_FILES = 50_000
MOST_HEADER_BYTES = 16 * 1024  # of one part
STALE_SECONDS = 24 * 3600
UNPACKED = 4  # an archive may unpack to so many times what an upload may have


@dataclass(slots=True)
class Upload:
    """Files as they came. names: what the client calls the file that lies under a name of ours."""

    folder: Path
    paths: list[Path] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)

    def new_file(self, name: str) -> BinaryIO:
        """The next file, open for writing. Raises Problem 413 when there are too many."""
        if len(self.paths) == MOST_FILES:
            raise Problem(413, f"an upload has at most {MOST_FILES} files; send a zip archive, or several uploads")
        ours = f"file-{len(self.paths) + 1:05}"
        self.names[ours] = readable(name) or ours
        self.paths.append(self.folder / ours)
        return self.paths[-1].open("xb")

    def told(self, name: str) -> str:
        """A name from the archive's list of what was left out, in the client's words."""
        ours, slash, inner = name.partition("/")
        return f"{self.names.get(ours, ours)}{slash}{inner}"


@asynccontextmanager
async def place_for_upload(home: Path) -> AsyncIterator[Upload]:
    """A folder below home for one upload, gone afterwards. Raises StorageFailed."""
    folder = await run_in_threadpool(new_folder, home / "uploads")
    try:
        yield Upload(folder)
    finally:
        with CancelScope(shield=True):  # also when the client is gone
            await run_in_threadpool(shutil.rmtree, folder, ignore_errors=True)


def new_folder(place: Path) -> Path:
    """An empty folder, after those that a killed server has left were removed. Raises StorageFailed."""
    with storage(place):
        clear_stale(place)
        return Path(tempfile.mkdtemp(prefix="upload-", dir=place))


def clear_stale(place: Path) -> None:
    """Remove what a server that was killed has left."""
    for folder in place.iterdir():
        with suppress(FileNotFoundError):  # another upload was quicker
            if time.time() - folder.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


async def receive(request: Request, upload: Upload) -> None:
    """Read the body into files. Raises Problem 400 (damaged), 413 (too large), 415 (another kind), StorageFailed."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    match kind.decode("latin-1"):
        case "multipart/form-data":
            await into_parts(request.stream(), upload, options.get(b"boundary", b""))
        case "application/zip":
            await into_one(request.stream(), upload, "upload.zip")
        case "application/dicom":
            await into_one(request.stream(), upload, "upload.dcm")
        case _:
            accepted = ", ".join(ACCEPTED)
            raise Problem(415, f"an upload is one of {accepted}", headers={"Accept": accepted})


async def into_one(stream: AsyncIterator[bytes], upload: Upload, name: str) -> None:
    """A body that is one file."""
    with storage(upload.folder), upload.new_file(name) as file:
        async for chunk in stream:
            await run_in_threadpool(file.write, chunk)


async def into_parts(stream: AsyncIterator[bytes], upload: Upload, boundary: bytes) -> None:
    """A form (RFC 7578): every part is a file, whatever its field is called."""
    parts = Parts(upload)
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        with storage(upload.folder):
            async for chunk in stream:
                await run_in_threadpool(parser.write, chunk)
            parser.finalize()
    except FormParserError as exc:
        raise Problem(400, "the form is damaged, or its boundary is missing") from exc
    finally:
        parts.close()
    if parts.is_open:
        raise Problem(400, "the form ends within a file")


class Parts:
    """Writes the parts of a form to files while they come."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload
        self._file: BinaryIO | None = None
        self._field = b""
        self._value = b""
        self._name = ""
        self.is_open = False

    def callbacks(self) -> MultipartCallbacks:
        """What the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._end,
        }

    def close(self) -> None:
        """Close the file that is being written, if there is one."""
        if self._file is not None:
            self._file.close()

    def _begin(self) -> None:
        self._name, self.is_open = "", True

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field = grown(self._field, data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value = grown(self._value, data[start:end])

    def _header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._name = options.get(b"filename", b"").decode("utf-8", "replace")
        self._field = self._value = b""

    def _headers_finished(self) -> None:
        self._file = self._upload.new_file(self._name)

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])

    def _end(self) -> None:
        self.close()
        self._file, self.is_open = None, False


def grown(text: bytes, more: bytes) -> bytes:
    """A header with more of it. Raises Problem 400 when it never ends."""
    if len(text) + len(more) > MOST_HEADER_BYTES:
        raise Problem(400, "the form is damaged: the header of a part is too long")
    return text + more


def readable(name: str) -> str:
    """A client's name of a file, without folders and without what a terminal would take for a command."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(each for each in last if each.isprintable())[:100]


def refuse_bombs(upload: Upload, most_bytes: int) -> None:
    """Raise Problem 413 for an archive that unpacks to far more than an upload may have. Damaged ones are not ours.

    zipfile never unpacks more of a member than the archive's directory says, so what it says can be relied on.
    """
    for path in upload.paths:
        try:
            with zipfile.ZipFile(path) as archive:
                sizes = [each.file_size for each in archive.infolist()]
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            continue
        if sum(sizes) > UNPACKED * most_bytes or max(sizes, default=0) > most_bytes:
            raise Problem(413, "the zip archive unpacks to more than is allowed, see max_upload_mb")
        if len(sizes) > MOST_FILES:
            raise Problem(413, f"the zip archive has more than {MOST_FILES} files")
