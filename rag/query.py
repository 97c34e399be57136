"""Findings to queries: what is worth looking up, in which words, and for which images."""

from __future__ import annotations

from collections.abc import Sequence

from dicom_io.study import Study
from expert_models.codes import ANATOMY
from expert_models.finding import Code, Finding, Presence
from rag.concepts import ANY_MODALITY, MODALITY_NAMES, MODALITY_TOPICS, concept_of
from rag.evidence import Query


def queries_for(study: Study, findings: Sequence[Finding]) -> tuple[Query, ...]:
    """One query for each concept that is present or indeterminate, the surest first.

    Organs are never looked up, and a study in which nothing was found has no query: no sentence of its report would
    cite the answer. The words hold the concept and the kind of image alone, never
    the text of the request, which may name the patient.
    """
    topics = topics_for(study)
    groups: dict[Code, list[Finding]] = {}
    for finding in sorted(findings, key=urgency):
        if finding.presence in (Presence.PRESENT, Presence.INDETERMINATE) and finding.concept not in ANATOMY:
            groups.setdefault(finding.concept, []).append(finding)
    return tuple(
        Query(query_text(code, topics), tuple(finding.id for finding in group), topics)
        for code, group in groups.items()
    )


def urgency(finding: Finding) -> tuple[bool, float]:
    """Sorts present before indeterminate, then by probability; one without a probability counts as certain."""
    certainty = 1.0 if finding.probability is None else finding.probability
    return finding.presence is not Presence.PRESENT, -certainty


def query_text(code: Code, topics: Sequence[str]) -> str:
    """ "pneumothorax on chest radiograph: air in the pleural space, size, management"."""
    concept = concept_of(code)
    images = " and ".join(MODALITY_NAMES[topic] for topic in topics if topic in MODALITY_NAMES)
    where = f" on {images}" if images else ""
    return f"{concept.name}{where}: {concept.aspects}" if concept.aspects else f"{concept.name}{where}"


def topics_for(study: Study) -> tuple[str, ...]:
    """The topics that bear on the study's images, and that of documents which hold for every image."""
    modalities = dict.fromkeys(MODALITY_TOPICS[series.modality] for series in study.series)
    return (*modalities, ANY_MODALITY) if modalities else ()
