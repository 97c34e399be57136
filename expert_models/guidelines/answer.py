"""What a guideline answers: one row of its table, or what is missing, or why it does not apply. Never a guess."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from expert_models.guidelines.nodule import Category

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a guideline was published. doi without a resolver in front."""

    name: str
    authors: str
    title: str
    journal: str
    year: int
    doi: str

    def __str__(self) -> str:
        return f"{self.authors} {self.title}. {self.journal} ({self.year}). doi:{self.doi}"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: a stable id, and what it says, in our words. category: Lung-RADS has one, Fleischner none."""

    id: str
    words: str
    management: str
    category: Category | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """Something the answer rests on, as it was given."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Exactly one of: a row; the names of inputs that are missing; a sentence why no row applies.

    nodule_id: the nodule that led to the row ("" where none did). modifier: "S" of Lung-RADS, else "".
    """

    source: Source
    row: Row | None = None
    missing: tuple[str, ...] = ()
    reason: str = ""
    inputs: tuple[Input, ...] = ()
    notes: tuple[str, ...] = ()
    nodule_id: str = ""
    modifier: str = ""

    def __post_init__(self) -> None:
        if [self.row is not None, bool(self.missing), bool(self.reason)].count(True) != 1:
            raise ValueError("an answer is a row, or what is missing, or why no row applies")

    @property
    def category(self) -> str:
        """Of Lung-RADS with its modifier ("4A", "2S"); "" without one."""
        return f"{self.row.category}{self.modifier}" if self.row and self.row.category else ""

    @property
    def sentence(self) -> str:
        """The management, or "not applicable" and why."""
        if self.row:
            return self.row.management
        if self.missing:
            verb = "is" if len(self.missing) == 1 else "are"
            return f"not applicable: {', '.join(self.missing)} {verb} not known"
        return f"not applicable: {self.reason}"


class GuidelineError(Exception):
    """Why a table gave no row: MissingInputs, NoRow, NotClassified. None of them leaves the calculators."""


class MissingInputs(GuidelineError):  # noqa: N818 - named for what is so
    """The table cannot be read without these."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(", ".join(names))
        self.names = names


class NoRow(GuidelineError):  # noqa: N818
    """The guideline does not apply, or its table has no row for this; the text says which."""


class NotClassified(GuidelineError):  # noqa: N818
    """The lesion is left alone: in Lung-RADS a thin-walled unilocular cyst."""


@dataclass
class Questions:
    """Asks for inputs and remembers what was used. about: put before the names ("nodule f2: ")."""

    about: str = ""
    used: list[Input] = field(default_factory=list)

    def ask(self, name: str, value: T | None) -> T:
        """The value. Raises MissingInputs where it is not known."""
        if value is None:
            raise MissingInputs([self.about + name])
        given = Input(self.about + name, _text(value))
        if given not in self.used:
            self.used.append(given)
        return value

    def ask_all(self, values: Mapping[str, object]) -> None:
        """Raise MissingInputs with every name at once of which the value is not known."""
        missing = [self.about + name for name, value in values.items() if value is None]
        if missing:
            raise MissingInputs(missing)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
