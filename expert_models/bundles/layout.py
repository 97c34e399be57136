"""What stands where in a MONAI bundle (https://docs.monai.io/en/stable/mb_specification.html), read without MONAI."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expert_models.errors import BundleRefused

METADATA = "configs/metadata.json"
INFERENCE = ("configs/inference.json", "configs/inference.yaml", "configs/inference.yml")
WEIGHTS = ("models/model.safetensors", "models/model.pt", "models/model.ts")  # the first that is there is used
PROGRAM = "models/model.ts"
MOST_BYTES = 4 * 1024 * 1024  # of a configuration: larger ones hold something else

Config = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """A bundle in a folder: its metadata, its inference configuration as written, and which weights it has."""

    folder: Path
    metadata: Mapping[str, Any]
    config: Config
    weights: str  # below folder, with forward slashes

    @property
    def title(self) -> str:
        """The bundle's name as its metadata give it."""
        name = self.metadata.get("name")
        return name.strip() if isinstance(name, str) and name.strip() else "unnamed bundle"

    @property
    def version(self) -> str:
        """The bundle's version as its metadata give it."""
        return str(self.metadata.get("version", "")) or "unknown"

    @property
    def channels(self) -> dict[int, str]:
        """What each output channel means, by the metadata's channel_def; empty where it does not say."""
        data_format = _table(self.metadata, "network_data_format")
        outputs = _table(data_format, "outputs")
        defined = _table(_table(outputs, "pred"), "channel_def")
        return {int(number): str(name) for number, name in defined.items() if str(number).isdecimal()}

    @property
    def modality(self) -> str:
        """Of its input image, "" where the metadata do not say."""
        return str(_table(self._inputs, "image").get("modality", ""))

    @property
    def input_channels(self) -> int:
        """How many pictures it reads at once, 1 where the metadata do not say."""
        count = _table(self._inputs, "image").get("num_channels", 1)
        return max(count if isinstance(count, int) else 1, len(self._inputs))

    @property
    def _inputs(self) -> Mapping[str, Any]:
        return _table(_table(self.metadata, "network_data_format"), "inputs")


def read_layout(folder: Path) -> Layout:
    """Read a bundle's configuration. BundleRefused when it is none, in one sentence."""
    metadata = _mapping(folder, METADATA)
    inference = next((name for name in INFERENCE if (folder / name).is_file()), None)
    if inference is None:
        raise BundleRefused(f"it has no {INFERENCE[0]} or .yaml, so how it infers is not known")
    weights = next((name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise BundleRefused(f"it has no weights: none of {', '.join(WEIGHTS)}")
    return Layout(folder, metadata, _mapping(folder, inference), weights)


def bundle_root(folder: Path) -> Path:
    """The folder that holds configs/: this one, or its only folder, as zip archives have it."""
    inside = [each for each in folder.iterdir() if each.is_dir() and each.name != "__MACOSX"]
    if not (folder / "configs").is_dir() and len(inside) == 1:
        return inside[0]
    return folder


def _mapping(folder: Path, name: str) -> Config:
    path = folder / name
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BundleRefused(f"its {name} is larger than {MOST_BYTES // 2**20} MiB")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BundleRefused(f"it has no {name}, so it is no MONAI bundle") from None
    except (OSError, UnicodeDecodeError):
        raise BundleRefused(f"its {name} cannot be read as text") from None
    try:
        value = json.loads(text) if name.endswith(".json") else _yaml(text)
    except (ValueError, RecursionError):
        raise BundleRefused(f"its {name} cannot be parsed") from None
    if not isinstance(value, dict):
        raise BundleRefused(f"its {name} is not a table")
    return value


def _yaml(text: str) -> object:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise ValueError("not YAML") from exc


def _table(value: object, key: str) -> Mapping[str, Any]:
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else {}
