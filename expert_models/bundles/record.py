"""What was added to the shelf: `record.json` beside the files, so that nothing that came with them can grant trust."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from expert_models.errors import BundleRefused

RECORD = "record.json"
FILES = "bundle"


@dataclass(frozen=True, slots=True)
class Record:
    """What was added. files: sha256 by path below bundle/, with forward slashes.

    adapter: "torchxrayvision:densenet121-res224-all" and its like, "" for a bundle. version: of the adapter's package.
    """

    name: str
    is_trusted: bool
    files: Mapping[str, str]
    adapter: str = ""
    version: str = ""

    def write(self, folder: Path) -> None:
        """Write it into a folder of the shelf."""
        (folder / RECORD).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    def check_files(self, folder: Path) -> None:
        """BundleRefused when a file is not the one that was added, is missing, or has come since."""
        if hashes(folder / FILES) != dict(self.files):
            raise BundleRefused(
                f"files of {self.name} have changed since it was added"
                f"{', so it is no longer trusted' if self.is_trusted else ''}: remove it, and add it again"
            )


def read_record(folder: Path) -> Record:
    """The record in a folder of the shelf. BundleRefused when it cannot be read."""
    try:
        table = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        files = {str(name): str(digest) for name, digest in table["files"].items()}
        adapter, version = (str(table.get(key, "")) for key in ("adapter", "version"))
        return Record(str(table["name"]), table["is_trusted"] is True, files, adapter, version)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise BundleRefused(f"the record of what was added as {folder.name} cannot be read: remove it") from None


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file below a folder; BundleRefused when a link stands among them."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise BundleRefused("a link stands among its files")
        if path.is_file():
            with path.open("rb") as file:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
