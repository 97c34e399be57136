"""Files, folders, zip archives, DICOMDIRs or bytes -> DICOM datasets, and for everything else the reason why not.

`find` says which files there are, without reading them; `parse` turns the bytes of one into a dataset whose pixel data
are left where they are. All reasons are one sentence for the
user and hold nothing of the patient's.
"""

from __future__ import annotations

import logging
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, MediaStorageDirectoryStorage

from dicom_io.errors import Unreadable
from dicom_io.study import LeftOut

Source = Path | tuple[str, bytes]

MAX_FILE_BYTES = 4 * 1024**3  # one file, also after unpacking
MAX_ZIP_BYTES = 16 * 1024**3  # all files of one archive, unpacked
DEFER_BYTES = 32 * 1024  # larger values, the pixel data above all, stay in the file until they are asked for

logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its lines quote values, see quiet() below

SYSTEM_FILES = frozenset(["thumbs.db", "desktop.ini"])
MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
)


@dataclass(frozen=True, slots=True)
class Found:
    """One file that may be DICOM. `read` gives its bytes, or raises Unreadable with the reason."""

    name: str
    read: Callable[[], bytes]


def find(sources: Iterable[Source]) -> tuple[list[Found], list[LeftOut]]:
    """Every file in the sources, in order, none of them read yet, and what cannot be read.

    A folder gives all files in and below it, sorted by path; a zip archive its members; a DICOMDIR the files it
    refers to; (name, bytes) itself. Names are relative to the folder or archive that was given. Hidden and system
    files that are not DICOM (.DS_Store, Thumbs.db) are passed over in silence.
    """
    found: list[Found] = []
    left_out: list[LeftOut] = []
    for source in sources:
        match source:
            case Path():
                entries = _path(source)
            case name, data:
                entries = _bytes(name, data)
        for entry in entries:
            if isinstance(entry, LeftOut):
                left_out.append(entry)
            else:
                found.append(entry)
    return found, left_out


def parse(data: bytes) -> Dataset:
    """The dataset in these bytes; its pixel data are not copied out of them until they are asked for.

    A file without preamble and meta information (PS3.10 section 7) is read when it looks like DICOM.
    Raises Unreadable with the reason when the bytes are no DICOM, or are cut short.
    """
    is_headless = data[128:132] != b"DICM"
    if is_headless and not _looks_like_dicom(data):
        raise Unreadable(_what_it_is(data))
    is_deflated = DeflatedExplicitVRLittleEndian.encode() in data[:1024]
    if is_deflated:
        _refuse_bomb(data)
    try:
        with quiet():
            defer = None if is_deflated else DEFER_BYTES
            dataset = pydicom.dcmread(BytesIO(data), defer_size=defer, force=is_headless)
    except Exception as exc:  # whatever a damaged file made the parser do, the file is damaged
        raise Unreadable("it is DICOM, but damaged or cut short") from exc
    if is_headless and not any(keyword in dataset for keyword in ("SOPClassUID", "SOPInstanceUID", "Modality")):
        raise Unreadable("it has no DICOM header, and its content does not make up for it")
    if ends_early(dataset, len(data)):
        raise Unreadable("it is cut short: the file ends before its pixel data do")
    return dataset


def parse_file(path: Path) -> Dataset:
    """As `parse`, of a file known to be DICOM: pixel data are read from the file when they are asked for.

    Raises Unreadable for damaged DICOM; OSError when the file cannot be read.
    """
    try:
        with quiet():
            dataset = pydicom.dcmread(path, defer_size=DEFER_BYTES, force=True)
            if dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
                dataset = pydicom.dcmread(path, force=True)  # what is deflated has no place in the file to go back to
    except OSError:
        raise
    except Exception as exc:  # whatever a damaged file made the parser do, the file is damaged
        raise Unreadable("it is DICOM, but damaged") from exc
    return dataset


def ends_early(dataset: Dataset, size: int) -> bool:
    """True when the last element of a file of so many bytes says that it is longer than what is left of the file."""
    tags = list(dataset.keys())
    if not tags or dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        return False
    last = dataset.get_item(max(tags), keep_deferred=True)
    if not isinstance(last, RawDataElement) or last.length == 0xFFFFFFFF:
        return False
    return last.value_tell + last.length > size


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back the warnings of pydicom and highdicom: they quote the offending value, which may be a name or a UID.

    What they warn of is either harmless here or found again, with a reason of our own, by what the values are used for.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"pydicom\b")
        warnings.filterwarnings("ignore", module=r"highdicom\b", category=UserWarning)
        warnings.filterwarnings("ignore", module=r"dicom_io\b", category=UserWarning)
        yield


def text(dataset: Dataset, keyword: str) -> str:
    """The value as text, several joined by a backslash, blanks and control characters trimmed; "" when it is absent."""
    try:
        value = dataset.get(keyword)
    except Exception:  # a value that pydicom cannot convert is as good as absent
        return ""
    if value is None:
        return ""
    if isinstance(value, (list, pydicom.multival.MultiValue)):
        value = "\\".join(str(part) for part in value)
    return " ".join(str(value).replace("\0", " ").split())


# ---------------------------------------------------------------------------------------------- files, folders, zips


def _path(path: Path) -> Iterator[Found | LeftOut]:
    try:
        if path.is_dir():
            yield from _folder(path)
        elif path.is_file():
            yield from _file(path, path.name)
        elif path.exists():
            yield LeftOut(path.name, "it is neither a file nor a folder")
        else:
            yield LeftOut(path.name or str(path), "there is no such file or folder")
    except OSError as exc:
        yield LeftOut(path.name, f"it cannot be read: {_why(exc)}")


def _folder(folder: Path) -> Iterator[Found | LeftOut]:
    unreadable: list[OSError] = []
    files: list[Path] = []
    for top, folders, names in os.walk(folder, onerror=unreadable.append):
        folders.sort()
        files += [Path(top, name) for name in names]
    files.sort(key=lambda file: file.relative_to(folder).parts)
    for exc in unreadable:
        name = Path(exc.filename).relative_to(folder).as_posix() if exc.filename else folder.name
        yield LeftOut(folder.name if name == "." else name, f"it cannot be read: {_why(exc)}")
    if not files and not unreadable:
        yield LeftOut(folder.name, "the folder is empty")
    for file in files:
        name = file.relative_to(folder).as_posix()
        if not file.is_file():
            yield LeftOut(name, "it is neither a file nor a folder")
        elif _is_hidden(name):
            if _head(file)[128:132] == b"DICM":
                yield Found(name, partial(_read_file, file))
        elif _is_directory_record(file):  # its files are found by themselves; only what is missing must be said
            yield from (entry for entry in _referenced(file) if isinstance(entry, LeftOut))
        else:
            yield from _file(file, name)


def _file(path: Path, name: str) -> Iterator[Found | LeftOut]:
    if _is_directory_record(path):
        yield from _referenced(path)
    elif _head(path)[:4] == b"PK\x03\x04":
        yield from _zip(name, path)
    else:
        yield Found(name, partial(_read_file, path))


def _bytes(name: str, data: bytes) -> Iterator[Found | LeftOut]:
    if data[:4] == b"PK\x03\x04":
        yield from _zip(name, BytesIO(data))
    else:
        yield Found(name, lambda: data)


def _zip(name: str, file: Path | BytesIO) -> Iterator[Found | LeftOut]:
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, ValueError):
        yield LeftOut(name, "the zip archive is damaged")
        return
    members = sorted((each for each in archive.infolist() if not each.is_dir()), key=lambda each: each.filename)
    if sum(each.file_size for each in members) > MAX_ZIP_BYTES:
        yield LeftOut(name, f"the zip archive unpacks to more than {MAX_ZIP_BYTES // 1024**3} GiB")
        return
    if not members:
        yield LeftOut(name, "the zip archive is empty")
    for member in members:
        path = PurePosixPath(member.filename)
        inner = f"{name}/{member.filename}"
        if "__MACOSX" in path.parts or _is_hidden(member.filename) or path.name.upper() == "DICOMDIR":
            continue
        yield Found(inner, partial(_read_member, archive, member))


def _read_file(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise Unreadable(f"it is larger than {MAX_FILE_BYTES // 1024**3} GiB")
        return path.read_bytes()
    except OSError as exc:
        raise Unreadable(f"it cannot be read: {_why(exc)}") from exc


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if member.flag_bits & 1:
        raise Unreadable("it is encrypted in the zip archive")
    if member.file_size > MAX_FILE_BYTES:
        raise Unreadable(f"it unpacks to more than {MAX_FILE_BYTES // 1024**3} GiB")
    try:
        data = archive.read(member)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as exc:
        raise Unreadable("it is damaged in the zip archive, or packed in an unknown way") from exc
    if data[:4] == b"PK\x03\x04":
        raise Unreadable("it is a zip archive within a zip archive, which is not opened")
    return data


# ------------------------------------------------------------------------------------------------------------ DICOMDIR


def _is_directory_record(path: Path) -> bool:
    return path.name.upper().startswith("DICOMDIR") and MediaStorageDirectoryStorage.encode() in _head(path)


def _referenced(directory: Path) -> Iterator[Found | LeftOut]:
    """The files that a DICOMDIR refers to (PS3.3 F.3); those that are not there are listed."""
    try:
        with quiet():
            records = pydicom.dcmread(directory).get("DirectoryRecordSequence") or []
            identifiers = [record.get("ReferencedFileID") for record in records]
    except Exception:  # whatever a damaged directory made the parser do
        yield LeftOut(directory.name, "the DICOMDIR is damaged")
        return
    names = [[each] if isinstance(each, str) else list(each) for each in identifiers if each]
    if not names:
        yield LeftOut(directory.name, "the DICOMDIR refers to no file")
    for parts in names:
        name = "/".join(parts)
        path = _within(directory.parent, parts)
        if path is None:
            yield LeftOut(name, "the DICOMDIR refers to it, but it is not there")
        else:
            yield Found(name, partial(_read_file, path))


def _within(folder: Path, parts: Iterable[str]) -> Path | None:
    """The file below the folder, in whatever case the medium was copied; None when there is none."""
    path = folder
    for part in parts:
        if part in ("", ".", "..") or "/" in part or not path.is_dir():
            return None
        exact = path / part
        path = exact if exact.exists() else next((e for e in path.iterdir() if e.name.upper() == part.upper()), exact)
    return path if path.is_file() else None


# ------------------------------------------------------------------------------------------------- what the bytes are


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1024)


def _is_hidden(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part.startswith(".") for part in parts) or parts[-1].lower() in SYSTEM_FILES


def _looks_like_dicom(data: bytes) -> bool:
    """True when the bytes begin with an element of group 0002 or 0008, as a dataset without preamble does."""
    if len(data) < 16:
        return False
    for order in "<>":
        group, element, length = struct.unpack_from(f"{order}HHL", data)
        if group in (0x0002, 0x0008) and element <= 0x0100:
            return data[4:6].isalpha() or length <= min(len(data), 1024)  # a VR, or a length in implicit VR
    return False


def _what_it_is(data: bytes) -> str:
    if not data:
        return "the file is empty"
    for magic, name in MAGIC:
        if data.startswith(magic):
            return f"it is {name}, not DICOM"
    if data[257:262] == b"ustar":
        return "it is a tar archive, which is not opened"
    try:
        sample = data[:4096].decode("utf-8")
    except UnicodeDecodeError as exc:
        sample = "\0" if exc.start < len(data[:4096]) - 4 else data[: exc.start].decode("utf-8")
    if all(character.isprintable() or character in "\t\r\n\f" for character in sample):
        return "it is a text, not DICOM"
    return "it is not a DICOM file"


def _refuse_bomb(data: bytes) -> None:
    """Raise when a deflated dataset (PS3.5 A.5) unpacks to more than a file may hold."""
    start = 144 + int.from_bytes(data[140:144], "little")  # after the meta information, whose length comes first
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    rest, size = data[start:], 0
    try:
        while rest and not inflate.eof:
            size += len(inflate.decompress(rest, 1 << 24))
            rest = inflate.unconsumed_tail
            if size > MAX_FILE_BYTES:
                raise Unreadable(f"it unpacks to more than {MAX_FILE_BYTES // 1024**3} GiB")
    except zlib.error as exc:
        raise Unreadable("it is DICOM, but damaged or cut short") from exc


def _why(exc: OSError) -> str:
    return (exc.strerror or "the system does not say why").lower()
