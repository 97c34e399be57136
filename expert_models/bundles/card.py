"""The card that makes a bundle's channels mean something: `wetread.toml`, beside the bundle or given when it is added.

    intended_use = "..."             # else the metadata's
    [[channels]]
    channel = 1                      # as in the metadata's channel_def
    code = ["78961009", "SCT", "Spleen"]
    is = "organ"                     # or "lesion"
    measure = ["volume"]             # of volume, mean_attenuation; lesions also long_axis, short_axis
    [set]
    pixdim = [1.5, 1.5, 1.5]         # plain values laid over the bundle's inference configuration

Optional for a channel: side ("left", "right"), threshold (where the output holds probabilities, 0.5), smallest_ml (of a
lesion, 0.01). A channel that is not named is not reported.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import Any

from expert_models.anatomy import ORGANS
from expert_models.bundles.layout import Layout
from expert_models.codes import HEART, LUNG
from expert_models.errors import CardInvalid
from expert_models.finding import Code, Side

CARD = "wetread.toml"
SCHEMES = frozenset({"SCT", "RADLEX", "DCM", "99WETREAD"})
MEASURES = ("volume", "mean_attenuation", "long_axis", "short_axis")
OF_LESIONS = frozenset({"long_axis", "short_axis"})
KNOWN_ORGANS = {**ORGANS, LUNG.value: LUNG.meaning, HEART.value: HEART.meaning}
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,39}")


@dataclass(frozen=True, slots=True)
class Channel:
    """One output that is reported. threshold: of a probability. smallest_ml: below it a lesion is not told."""

    number: int
    code: Code
    is_organ: bool
    side: Side | None = None
    threshold: float = 0.5
    smallest_ml: float = 0.01
    measures: tuple[str, ...] = ("volume",)


@dataclass(frozen=True, slots=True)
class BundleCard:
    """What a bundle reports, and as what. settings: plain values laid over its inference configuration."""

    channels: tuple[Channel, ...]
    name: str = ""
    intended_use: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def concepts(self) -> tuple[Code, ...]:
        """Every concept once, in order."""
        return tuple(dict.fromkeys(channel.code for channel in self.channels))


def read_bundle_card(path: Path) -> BundleCard:
    """Read a card. CardInvalid says in one sentence what is wrong with it."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CardInvalid(f"there is no card {path.name}: see docs/experts.md, Bring your own") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise CardInvalid(f"the card {path.name} cannot be read as TOML: {exc}") from None
    try:
        return _card(table)
    except CardInvalid as exc:
        raise CardInvalid(f"the card {path.name} {exc}") from None


def check_card(card: BundleCard, layout: Layout) -> None:
    """CardInvalid when the card names a channel or a setting that the bundle does not have."""
    defined = layout.channels
    for channel in card.channels:
        if defined and channel.number not in defined:
            raise CardInvalid(f"the card names channel {channel.number}, which the bundle's channel_def does not have")
    for name in card.settings:
        if name not in layout.config:
            raise CardInvalid(f"the card sets {name!r}, which the bundle's inference configuration does not have")


def unmapped(card: BundleCard, layout: Layout) -> tuple[str, ...]:
    """The channels that the bundle outlines and the card does not name: "2 liver", without the background."""
    named = {channel.number for channel in card.channels}
    return tuple(
        f"{number} {name}"
        for number, name in sorted(layout.channels.items())
        if number not in named and name.lower() != "background"
    )


def _card(table: Mapping[str, Any]) -> BundleCard:
    if unknown := sorted(set(table) - {"name", "intended_use", "channels", "set"}):
        raise CardInvalid(f"has an unknown entry {unknown[0]!r}")
    name, use = (_text(table, key) for key in ("name", "intended_use"))
    if name and not _NAME.fullmatch(name):
        raise CardInvalid("must have a name of 2 to 40 small letters, digits and hyphens")
    rows = table.get("channels")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise CardInvalid("must have one [[channels]] table or more")
    channels = tuple(_channel(row) for row in rows)
    if len({channel.number for channel in channels}) != len(channels):
        raise CardInvalid("names a channel twice")
    settings = table.get("set", {})
    if not isinstance(settings, dict) or not all(_is_plain(each) for each in settings.values()):
        raise CardInvalid("must have plain values in [set]: numbers, booleans, texts that begin with no sign, lists")
    return BundleCard(channels, name, use, MappingProxyType(settings))


def _channel(row: Mapping[str, Any]) -> Channel:
    allowed = {"channel", "code", "is", "side", "threshold", "smallest_ml", "measure"}
    if unknown := sorted(set(row) - allowed):
        raise CardInvalid(f"has an unknown entry {unknown[0]!r} in a channel")
    number = row.get("channel")
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise CardInvalid("must give each channel its number")
    code, kind = row.get("code"), row.get("is")
    if not isinstance(code, list) or len(code) != 3 or not all(isinstance(each, str) and each for each in code):
        raise CardInvalid(f"must give channel {number} a code of value, scheme and meaning")
    if code[1] not in SCHEMES:
        raise CardInvalid(f"codes channel {number} in an unknown scheme {code[1]!r}")
    if kind not in ("organ", "lesion"):
        raise CardInvalid(f"must say whether channel {number} is an organ or a lesion")
    is_organ = kind == "organ"
    if is_organ != (code[1] == "SCT" and code[0] in KNOWN_ORGANS):
        raise CardInvalid(
            f"calls channel {number} an organ, but {code[0]} is not in expert_models/anatomy.py"
            if is_organ
            else f"calls channel {number} a lesion, but {code[0]} is an organ"
        )
    measures = row.get("measure", ["volume"])
    if not isinstance(measures, list) or any(each not in MEASURES for each in measures):
        raise CardInvalid(f"must measure of channel {number} some of {', '.join(MEASURES)}")
    if is_organ and OF_LESIONS & set(measures):
        raise CardInvalid(f"measures the axes of channel {number}, which is an organ")
    try:
        side = Side(row["side"]) if "side" in row else None
    except ValueError:
        raise CardInvalid(f"gives channel {number} a side that is not left, right or bilateral") from None
    meaning = KNOWN_ORGANS[code[0]] if is_organ else code[2]
    return Channel(
        number,
        Code(code[0], code[1], meaning),
        is_organ,
        side,
        _number(row, "threshold", 0.5, 0.0, 1.0),
        _number(row, "smallest_ml", 0.01, 0.0, 1000.0),
        tuple(measures),
    )


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise CardInvalid(f"must have {key!r} as text")
    return value.strip()


def _number(row: Mapping[str, Any], key: str, default: float, low: float, high: float) -> float:
    value = row.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or not low < value < high:
        raise CardInvalid(f"must have {key!r} as a number between {low:g} and {high:g}")
    return float(value)


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(_is_plain(each) for each in value)
    if isinstance(value, str):
        return not value.startswith(("$", "@", "%"))
    return isinstance(value, bool | int | float)
