"""How the results say things: the same words in the terminal, the page, the PDF and the coded results."""

from __future__ import annotations

from expert_models.codes import ANATOMY
from expert_models.finding import Attribute, Change, Comparison, Finding, Measurement, Presence, Side
from medmllm.report import CheckKind, Report, Section, Sentence, Signature, Verdict
from medmllm.verify import rests_on_places
from medmllm.wording import ADJECTIVES
from rag.evidence import Citation

BANNER = "DRAFT — not verified by a physician"
EDITED = "edited by a person"
SEEN = "seen by the language model alone"
PRODUCT = "Wetread"

SECTIONS = {
    Section.INDICATION: "Indication",
    Section.TECHNIQUE: "Technique",
    Section.COMPARISON: "Comparison",
    Section.FINDINGS: "Findings",
    Section.IMPRESSION: "Impression",
}
PRESENCES = {
    Presence.PRESENT: "present",
    Presence.ABSENT: "absent",
    Presence.INDETERMINATE: "indeterminate",
    Presence.NOT_ASSESSED: "not assessed",
}
CHANGES = {
    Change.NEW: "new",
    Change.LARGER: "larger",
    Change.STABLE: "stable",
    Change.SMALLER: "smaller",
    Change.RESOLVED: "resolved",
}
CHECKS = {
    CheckKind.LATERALITY: "side",
    CheckKind.NEGATION: "negation",
    CheckKind.NUMBER: "number",
    CheckKind.CHANGE_WITHOUT_PRIOR: "change without a prior",
    CheckKind.UNSUPPORTED: "not supported",
    CheckKind.IMAGE_CONTROL: "image control",
}
DECIMALS = {"%": 0, "{ratio}": 2, "[hnsf'U]": 0, "mL": 0, "{pixels}": 0, "d": 0}
UNITS = {"{ratio}": "", "[hnsf'U]": "HU", "{pixels}": "px"}


def title_of(finding: Finding) -> str:
    """ "Left lung", "Nodule of lung, right": the concept with its side."""
    meaning = finding.concept.meaning
    if finding.side is None:
        return meaning
    if finding.side is Side.BILATERAL:
        return f"{meaning}, both sides"
    if finding.concept in ANATOMY:
        return f"{finding.side.value.capitalize()} {meaning[0].lower()}{meaning[1:]}"
    return f"{meaning}, {finding.side.value}"


def site_of(finding: Finding) -> str:
    """Where it is, "" when the expert does not say."""
    side = finding.side.value if finding.side and finding.concept not in ANATOMY else ""
    site = finding.site.meaning if finding.site else ""
    return ", ".join(part for part in (site, side) if part)


def probability_of(finding: Finding) -> str:
    """ "83 %", "" when the expert gives none; never rounded to a certainty that was not claimed."""
    return "" if finding.probability is None else share(finding.probability)


def share(probability: float) -> str:
    """A probability in whole percent, its ends as bounds."""
    percent = round(100 * probability)
    if percent == 100 and probability < 1:
        return "> 99 %"
    if percent == 0 and probability > 0:
        return "< 1 %"
    return f"{percent} %"


def amount(measurement: Measurement) -> str:
    """ "12.3 mm": the value as a reader wants it, with its unit."""
    unit = measurement.unit.value
    decimals = DECIMALS.get(unit, 1 if abs(measurement.value) < 100 else 0)
    if unit == "mL" and abs(measurement.value) < 10:
        decimals = 1 if abs(measurement.value) >= 1 else 2
    number = f"{measurement.value:.{decimals}f}"
    return f"{number} {UNITS.get(unit, unit)}".rstrip()


def described(measurement: Measurement) -> str:
    """ "Long axis 12.3 mm"."""
    return f"{measurement.code.meaning} {amount(measurement)}"


def stated(attribute: Attribute) -> str:
    """ "Border shape: spiculated (91 %)"."""
    value = ADJECTIVES.get(attribute.value, attribute.value.meaning)
    sure = f" ({share(attribute.probability)})" if attribute.probability is not None else ""
    return f"{attribute.concept.meaning}: {value}{sure}"


def growth_of(comparison: Comparison) -> str:
    """ "+25 %", or "+80 %, volume doubling time 210 d"; "" when nothing was measured twice."""
    if comparison.growth is None:
        return ""
    growth = f"{100 * comparison.growth:+.0f} %".replace("-", "−")
    if comparison.doubling_time is None:
        return growth
    name = comparison.doubling_time.code.meaning
    return f"{growth}, {name[0].lower()}{name[1:]} {amount(comparison.doubling_time)}"


def cited(citation: Citation) -> str:
    """The full citation on one line."""
    authors = f"{citation.authors.rstrip('.')}. " if citation.authors else ""
    journal = f" {citation.journal}," if citation.journal else ""
    return f"{authors}{citation.title.rstrip('.')}.{journal} {citation.year}. {citation.identifier}"


def link_of(identifier: str) -> str:
    """A web address for a DOI, a PMID or an http address; "" for anything else, which must not become a link."""
    bare = identifier.strip()
    lower = bare.lower()
    if lower.startswith(("https://", "http://")):
        return bare
    if lower.startswith("doi:"):
        bare = bare[4:].strip()
        lower = bare.lower()
    if lower.startswith("10.") and "/" in bare:
        return f"https://doi.org/{bare}"
    digits = lower.removeprefix("pmid").lstrip(": ").strip()
    if digits.isdigit():
        return f"https://pubmed.ncbi.nlm.nih.gov/{digits}/"
    return ""


def signed_by(signature: Signature) -> str:
    """ "Signed by Jane Doe, Sample Hospital, 2024-03-05 14:30 UTC+01:00": in the zone in which it was signed."""
    zone = "UTC" + signature.signed_at.isoformat()[-6:].replace("+00:00", "")
    return f"Signed by {signature.name}, {signature.organization}, {signature.signed_at:%Y-%m-%d %H:%M} {zone}"


def failures_of(sentence: Sentence) -> tuple[str, ...]:
    """The checks that the sentence did not pass, in words."""
    return tuple(
        f"{CHECKS[check.kind]} check failed{f': {check.reason}' if check.reason else ''}"
        for check in sentence.checks
        if check.verdict is Verdict.FAILED
    )


def doubts_of(sentence: Sentence) -> tuple[str, ...]:
    """Why a reader should not trust this sentence as it stands; empty when it is grounded.

    Empty as well when a person wrote it: they need no finding of ours to rest on, and the report marks it as theirs.
    """
    if sentence.is_edited:
        return ()
    return failures_of(sentence) + (() if sentence.grounding else ("rests on no finding, measurement or source",))


def references_of(sentence: Sentence) -> tuple[str, ...]:
    """The ids a sentence cites, findings first."""
    grounding = sentence.grounding
    return (*grounding.finding_ids, *grounding.comparison_ids, *grounding.evidence_ids)


def mark_of(sentence: Sentence) -> str:
    """Who stands behind a sentence that no expert of ours does: a person, or a model that saw it; "" for any other."""
    if sentence.is_edited:
        return EDITED
    return SEEN if rests_on_places(sentence) else ""


def subject_of(report: Report, comparison: Comparison) -> str:
    """What the comparison is about."""
    current = next((each for each in report.findings if each.id == comparison.finding_id), None)
    finding = current or comparison.prior_finding
    return title_of(finding) if finding else "Finding"


def writer_of(report: Report) -> str:
    """Who wrote the sentences, for the reader."""
    if report.writer == "template":
        return "template (sentences put together from the findings by rule)"
    return report.writer
