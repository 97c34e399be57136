"""Words for findings, places, numbers and intervals: what every sentence of the template is built from.

Numbers are rounded to what the measurement can carry; lengths at a radiograph are those at the detector.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from dicom_io.study import Modality, Series, Study
from expert_models import codes
from expert_models.finding import Code, ExpertTag, Finding, Measurement, Side

NOUNS = {
    codes.CARDIOMEGALY: "cardiomegaly",
    codes.LUNG_NODULE: "lung nodule",
    codes.LUNG_MASS: "lung mass",
    codes.PLEURAL_EFFUSION: "pleural effusion",
    codes.PNEUMOTHORAX: "pneumothorax",
    codes.CONSOLIDATION: "consolidation",
    codes.LUNG_OPACITY: "lung opacity",
    codes.ATELECTASIS: "atelectasis",
    codes.PULMONARY_EDEMA: "pulmonary edema",
    codes.LUNG: "lung",
    codes.HEART: "heart",
    codes.AIRWAYS: "trachea",
}
COUNTABLE = frozenset({codes.LUNG_NODULE, codes.LUNG_MASS, codes.PLEURAL_EFFUSION, codes.PNEUMOTHORAX})
IN_THE_LUNG = frozenset(
    {
        *(codes.LUNG_NODULE, codes.LUNG_MASS, codes.LUNG_OPACITY),
        *(codes.CONSOLIDATION, codes.ATELECTASIS, codes.PULMONARY_EDEMA),
    }
)
ADJECTIVES = {  # of attributes, in the order in which they stand before the noun
    codes.SPICULATED: "spiculated",
    codes.LOBULATED: "lobulated",
    codes.CALCIFIED: "calcified",
    codes.SOLID: "solid",
    codes.PART_SOLID: "part-solid",
    codes.GROUND_GLASS: "ground-glass",
}
LOBES = {codes.UPPER_LOBE: "upper lobe", codes.MIDDLE_LOBE: "middle lobe", codes.LOWER_LOBE: "lower lobe"}
UNITS = {
    codes.MILLIMETER: "mm",
    codes.MILLILITER: "mL",
    codes.HOUNSFIELD_UNIT: "HU",
    codes.PIXEL: "pixels",
    codes.DAY: "days",
    codes.RATIO: "",
}
QUANTITIES = {  # measurements whose coded meaning is no running text
    codes.MEAN_ATTENUATION: "mean attenuation",
    codes.ASCENDING_AORTA: "ascending aortic diameter",
    codes.DESCENDING_AORTA: "descending aortic diameter",
}
COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
VIEWS = {"LL": "left lateral", "RL": "right lateral", "LATERAL": "lateral", "LAT": "lateral"}


def noun(concept: Code) -> str:
    """The concept in running text, lower case unless it is an acronym."""
    return NOUNS.get(concept) or lower_first(concept.meaning)


def lower_first(text: str) -> str:
    """Lower the first letter, unless the first word is an acronym, a unit or a name with inner capitals."""
    word = text.split(" ", 1)[0]
    return text if any(letter.isupper() for letter in word[1:]) else text[:1].lower() + text[1:]


def upper_first(text: str) -> str:
    """Raise the first letter and nothing else."""
    return text[:1].upper() + text[1:]


def count(number: int) -> str:
    """ "two" up to ten, digits beyond."""
    return COUNTS[number] if number < len(COUNTS) else str(number)


def listed(words: Sequence[str], last: str = "and") -> str:
    """ "a", "a and b", "a, b and c"."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def clause(text: str) -> str:
    """A reason that was written as a sentence, made fit to follow a colon: one line, no full stop at its end."""
    return lower_first(" ".join(text.split()).rstrip(". "))


def expert(tag: ExpertTag) -> str:
    """ "the expert chest-anatomy 1.0"."""
    return f"the expert {tag.name} {tag.version}".rstrip()


def adjectives(finding: Finding) -> str:
    """ "spiculated part-solid ", "" for an organ or where no attribute is stated: to stand before the noun."""
    if finding.concept in codes.ANATOMY:
        return ""
    values = {each.value for each in finding.attributes}
    return "".join(f"{word} " for value, word in ADJECTIVES.items() if value in values)


def sided(finding: Finding, text: str | None = None) -> str:
    """The noun with its side before it: "left pleural effusion", "bilateral atelectasis"."""
    text = text or f"{adjectives(finding)}{noun(finding.concept)}"
    return f"{finding.side.value} {text}" if finding.side else text


def place(finding: Finding) -> str:
    """ "in the right upper lobe", "in both lungs", or "" when neither site nor side is known."""
    lobe = LOBES.get(finding.site) if finding.site else None
    side = finding.side or (Side.RIGHT if finding.site == codes.MIDDLE_LOBE else None)
    if lobe:
        if side is Side.BILATERAL:
            return f"in both {lobe}s"
        return (
            f"in the {side.value} {lobe}"
            if side
            else f"in the {lobe}"
            if lobe == "middle lobe"
            else f"in {'an' if lobe == 'upper lobe' else 'a'} {lobe}"
        )
    if finding.site is None or finding.site in (codes.LUNG, codes.PLEURA, codes.CHEST):
        if finding.concept not in IN_THE_LUNG or side is None:
            return ""
        return "in both lungs" if side is Side.BILATERAL else f"in the {side.value} lung"
    site = lower_first(finding.site.meaning)
    return f"at the {side.value} {site}" if side else f"at the {site}"


def thing(finding: Finding) -> str:
    """The finding as a noun phrase: "right pleural effusion", "part-solid nodule in the right upper lobe"."""
    where = place(finding)
    if where:
        return f"{adjectives(finding)}{noun(finding.concept).removeprefix('lung ')} {where}"
    return sided(finding)


def number(value: float, unit: Code) -> str:
    """A value with its unit, to the precision it can carry.

    Ratio: 2 decimals. mm: 1 decimal below 10, none above. mL: tens from 1,000, units from 10, else 1 decimal.
    """
    if unit == codes.PERCENT:
        return percent(value / 100)
    if unit == codes.RATIO:
        return f"{value:.2f}"
    if unit == codes.MILLILITER:
        text = f"{round(value, -1):,.0f}" if abs(value) >= 1000 else f"{value:.{0 if abs(value) >= 10 else 1}f}"
    elif unit == codes.MILLIMETER:
        text = f"{value:.{0 if abs(value) >= 10 else 1}f}"
    elif unit == codes.DAY:
        return plural(round(value), "day")
    elif unit in (codes.HOUNSFIELD_UNIT, codes.PIXEL):
        text = f"{value:.0f}"
    else:
        text = f"{value:.3g}"
    text = text.replace("-", "−")
    return f"{text} {UNITS.get(unit, unit.value)}".rstrip()


def axes(finding: Finding) -> str:
    """ "14 × 11 mm", "14 mm", or "" when nothing was measured. The long axis sets the decimals of both."""
    long, short = finding.measurement(codes.LONG_AXIS), finding.measurement(codes.SHORT_AXIS)
    if long is None:
        return ""
    if short is None or short.unit != long.unit:
        return number(long.value, long.unit)
    decimals = 0 if long.unit != codes.MILLIMETER or long.value >= 10 else 1
    unit = UNITS.get(long.unit, long.unit.value)
    return f"{long.value:.{decimals}f} × {short.value:.{decimals}f} {unit}"


def measured(measurements: Sequence[Measurement]) -> str:
    """ "cardiothoracic ratio 0.61, mean attenuation 35 HU"."""
    return ", ".join(f"{quantity(each.code)} {number(each.value, each.unit)}" for each in measurements)


def quantity(code: Code) -> str:
    """What was measured, in running text."""
    return QUANTITIES.get(code) or lower_first(code.meaning)


def percent(fraction: float) -> str:
    """A share in whole percent; the ends are said as bounds, so that nothing is certain by rounding."""
    if 0 < fraction < 0.01:
        return "less than 1%"
    if 0.99 < fraction < 1:
        return "more than 99%"
    return f"{100 * fraction:.0f}%"


def interval(earlier: datetime | None, later: datetime | None) -> str | None:
    """How long before `later` `earlier` was: "5 hours", "3 weeks", "4 months"; None when it cannot be said."""
    if earlier is None or later is None or (earlier.tzinfo is None) != (later.tzinfo is None) or earlier > later:
        return None
    days = (later - earlier).total_seconds() / 86400
    if days < 1:
        minutes = max(1, round(days * 24 * 60))
        return plural(round(minutes / 60), "hour") if minutes >= 60 else plural(minutes, "minute")
    if days < 14:
        return plural(round(days), "day")
    if days < 60:
        return plural(round(days / 7), "week")
    if days < 3 * 365.25:
        return plural(round(days / 30.44), "month")
    return plural(round(days / 365.25), "year")


def plural(number: int, word: str) -> str:
    """ "1 day", "2 days"."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def earlier_study(study: Study, prior_uid: str) -> str:
    """ "the study 3 months earlier", never a date."""
    prior = next((each for each in study.priors if each.uid == prior_uid), None)
    ago = interval(prior.acquired_on, study.acquired_on) if prior else None
    return f"the study {ago} earlier" if ago else "the prior study"


def view(series: Series) -> str | None:
    """ "PA", "AP", "left lateral", or None when the file does not say."""
    if not series.view or not series.view.strip():
        return None
    return VIEWS.get(series.view.upper(), series.view.upper())


def picture(series: Series) -> str:
    """ "PA chest radiograph", "CT of the chest"."""
    part = BODY_PARTS.get(series.body_part.strip().upper(), "")
    if series.modality is Modality.CT:
        return f"CT of the {part}" if part else "CT"
    words = [view(series) or "", part, "radiograph"]
    return " ".join(word for word in words if word)


BODY_PARTS = {
    "CHEST": "chest",
    "THORAX": "chest",
    "LUNG": "chest",
    "ABDOMEN": "abdomen",
    "CHESTABDOMEN": "chest and abdomen",
    "CHESTABDPELVIS": "chest, abdomen and pelvis",
    "HEART": "heart",
}
