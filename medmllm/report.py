"""The noun at the top: a draft report in which every sentence carries what it rests on."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from expert_models.finding import Comparison, Finding, Region
from rag.evidence import Evidence


class Section(StrEnum):
    """The sections of a radiology report, in their order (LOINC codes in app/results)."""

    INDICATION = "indication"
    TECHNIQUE = "technique"
    COMPARISON = "comparison"
    FINDINGS = "findings"
    IMPRESSION = "impression"


class CheckKind(StrEnum):
    """What a sentence was checked for."""

    LATERALITY = "laterality"
    NEGATION = "negation"
    NUMBER = "number"
    CHANGE_WITHOUT_PRIOR = "change_without_prior"
    UNSUPPORTED = "unsupported"
    IMAGE_CONTROL = "image_control"


class Verdict(StrEnum):
    """The outcome of one check."""

    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One check of one sentence; reason says what was compared when it failed."""

    kind: CheckKind
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Grounding:
    """What a sentence rests on. attributes are DICOM keywords of the study it restates (Modality, ViewPosition ...)."""

    finding_ids: tuple[str, ...] = ()
    comparison_ids: tuple[str, ...] = ()
    evidence_ids: tuple[str, ...] = ()
    regions: tuple[Region, ...] = ()
    attributes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.finding_ids or self.comparison_ids or self.evidence_ids or self.regions or self.attributes)


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of the report. A sentence with an empty grounding is shown as ungrounded.

    is_edited: a person wrote or changed it; it keeps the grounding of the sentence it replaces, its checks made again.
    """

    text: str
    section: Section
    grounding: Grounding = field(default_factory=Grounding)
    checks: tuple[Check, ...] = ()
    is_edited: bool = False

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError("a sentence needs text")

    @property
    def is_grounded(self) -> bool:
        """True when it names what it rests on and no check failed."""
        return bool(self.grounding) and all(check.verdict is Verdict.PASSED for check in self.checks)


@dataclass(frozen=True, slots=True)
class Signature:
    """Who answers for a report: the signing person's name, their organization, and when (with a time zone)."""

    name: str
    organization: str
    signed_at: datetime

    def __post_init__(self) -> None:
        if not (self.name.strip() and self.organization.strip()):
            raise ValueError("a signature needs a name and an organization")
        if self.signed_at.tzinfo is None:
            raise ValueError("a signature needs a time with its zone")


@dataclass(frozen=True, slots=True)
class Report:
    """A report and everything its sentences refer to: a draft until a person signs.

    writer names what wrote it ("template", "mllm:<model>"). notices say what degraded and why, for the reader.
    Raises ValueError when a sentence cites an id that is not in it: an invented reference cannot become a link; and
    when it is a draft with a signature, or none without one.
    """

    study_uid: str
    sentences: tuple[Sentence, ...]
    findings: tuple[Finding, ...]
    comparisons: tuple[Comparison, ...]
    evidence: tuple[Evidence, ...]
    writer: str
    notices: tuple[str, ...] = ()
    is_draft: bool = True
    signature: Signature | None = None

    def __post_init__(self) -> None:
        if self.is_draft is not (self.signature is None):
            raise ValueError("a report is a draft exactly when nobody has signed it")
        ids = [each.id for each in self.findings]
        ids += [each.id for each in self.comparisons]
        ids += [each.id for each in self.evidence]
        if len(set(ids)) != len(ids):
            raise ValueError("an id stands twice in the report")
        for sentence in self.sentences:
            grounding = sentence.grounding
            cited = {*grounding.finding_ids, *grounding.comparison_ids, *grounding.evidence_ids}
            if unknown := sorted(cited - set(ids)):
                raise ValueError(f"a sentence cites {', '.join(unknown)}, which the report does not hold")

    def section(self, section: Section) -> tuple[Sentence, ...]:
        """The sentences of one section, in order."""
        return tuple(sentence for sentence in self.sentences if sentence.section is section)
