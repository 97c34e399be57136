"""The template's impression: what matters first, what changed, what the literature says, what was not seen."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from dicom_io.study import Study
from expert_models import codes
from expert_models.finding import Change, Code, Comparison, Finding, Presence, Side
from medmllm import wording
from medmllm.changes import change_sentence
from medmllm.lexicon import GENERAL, patterns_for, term_of
from medmllm.report import Grounding, Section, Sentence
from medmllm.statements import absent_names, by_size, named, organs_first, size, unique
from rag.evidence import Citation, Evidence

URGENCY = (  # most pressing first; a concept that is not listed comes last
    codes.PNEUMOTHORAX,
    codes.PULMONARY_EDEMA,
    codes.LUNG_MASS,
    codes.CONSOLIDATION,
    codes.LUNG_OPACITY,
    codes.PLEURAL_EFFUSION,
    codes.LUNG_NODULE,
    codes.ATELECTASIS,
    codes.CARDIOMEGALY,
)
CHANGES = (Change.NEW, Change.LARGER, Change.SMALLER, Change.RESOLVED, Change.STABLE)
MOST_EVIDENCE = 3
MOST_WORDS = 60  # of one quotation


def impression(
    study: Study, findings: Sequence[Finding], comparisons: Sequence[Comparison], evidence: Sequence[Evidence]
) -> tuple[Sentence, ...]:
    """Present by urgency, each with its changes; indeterminate; evidence; absent; not assessed."""
    stated = [each for each in findings if each.concept not in codes.ANATOMY]
    present = [each for each in stated if each.presence is Presence.PRESENT]
    unsure = [each for each in stated if each.presence is Presence.INDETERMINATE]
    absent = [each for each in stated if each.presence is Presence.ABSENT]
    unread = [each for each in findings if each.presence is Presence.NOT_ASSESSED]
    sentences = [
        *(_grounded(_present(group), group) for group in _groups(present)),
        *(_grounded(_unsure(group), group) for group in _groups(unsure)),
        *_changes(comparisons, findings, study),
        *_literature(evidence, [*present, *unsure]),
        *_absent(absent, bool(present or unsure)),
        *_unread(unread),
    ]
    if not (present or unsure or absent):
        sentences.insert(0, _no_conclusion(findings))
    return tuple(sentences)


def _grounded(text: str, findings: Sequence[Finding]) -> Sentence:
    regions = tuple(region for each in findings for region in each.regions)
    return Sentence(text, Section.IMPRESSION, Grounding(finding_ids=tuple(e.id for e in findings), regions=regions))


def _rank(concept: Code) -> int:
    return URGENCY.index(concept) if concept in URGENCY else len(URGENCY)


def _groups(findings: Iterable[Finding]) -> list[list[Finding]]:
    groups: dict[Code, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.concept, []).append(finding)
    return [by_size(groups[concept]) for concept in sorted(groups, key=_rank)]


def _present(group: Sequence[Finding]) -> str:
    return f"{wording.upper_first(_summary(group))}."


def _unsure(group: Sequence[Finding]) -> str:
    probability = group[0].probability if len(group) == 1 else None
    sure = f" (calibrated probability {wording.percent(probability)})" if probability is not None else ""
    return f"Indeterminate: {_summary(group, 'possible ')}{sure}."


def _summary(group: Sequence[Finding], possible: str = "") -> str:
    """ "lung nodule in the right upper lobe, 14 × 11 mm" or "two lung nodules, the largest 14 × 11 mm in ..."."""
    largest, extent = group[0], size(group[0])
    if len(group) == 1:
        return f"{possible}{wording.thing(largest)}{f', {extent}' if extent else ''}"
    is_alike = len({(each.site, each.attributes) for each in group}) == 1
    if not extent and is_alike and sorted(each.side or "" for each in group) == [Side.LEFT, Side.RIGHT]:
        return f"{possible}{wording.thing(replace(largest, side=Side.BILATERAL))}"
    if largest.concept not in wording.COUNTABLE or not wording.axes(largest):
        return wording.listed([f"{possible}{name}" for name in unique(wording.thing(each) for each in group)])
    where = wording.place(largest) or (f"on the {largest.side.value}" if largest.side else "")
    number = f"{wording.count(len(group))} {possible}{wording.noun(largest.concept)}s"
    return f"{number}, the largest {extent} {where}".rstrip()


def _changes(comparisons: Sequence[Comparison], findings: Sequence[Finding], study: Study) -> Iterator[Sentence]:
    """One sentence for each kind of change, concept and prior; several of a kind are counted."""
    known = {each.id: each for each in findings}
    groups: dict[tuple[int, int, Code, str], list[Comparison]] = {}
    for comparison in comparisons:
        finding = known.get(comparison.finding_id or "")
        about = finding or comparison.prior_finding
        if about is None or about.concept in codes.ANATOMY:
            continue
        if comparison.finding_id and finding is None:  # another expert's finding has the sentence
            continue
        kind = (_rank(about.concept), CHANGES.index(comparison.change), about.concept, comparison.prior_study_uid)
        groups.setdefault(kind, []).append(comparison)
    for (_, _, concept, prior_uid), group in sorted(groups.items(), key=lambda item: item[0][:2]):
        current = [known[each.finding_id] for each in group if each.finding_id in known]
        sure = all(each.presence is Presence.PRESENT for each in current)
        if len(group) > 1 and concept in wording.COUNTABLE and sure:
            text = _counted(concept, group[0].change, len(group), wording.earlier_study(study, prior_uid))
            ids = Grounding(tuple(each.id for each in current), tuple(each.id for each in group))
            yield Sentence(text, Section.IMPRESSION, ids)
        else:
            for each in group:
                yield change_sentence(each, known.get(each.finding_id or ""), study, Section.IMPRESSION, brief=True)


def _counted(concept: Code, change: Change, number: int, earlier: str) -> str:
    several = f"{wording.upper_first(wording.count(number))} {wording.noun(concept)}s"
    words = {
        Change.NEW: f"{several} are new since {earlier}.",
        Change.LARGER: f"{several} are larger than in {earlier}.",
        Change.SMALLER: f"{several} are smaller than in {earlier}.",
        Change.STABLE: f"{several} are unchanged since {earlier}.",
        Change.RESOLVED: f"{several} of {earlier} are no longer identified.",
    }
    return words[change]


def _literature(evidence: Sequence[Evidence], findings: Sequence[Finding]) -> Iterator[Sentence]:
    """At most one quotation for each kind of finding, from the evidence that was looked up for it."""
    used: set[str] = set()
    for group in _groups(findings):
        if len(used) == MOST_EVIDENCE:
            return
        ids = {each.id for each in group}
        for piece in evidence:
            quote = quotation(piece.text, group[0].concept)
            if piece.id in used or not ids & set(piece.finding_ids) or not quote:
                continue
            used.add(piece.id)
            text = f"Literature on {wording.noun(group[0].concept)}: “{quote}” ({cited(piece.citation)})."
            about = tuple(each.id for each in group if each.id in piece.finding_ids)
            yield Sentence(text, Section.IMPRESSION, Grounding(finding_ids=about, evidence_ids=(piece.id,)))
            break


def quotation(text: str, concept: Code) -> str:
    """The whole sentence of a passage that says most of the concept, verbatim; "" when none is whole and short."""
    pattern = patterns_for([concept]).get(term_of(concept))
    sentences = re.split(r"(?<=[.!?])\s+(?=[A-Z0-9])", " ".join(text.split()))
    whole = [each for each in sentences if re.match(r"[A-Z0-9]", each) and each[-1:] in ".!?"]
    short = [each.rstrip(".") for each in whole if len(each.split()) <= MOST_WORDS]
    return max(
        short,
        key=lambda each: 2 * bool(pattern and pattern.search(each)) + bool(GENERAL.search(each)),
        default="",
    )


def cited(citation: Citation) -> str:
    """ "MacMahon et al., 2017"."""
    authors = [each for each in re.split(r"[,;]| and ", citation.authors) if each.strip()]
    if not authors:
        return f"{citation.title}, {citation.year}"
    return f"{authors[0].strip()}{' et al.' if len(authors) > 1 else ''}, {citation.year}"


def _absent(absent: Sequence[Finding], is_something: bool) -> Iterator[Sentence]:
    if not absent:
        return
    names = wording.listed(absent_names(absent), "or")
    if is_something:
        yield _grounded(f"No {names} is identified.", absent)
    else:
        yield _grounded(f"No abnormality among those assessed: no {names} is identified.", absent)


def _unread(unread: Sequence[Finding]) -> Iterator[Sentence]:
    if unread:
        names = unique(named(each) for each in organs_first(unread))
        verb = "was" if len(names) == 1 else "were"
        text = f"{wording.upper_first(wording.listed(names))} {verb} not assessed; the reasons are under findings."
        yield _grounded(text, unread)


def _no_conclusion(findings: Sequence[Finding]) -> Sentence:
    ids = tuple(each.id for each in findings)
    if not ids:
        why = "no expert has examined this study"
    elif any(each.concept not in codes.ANATOMY for each in findings):
        why = "nothing that was looked for could be assessed"
    else:
        why = "the experts have outlined organs and looked for nothing else"
    text = f"This report reaches no conclusion: {why}."
    return Sentence(text, Section.IMPRESSION, Grounding(finding_ids=ids, attributes=("Modality",)))
