"""Sentences on what became of findings since the prior study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dicom_io.study import Study
from expert_models import codes
from expert_models.finding import Change, Comparison, Finding, Presence
from medmllm import wording
from medmllm.report import Grounding, Section, Sentence
from medmllm.statements import named, series_of, size


def comparison_statements(
    comparisons: Sequence[Comparison], findings: Sequence[Finding], study: Study
) -> Iterator[Sentence]:
    """What became of each finding, with both sizes and the growth where they were measured."""
    known = {each.id: each for each in findings}
    for comparison in comparisons:
        finding = known.get(comparison.finding_id or "")
        yield change_sentence(comparison, finding, study, Section.FINDINGS)
        yield from _views_differ(comparison, finding, study)


def change_sentence(
    comparison: Comparison, finding: Finding | None, study: Study, section: Section, brief: bool = False
) -> Sentence:
    """One comparison in words. brief leaves the sizes out, for the impression."""
    told = "" if brief else sizes(comparison, finding)
    text = f"{_change(comparison, finding, wording.earlier_study(study, comparison.prior_study_uid))}{told}."
    return Sentence(
        text,
        section,
        Grounding(
            finding_ids=(finding.id,) if finding else (),
            comparison_ids=(comparison.id,),
            regions=finding.regions if finding else (),
        ),
    )


def _subject(finding: Finding) -> str:
    if finding.concept == codes.CARDIOMEGALY:
        return "The heart"
    possible = (
        "possible " if finding.presence is Presence.INDETERMINATE and finding.concept not in codes.ANATOMY else ""
    )
    name = wording.sided(finding) if finding.concept in codes.ANATOMY else wording.thing(finding)
    return f"The {possible}{name}"


def _change(comparison: Comparison, finding: Finding | None, earlier: str) -> str:
    """The sentence without its sizes and full stop."""
    if finding is None:
        return _resolved(comparison.prior_finding, earlier) if comparison.prior_finding else f"Resolved since {earlier}"
    is_measured = finding.concept in codes.ANATOMY or finding.concept == codes.CARDIOMEGALY
    if finding.presence is Presence.NOT_ASSESSED:
        return f"{wording.upper_first(named(finding))} was not assessed, so nothing is compared with {earlier}"
    if finding.presence is Presence.ABSENT and (not is_measured or comparison.change is Change.NEW):
        if finding.concept in codes.ANATOMY:
            return f"{wording.upper_first(named(finding))} was not found, so nothing is compared with {earlier}"
        return f"No {wording.thing(finding)} is identified, so nothing is compared with {earlier}"
    match comparison.change:
        case Change.NEW if finding.concept == codes.CARDIOMEGALY:
            possible = "Possible enlargement" if finding.presence is Presence.INDETERMINATE else "Enlargement"
            return f"{possible} of the heart is new since {earlier}"
        case Change.NEW if finding.concept in codes.ANATOMY:
            return f"{wording.upper_first(named(finding))} was not outlined in {earlier}"
        case Change.NEW:
            return f"{_subject(finding)} is new since {earlier}"
        case Change.LARGER:
            return f"{_subject(finding)} is larger than in {earlier}"
        case Change.SMALLER:
            return f"{_subject(finding)} is smaller than in {earlier}"
        case _:
            return f"{_subject(finding)} is unchanged since {earlier}"


def _resolved(prior: Finding, earlier: str) -> str:
    if prior.concept == codes.CARDIOMEGALY:
        return f"The heart is no longer enlarged, unlike in {earlier}"
    if prior.concept in codes.ANATOMY:
        return f"The {wording.sided(prior)}, outlined in {earlier}, is no longer outlined"
    return f"The {wording.thing(prior)} of {earlier} is no longer identified"


def sizes(comparison: Comparison, finding: Finding | None) -> str:
    """ ": 14 × 11 mm, previously 12 × 9 mm (an increase in volume of 40%)", "" where nothing was measured."""
    prior = comparison.prior_finding
    if finding is None:
        before = size(prior) if prior else ""
        return f" (previously {before})" if before else ""
    if finding.presence is Presence.NOT_ASSESSED or (
        finding.presence is Presence.ABSENT and finding.concept not in (codes.CARDIOMEGALY, *codes.ANATOMY)
    ):
        return ""
    now, before = size(finding), size(prior) if prior else ""
    if comparison.change is Change.NEW or not (now and before):
        return f" ({now})" if now else ""
    for code in (codes.CARDIOTHORACIC_RATIO, codes.VOLUME):
        if now.startswith(name := f"{wording.quantity(code)} "):
            before = before.removeprefix(name)
    text = f": {now}, previously {before}"
    if comparison.growth is None:
        return text
    # growth is that of the volume where both have one; said when the sizes before it are others
    is_of_volume = bool(prior and prior.measurement(codes.VOLUME) and finding.measurement(codes.VOLUME))
    what = " in volume" if is_of_volume and not now.startswith(wording.quantity(codes.VOLUME)) else ""
    grown = _growth(comparison.change, comparison.growth, what)
    if comparison.doubling_time is not None:
        grown += f", {wording.measured([comparison.doubling_time])}"
    return f"{text} ({grown})"


def _growth(change: Change, growth: float, what: str) -> str:
    amount = f"{what} of {abs(100 * growth):.0f}%"
    if change is Change.LARGER and growth > 0:
        return f"an increase{amount}"
    if change is Change.SMALLER and growth < 0:
        return f"a decrease{amount}"
    return f"a difference{amount}"


def _views_differ(comparison: Comparison, finding: Finding | None, study: Study) -> Iterator[Sentence]:
    prior_study = next((each for each in study.priors if each.uid == comparison.prior_study_uid), None)
    if finding is None or comparison.prior_finding is None or prior_study is None:
        return
    series, before = series_of(finding, study), series_of(comparison.prior_finding, prior_study)
    if series is None or before is None or not (series.modality.is_projection and before.modality.is_projection):
        return
    now, then = wording.view(series), wording.view(before)
    if now != then:
        text = (
            f"The views differ ({now or 'not stated'} now, {then or 'not stated'} in the prior study): "
            "part of any change may be due to projection."
        )
        ids = Grounding(finding_ids=(finding.id,), comparison_ids=(comparison.id,), attributes=("ViewPosition",))
        yield Sentence(text, Section.FINDINGS, ids)
