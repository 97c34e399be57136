"""The shelf: what was added, one folder each below `home/experts`, copied file by file and never followed.

    home/experts/<name>/record.json    what was added: trusted or not, and the sha256 of every file
    home/experts/<name>/wetread.toml   the card of a bundle
    home/experts/<name>/bundle/        the bundle's own files, or the weights of an adapted model

The record lies outside the bundle, so nothing that came with a bundle can grant it trust. A file that has changed since
withdraws the whole bundle until it is added again.
"""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from secrets import token_hex
from typing import IO

from expert_models.adapters.adapted import Adapted, installed_version, kind_of, read_adapted, weights_of
from expert_models.bundles.card import CARD, BundleCard, check_card, read_bundle_card, unmapped
from expert_models.bundles.layout import Layout, bundle_root, read_layout
from expert_models.bundles.record import FILES, Record, hashes, read_record
from expert_models.bundles.safe import check_kind, check_safe
from expert_models.errors import BundleRefused, ExpertError
from expert_models.finding import ExpertTag
from expert_models.recipe import Recipe

MOST_FILES = 2_000
MOST_BYTES = 16 * 1024**3
WHERE = "expert_models.bundles.expert:BundleExpert"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,39}")
_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Added:
    """One bundle on the shelf, checked."""

    folder: Path
    record: Record
    layout: Layout
    card: BundleCard

    @property
    def tag(self) -> ExpertTag:
        """Who signs its findings."""
        return ExpertTag(self.record.name, self.layout.version, self.record.files[self.layout.weights])

    @property
    def intended_use(self) -> str:
        """By the card, else by the bundle's metadata."""
        return self.card.intended_use or str(self.layout.metadata.get("intended_use", ""))

    @property
    def unmapped(self) -> tuple[str, ...]:
        """Channels that the bundle outlines and that are not reported."""
        return unmapped(self.card, self.layout)

    def check_files(self) -> None:
        """BundleRefused when a file is not the one that was added, is missing, or has come since."""
        self.record.check_files(self.folder)


class Shelf:
    """The folder of what was added."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> tuple[str, ...]:
        """What is on the shelf, by name."""
        if not self._folder.is_dir():
            return ()
        return tuple(sorted(each.name for each in self._folder.iterdir() if _NAME.fullmatch(each.name)))

    def recipes(self) -> list[Recipe]:
        """How the experts on the shelf are made. One that is trusted runs code of its own."""
        recipes = []
        for name in self.names():
            is_foreign, where = False, WHERE
            with suppress(ExpertError):  # a record that cannot be read grants nothing; making it says why
                record = read_record(self._folder / name)
                is_foreign = record.is_trusted
                where = kind_of(record.adapter).where if record.adapter else WHERE
            recipes.append(Recipe(name, where, str(self._folder / name), is_foreign))
        return recipes

    def added(self, name: str) -> Added | Adapted:
        """What was added. KeyError when it is not on the shelf; BundleRefused or CardInvalid when no longer sound."""
        if name not in self.names():
            raise KeyError(name)
        folder = self._folder / name
        return read_adapted(folder) if read_record(folder).adapter else read_added(folder)

    def add(self, source: Path, card: Path | None, *, trusted: bool, taken: Collection[str] = ()) -> Added:
        """Copy a bundle from a folder or zip archive onto the shelf, with its card. Nothing of it is executed.

        card: instead of the wetread.toml beside the bundle. taken: names that other experts have. BundleRefused or
        CardInvalid in one sentence, and then nothing is left behind; OSError when the shelf cannot be written.
        """
        with self._adding() as place:
            unpacked = place / "unpacked"
            unpacked.mkdir()
            copy_bundle(source, unpacked)
            root = bundle_root(unpacked)
            if card or (root / CARD).is_file():
                shutil.copyfile(card or root / CARD, place / CARD)
            root.rename(place / FILES)
            shutil.rmtree(unpacked, ignore_errors=True)
            name = self._free(_name_of(place), taken)
            Record(name, trusted, hashes(place / FILES)).write(place)
            read_added(place)
            place.rename(self._folder / name)
        return read_added(self._folder / name)

    def add_adapted(self, adapter: str, *, trusted: bool, taken: Collection[str] = ()) -> Adapted:
        """Copy the weights of an adapted model ("torchxrayvision:NAME") from where its package keeps them.

        Its package is imported, and nothing is fetched. Raises as `add` does.
        """
        kind, model = kind_of(adapter), adapter.partition(":")[2]
        if not trusted:
            raise BundleRefused(
                f"{kind.requires[0]} unpickles its weights, which can run code with your rights: add it with --trust"
            )
        version = installed_version(kind)
        with self._adding() as place:
            for name, path in weights_of(adapter).items():
                copy_weights(path, place / FILES / name)
            made = re.sub(r"[^a-z0-9]+", "-", f"{kind.prefix}-{model}".lower())
            name = self._free(made, taken)
            Record(name, trusted, hashes(place / FILES), adapter, version).write(place)
            place.rename(self._folder / name)
        return read_adapted(self._folder / name)

    @contextmanager
    def _adding(self) -> Iterator[Path]:
        """A new folder on the shelf that is no expert yet; gone when what is done in it fails."""
        self._folder.mkdir(parents=True, exist_ok=True)
        place = self._folder / f".adding-{token_hex(8)}"
        place.mkdir()
        try:
            yield place
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise

    def _free(self, name: str, taken: Collection[str]) -> str:
        if name in {*taken, *self.names()}:
            raise BundleRefused(f"an expert is named {name} already: remove it, or name this one in its card")
        return name

    def remove(self, name: str) -> None:
        """Take a bundle off the shelf. KeyError when it is not there."""
        if name not in self.names():
            raise KeyError(name)
        shutil.rmtree(self._folder / name)


def read_added(folder: Path) -> Added:
    """What lies in one folder of the shelf, with every check that costs no hashing of weights."""
    record = read_record(folder)
    layout = read_layout(folder / FILES)
    if layout.weights not in record.files:
        raise BundleRefused(f"the weights of {record.name} are not those that were added: remove it, and add it again")
    card = read_bundle_card(folder / CARD)
    check_kind(layout)
    check_card(card, layout)
    if not record.is_trusted:
        check_safe(layout, card.settings)
    return Added(folder, record, layout, card)


def copy_bundle(source: Path, target: Path) -> None:
    """Copy the regular files of a folder or zip archive below target. BundleRefused for links, escapes and excess."""
    if source.is_dir() and not source.is_symlink():
        _copy_folder(source, target)
    elif zipfile.is_zipfile(source):
        _copy_zip(source, target)
    else:
        raise BundleRefused(f"{source.name} is neither a folder nor a zip archive")


def copy_weights(source: Path, target: Path) -> None:
    """Copy a file, or the regular files of a folder, as copy_bundle does."""
    if source.is_dir():
        _copy_folder(source, target)
    else:
        with source.open("rb") as file:
            _Allowance().copy(file, target)


class _Allowance:
    """How much may still be copied."""

    def __init__(self) -> None:
        self._files, self._bytes = MOST_FILES, MOST_BYTES

    def copy(self, source: IO[bytes], path: Path) -> None:
        """Copy one file, counting what is read and not what a header claims."""
        self._files -= 1
        if self._files < 0:
            raise BundleRefused(f"it holds more than {MOST_FILES} files")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            while chunk := source.read(_CHUNK):
                self._bytes -= len(chunk)
                if self._bytes < 0:
                    raise BundleRefused(f"it holds more than {MOST_BYTES // 1024**3} GiB")
                file.write(chunk)


def _copy_folder(source: Path, target: Path) -> None:
    allowance = _Allowance()
    for path in _walk(source):
        mode = path.lstat().st_mode
        name = path.relative_to(source).as_posix()
        if stat.S_ISLNK(mode):
            raise BundleRefused(f"it holds a symbolic link ({name})")
        if not stat.S_ISREG(mode):
            raise BundleRefused(f"it holds something that is no plain file ({name})")
        with path.open("rb") as file:
            allowance.copy(file, target / name)


def _walk(folder: Path) -> Iterator[Path]:
    """Everything in and below a folder that is no folder itself; what is hidden (.git) or compiled is passed over."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "__pycache__":
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
        else:
            yield path


def _copy_zip(source: Path, target: Path) -> None:
    allowance = _Allowance()
    try:
        with zipfile.ZipFile(source) as archive:
            for member in archive.infolist():
                if member.is_dir() or "__pycache__/" in member.filename:
                    continue
                path = _inside(member, target)
                with archive.open(member) as file:
                    allowance.copy(file, path)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, FileExistsError, NotADirectoryError):
        raise BundleRefused(f"{source.name} is a damaged or encrypted zip archive") from None


def _inside(member: zipfile.ZipInfo, target: Path) -> Path:
    """Where a member goes; BundleRefused when that is not below target, or when it is no plain file."""
    name = PurePosixPath(member.filename.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts or ":" in member.filename or not name.parts:
        raise BundleRefused("it holds a file that would be written outside its folder")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise BundleRefused(f"it holds a link or something that is no plain file ({name.name})")
    return target / name


def _name_of(place: Path) -> str:
    """The card's name, else one made from the metadata's."""
    card = read_bundle_card(place / CARD)
    made = re.sub(r"[^a-z0-9]+", "-", read_layout(place / FILES).title.lower()).strip("-")[:40].strip("-")
    name = card.name or made
    if not _NAME.fullmatch(name):
        raise BundleRefused("its metadata give no usable name: give one in the card")
    return name
