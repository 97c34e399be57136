"""What a guideline asks about a nodule. None always means: not known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from math import pi

GROWTH_MM = 1.5  # more than this of mean diameter within 12 months is growth: Lung-RADS v2022, note 6
ENDLESS = 1e9  # no length, volume or time of a nodule reaches it


class NoduleType(StrEnum):
    """Attenuation, or what else it is. A cavitary nodule, whose wall dominates, is SOLID (Lung-RADS v2022, note 12)."""

    SOLID = "solid"
    PART_SOLID = "part-solid"
    GROUND_GLASS = "ground-glass"
    AIRWAY = "airway"
    CYST = "cyst"


class Morphology(StrEnum):
    """What may make a nodule harmless whatever its size.

    BENIGN: complete, central, popcorn or concentric ring calcification, or fat. JUXTAPLEURAL: at a fissure or the
    costal, mediastinal or diaphragmatic pleura, with a smooth margin, oval, lentiform or triangular, as an
    intrapulmonary lymph node is. ORDINARY: neither.
    """

    ORDINARY = "ordinary"
    BENIGN = "benign"
    JUXTAPLEURAL = "juxtapleural"


class Status(StrEnum):
    """What became of it since the prior CT.

    BASELINE: first screening CT, nothing to compare with. GROWING: by more than 1.5 mm of mean diameter within 12
    months. SLOWLY_GROWING: larger over several CTs, but never by that much in 12 months. ENLARGED: no growth as
    defined, yet it crossed a size threshold of the table. STABLE: unchanged or smaller.
    """

    BASELINE = "baseline"
    NEW = "new"
    GROWING = "growing"
    SLOWLY_GROWING = "slowly-growing"
    ENLARGED = "enlarged"
    STABLE = "stable"


class AirwayLevel(StrEnum):
    """How far out in the airways. PROXIMAL: a segmental airway or a more proximal one."""

    SUBSEGMENTAL = "subsegmental"
    PROXIMAL = "segmental-or-proximal"


class CystForm(StrEnum):
    """THIN_WALLED: unilocular, wall uniform and under 2 mm: not classified. THICK_WALLED: unilocular, 2 mm or more."""

    THIN_WALLED = "thin-walled"
    THICK_WALLED = "thick-walled"
    MULTILOCULAR = "multilocular"


class CystChange(StrEnum):
    """What grew. CAVITY: the cyst's mean diameter. WALL: its thickness or nodularity. BECAME_MULTILOCULAR: it was not.

    DENSER: more loculations, or a new or larger opacity (nodular, ground-glass, consolidation).
    """

    CAVITY = "cavity"
    WALL = "wall"
    BECAME_MULTILOCULAR = "became-multilocular"
    DENSER = "denser"


class Category(StrEnum):
    """Categories of Lung-RADS, least suspicious first; 0 is incomplete."""

    INCOMPLETE = "0"
    NEGATIVE = "1"
    BENIGN = "2"
    PROBABLY_BENIGN = "3"
    SUSPICIOUS = "4A"
    VERY_SUSPICIOUS = "4B"
    ADDITIONAL_FEATURES = "4X"


@dataclass(frozen=True, slots=True)
class Nodule:
    """One nodule (or airway nodule, or cyst) of one CT. Lengths in mm, volumes in mm3, all above zero.

    mean_mm: mean of long and short axis, see mean_diameter_mm. volume_mm3 takes its place where there is no diameter;
    solid_mm and solid_volume_mm3 likewise for the solid component of a part-solid nodule. did_solid_grow: its solid
    component is new, or grew, since the prior CT. prior_category: this lesion's own, months_since_prior ago.
    is_proven_benign: by a diagnostic workup. is_suspicious: features beside size that raise suspicion (spiculation,
    lymphadenopathy, metastases, a ground-glass nodule that doubled within a year).
    """

    id: str = ""
    type: NoduleType | None = None
    mean_mm: float | None = None
    volume_mm3: float | None = None
    solid_mm: float | None = None
    solid_volume_mm3: float | None = None
    morphology: Morphology | None = None
    status: Status | None = None
    did_solid_grow: bool | None = None
    airway_level: AirwayLevel | None = None
    cyst_form: CystForm | None = None
    cyst_change: CystChange | None = None
    prior_category: Category | None = None
    months_since_prior: float | None = None
    is_proven_benign: bool | None = None
    is_suspicious: bool | None = None

    def __post_init__(self) -> None:
        for name in ("mean_mm", "volume_mm3", "solid_mm", "solid_volume_mm3", "months_since_prior"):
            value = getattr(self, name)
            if value is not None and not 0 < value < ENDLESS:
                raise ValueError(f"{name} must be above zero and finite, not {value}")
        if self.type is not NoduleType.PART_SOLID:
            return
        for part, whole in ((self.solid_mm, self.mean_mm), (self.solid_volume_mm3, self.volume_mm3)):
            if part is not None and whole is not None and part > whole:
                raise ValueError(f"the solid component ({part}) is larger than the whole nodule ({whole})")

    @property
    def size(self) -> Size | None:
        """Of the whole nodule; None where neither diameter nor volume is known."""
        return _size(self.mean_mm, self.volume_mm3)

    @property
    def solid_size(self) -> Size | None:
        """Of the solid component."""
        return _size(self.solid_mm, self.solid_volume_mm3)

    @property
    def about_mm(self) -> float:
        """The diameter, or else that of a ball of its volume, 0 where neither is known: only to say which one leads."""
        return self.mean_mm or ((self.volume_mm3 or 0.0) * 6 / pi) ** (1 / 3)

    def without_diameters(self) -> Nodule:
        """The nodule with its volumes in place of its diameters, where it has volumes."""
        return replace(
            self,
            mean_mm=self.mean_mm if self.volume_mm3 is None else None,
            solid_mm=self.solid_mm if self.solid_volume_mm3 is None else None,
        )


@dataclass(frozen=True, slots=True)
class Size:
    """A mean diameter in mm or, with is_volume, a volume in mm3."""

    value: float
    is_volume: bool = False

    def below(self, mm: float, mm3: float, digits: int) -> bool:
        """Whether it is under a threshold, given as both; digits: decimals to which the guideline rounds diameters."""
        if self.is_volume:
            return rounded(self.value, 0) < mm3
        return rounded(self.value, digits) < mm

    def __str__(self) -> str:
        return f"{self.value:g} {'mm³' if self.is_volume else 'mm'}"


def rounded(value: float, digits: int) -> float:
    """Half up, on the decimal number as it is written: 6.65 to one digit is 6.7."""
    return float(Decimal(str(value)).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP))


def mean_diameter_mm(long_mm: float, short_mm: float) -> float:
    """Mean of two axes in mm, each taken to one decimal as Lung-RADS v2022 (note 4) asks. Raises ValueError."""
    if not ENDLESS > long_mm >= short_mm > 0:
        raise ValueError(f"a long axis of {long_mm} mm and a short axis of {short_mm} mm are no axes of a nodule")
    axes = [Decimal(str(rounded(each, 1))) for each in (long_mm, short_mm)]
    return float((axes[0] + axes[1]) / 2)


def status_since(before_mm: float, now_mm: float, months: float) -> Status | None:
    """GROWING or STABLE from two mean diameters in mm; None where they do not decide it.

    A nodule that is larger by 1.5 mm or less may have crossed a size threshold or be growing slowly over several CTs,
    and one that grew over more than 12 months may have grown by 1.5 mm in 12 of them, or not: that takes a reader.
    Raises ValueError for sizes and times that cannot be.
    """
    if not all(0 < each < ENDLESS for each in (before_mm, now_mm, months)):
        raise ValueError(
            f"{before_mm} mm, {now_mm} mm and {months} months are no sizes of a nodule and time between them"
        )
    change_mm = Decimal(str(rounded(now_mm, 1))) - Decimal(str(rounded(before_mm, 1)))
    if change_mm <= 0:
        return Status.STABLE
    return Status.GROWING if change_mm > Decimal(str(GROWTH_MM)) and months <= 12 else None


def _size(mm: float | None, mm3: float | None) -> Size | None:
    if mm is not None:
        return Size(mm)
    return Size(mm3, is_volume=True) if mm3 is not None else None
