"""Which packages of other makers can be adapted, what of one was added to the shelf, and whether it is still the same.

An adapted model lies on the shelf as a bundle does: its weights are copied below `bundle/`, and the record names the
package's version beside the sha256 of every file. So a package that was updated, or weights that changed, withdraw it,
and its makers' code, which would fetch what it misses, finds everything where it looks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import cast

from expert_models.bundles.record import FILES, Record, read_record
from expert_models.card import imported
from expert_models.errors import BundleRefused, ExpertError
from expert_models.finding import ExpertTag


@dataclass(frozen=True, slots=True)
class Kind:
    """A package that can be adapted. requires: distributions by name, its own first.

    module: of this package, with `Adapter` (an Expert by folder and device), `weights_of` and `NOT_REPORTED`.
    """

    prefix: str
    requires: tuple[str, ...]
    module: str

    @property
    def where(self) -> str:
        """Where the expert is made, for a recipe."""
        return f"{self.module}:Adapter"

    @property
    def not_reported(self) -> tuple[str, ...]:
        """What its models answer and no finding is made of."""
        return cast("tuple[str, ...]", imported(f"{self.module}:NOT_REPORTED"))


KINDS = {
    "torchxrayvision": Kind("xrv", ("torchxrayvision", "torchvision"), "expert_models.adapters.xray_vision"),
    "totalsegmentator": Kind(
        "totalsegmentator", ("TotalSegmentator", "nnunetv2"), "expert_models.adapters.total_segmentator"
    ),
}


@dataclass(frozen=True, slots=True)
class Adapted:
    """One adapted model on the shelf, checked."""

    folder: Path
    record: Record

    @property
    def kind(self) -> Kind:
        """Its package."""
        return kind_of(self.record.adapter)

    @property
    def model(self) -> str:
        """Its name in the package."""
        return self.record.adapter.partition(":")[2]

    @property
    def files(self) -> Path:
        """The folder of its weights."""
        return self.folder / FILES

    @property
    def tag(self) -> ExpertTag:
        """Who signs its findings: of several weights, the hash of their hashes."""
        digests = sorted(f"{digest} {name}" for name, digest in self.record.files.items())
        one = hashlib.sha256("\n".join(digests).encode()).hexdigest()
        return ExpertTag(self.record.name, self.record.version, digests[0].split()[0] if len(digests) == 1 else one)

    @property
    def unmapped(self) -> tuple[str, ...]:
        """What the model answers and is not reported."""
        return self.kind.not_reported

    def check_files(self) -> None:
        """BundleRefused when its weights are not those that were added."""
        self.record.check_files(self.folder)


def is_adapter(text: str) -> bool:
    """Whether a text names an adapted model, as "torchxrayvision:densenet121-res224-all" does."""
    package, colon, _ = text.partition(":")
    return bool(colon) and package in KINDS


def kind_of(adapter: str) -> Kind:
    """The package of an adapted model. BundleRefused when none of that name can be adapted."""
    package = adapter.partition(":")[0]
    if package not in KINDS:
        raise BundleRefused(f"{package} is not among what can be adapted: {', '.join(KINDS)}")
    return KINDS[package]


def installed_version(kind: Kind) -> str:
    """The version of the package. BundleRefused when it, or what it needs, is not installed beside wetread."""
    found = []
    for name in kind.requires:
        try:
            found.append(version(name))
        except PackageNotFoundError:
            raise BundleRefused(
                f"the package {name} is not installed: install {' and '.join(kind.requires)} beside wetread"
            ) from None
    return found[0]


def weights_of(adapter: str) -> dict[str, Path]:
    """The files and folders of the weights where their makers' package looks for them, by name on the shelf.

    Nothing is fetched. BundleRefused when the package is missing, cannot be imported, has no such model, or finds none.
    """
    kind = kind_of(adapter)
    installed_version(kind)
    find = cast("Callable[[str], dict[str, Path]]", imported(f"{kind.module}:weights_of"))
    try:
        return find(adapter.partition(":")[2])
    except ExpertError:
        raise
    except Exception as exc:  # importing a stranger's package may fail in any way
        raise BundleRefused(f"the package {kind.requires[0]} cannot be used ({type(exc).__name__})") from exc


def read_adapted(folder: Path) -> Adapted:
    """What lies in one folder of the shelf. BundleRefused when its package is missing or another version."""
    adapted = Adapted(folder, read_record(folder))
    if not adapted.record.is_trusted:
        raise BundleRefused(f"{adapted.record.name} was not added with trust: remove it, and add it again")
    package = adapted.kind.requires[0]
    found = installed_version(adapted.kind)
    if found != adapted.record.version:
        raise BundleRefused(
            f"{package} is now {found}, and {adapted.record.name} was added with {adapted.record.version}: "
            "remove it, and add it again"
        )
    return adapted
