"""Questions beside experts that can be called: when to call whom, what to do with what they say, when to abstain.

    call        only an expert can answer exactly, and it is offered: the call, and nothing else
    told        what the expert found is in the brief: its number is repeated
    seen        the pictures answer, though experts are offered: no call
    unmeasured  no expert that is offered measures it: that it cannot be measured here
    unanswered  the expert was called, and did not answer or did not assess it: the same

Names and concepts are those of the experts that ship, as medmllm/calls.py offers them. The numbers are not those of the
film: widths of every scale, ratios beside the true one, so that the answer can only be had from the brief.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from dicom_io.study import Study
from expert_models import codes
from expert_models.chest_findings import BOTH_SIDES, SIDES, ChestFindings
from expert_models.chest_radiograph import ChestRadiograph
from expert_models.finding import Code, Finding, Measurement, Presence, Side
from medmllm import wording
from medmllm.brief import brief
from medmllm.calls import Offers, call_text, heard, offered, offers_of, without
from medmllm.grammar import box_text
from medmllm.parse import Call
from medmllm.processor import Input, Place
from medmllm.tokens import SEG
from medmllm.train.exams import ANATOMY, Exam
from medmllm.train.told import REASONS
from medmllm.train.truth import CONCEPTS, TRUTH, findings_of, pictures_of, study_of
from medmllm.views import to_grid

KINDS = {"call": 0.35, "told": 0.25, "seen": 0.2, "unmeasured": 0.1, "unanswered": 0.1}
ABSTAINS = "it cannot be measured here"
WORDED = {  # what the chest radiograph expert measures, and how it is asked for
    codes.CARDIOTHORACIC_RATIO: ("what is the cardiothoracic ratio", "how wide is the heart relative to the chest"),
    codes.CARDIAC_DIAMETER: ("what is the transverse cardiac diameter", "how wide is the heart"),
    codes.THORACIC_DIAMETER: ("what is the internal transverse thoracic diameter", "how wide is the chest"),
}
NOWHERE = (  # what no expert measures on a radiograph
    *(f"what is the volume of the {wording.noun(each)}" for each in (codes.LUNG, codes.HEART, codes.PLEURAL_EFFUSION)),
    *(f"what is the long axis of the {wording.noun(each)}" for each in (codes.LUNG_NODULE, codes.LUNG_MASS)),
    f"what is the {wording.quantity(codes.ASCENDING_AORTA)}",
)
MEASURED = 0.55  # of the questions for an expert; the others ask how likely something is
DOUBTED = 0.75  # of likelihoods that are numbers; where an expert is sure, it says present or absent
ASKED_OF_PRESENT = 0.4  # of likelihoods, beside those that meet it by chance
ELSEWHERE = 0.4  # of what is unmeasured: no expert measures it on a radiograph
BESIDE = 0.4  # of briefs: something else is told as well
LEFT_OUT, CALLED = 0.25, 0.15  # of experts, and of the calls of the others, that are not offered
RATIO_SPREAD = 0.03  # around the true one

Random = np.random.Generator


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked, the call that finds it, what the expert says then, and the answer. No call: there is none."""

    text: str
    call: Call | None = None
    findings: tuple[Finding, ...] = ()
    answer: str = ABSTAINS


def draw_call(exam: Exam, number: int, kind: str | None = None, with_prior: bool = False) -> Input:
    """One question with its answer and its grammar, drawn from (seed, number). kind: one of KINDS; None draws it.

    ValueError for a kind that is none.
    """
    random = np.random.default_rng([exam.seed, number, 127])
    kind = kind or str(random.choice(list(KINDS), p=list(KINDS.values())))
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of question beside experts")
    study = study_of(exam, with_prior)
    findings = findings_of(exam.now, study.series[0].uid)
    if kind == "seen":
        return offered(_seen(exam, study, findings, random), _some(random) or radiograph_offers())
    is_nowhere = kind == "unmeasured" and random.random() < ELSEWHERE
    asked = _Question(str(random.choice(NOWHERE))) if is_nowhere else _question(exam, findings, random)
    told = _beside(asked, exam, findings, random)
    if kind == "told":
        told.append(asked)
    elif kind == "unanswered":
        told.append(replace(asked, findings=_unread(asked, random)))
    given = _input(exam, study, asked.text)
    gone = [] if kind == "call" or asked.call is None else [asked.call]
    for each in random.permutation(len(told)):
        if (call := told[int(each)].call) is not None:
            given, _ = heard(given, call, told[int(each)].findings)
            gone.append(call)
    answers = {"call": call_text(asked.call) if asked.call else ABSTAINS, "told": asked.answer}
    given = offered(given, without(_some(random, asked.call), gone))
    return replace(given, answer=answers.get(kind, ABSTAINS))


@cache
def radiograph_offers() -> Offers:
    """The experts that ship and read radiographs, as they are offered; those that only check a picture are not."""
    return offers_of((ChestRadiograph(), ChestFindings()))


@cache
def _names() -> tuple[str, str]:
    """Of the expert that measures, and of the one that judges."""
    return ChestRadiograph().tag.name, ChestFindings().tag.name


@cache
def _judged() -> tuple[Code, ...]:
    return ChestFindings().concepts


def _question(exam: Exam, findings: Sequence[Finding], random: Random) -> _Question:
    return _width(exam, random) if random.random() < MEASURED else _likelihood(findings, random)


def _width(exam: Exam, random: Random) -> _Question:
    """A width of heart or chest, in mm or in pixels, or their ratio: the heart's finding has all three."""
    true = exam.now.cardiothoracic_ratio
    ratio = float(random.uniform(0.35, 0.7) if true is None else random.normal(true, RATIO_SPREAD))
    unit = codes.MILLIMETER if random.random() < 0.6 else codes.PIXEL
    chest = float(random.uniform(220, 360) if unit == codes.MILLIMETER else random.uniform(150, 2500))
    measured = (
        Measurement(codes.CARDIAC_DIAMETER, chest * ratio, unit),
        Measurement(codes.THORACIC_DIAMETER, chest, unit),
        Measurement(codes.CARDIOTHORACIC_RATIO, ratio, codes.RATIO),
    )
    asked = measured[int(random.integers(len(measured)))]
    return _Question(
        str(random.choice(WORDED[asked.code])),
        Call(_names()[0], wording.noun(codes.HEART)),
        (Finding("f", codes.HEART, Presence.PRESENT, TRUTH, measurements=measured),),
        wording.number(asked.value, asked.unit),
    )


def _likelihood(findings: Sequence[Finding], random: Random) -> _Question:
    """How likely a disease is, on one side where it is told by side."""
    concepts: Sequence[Code] = _judged()
    there = [each for each in concepts if any(_is_present(one, each) for one in findings)]
    if there and random.random() < ASKED_OF_PRESENT:
        concepts = there
    concept = concepts[int(random.integers(len(concepts)))]
    sides: Sequence[Side | None] = (None,) if concept in BOTH_SIDES else SIDES
    said = tuple(_said(concept, side, findings, random) for side in sides)
    asked = said[int(random.integers(len(said)))]
    is_number = asked.presence is Presence.INDETERMINATE and asked.probability is not None
    return _Question(
        f"how likely is {wording.thing(asked)}",
        Call(_names()[1], wording.noun(concept)),
        said,
        wording.percent(asked.probability or 0.0) if is_number else asked.presence.value,
    )


def _said(concept: Code, side: Side | None, findings: Sequence[Finding], random: Random) -> Finding:
    """In doubt, or as it is, where that is known."""
    there = {each.side for each in findings if _is_present(each, concept)}
    is_known = concept in CONCEPTS.values() and (side is None or None not in there)
    if not is_known or random.random() < DOUBTED:
        return Finding("f", concept, Presence.INDETERMINATE, TRUTH, float(random.uniform(0.02, 0.95)), side)
    is_there = bool(there) if side is None else bool(there & {side, Side.BILATERAL})
    return Finding("f", concept, Presence.PRESENT if is_there else Presence.ABSENT, TRUTH, side=side)


def _is_present(finding: Finding, concept: Code) -> bool:
    return finding.concept == concept and finding.presence is Presence.PRESENT


def _beside(asked: _Question, exam: Exam, findings: Sequence[Finding], random: Random) -> list[_Question]:
    """What other calls found, of other things than the one that is asked for; most often nothing."""
    if random.random() >= BESIDE:
        return []
    others = [_question(exam, findings, random) for _ in range(int(random.integers(1, 3)))]
    by_call = {each.call: each for each in others if each.call != asked.call}
    return list(by_call.values())


def _unread(asked: _Question, random: Random) -> tuple[Finding, ...]:
    """Nothing, from an expert that failed, or that it did not assess it."""
    if random.random() < 0.5:
        return ()
    reason = REASONS[int(random.integers(len(REASONS)))]
    return (Finding("f", asked.findings[0].concept, Presence.NOT_ASSESSED, TRUTH, reason=reason),)


def _some(random: Random, kept: Call | None = None) -> Offers:
    """Some of the experts and of their calls, as they are left after others were made; `kept` is among them."""
    made = []
    for name, arguments in radiograph_offers():
        is_kept = kept is not None and kept.expert == name
        if random.random() < LEFT_OUT and not is_kept:
            continue
        left = (each for each in arguments if random.random() >= CALLED or kept == Call(name, each))
        made.append((name, tuple(left)))
    return without(tuple(made), ())


def _seen(exam: Exam, study: Study, findings: Sequence[Finding], random: Random) -> Input:
    """Where an organ is, whether a disease is there, or on which side; the side is not known of a real film."""
    outlined = zip(findings[: len(ANATOMY)], exam.now.outlines, strict=False)
    placed = [(organ, outline) for organ, outline in outlined if organ.regions]
    if placed and random.random() < 0.3:
        organ, outline = placed[int(random.integers(len(placed)))]
        name = wording.thing(organ)
        box = box_text([to_grid(organ.regions[0].box, (outline.shape[0], outline.shape[1]))])
        given = _input(exam, study, f"where is the {name}")
        return replace(given, answer=f"<ref>{name}</ref>{box} {SEG}", segments=[Place(0, outline)])
    is_measured = exam.now.cardiothoracic_ratio is not None
    kinds = {each.concept: None for each in findings[len(ANATOMY) :] if each.concept != codes.CARDIOMEGALY}
    concepts = [*kinds, *([codes.CARDIOMEGALY] if is_measured else [])]
    there = [each for each in findings[len(ANATOMY) :] if each.presence is Presence.PRESENT]
    concept = concepts[int(random.integers(len(concepts)))]
    if there and random.random() < 0.5:
        concept = there[int(random.integers(len(there)))].concept
    sides = sorted({each.side.value for each in there if each.concept == concept and each.side})
    noun = wording.noun(concept)
    if exam.then is not None and sides and random.random() < 0.5:
        return replace(_input(exam, study, f"on which side is the {noun}"), answer=" and ".join(sides))
    is_there = any(each.concept == concept for each in there)
    return replace(_input(exam, study, f"is there {noun}"), answer="yes" if is_there else "no")


def _input(exam: Exam, study: Study, question: str) -> Input:
    """The question of the study's film, beside the film before where it has one."""
    return Input(brief(study, (), (), (), question).text, *pictures_of(exam, study))
