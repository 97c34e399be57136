"""The writer with a language model: it asks, checks, asks once more, and never lets an unchecked sentence stand.

Facts of the study (indication, technique, comparison, what was not assessed) are the template's. The model writes
findings and impression; whatever fails its checks twice, or was left out, is said in the template's words. What rests
on a place alone is what the model sees and no expert says: it is kept where no expert contradicts, and counted. That
something is not there is never said on such ground.

A model that reads briefs adds what it sees to what the template says of the experts' findings.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

from dicom_io.study import Study
from expert_models.finding import Code, Comparison, Finding, Presence
from medmllm import lexicon, wording
from medmllm.brief import NO_CHEST, NOTHING_MORE
from medmllm.errors import ModelUnavailable, Ungrounded, WriterError
from medmllm.lexicon import Polarity
from medmllm.parse import Answer, parse
from medmllm.ports import LanguageModel, Prompt
from medmllm.prompt import build_prompt, repair_prompt
from medmllm.report import Check, Report, Section, Sentence, Verdict
from medmllm.template import EXPECTED, TemplateWriter, scope
from medmllm.verify import rests_on_places, verify
from medmllm.views import Frame, views_of
from rag.evidence import Evidence

WRITTEN = (Section.FINDINGS, Section.IMPRESSION)  # the sections that the model writes

LOG = logging.getLogger(__name__)


class MllmWriter:
    """Satisfies medmllm.ports.Writer with a language model, and with the template where the model fails."""

    def __init__(self, model: LanguageModel | None, fallback: TemplateWriter, is_checked: bool = True) -> None:
        self._model = model
        self._fallback = fallback
        self._is_checked = is_checked

    def unchecked(self) -> MllmWriter:
        """The same, but a sentence stands whatever the checks say of it: to measure what they are worth."""
        return MllmWriter(self._model, self._fallback, is_checked=False)

    def write(
        self,
        study: Study,
        findings: Sequence[Finding],
        comparisons: Sequence[Comparison],
        evidence: Sequence[Evidence],
        notices: Sequence[str] = (),
    ) -> Report:
        """A draft report with writer "mllm:<name>"; "template", with a notice that says why, where the model failed."""
        base = self._fallback.write(study, findings, comparisons, evidence, notices)
        if self._model is None:
            return base
        try:
            return self._with_model(self._model, base, study)
        except WriterError as exc:
            why = f"{exc}".rstrip(".")
        except (TimeoutError, ConnectionError) as exc:
            why = f"it does not answer ({type(exc).__name__})"
        except Exception as exc:  # a defect on the model's path must cost the model's text, not the report
            LOG.exception("the language model's answer could not be used")
            why = f"its answer could not be used ({type(exc).__name__})"
        return replace(base, notices=(*base.notices, f"The language model did not write this report: {why}."))

    def _with_model(self, model: LanguageModel, base: Report, study: Study) -> Report:
        leading = [each for each in base.findings if each.led_by is None]
        pictures = views_of(study, leading, base.comparisons)
        prompt = build_prompt(study, leading, base.comparisons, base.evidence, pictures)
        frames = [each.frame for each in pictures]
        if model.reads_prose:
            draft = _draft(model, prompt, base, study, frames, self._is_checked)
        else:
            draft = _seen(model, prompt, base, study, frames)
        failed = [sentence for sentence in draft if self._is_checked and _failures(sentence)]
        kept = [sentence for sentence in draft if sentence not in failed]
        if not kept:
            return _without(model, base, len(failed))
        sentences = [each for each in base.sentences if each.section not in WRITTEN]
        added = 0
        for section in WRITTEN:
            own = [each for each in kept if each.section is section]
            if model.reads_prose:
                missing = _missing(base, own, [each for each in failed if each.section is section], section)
                sentences += [*own, *missing]
                added += sum(not _is_unread(each, base) for each in missing)
            else:
                sentences += _joined(base, own, section)
        seen = [each for each in kept if rests_on_places(each)]
        whole, rest = scope(base.findings), scope(base.findings, _concepts(seen))
        sentences = [replace(each, text=rest.text) if each.text == whole.text else each for each in sentences]
        report = replace(
            base,
            sentences=tuple(sentences),
            writer=f"mllm:{model.name}",
            notices=(*base.notices, *_notices(len(failed), added, len(seen))),
        )
        return verify(report, study)


def _without(model: LanguageModel, base: Report, failed: int) -> Report:
    """The template's report where no sentence of the model stands: Ungrounded, but for a model that need not add."""
    if model.reads_prose:
        raise Ungrounded("every sentence of its answer failed the checks, twice")
    nothing = "The language model adds nothing to what the experts say."
    return replace(base, notices=(*base.notices, *_notices(failed, 0, 0), nothing))


def _seen(
    model: LanguageModel, prompt: Prompt, base: Report, study: Study, frames: Sequence[Frame]
) -> tuple[Sentence, ...]:
    """What a model that reads briefs sees beyond the experts, checked; it rests on places, and on nothing else.

    What it says of changes is left out: the model that ships is right about seven in ten when it is asked, and
    about five in ten in a report (docs/models/wetread-cxr.md).
    """
    read = parse(model.complete(prompt), (), frames)
    if any(_means(each, NO_CHEST) for each in read.sentences):
        raise Ungrounded("it sees no chest on the picture")
    said = tuple(
        each
        for each in read.sentences
        if not (_denies(each) or lexicon.changes(each.text) or _means(each, NOTHING_MORE))
    )
    return verify(replace(base, sentences=said), study).sentences


def _joined(base: Report, own: Sequence[Sentence], section: Section) -> list[Sentence]:
    """What a model sees, after what experts found and before literature and what is not there or was not looked for."""
    template = base.section(section)
    known = {each.id: each for each in base.findings}
    negative = (Presence.ABSENT, Presence.NOT_ASSESSED)

    def comes_later(sentence: Sentence) -> bool:
        grounding = sentence.grounding
        cited = [known[each].presence for each in grounding.finding_ids]
        is_negative = bool(cited) and all(each in negative for each in cited)
        return is_negative or bool(grounding.attributes or grounding.evidence_ids)

    at = next((number for number, each in enumerate(template) if comes_later(each)), len(template))
    return [*template[:at], *own, *template[at:]]


def _draft(
    model: LanguageModel, prompt: Prompt, base: Report, study: Study, frames: Sequence[Frame], is_checked: bool
) -> tuple[Sentence, ...]:
    """The model's checked sentences: of its first answer where that holds or need not, else of the better of two."""
    first, problems, answer = _attempt(model, prompt, base, study, frames)
    if first and not (problems and is_checked):
        return first
    try:
        second, still, _ = _attempt(model, repair_prompt(prompt, answer, problems), base, study, frames)
    except ModelUnavailable:
        if not first:
            raise
        return first
    if not (first or second):
        raise Ungrounded(still[0])
    return min((each for each in (second, first) if each), key=lambda each: sum(bool(_failures(one)) for one in each))


def _attempt(
    model: LanguageModel, prompt: Prompt, base: Report, study: Study, frames: Sequence[Frame]
) -> tuple[tuple[Sentence, ...], list[str], str]:
    """Ask once: the checked sentences (none when the answer cannot be read), what is wrong, and the answer."""
    answer = model.complete(prompt)
    known = [*(e.id for e in base.findings), *(e.id for e in base.comparisons), *(e.id for e in base.evidence)]
    try:
        read: Answer = parse(answer, known, frames)
    except Ungrounded as exc:
        return (), [f"{exc}"], answer
    said = tuple(each for each in read.sentences if not _denies(each))
    if not said:
        return (), ["it says nothing but what it does not see"], answer
    checked = verify(replace(base, sentences=said), study).sentences
    problems = [f"“{each.text}”: {check.reason}" for each in checked for check in _failures(each)]
    return checked, [*read.problems, *problems], answer


def _denies(sentence: Sentence) -> bool:
    """Whether it says of anything that it is not there, resting on not seeing it: that is not for a model to say."""
    return rests_on_places(sentence) and any(each.polarity is Polarity.ABSENT for each in _named(sentence))


def _named(sentence: Sentence) -> list[lexicon.Mention]:
    return lexicon.mentions(sentence.text, lexicon.patterns_for(list(EXPECTED)))


def _means(sentence: Sentence, words: str) -> bool:
    """Whether it is one of the sentences with a meaning of their own, and says no more than that."""
    return sentence.text.startswith(words) and not _named(sentence)


def _failures(sentence: Sentence) -> list[Check]:
    return [check for check in sentence.checks if check.verdict is Verdict.FAILED]


def _missing(base: Report, own: Sequence[Sentence], failed: Sequence[Sentence], section: Section) -> list[Sentence]:
    """The template's sentences on what the model left out or got wrong.

    A sentence that cites DICOM attributes (what nobody assessed, a view that magnifies) is always kept.
    """
    must_say = {each.id for each in base.findings if each.presence is not Presence.ABSENT and not each.led_by}
    must_say |= {each.id for each in base.comparisons}
    must_say |= set(_cited(failed))
    unsaid = must_say - _said(base, own)
    template = base.section(section)
    if not own:
        return list(template)
    return [each for each in template if each.grounding.attributes or unsaid & set(_cited([each]))]


def _concepts(sentences: Iterable[Sentence]) -> set[Code]:
    """Of what a reader of the chest looks for, what the sentences name."""
    terms = {each.term for sentence in sentences for each in _named(sentence)}
    return {each for each in EXPECTED if lexicon.term_of(each) in terms}


def _cited(sentences: Iterable[Sentence]) -> Iterable[str]:
    for sentence in sentences:
        yield from sentence.grounding.finding_ids
        yield from sentence.grounding.comparison_ids


def _said(base: Report, sentences: Sequence[Sentence]) -> set[str]:
    """Ids that a sentence not only cites but speaks of: names the pathology or organ, or a change."""
    findings = {each.id: each for each in base.findings}
    patterns = lexicon.patterns_for([each.concept for each in base.findings])
    said: set[str] = set()
    for sentence in sentences:
        terms = {mention.term for mention in lexicon.mentions(sentence.text, patterns)}
        text = sentence.text.casefold()
        for id_ in sentence.grounding.finding_ids:
            concept = findings[id_].concept
            names = (concept.meaning.casefold(), wording.noun(concept).casefold())
            if lexicon.term_of(concept) in terms or any(name in text for name in names):
                said.add(id_)
        if any(lexicon.changes(sentence.text)):
            said.update(sentence.grounding.comparison_ids)
    return said


def _is_unread(sentence: Sentence, base: Report) -> bool:
    """Whether it says what was not assessed: a fact of the study, which the template states."""
    unread = {each.id for each in base.findings if each.presence is Presence.NOT_ASSESSED}
    return bool(sentence.grounding.finding_ids) and set(sentence.grounding.finding_ids) <= unread


def _notices(failed: int, added: int, seen: int) -> Iterable[str]:
    if failed:
        were = (
            "sentence of the language model failed its checks and was"
            if failed == 1
            else ("sentences of the language model failed their checks and were")
        )
        yield f"{failed} {were} left out."
    if added:
        yield f"{added} {'sentence was' if added == 1 else 'sentences were'} written by the template."
    if seen:
        rest = "sentence rests" if seen == 1 else "sentences rest"
        yield f"{seen} {rest} on what the language model alone sees at the marked place; no expert has said so."
