"""The card of an expert: what was decided with the weights, as data beside the weights.

A card is a TOML file in `expert_models/cards`. It names the network and its arguments, what it reads, what it says and
with which codes and thresholds, what it was trained on, what it scored on patients held out, and what it must not be
used for. Nothing of this is repeated in code. A method without weights (a documented algorithm) has a card too, with
neither network, weights nor sha256.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import Any

from expert_models.errors import CardInvalid, WeightsMismatch
from expert_models.finding import Code, ExpertTag, Side

PACKAGE = Path(__file__).parent
CARDS = PACKAGE / "cards"
WEIGHTS = PACKAGE / "weights"

_SCHEMES = frozenset({"SCT", "RADLEX", "DCM", "99WETREAD"})
_IMPORT_PATH = re.compile(r"[a-z_][\w.]*:[A-Za-z_]\w*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class CardInput:
    """What an expert reads.

    modality: DICOM Modality values. views: ViewPosition values, empty where it does not matter.
    size: network input in (rows, columns) or (slices, rows, columns). spacing_mm: same order, empty where the picture
    is scaled to the size instead. range: lowest and highest value, HU for CT.
    """

    modality: tuple[str, ...]
    size: tuple[int, ...]
    range: tuple[float, float]
    views: tuple[str, ...] = ()
    spacing_mm: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Label:
    """One output: channel name, its code, the side it is on, and the probability from which it counts."""

    name: str
    code: Code
    threshold: float
    side: Side | None = None


@dataclass(frozen=True, slots=True)
class TrainingData:
    """One source that the weights have seen, with its licence as stated there."""

    name: str
    source: str
    licence: str
    used: str  # what was used: how many, of how many patients, which part


@dataclass(frozen=True, slots=True)
class Score:
    """A held-out score with its 95 % interval, the number of cases, and on what it was measured."""

    name: str
    value: float
    low: float
    high: float
    n: int
    data: str


@dataclass(frozen=True, slots=True)
class Card:
    """Everything that an expert is, but for its code and its weights."""

    name: str
    version: str
    title: str
    intended_use: str
    limits: tuple[str, ...]
    input: CardInput
    labels: tuple[Label, ...]
    training: tuple[TrainingData, ...]
    scores: tuple[Score, ...]
    calibration: Mapping[str, float]
    indeterminate: tuple[float, float] | None  # probabilities in [low, high] are neither present nor absent
    network: str  # "package.module:Class"; "" for a method without weights
    arguments: Mapping[str, Any]
    weights: str  # file name in expert_models/weights; "" for a method without weights
    sha256: str

    @property
    def tag(self) -> ExpertTag:
        """Who signs the findings."""
        return ExpertTag(self.name, self.version, self.sha256)

    @property
    def weights_path(self) -> Path:
        """Where the weights lie in this installation."""
        return WEIGHTS / self.weights

    def label(self, name: str) -> Label:
        """The label of this name; KeyError when the card has none."""
        for label in self.labels:
            if label.name == name:
                return label
        raise KeyError(f"the card {self.name} has no label {name!r}")


def packaged_card(name: str) -> Card:
    """The card `expert_models/cards/<name>.toml`; CardInvalid when it is missing or does not say what it must."""
    return read_card(CARDS / f"{name}.toml")


def read_card(path: Path) -> Card:
    """Read one card. CardInvalid names the file and what is wrong with it."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise CardInvalid(f"there is no card {path.name}") from exc
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise CardInvalid(f"the card {path.name} cannot be read as TOML: {exc}") from exc
    try:
        card = _card(table)
    except CardInvalid as exc:
        raise CardInvalid(f"the card {path.name} {exc}") from exc
    if card.name != path.stem:
        raise CardInvalid(f"the card {path.name} calls itself {card.name!r}")
    return card


def checked_weights(card: Card, path: Path | None = None) -> Path:
    """The weights file of a card, after comparing its sha256; WeightsMismatch when it is missing or another one."""
    path = path or card.weights_path
    if not card.weights:
        raise WeightsMismatch(f"the expert {card.name} is a method without weights")
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise WeightsMismatch(f"the weights of {card.name} ({path.name}) cannot be read: {exc.strerror}") from exc
    if found != card.sha256:
        raise WeightsMismatch(
            f"the weights of {card.name} ({path.name}) are not those its card names: "
            f"sha256 begins {found[:12]}, the card says {card.sha256[:12]}"
        )
    return path


def imported(path: str) -> Any:
    """The object that "package.module:name" names; CardInvalid when it cannot be imported."""
    module, _, name = path.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as exc:
        raise CardInvalid(f"{path} cannot be imported: {exc}") from exc


def _card(table: dict[str, Any]) -> Card:
    known = {
        "name", "version", "title", "intended_use", "limits", "input", "labels", "training", "scores",
        "calibration", "indeterminate", "network", "arguments", "weights", "sha256",
    }  # fmt: skip
    if unknown := sorted(set(table) - known):
        raise CardInvalid(f"has an unknown entry {unknown[0]!r}")
    network, weights, sha256 = (_text(table, key, optional=True) for key in ("network", "weights", "sha256"))
    if not (bool(network) == bool(weights) == bool(sha256)):
        raise CardInvalid("must have all three of network, weights and sha256, or none")
    if network and not _IMPORT_PATH.fullmatch(network):
        raise CardInvalid(f"names a network that is not of the form package.module:Class: {network!r}")
    if sha256 and not _SHA256.fullmatch(sha256):
        raise CardInvalid("has a sha256 that is not 64 hexadecimal digits")
    if weights and (Path(weights).name != weights or not weights.endswith(".safetensors")):
        raise CardInvalid(f"must name a .safetensors file without a folder, not {weights!r}")
    labels = tuple(_label(each) for each in _tables(table, "labels"))
    if len({label.name for label in labels}) != len(labels):
        raise CardInvalid("names a label twice")
    return Card(
        name=_text(table, "name"),
        version=_text(table, "version"),
        title=_text(table, "title"),
        intended_use=_text(table, "intended_use"),
        limits=_texts(table, "limits"),
        input=_input(table.get("input")),
        labels=labels,
        training=tuple(_training(each) for each in _tables(table, "training", optional=True)),
        scores=tuple(_score(each) for each in _tables(table, "scores", optional=True)),
        calibration=_calibration(table.get("calibration", {})),
        indeterminate=_band(table.get("indeterminate")),
        network=network,
        arguments=MappingProxyType(dict(table.get("arguments", {}))),
        weights=weights,
        sha256=sha256,
    )


def _text(table: Mapping[str, Any], key: str, *, optional: bool = False) -> str:
    value = table.get(key, "" if optional else None)
    if not isinstance(value, str) or not (value.strip() or optional):
        raise CardInvalid(f"must have {key!r} as text")
    return value.strip()


def _texts(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list) or not value or not all(isinstance(each, str) and each for each in value):
        raise CardInvalid(f"must have {key!r} as a list of texts")
    return tuple(value)


def _tables(table: Mapping[str, Any], key: str, *, optional: bool = False) -> list[dict[str, Any]]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value) or not (value or optional):
        raise CardInvalid(f"must have one [[{key}]] table or more")
    return value


def _number(table: Mapping[str, Any], key: str) -> float:
    value = table.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise CardInvalid(f"must have {key!r} as a number")
    return float(value)


def _numbers(value: object, key: str, counts: tuple[int, ...]) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) not in counts:
        raise CardInvalid(f"must have {key!r} as a list of {' or '.join(map(str, counts))} numbers")
    return tuple(_number({key: each}, key) for each in value)


def _input(table: object) -> CardInput:
    if not isinstance(table, dict):
        raise CardInvalid("must have an [input] table")
    modality = _texts(table, "modality")
    if unknown := [each for each in modality if each not in ("CT", "DX", "CR")]:
        raise CardInvalid(f"names a modality that is never read: {unknown[0]!r}")
    size = _numbers(table.get("size"), "size", (2, 3))
    if any(each < 1 or each != int(each) for each in size):
        raise CardInvalid("must have 'size' in whole pixels")
    low, high = _numbers(table.get("range"), "range", (2,))
    if low >= high:
        raise CardInvalid("has an input range that is empty")
    return CardInput(
        modality=modality,
        size=tuple(int(each) for each in size),
        range=(low, high),
        views=_texts(table, "views") if "views" in table else (),
        spacing_mm=_numbers(table["spacing_mm"], "spacing_mm", (2, 3)) if "spacing_mm" in table else (),
    )


def _label(table: Mapping[str, Any]) -> Label:
    name, threshold = _text(table, "name"), _number(table, "threshold")
    code = table.get("code")
    if not isinstance(code, list) or len(code) != 3 or not all(isinstance(each, str) and each for each in code):
        raise CardInvalid(f"must give the label {name!r} a code of value, scheme and meaning")
    if code[1] not in _SCHEMES:
        raise CardInvalid(f"codes the label {name!r} in an unknown scheme {code[1]!r}")
    if not 0.0 < threshold < 1.0:
        raise CardInvalid(f"must give the label {name!r} a threshold between 0 and 1")
    try:
        side = Side(table["side"]) if "side" in table else None
    except ValueError as exc:
        raise CardInvalid(f"gives the label {name!r} a side that is not left, right or bilateral") from exc
    return Label(name, Code(*code), threshold, side)


def _training(table: Mapping[str, Any]) -> TrainingData:
    return TrainingData(*(_text(table, key) for key in ("name", "source", "licence", "used")))


def _score(table: Mapping[str, Any]) -> Score:
    value, low, high, n = (_number(table, key) for key in ("value", "low", "high", "n"))
    if not low <= value <= high or n < 1 or n != int(n):
        raise CardInvalid(f"has a score whose interval or number is impossible: {table.get('name')!r}")
    return Score(_text(table, "name"), value, low, high, int(n), _text(table, "data"))


def _calibration(table: object) -> Mapping[str, float]:
    if not isinstance(table, dict):
        raise CardInvalid("must have 'calibration' as a table of numbers")
    return MappingProxyType({key: _number(table, key) for key in table})


def _band(value: object) -> tuple[float, float] | None:
    if value is None:
        return None
    low, high = _numbers(value, "indeterminate", (2,))
    if not 0.0 <= low < high <= 1.0:
        raise CardInvalid("must have 'indeterminate' as two growing probabilities")
    return low, high
