"""Whether a sentence says what its references say: deterministic checks, one verdict of each kind for every sentence.

Verbatim quotations of cited evidence, and the cited reasons why something was not assessed, are set aside first;
what remains is checked. Restated facts of the study (indication, technique) cite DICOM attributes and no findings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from dicom_io.study import Study
from expert_models import codes
from expert_models.finding import Change, Comparison, Finding, Presence, Side
from medmllm import lexicon, wording
from medmllm.lexicon import Mention, Polarity
from medmllm.numbers import wrong_numbers
from medmllm.report import Check, CheckKind, Report, Section, Sentence, Verdict
from rag.evidence import Evidence

RESTATED = (Section.INDICATION, Section.TECHNIQUE)
AGREES = {
    Polarity.PRESENT: {Presence.PRESENT},
    Polarity.UNCERTAIN: {Presence.INDETERMINATE, Presence.PRESENT},
    Polarity.ABSENT: {Presence.ABSENT},
    Polarity.NOT_ASSESSED: {Presence.NOT_ASSESSED},
}
OPAQUE = ("consolidation", "pneumonia")  # terms of what is an opacity on a film
HEART = re.compile(r"\bheart\b", re.IGNORECASE)
LOBES = {"upper": codes.UPPER_LOBE, "middle": codes.MIDDLE_LOBE, "lower": codes.LOWER_LOBE}


@dataclass(frozen=True, slots=True)
class Cited:
    """What a sentence refers to, looked up. findings: the cited ones and those behind cited comparisons."""

    findings: tuple[Finding, ...]
    comparisons: tuple[Comparison, ...]
    evidence: tuple[Evidence, ...]
    resolved: tuple[Finding, ...]  # the prior's record of what a cited comparison calls resolved
    earlier: tuple[Finding, ...]  # the prior's record behind every cited comparison


def verify(report: Report, study: Study | None = None) -> Report:
    """The report with five checks on each sentence: laterality, negation, number, change, support.

    study, where given, lets intervals ("3 months earlier") be checked as well. Checks of other kinds are kept.
    """
    return replace(report, sentences=tuple(check(sentence, report, study) for sentence in report.sentences))


def check(sentence: Sentence, report: Report, study: Study | None = None) -> Sentence:
    """One sentence with its checks; the rules are in docs/writing.md."""
    cited = look_up(sentence, report)
    text = without_quotations(sentence.text, cited)
    named = lexicon.mentions(text, lexicon.patterns_for([each.concept for each in report.findings + cited.earlier]))
    is_restated = sentence.section in RESTATED and bool(sentence.grounding.attributes) and not cited.findings
    is_seen = rests_on_places(sentence)
    reached = _reached(sentence, study) if is_seen else set()
    problems = {
        CheckKind.LATERALITY: _place(text, reached) if is_seen else _laterality(text, named, cited),
        CheckKind.NEGATION: _contradicted(text, named, reached, report)
        if is_seen
        else _negation(text, named, cited, report),
        CheckKind.NUMBER: wrong_numbers(text, cited.findings + cited.earlier, cited.comparisons, cited.evidence, study),
        CheckKind.CHANGE_WITHOUT_PRIOR: (
            _seen_change(text, named, reached, report, study) if is_seen else _change(text, sentence, cited)
        ),
        CheckKind.UNSUPPORTED: _unsupported(text, sentence, named, cited, report),
    }
    kept = tuple(each for each in sentence.checks if each.kind not in problems)
    made = tuple(_verdict(kind, None if is_restated else problem) for kind, problem in problems.items())
    return replace(sentence, checks=made + kept)


def rests_on_places(sentence: Sentence) -> bool:
    """Whether a sentence cites nothing but places on the pictures: what a model saw, and no expert was asked about."""
    grounding = sentence.grounding
    cited = (*grounding.finding_ids, *grounding.comparison_ids, *grounding.evidence_ids, *grounding.attributes)
    return bool(grounding.regions) and not cited


def _verdict(kind: CheckKind, problem: str | None) -> Check:
    return Check(kind, Verdict.FAILED, problem) if problem else Check(kind, Verdict.PASSED)


def look_up(sentence: Sentence, report: Report) -> Cited:
    """The findings, comparisons and evidence that a sentence cites."""
    grounding = sentence.grounding
    known = {each.id: each for each in report.findings}
    comparisons = tuple(each for each in report.comparisons if each.id in grounding.comparison_ids)
    ids = [*grounding.finding_ids, *(each.finding_id for each in comparisons if each.finding_id)]
    return Cited(
        findings=tuple(known[each] for each in dict.fromkeys(ids) if each in known),
        comparisons=comparisons,
        evidence=tuple(each for each in report.evidence if each.id in grounding.evidence_ids),
        resolved=tuple(e.prior_finding for e in comparisons if e.change is Change.RESOLVED and e.prior_finding),
        earlier=tuple(each.prior_finding for each in comparisons if each.prior_finding),
    )


def without_quotations(text: str, cited: Cited) -> str:
    """The text less verbatim quotations of cited evidence, less cited reasons, titles and experts' names."""
    text = " ".join(text.split())
    sources = [" ".join(each.text.split()).casefold() for each in cited.evidence]

    def keep(match: re.Match[str]) -> str:
        words = match.group(1).strip().rstrip(".").casefold()
        return "" if any(words in source for source in sources) else match.group(0)

    text = re.sub(r"[“\"]([^”\"]+)[”\"]", keep, text)
    said = [each.reason for each in cited.findings] + [each.citation.title for each in cited.evidence]
    said += [wording.expert(each.expert) for each in cited.findings]
    for reason in sorted({" ".join(each.split()).rstrip(". ") for each in said if each.strip()}, key=len, reverse=True):
        text = re.sub(re.escape(reason), "", text, flags=re.IGNORECASE)
    return text


def _term(finding: Finding) -> str:
    return lexicon.term_of(finding.concept)


def _of(mention: Mention, findings: Iterable[Finding]) -> list[Finding]:
    return [each for each in findings if _term(each) == mention.term]


def _sides(finding: Finding) -> set[Side]:
    """Every side that the finding lets a sentence name."""
    everywhere = {Side.LEFT, Side.RIGHT, Side.BILATERAL}
    if finding.side is Side.BILATERAL or (finding.side is None and finding.presence is Presence.ABSENT):
        return everywhere
    said: set[Side] = {finding.side} if finding.side else set()
    if finding.site is not None:
        said |= {Side.RIGHT} if finding.site == codes.MIDDLE_LOBE else lexicon.sides(finding.site.meaning)
    return said


def _covers(findings: Sequence[Finding], side: Side) -> bool:
    covered = {side for each in findings for side in _sides(each)}
    return side in covered or (side is Side.BILATERAL and {Side.LEFT, Side.RIGHT} <= covered)


def _laterality(text: str, named: Sequence[Mention], cited: Cited) -> str | None:
    findings = [*cited.findings, *cited.earlier]
    for side in sorted(lexicon.sides(text)):
        if not _covers(findings, side):
            theirs = sorted({each for finding in findings for each in _sides(finding)})
            return f"says {side.value}; what it cites says {', '.join(theirs) or 'no side'}"
    for mention in named:
        about = _of(mention, findings)
        for side in sorted(lexicon.sides(mention.phrase)):
            if about and not _covers(about, side):
                return f"says {side.value} of {mention.term}; what it cites does not"
    return None


def _reached(sentence: Sentence, study: Study | None) -> set[Side]:
    """The sides that the places of a sentence reach. The patient's right is on the left of the picture."""
    reached: set[Side] = set()
    for series in study.series if study else ():
        middle = series.volume.shape[2] / 2
        for region in sentence.grounding.regions:
            if region.series_uid == series.uid:
                reached |= {Side.RIGHT} if region.box.start[2] < middle else set()
                reached |= {Side.LEFT} if region.box.stop[2] > middle else set()
    return reached


def _each_side(sides: Iterable[Side]) -> set[Side]:
    """Right and left in place of both."""
    return {one for each in sides for one in ((Side.LEFT, Side.RIGHT) if each is Side.BILATERAL else (each,))}


def _place(text: str, reached: set[Side]) -> str | None:
    """A side that the places of a sentence do not reach."""
    for side in sorted(lexicon.sides(text)) if reached else ():
        if not _each_side([side]) <= reached:
            return f"says {side.value}; the place that it names lies on the {next(iter(reached)).value}"
    return None


def _contradicted(text: str, named: Sequence[Mention], reached: set[Side], report: Report) -> str | None:
    """What an expert says otherwise of the same thing, on any of the sides that are named, or else reached.

    On a film every consolidation is an opacity, so that where an expert sees no opacity there is none.
    """
    read = [each for each in report.findings if each.presence is not Presence.NOT_ASSESSED]
    clear = [each for each in read if each.concept == codes.LUNG_OPACITY and each.presence is Presence.ABSENT]
    for mention in named:
        is_denied = mention.polarity is Polarity.ABSENT
        agreeing = AGREES[mention.polarity] | (set() if is_denied else {Presence.INDETERMINATE})
        about = _of(mention, read) + (clear if mention.term in OPAQUE and not is_denied else [])
        said = lexicon.sides(text if len(named) == 1 else mention.phrase)
        sides: list[Side | None] = [*sorted(_each_side(said) or reached)]
        for side in sides or [None]:
            here = [each for each in about if side is None or side in _sides(each) or not _sides(each)]
            agree = [each.presence in agreeing for each in here]
            if here and not (all(agree) if is_denied else any(agree)):
                other = here[agree.index(False)]
                return f"says {mention.term} is {mention.polarity.value}; {other.id} says {other.presence.value}"
    return None


def _seen_change(
    text: str, named: Sequence[Mention], reached: set[Side], report: Report, study: Study | None
) -> str | None:
    """A change without a prior picture, or one of which an expert's comparison on the same side says otherwise."""
    words = lexicon.changes(text)
    if words and not (study and study.priors):
        return f"speaks of change (“{words[0][1]}”), and there is no prior study"
    known = {each.id: each for each in report.findings}
    terms = {each.term for each in named}
    terms |= {lexicon.term_of(each) for each in (codes.CARDIOMEGALY, codes.HEART)} if HEART.search(text) else set()
    sides = _each_side(lexicon.sides(text)) or reached
    made = set()
    for comparison in report.comparisons:
        about = known.get(comparison.finding_id or "") or comparison.prior_finding
        if about and _term(about) in terms and (not sides or not _sides(about) or sides & _sides(about)):
            made.add(comparison.change)
    return _against(text, made, "the comparison of the experts") if made else None


def _against(text: str, made: set[Change], whose: str) -> str | None:
    """A change that the text claims and comparisons do not, or denies and one of them says."""
    theirs = ", ".join(sorted(each.value for each in made))
    for change, word in lexicon.changes(text):
        if change is not None and change not in made:
            return f"says “{word}”; {whose} says {theirs}"
    for change, word in lexicon.denied_changes(text):
        if change in made:
            return f"denies “{word}”; {whose} says {theirs}"
    return None


def _general(text: str, mention: Mention, cited: Cited) -> bool:
    """True where the sentence speaks of the literature and not of the patient."""
    begin = max(text.rfind(end, 0, mention.start) for end in ("; ", ". ")) + 1
    stop = min((at for end in ("; ", ". ") if (at := text.find(end, mention.stop)) >= 0), default=len(text))
    return bool(cited.evidence) and bool(lexicon.GENERAL.search(text[begin:stop]))


def _negation(text: str, named: Sequence[Mention], cited: Cited, report: Report) -> str | None:
    for mention in named:
        about = _of(mention, cited.findings)
        gone = _of(mention, cited.resolved)
        if _general(text, mention, cited) or not (about or gone):
            continue
        named_sides = lexicon.sides(mention.phrase)
        fitting = [each for each in about if not named_sides or named_sides & _sides(each)] or about
        states = {each.presence for each in fitting} | ({Presence.ABSENT} if gone else set())
        if not states & AGREES[mention.polarity]:
            theirs = ", ".join(sorted(state.value.replace("_", " ") for state in states))
            return f"says {mention.term} is {mention.polarity.value}; what it cites says {theirs}"
    if lexicon.NORMAL_HEART.search(text):
        hearts = {each.presence for each in cited.findings if each.concept == codes.CARDIOMEGALY}
        if hearts and hearts != {Presence.ABSENT}:
            return "says the heart is normal; what it cites does not"
    return None


def _change(text: str, sentence: Sentence, cited: Cited) -> str | None:
    words = lexicon.changes(text)
    if not words or sentence.section in RESTATED:
        return None
    if not cited.comparisons:
        if sentence.section is Section.COMPARISON and sentence.grounding.attributes:
            return None  # restates whether there is a prior
        return f"speaks of change (“{words[0][1]}”) and cites no comparison"
    return _against(text, {each.change for each in cited.comparisons}, "the comparison it cites")


def _unsupported(text: str, sentence: Sentence, named: Sequence[Mention], cited: Cited, report: Report) -> str | None:
    if not sentence.grounding:
        return "cites nothing"
    if sentence.section is Section.COMPARISON and sentence.grounding.attributes:
        return None
    theirs = [each for each in named if each.term in lexicon.DEVICES] if rests_on_places(sentence) else named
    if wrong := _says_nothing(text, named, sentence, cited) or _quality(text, theirs, cited):
        return wrong
    for mention in theirs:
        if _of(mention, [*cited.findings, *cited.resolved]) or _calcified(mention, cited):
            continue
        if mention.polarity is Polarity.NOT_ASSESSED:
            answered = [e for e in _of(mention, report.findings) if e.presence is not Presence.NOT_ASSESSED]
            if not answered:
                continue
            return f"says {mention.term} was not assessed; the report holds an assessment ({answered[0].id})"
        if _general(text, mention, cited) and _evidence_names(mention, cited):
            continue
        return f"names {mention.term}, which nothing that it cites does"
    return _normality(text, cited, report) or _lobe(text, cited)


def _says_nothing(text: str, named: Sequence[Mention], sentence: Sentence, cited: Cited) -> str | None:
    """Words that name neither what they cite, nor a measurement or a change of it: no check could fail on them.

    text: without what was quoted. A word that only looks back ("since the prior") is no change.
    """
    is_change = any(change is not None for change, _ in lexicon.changes(text)) or bool(lexicon.denied_changes(text))
    if rests_on_places(sentence):
        is_known = bool(named) or lexicon.NORMAL_HEART.search(text) or (HEART.search(text) and is_change)
        return None if is_known else "names nothing that can be checked"
    grounding = sentence.grounding
    if grounding.attributes or sentence.section is Section.COMPARISON:
        return None
    if cited.evidence and (text != " ".join(sentence.text.split()) or lexicon.GENERAL.search(text)):
        return None
    words = text.casefold()
    about = [*cited.findings, *cited.earlier]
    measured = [one.code for each in about for one in each.measurements]
    names = [each.concept.meaning for each in about] + [wording.noun(each.concept) for each in about]
    names += [name for each in measured for name in (wording.quantity(each), each.meaning)]
    is_named = bool(named) or any(each.casefold() in words for each in names)
    return None if is_named or (is_change and cited.comparisons) else "names nothing of what it cites"


def _quality(text: str, named: Sequence[Mention], cited: Cited) -> str | None:
    """Words for a quality ("part-solid") that no cited finding has."""
    findings = [*cited.findings, *cited.earlier]
    values = {each.value for finding in findings for each in finding.attributes}
    for value, match in lexicon.qualities(text):
        mention = next((each for each in named if each.start == match.start()), None)
        if value in values:
            if mention and not _calcified(mention, cited):
                return f"denies “{match.group()}”; what it cites says so"
            continue
        if any(lexicon.QUALITIES[value].search(each.concept.meaning) for each in findings):
            continue
        at = mention or Mention(match.group(), Polarity.PRESENT, match.start(), match.end(), "")
        if _general(text, at, cited) and any(lexicon.QUALITIES[value].search(each.text) for each in cited.evidence):
            continue
        if mention is None or mention.polarity is Polarity.PRESENT:
            theirs = ", ".join(sorted({each.meaning.lower() for each in values})) or "nothing of it"
            return f"says “{match.group()}”; what it cites says {theirs}"
    return None


def _calcified(mention: Mention, cited: Cited) -> bool:
    """Whether it is calcium that a cited finding has as an attribute, and the sentence does not deny it."""
    if mention.term != "calcification" or mention.polarity is Polarity.NOT_ASSESSED:
        return False
    fitting = cited.resolved if mention.polarity is Polarity.ABSENT else (*cited.findings, *cited.earlier)
    return any(each.value == codes.CALCIFIED for finding in fitting for each in finding.attributes)


def _evidence_names(mention: Mention, cited: Cited) -> bool:
    pattern = lexicon.COMPILED.get(mention.term) or re.compile(re.escape(mention.term), re.IGNORECASE)
    return any(pattern.search(each.text) for each in cited.evidence)


def _normality(text: str, cited: Cited, report: Report) -> str | None:
    """Experts answer single questions: "normal" as a whole is never among their answers."""
    if lexicon.NORMAL_HEART.search(text):
        if any(each.concept == codes.CARDIOMEGALY for each in cited.findings):
            text = lexicon.NORMAL_HEART.sub("", text)
        else:
            return "calls the heart normal and cites no finding on it"
    if not (claim := lexicon.NORMALITY.search(text)):
        return None
    if not lexicon.AMONG_ASSESSED.search(text):
        return f"says “{claim.group()}”; no expert has looked at everything"
    doubtful = (Presence.PRESENT, Presence.INDETERMINATE)
    contrary = [e for e in report.findings if e.presence in doubtful and e.concept not in codes.ANATOMY]
    if contrary:
        return f"says “{claim.group()}”; {contrary[0].id} is {contrary[0].presence.value}"
    return None


def _lobe(text: str, cited: Cited) -> str | None:
    sites = {each.site for each in (*cited.findings, *cited.earlier) if each.site}
    meanings = " ".join(site.meaning.lower() for site in sites)
    for match in lexicon.LOBE_WORD.finditer(text):
        word = (match.group("lobe") or match.group("lingula")).lower()
        if LOBES.get(word) not in sites and not re.search(rf"\b{word}\b", meanings):
            return f"names the {match.group().lower()}; what it cites lies elsewhere or nowhere stated"
    return None
