"""Content negotiation (RFC 9110 sections 12.5.1 and 13.1.2): which of the forms we have does the client want?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Range:
    """One media range of an Accept header. quality: 0 (not acceptable) to 1."""

    kind: str
    subtype: str
    quality: float

    def fits(self, media_type: str) -> int | None:
        """How exactly it names the type: 2 exactly, 1 its kind, 0 anything; None when it does not."""
        kind, _, subtype = media_type.partition("/")
        if (self.kind, self.subtype) == (kind, subtype):
            return 2
        if (self.kind, self.subtype) == (kind, "*"):
            return 1
        return 0 if (self.kind, self.subtype) == ("*", "*") else None


def ranges(accept: str) -> list[Range]:
    """The media ranges of a header; what cannot be read is passed over. Parameters other than q are not looked at."""
    found = []
    for part in accept.split(","):
        media_range, *parameters = (each.strip().lower() for each in part.split(";"))
        kind, slash, subtype = media_range.partition("/")
        if slash and kind and subtype:
            found.append(Range(kind, subtype, quality_of(parameters)))
    return found


def quality_of(parameters: Sequence[str]) -> float:
    """The weight among the parameters of a range; 1 when there is none, or none that is a number from 0 to 1."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                return 1.0
            return quality if 0 <= quality <= 1 else 1.0
    return 1.0


def wanted(accept: str | None, offered: Sequence[str]) -> str | None:
    """The type that the client likes best, the first offered one among equals; None when it takes none of them."""
    if accept is None or not accept.strip():
        return offered[0]
    asked = ranges(accept)
    best, most = None, 0.0
    for media_type in offered:
        fitting = [(fit, each.quality) for each in asked if (fit := each.fits(media_type)) is not None]
        quality = max(fitting)[1] if fitting else 0.0  # the range that names it most exactly decides
        if quality > most:
            best, most = media_type, quality
    return best


def is_known(if_none_match: str | None, etag: str) -> bool:
    """Whether the client has this very representation already (weak comparison, RFC 9110 section 8.8.3.2)."""
    known = [each.strip().removeprefix("W/") for each in (if_none_match or "").split(",")]
    return etag in known or known == ["*"]
