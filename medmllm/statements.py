"""Sentences on single findings: the body of the template's findings section."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from dicom_io.study import Series, Study
from expert_models import codes
from expert_models.finding import Code, ExpertTag, Finding, Measurement, Presence, Region, Side
from medmllm import wording
from medmllm.report import Grounding, Section, Sentence

MOST_OF_A_KIND = 8  # findings of one kind with a sentence each; the smaller ones beyond share one


def finding_statements(findings: Sequence[Finding], study: Study) -> Iterator[Sentence]:
    """Organs first, then what is present, indeterminate, absent, and not assessed with the reason."""
    assessed = [each for each in findings if each.presence is not Presence.NOT_ASSESSED]
    yield from _organs([each for each in assessed if each.concept in codes.ANATOMY])
    for presence in (Presence.PRESENT, Presence.INDETERMINATE, Presence.ABSENT):
        kinds = _by_concept(e for e in assessed if e.presence is presence and e.concept not in codes.ANATOMY)
        if presence is Presence.ABSENT:
            kinds, groups = _absent_together(kinds)
            for group in groups:
                yield _sentence(f"No {wording.listed(absent_names(group), 'or')} is identified.", group)
        for kind in kinds:
            if presence is Presence.ABSENT and on_neither_side(kind):
                yield _sentence(f"No {wording.noun(kind[0].concept)} is identified on either side.", kind)
                continue
            alone, together = kind[:MOST_OF_A_KIND], kind[MOST_OF_A_KIND:]
            for finding in alone:
                yield _sentence(_statement(finding, study), [finding])
                yield from _magnified(finding, study)
            if together:
                yield _sentence(_rest(together), together)
    yield from not_assessed(findings)


def not_assessed(findings: Sequence[Finding]) -> Iterator[Sentence]:
    """What an expert was asked and could not answer: one sentence for each expert and reason."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        if finding.presence is Presence.NOT_ASSESSED:
            groups.setdefault((wording.expert(finding.expert), wording.clause(finding.reason)), []).append(finding)
    for (expert, reason), group in groups.items():
        names = unique(named(each) for each in organs_first(group))
        verb = "was" if len(names) == 1 else "were"
        text = f"{wording.upper_first(wording.listed(names))} {verb} not assessed by {expert}: {reason}."
        yield _sentence(text, group)


def named(finding: Finding) -> str:
    """The finding as the subject of a sentence; organs take an article."""
    return f"the {wording.sided(finding)}" if finding.concept in codes.ANATOMY else wording.thing(finding)


def organs_first(findings: Iterable[Finding]) -> list[Finding]:
    """Organs before pathologies: "the heart" late in a list would read as the start of a new clause."""
    return sorted(findings, key=lambda each: each.concept not in codes.ANATOMY)


def _absent_together(kinds: Sequence[list[Finding]]) -> tuple[list[list[Finding]], list[list[Finding]]]:
    """Kinds of absent findings: those with a sentence each, and groups of several of one expert that share one.

    A finding with a measurement, and an expert who is asked for one kind alone, keep their own sentences.
    """
    groups: dict[ExpertTag, list[list[Finding]]] = {}
    for kind in kinds:
        experts = {each.expert for each in kind}
        if len(experts) == 1 and not any(each.measurements for each in kind):
            groups.setdefault(kind[0].expert, []).append(kind)
    shared = [group for group in groups.values() if len(group) > 1]
    alone = [kind for kind in kinds if not any(kind in group for group in shared)]
    return alone, [[finding for kind in group for finding in kind] for group in shared]


def on_neither_side(absent: Sequence[Finding]) -> bool:
    """Whether findings of one concept that are absent are one of each side, of one expert."""
    sides = [each.side for each in absent]
    return sorted(filter(None, sides)) == [Side.LEFT, Side.RIGHT] and len({each.expert for each in absent}) == 1


def absent_names(absent: Sequence[Finding]) -> list[str]:
    """What is absent, each once; without its side where it is absent on both."""
    names = []
    for kind in _by_concept(absent):
        names += [wording.noun(kind[0].concept)] if on_neither_side(kind) else [wording.thing(each) for each in kind]
    return unique(names)


def unique(words: Iterable[str]) -> list[str]:
    """The words without repeats, in order."""
    return list(dict.fromkeys(words))


def size(finding: Finding) -> str:
    """The leading measurement: the axes, else the cardiothoracic ratio, else the volume, else the first one."""
    if text := wording.axes(finding):
        return text
    leading = (finding.measurement(code) for code in (codes.CARDIOTHORACIC_RATIO, codes.VOLUME))
    first = next((each for each in leading if each), next(iter(finding.measurements), None))
    return wording.measured([first]) if first else ""


def by_size(findings: Iterable[Finding]) -> list[Finding]:
    """Largest long axis or volume first; what was not measured last, in its own order."""

    def extent(finding: Finding) -> float:
        measurement = finding.measurement(codes.LONG_AXIS) or finding.measurement(codes.VOLUME)
        return measurement.value if measurement else 0.0

    return sorted(findings, key=extent, reverse=True)


def series_of(finding: Finding, study: Study) -> Series | None:
    """The series a finding was read from: that of its region or line, or the study's only one."""
    uids = [region.series_uid for region in finding.regions]
    uids += [line.series_uid for measurement in finding.measurements for line in measurement.lines]
    for series in study.series:
        if series.uid in uids:
            return series
    return study.series[0] if len(study.series) == 1 and not uids else None


def _sentence(text: str, findings: Sequence[Finding], attributes: tuple[str, ...] = ()) -> Sentence:
    regions: tuple[Region, ...] = tuple(region for each in findings for region in each.regions)
    ids = tuple(each.id for each in findings)
    return Sentence(text, Section.FINDINGS, Grounding(finding_ids=ids, regions=regions, attributes=attributes))


def _by_concept(findings: Iterable[Finding]) -> list[list[Finding]]:
    groups: dict[Code, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.concept, []).append(finding)
    return [by_size(group) for group in groups.values()]


def _organs(organs: Sequence[Finding]) -> Iterator[Sentence]:
    present = [each for each in organs if each.presence is Presence.PRESENT]
    lungs = [each for each in present if each.concept == codes.LUNG and each.measurement(codes.VOLUME)]
    if lungs:
        parts = [f"the {wording.sided(each)} has {_volume(each)}" for each in lungs]
        yield _sentence(f"{wording.upper_first(wording.listed(parts))}.", lungs)
    for organ in present:
        if (told := _told(organ)) and organ not in lungs:
            yield _sentence(f"The {wording.sided(organ)} measures: {wording.measured(told)}.", [organ])
    outlined = [each for each in present if not _told(each)]
    if outlined:
        verb = "is" if len(unique(named(each) for each in outlined)) == 1 else "are"
        names = wording.listed(unique(named(each) for each in outlined))
        yield _sentence(f"{wording.upper_first(names)} {verb} outlined on the images.", outlined)
    for organ in organs:
        if organ.presence is Presence.INDETERMINATE:
            yield _sentence(f"The {wording.sided(organ)} could not be outlined with confidence.", [organ])
        elif organ.presence is Presence.ABSENT:
            yield _sentence(f"The {wording.sided(organ)} was not found on the images.", [organ])


def _told(organ: Finding) -> list[Measurement]:
    """The measurements of an organ that have a sentence; the areas of lungs stand in the table alone."""
    return [each for each in organ.measurements if each.code != codes.LUNG_AREA_RATIO]


def _volume(lung: Finding) -> str:
    volume = [each for each in lung.measurements if each.code == codes.VOLUME]
    others = [each for each in lung.measurements if each.code != codes.VOLUME]
    text = f"a volume of {wording.number(volume[0].value, volume[0].unit)}"
    return f"{text} ({wording.measured(others)})" if others else text


def _statement(finding: Finding, study: Study) -> str:
    on = _where_shown(finding, study)
    match finding.presence:
        case Presence.PRESENT if finding.concept == codes.CARDIOMEGALY:
            return f"The heart is enlarged{on}{_details(finding, study)}."
        case Presence.ABSENT if finding.concept == codes.CARDIOMEGALY:
            return f"The heart is not enlarged{on}{_details(finding, study)}."
        case Presence.INDETERMINATE if finding.concept == codes.CARDIOMEGALY:
            return f"Whether the heart is enlarged is indeterminate{on}{_details(finding, study)}."
        case Presence.PRESENT:
            phrase = _with_size(finding)
            article = f"{_article(phrase)} " if finding.concept in wording.COUNTABLE else ""
            return f"There is {article}{phrase}{on}{_details(finding, study)}."
        case Presence.INDETERMINATE:
            start = "A possible" if finding.concept in wording.COUNTABLE else "Possible"
            return f"{start} {_with_size(finding)} is indeterminate{on}{_details(finding, study)}."
        case _:
            return f"No {wording.thing(finding)} is identified{on}."


def _article(phrase: str) -> str:
    first = phrase.split(" ", 1)[0]
    whole = first.split(".", 1)[0]
    is_an = first[:1].lower() in "aeiou" or whole.startswith("8") or whole in ("11", "18")
    return "an" if is_an else "a"


def _with_size(finding: Finding) -> str:
    extent = wording.axes(finding)
    return f"{extent} {wording.thing(finding)}" if extent else wording.thing(finding)


def _details(finding: Finding, study: Study) -> str:
    """Probability where indeterminate, slice, and every measurement that the sentence has not yet said."""
    details = []
    if finding.presence is Presence.INDETERMINATE and finding.probability is not None:
        details.append(f"calibrated probability {wording.percent(finding.probability)}")
    if slice_words := _slice(finding, study):
        details.append(slice_words)
    said = (codes.LONG_AXIS, codes.SHORT_AXIS) if wording.axes(finding) else ()
    rest: list[Measurement] = [each for each in finding.measurements if each.code not in said]
    if rest:
        details.append(wording.measured(rest))
    if any(each.unit == codes.PIXEL for each in finding.measurements):
        return f" ({', '.join(details)}; the image states no spacing)"
    return f" ({', '.join(details)})" if details else ""


def _slice(finding: Finding, study: Study) -> str:
    """The slice that shows a CT finding best, counted from 1."""
    series = series_of(finding, study)
    if series is None or series.modality.is_projection or not finding.regions:
        return ""
    region = finding.regions[0]
    if region.series_uid != series.uid:
        return ""
    best = series.source.index(region.instance_uid) if region.instance_uid in series.source else -1
    if not region.box.start[0] <= best < region.box.stop[0]:
        best = int(region.box.centre[0])
    return f"slice {best + 1} of {series.volume.shape[0]}"


def _where_shown(finding: Finding, study: Study) -> str:
    """Which picture, where the study has several radiographs."""
    pictures = [series for series in study.series if series.modality.is_projection]
    series = series_of(finding, study)
    if series is None or len(pictures) < 2 or series not in pictures:
        return ""
    name = wording.view(series)
    alike = [each for each in pictures if wording.view(each) == name]
    if name and len(alike) == 1:
        return f" on the {name} view"
    return f" on radiograph {pictures.index(series) + 1} of {len(pictures)}"


def _rest(findings: Sequence[Finding]) -> str:
    """One sentence for the smaller ones of a kind."""
    concept, number = findings[0].concept, len(findings)
    possible = "possible " if findings[0].presence is Presence.INDETERMINATE else ""
    if findings[0].presence is Presence.ABSENT:
        return f"No {wording.listed(unique(wording.thing(each) for each in findings), 'or')} is identified."
    several = f"{wording.noun(concept)}s" if concept in wording.COUNTABLE and number > 1 else wording.noun(concept)
    if concept not in wording.COUNTABLE:
        several = f"places with {wording.noun(concept)}" if number > 1 else f"place with {wording.noun(concept)}"
    largest = wording.axes(findings[0])
    upto = f", measuring up to {largest}" if largest else ""
    is_or_are = "is" if number == 1 else "are"
    extra = "one further" if number == 1 else f"a further {wording.count(number)}"
    tail = ", indeterminate" if possible else ""
    return f"There {is_or_are} {extra} {possible}{several}{upto}{tail}."


def _magnified(finding: Finding, study: Study) -> Iterator[Sentence]:
    """The cardiothoracic ratio holds for a PA view; any other view is said with it."""
    series = series_of(finding, study)
    if finding.measurement(codes.CARDIOTHORACIC_RATIO) is None or (series and not series.modality.is_projection):
        return
    name = wording.view(series) if series else None
    if name == "PA":
        return
    if name == "AP":
        text = "The view is AP, which magnifies the heart: the cardiothoracic ratio overstates its true size."
    elif name:
        text = f"The cardiothoracic ratio is defined for a PA view; this view is {name}."
    else:
        text = (
            "The view position is not stated: on an AP view the heart is magnified, and the cardiothoracic ratio "
            "would overstate its true size."
        )
    yield _sentence(text, [finding], ("ViewPosition",))
