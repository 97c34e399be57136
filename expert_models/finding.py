"""The nouns of the experts: what was found where, how sure, and what changed since the prior."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite

Index = tuple[float, float, float]  # (slice, row, column), voxel centres at integers


class Presence(StrEnum):
    """The four answers an expert can give. Never guess between them: not_assessed carries a reason."""

    PRESENT = "present"
    ABSENT = "absent"
    INDETERMINATE = "indeterminate"
    NOT_ASSESSED = "not_assessed"


class Side(StrEnum):
    """The patient's side, not the picture's."""

    LEFT = "left"
    RIGHT = "right"
    BILATERAL = "bilateral"


class Change(StrEnum):
    """What became of a finding since the prior."""

    NEW = "new"
    LARGER = "larger"
    STABLE = "stable"
    SMALLER = "smaller"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept: value, CodingSchemeDesignator (SCT, RADLEX, DCM, UCUM, LN) and meaning."""

    value: str
    scheme: str
    meaning: str

    def __post_init__(self) -> None:
        if not (self.value and self.scheme and self.meaning):
            raise ValueError("a code needs a value, a scheme and a meaning")


@dataclass(frozen=True, slots=True)
class Box:
    """Half-open index box [start, stop) over (slice, row, column)."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    def __post_init__(self) -> None:
        if not all(0 <= a < b for a, b in zip(self.start, self.stop, strict=True)):
            raise ValueError(f"empty or negative box: {self.start} to {self.stop}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Extent in (slices, rows, columns)."""
        (a, b, c), (d, e, f) = self.start, self.stop
        return d - a, e - b, f - c

    @property
    def centre(self) -> Index:
        """Centre in index space (voxel centres at integers)."""
        (a, b, c), (d, e, f) = self.start, self.stop
        return (a + d - 1) / 2, (b + e - 1) / 2, (c + f - 1) / 2

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as an index into voxels."""
        (a, b, c), (d, e, f) = self.start, self.stop
        return slice(a, d), slice(b, e), slice(c, f)


@dataclass(frozen=True, slots=True)
class Region:
    """A place in one series: a box, and with mask_key a boolean mask of exactly the box's shape.

    instance_uid: the SOP instance that shows it best (the only one of a radiograph).
    """

    series_uid: str
    box: Box
    instance_uid: str
    mask_key: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line in one series, its ends in index space: how a length was measured."""

    series_uid: str
    start: Index
    stop: Index
    instance_uid: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """A number with its meaning, its UCUM unit and, for lengths, the lines it was read from."""

    code: Code
    value: float
    unit: Code
    lines: tuple[Line, ...] = ()

    def __post_init__(self) -> None:
        if not isfinite(self.value):
            raise ValueError(f"the measurement {self.code.meaning} is not finite")


@dataclass(frozen=True, slots=True)
class Attribute:
    """A coded quality of a finding: of a nodule its attenuation type, its border, calcium.

    concept: what is asked. value: the answer. probability: calibrated, that the answer is right; None where the expert
    gives none.
    """

    concept: Code
    value: Code
    probability: float | None = None

    def __post_init__(self) -> None:
        if self.probability is not None and not 0.0 <= self.probability <= 1.0:
            raise ValueError(f"probability {self.probability} is not in [0, 1]")


@dataclass(frozen=True, slots=True)
class ExpertTag:
    """Who says so: name, version and the sha256 of the weights ("" for a method without weights)."""

    name: str
    version: str
    weights_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One statement of one expert about one thing. id is "f1", "f2" ... within a report.

    probability: calibrated, in [0, 1], None where the expert gives none (a segmented organ).
    reason: why it was not assessed; one sentence, for the reader of the report.
    led_by: id of another expert's finding that says the same and has the sentence; None where this one has it.
    attributes: its coded qualities, each asked once; what was not sure enough to be stated is not among them.
    """

    id: str
    concept: Code
    presence: Presence
    expert: ExpertTag
    probability: float | None = None
    side: Side | None = None
    site: Code | None = None
    regions: tuple[Region, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    reason: str = ""
    led_by: str | None = None
    attributes: tuple[Attribute, ...] = ()

    def __post_init__(self) -> None:
        if self.probability is not None and not 0.0 <= self.probability <= 1.0:
            raise ValueError(f"probability {self.probability} is not in [0, 1]")
        if (self.presence is Presence.NOT_ASSESSED) != bool(self.reason):
            raise ValueError("a finding has a reason exactly when it was not assessed")
        if len({each.concept for each in self.attributes}) != len(self.attributes):
            raise ValueError("a finding answers the same attribute twice")

    def measurement(self, code: Code) -> Measurement | None:
        """The measurement of this meaning, if there is one."""
        return next((each for each in self.measurements if each.code == code), None)

    def attribute(self, concept: Code) -> Code | None:
        """What is stated of this quality, if anything is."""
        return next((each.value for each in self.attributes if each.concept == concept), None)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What became of a finding since one prior study. id is "c1", "c2" ... within a report.

    finding_id: the current finding; None exactly when it resolved. prior_finding: the prior's own record, so that
    both pictures can be drawn; None exactly when it is new. growth: relative change of the leading measurement
    (0.25 = a quarter larger), None where nothing was measured twice. doubling_time: of a nodule's volume that grew, in
    days; None for anything else.
    """

    id: str
    change: Change
    prior_study_uid: str
    tracking_uid: str
    finding_id: str | None = None
    prior_finding: Finding | None = None
    growth: float | None = None
    doubling_time: Measurement | None = None

    def __post_init__(self) -> None:
        if (self.finding_id is None) != (self.change is Change.RESOLVED):
            raise ValueError("a comparison lacks its current finding exactly when it resolved")
        if (self.prior_finding is None) != (self.change is Change.NEW):
            raise ValueError("a comparison lacks its prior finding exactly when it is new")
        if self.doubling_time is not None and self.change is not Change.LARGER:
            raise ValueError("only what grew has a doubling time")


@dataclass(frozen=True, slots=True)
class Compared:
    """What became of the findings, and what the reader must know of how it was told, one sentence each."""

    comparisons: tuple[Comparison, ...] = ()
    remarks: tuple[str, ...] = ()
