"""Numbers in a sentence against the measurements that it cites, to within the rounding of the number as printed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dicom_io.study import Study
from expert_models import codes
from expert_models.finding import Code, Comparison, Finding
from medmllm import wording
from medmllm.lexicon import COMPILED, TERM_OF
from rag.evidence import Evidence

DIGITS = r"[−-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?|[−-]?\d+(?:[.,]\d+)?"
UNIT = (
    r"mm|millimet(?:er|re)s?|cm|centimet(?:er|re)s?|ml|millilit(?:er|re)s?|cc|cm3|cm³|l|lit(?:er"
    r"|re)s?|hu|hounsfield units?|px|pixels?"
)
QUANTITY = re.compile(
    rf"(?P<first>{DIGITS})(?:\s*(?:×|x|by)\s*(?P<second>{DIGITS}))?(?:\s*(?:×|x|by)\s*(?P<third>{DIGITS}))?"
    rf"[\s-]?(?:(?P<unit>{UNIT})\b|(?P<percent>%|percent\b|per cent\b))",
    re.IGNORECASE,
)
RATIO = re.compile(
    rf"(?<![\d.,×])(?P<first>[01][.,]\d+)(?!\d)(?![\s-]*(?:(?:{UNIT})\b|%|percent"
    rf"|per cent|×|x\b))",
    re.IGNORECASE,
)
AXIS = re.compile(r"(?P<axis>long|short)[- ]axis(?: diameter)?(?: of| is|:| measures| measuring)?\s*$", re.IGNORECASE)
BOUND = re.compile(
    r"(?P<above>more than|greater than|larger than|over|above|at least|exceeding|>|≥)\s*$"
    r"|(?P<below>less than|smaller than|below|under|at most|<|≤)\s*$",
    re.IGNORECASE,
)
SLICE = re.compile(r"\bslices?\s+(?P<first>\d+)", re.IGNORECASE)
AGO = re.compile(
    r"\b(?P<interval>(?:\d+|an?|one|two|three|four|five|six|seven|eight|nine|ten|twelve) (?:minute|hour|day"
    r"|week|month|year)s?)"
    r" (?:earlier|ago|before|prior|previously)\b",
    re.IGNORECASE,
)
DOUBLING = re.compile(
    rf"\bdoubling[ -]times?(?: (?:is|was|of|about|is about|of about))?:? (?P<first>{DIGITS})"
    r"[ -](?P<unit>day|week|month|year)s?\b",
    re.IGNORECASE,
)
COUNTED = re.compile(
    r"\b(?P<number>\d+|two|three|four|five|six|seven|eight|nine|ten)(?: (?!mm|cm|ml|hu|of|months?"
    r"|weeks?|days?)[a-z-]+){0,3}? "
    r"(?P<noun>nodules|masses|pleural effusions|effusions|pneumothoraces|consolidations)\b",
    re.IGNORECASE,
)
NUMBER_WORDS = {word: number for number, word in enumerate(wording.COUNTS)} | {"a": 1, "an": 1, "twelve": 12}
DAYS = {"day": 1.0, "week": 7.0, "month": 30.44, "year": 365.25}
SCALES: dict[str, tuple[Code, float]] = {
    "mm": (codes.MILLIMETER, 1.0),
    "cm": (codes.MILLIMETER, 10.0),
    "ml": (codes.MILLILITER, 1.0),
    "l": (codes.MILLILITER, 1000.0),
    "hu": (codes.HOUNSFIELD_UNIT, 1.0),
    "px": (codes.PIXEL, 1.0),
}


@dataclass(frozen=True, slots=True)
class Printed:
    """A number as printed, in the unit of the measurements, with half a unit of its last digit."""

    value: float
    tolerance: float

    def fits(self, measured: float) -> bool:
        """True when the measured value, rounded as printed, gives this number."""
        return abs(self.value - measured) <= self.tolerance * (1 + 1e-6) + 1e-9


def wrong_numbers(
    text: str,
    findings: Sequence[Finding],
    comparisons: Sequence[Comparison],
    evidence: Sequence[Evidence] = (),
    study: Study | None = None,
) -> str | None:
    """The first number with a unit that no cited measurement, probability or growth equals; None when all do.

    A number that stands with its unit in cited evidence may be restated.
    """
    checks = (
        *_quantities(text, findings, comparisons, evidence),
        *_ratios(text, findings, evidence),
        *_slices(text, findings),
        *_counts(text, findings, comparisons),
        *_intervals(text, study),
        *_doubling_times(text, comparisons, evidence),
    )
    return next((each for each in checks if each), None)


def printed(digits: str, scale: float = 1.0) -> Printed:
    """ "2,610" is 2610 to the nearest ten, within 1 %; "0.61" is to the nearest hundredth; a decimal comma is read."""
    digits = digits.replace("−", "-")
    if re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", digits):
        digits = digits.replace(",", "")
    digits = digits.replace(",", ".")
    decimals = len(digits.partition(".")[2])
    value = float(digits)
    tolerance = 0.5 * 10**-decimals
    if not decimals:
        zeros = len(digits) - len(digits.rstrip("0")) if value else 0
        tolerance = max(tolerance, min(0.5 * 10**zeros, 0.01 * abs(value)))
    return Printed(value * scale, tolerance * scale)


def _values(findings: Sequence[Finding], unit: Code, only: Code | None = None) -> list[float]:
    return [
        each.value
        for finding in findings
        for each in finding.measurements
        if each.unit == unit and (only is None or each.code == only)
    ]


def _quantities(
    text: str, findings: Sequence[Finding], comparisons: Sequence[Comparison], evidence: Sequence[Evidence]
) -> Iterator[str | None]:
    for match in QUANTITY.finditer(text):
        if any(_plain(match.group()) in _plain(each.text) for each in evidence):
            continue
        bound = BOUND.search(text[: match.start()])
        for digits in filter(None, match.group("first", "second", "third")):
            if match.group("percent"):
                known = [100 * each.probability for each in findings if each.probability is not None]
                known += _values(findings, codes.PERCENT)
                known += [100 * abs(each.growth) for each in comparisons if each.growth is not None]
                number = printed(digits)
            else:
                unit, scale = SCALES[_unit(match.group("unit"))]
                axis = AXIS.search(text[: match.start()])
                only = None if axis is None else codes.LONG_AXIS if axis["axis"].lower() == "long" else codes.SHORT_AXIS
                known, number = _values(findings, unit, only), printed(digits, scale)
            if not _matches(number, known, bound):
                yield f"says {match.group().strip()}; what it cites measured {_shown(known)}"


def _unit(text: str) -> str:
    text = text.lower()
    if text.startswith(("mm", "millim")):
        return "mm"
    if text.startswith(("ml", "millil", "cc", "cm3", "cm³")):
        return "ml"
    if text.startswith(("cm", "centim")):
        return "cm"
    return "hu" if text.startswith("h") else "px" if text.startswith("p") else "l"


def _matches(number: Printed, known: Sequence[float], bound: re.Match[str] | None) -> bool:
    if bound is None:
        return any(number.fits(each) for each in known)
    if bound["above"]:
        return any(each >= number.value for each in known)
    return any(each <= number.value for each in known)


def _shown(values: Sequence[float]) -> str:
    return ", ".join(f"{each:.4g}" for each in values[:6]) or "nothing of the kind"


def _plain(text: str) -> str:
    return re.sub(r"[\s-]+", "", text).casefold()


def _ratios(text: str, findings: Sequence[Finding], evidence: Sequence[Evidence]) -> Iterator[str | None]:
    """Numbers from 0 to 2 without a unit, in a sentence that speaks of a ratio."""
    if not re.search(r"\bratio\b", text, re.IGNORECASE):
        return
    known = _values(findings, codes.RATIO)
    for match in RATIO.finditer(text):
        digits, bound = match["first"], BOUND.search(text[: match.start()])
        if any(re.search(rf"(?<![\d.]){re.escape(digits)}(?!\d)", each.text) for each in evidence):
            continue
        if not _matches(printed(digits), known, bound):
            yield f"says a ratio of {digits}; what it cites measured {_shown(known)}"


def _slices(text: str, findings: Sequence[Finding]) -> Iterator[str | None]:
    regions = [region for each in findings for region in each.regions]
    for match in SLICE.finditer(text):
        number = int(match["first"])
        if not any(region.box.start[0] < number <= region.box.stop[0] for region in regions):
            yield f"says slice {number}; no region that it cites is there"


def _counts(text: str, findings: Sequence[Finding], comparisons: Sequence[Comparison]) -> Iterator[str | None]:
    for match in COUNTED.finditer(text):
        word = match["number"].lower()
        number = NUMBER_WORDS[word] if word in NUMBER_WORDS else int(word)
        terms = {term for term, rule in COMPILED.items() if rule.search(match["noun"])}
        cited = len({each.id for each in findings if TERM_OF.get(each.concept) in terms})
        about = [each for each in comparisons if each.prior_finding and each.finding_id is None]
        gone = len([e for e in about if e.prior_finding and TERM_OF.get(e.prior_finding.concept) in terms])
        if number not in (cited, gone, len([each for each in comparisons if each.finding_id])):
            yield f"says {match.group()}; it cites {cited or gone}"


def _doubling_times(text: str, comparisons: Sequence[Comparison], evidence: Sequence[Evidence]) -> Iterator[str | None]:
    known = [each.doubling_time.value for each in comparisons if each.doubling_time is not None]
    for match in DOUBLING.finditer(text):
        number = printed(match["first"], DAYS[match["unit"].lower()])
        is_quoted = any(_plain(f"{match['first']} {match['unit']}") in _plain(each.text) for each in evidence)
        if not is_quoted and not any(number.fits(each) for each in known):
            yield f"says {match.group().strip()}; what it cites has {_shown(known)} days"


def _intervals(text: str, study: Study | None) -> Iterator[str | None]:
    if study is None:
        return
    known = {wording.interval(prior.acquired_on, study.acquired_on) for prior in study.priors}
    for match in AGO.finditer(text):
        first, _, unit = match["interval"].lower().partition(" ")
        number = NUMBER_WORDS[first] if first in NUMBER_WORDS else int(first)
        if wording.plural(number, unit.rstrip("s")) not in known:
            yield f"says {match.group()}; no prior is that old"
