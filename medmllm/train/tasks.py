"""From an exam to instructions: reports, regions, questions, each as the input of the model and the answer to learn.

Every task is drawn from (seed, number), so a run can go on where it stopped. Reports come with the experts' findings
and without: without them nothing but the picture says what is there, and a sentence names the place that it rests on.
Some inputs hold noise or nothing instead of a film: then the only right answer is that there is no chest to report on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dicom_io.study import Request, Study
from expert_models import codes
from expert_models.finding import Box, Change, Code, Comparison, Finding, Presence, Region
from medmllm import wording
from medmllm.brief import NO_CHEST, NOTHING_MORE, PICTURE, REGION, Brief, brief
from medmllm.grammar import box_text
from medmllm.processor import Float32, Input, Place
from medmllm.report import Section, Sentence
from medmllm.template import TemplateWriter
from medmllm.tokens import SEG
from medmllm.train.calling import draw_call
from medmllm.train.exams import Exam, Film
from medmllm.train.told import told
from medmllm.train.truth import comparisons_of, findings_of, outlines_of, pictures_of, seen_on_either, study_of
from medmllm.views import to_grid
from rag.evidence import Citation, Evidence

WRITTEN = (Section.FINDINGS, Section.IMPRESSION)
WHOLE = "<box>[[0,0,999,999]]</box>"
TASKS = {"report": 0.15, "unaided": 0.18, "name": 0.07, "where": 0.12, "ask": 0.12, "became": 0.22, "call": 0.14}
INDICATIONS = (
    "cough",
    "fever and cough for a week",
    "shortness of breath",
    "chest pain",
    "before an operation",
    "known nodule, follow-up",
    "pneumonia?",
    "suspected effusion on the left",
    "routine",
    "heart failure, rule out edema",
)
THERE = 0.75  # of questions for a place
ASKED_OF_PRESENT = 0.4  # of the other questions, beside those that meet it by chance
ASKED_OF_CHANGED = 0.8  # of questions for a change: most diseases are on neither film, and "no" would do for them
WITH_PRIOR, CHANGES_WITH_PRIOR = 0.6, 0.9  # of inputs, and of questions for a change
MOST_EVIDENCE = 5  # passages of a report
NO_CITATION = Citation("", "", "", 0, "", 0, 0)
NO_FILM = 0.06  # of all inputs

Random = np.random.Generator


def draw_task(
    exam: Exam, number: int, with_prior: bool | None = None, task: str | None = None, is_film: bool | None = None
) -> Input:
    """One input with its answer. A task is one of TASKS; is_film: False shows noise. None draws any of them."""
    random = np.random.default_rng([exam.seed, number, 97])
    task = task or str(random.choice(list(TASKS), p=list(TASKS.values())))
    share = CHANGES_WITH_PRIOR if task == "became" else WITH_PRIOR
    with_prior = bool(random.random() < share) if with_prior is None else with_prior
    study = study_of(exam, with_prior)
    findings = findings_of(exam.now, study.series[0].uid)
    comparisons = comparisons_of(exam, findings) if with_prior else ()
    has_noise = random.random() < NO_FILM if is_film is None else not is_film
    if has_noise:
        return _no_film(study, exam, random, task)
    drawn = _drawn(exam, number, study, findings, comparisons, random, task)
    return replace(drawn, outlines=outlines_of(exam, study, findings, comparisons))


def film_of(exam: Exam, with_prior: bool) -> Input:
    """The film, its prior and their outlines, with no question."""
    study = study_of(exam, with_prior)
    findings = findings_of(exam.now, study.series[0].uid)
    outlines = outlines_of(exam, study, findings, comparisons_of(exam, findings) if study.priors else ())
    return replace(_input(exam, study, Brief(PICTURE), ""), answer=None, outlines=outlines)


def _drawn(
    exam: Exam,
    number: int,
    study: Study,
    findings: tuple[Finding, ...],
    comparisons: Sequence[Comparison],
    random: Random,
    task: str,
) -> Input:
    match task:
        case "report":
            return _report(exam, study, findings, comparisons, random)
        case "unaided":
            return _unaided(exam, study, findings, comparisons)
        case "name":
            return _name(exam, study, findings, random)
        case "where":
            return _where(exam, study, findings, random)
        case "became" if exam.then:
            return _what_became(exam, study, findings, random)
        case "ask" | "became":  # of a real film no earlier one is at hand
            return _ask(exam, study, findings, random)
        case "call":
            return draw_call(exam, number, with_prior=bool(study.priors))
    raise ValueError(f"{task!r} is no task")


def _input(
    exam: Exam,
    study: Study,
    told: Brief,
    answer: str,
    regions: Sequence[Place] = (),
    segments: Sequence[Place] = (),
) -> Input:
    pictures, priors = pictures_of(exam, study)
    return Input(told.text, pictures, priors, regions=regions, answer=answer, segments=segments)


def _report(
    exam: Exam, study: Study, findings: Sequence[Finding], comparisons: Sequence[Comparison], random: Random
) -> Input:
    """The report beside experts who speak of some findings, of all or of none.

    What they do not speak of is seen: its sentences have no number and no id, but the place that they speak of.
    """
    given, seen, changes = told(findings, comparisons, random)
    return reported(exam, _requested(study, random), given, seen, changes, _looked_up(given, random))


def _unaided(exam: Exam, study: Study, findings: Sequence[Finding], comparisons: Sequence[Comparison]) -> Input:
    """The same report without any expert."""
    return reported(exam, study, (), findings, comparisons)


def reported(
    exam: Exam,
    study: Study,
    given: Sequence[Finding],
    seen: Sequence[Finding],
    comparisons: Sequence[Comparison],
    evidence: Sequence[Evidence] = (),
) -> Input:
    """The template's report on what was seen, every sentence with its place; what was given is told, and not repeated.

    The template says what experts found, and quotes the passages, better than any model could copy it.
    """
    bare = [replace(each, measurements=()) for each in seen if each.concept not in codes.ANATOMY]
    theirs = [each for each in comparisons if _is_of(each, given)]
    changes = [
        replace(each, prior_finding=_bare(each.prior_finding), growth=None)
        for each in comparisons
        if each not in theirs
    ]
    known = {each.id: each for each in bare}
    chest = _chest(exam)
    lines: dict[Section, list[str]] = {section: [] for section in WRITTEN}
    for each in TemplateWriter().write(study, bare, changes, ()).sentences if bare or changes else ():
        if each.section in WRITTEN and not each.grounding.attributes:
            placed = _placed(_alone(each, study), known, chest, exam.now.picture.shape)
            lines[each.section].append(f"{each.section} | {placed} | -")
    answer = [
        line
        for section in WRITTEN
        for line in lines[section] or [f"{section} | {NOTHING_MORE} <ref>in the chest</ref>{chest}. | -"]
    ]
    made = brief(study, given, theirs, evidence)
    regions = [_place(exam, each) for each in made.regions]
    return _input(exam, study, made, "\n".join(answer), regions=regions)


def _alone(sentence: Sentence, study: Study) -> Sentence:
    """As it can be said beside others: of "the prior study", how long ago that was is said elsewhere; of no whole."""
    text = sentence.text.replace("No abnormality among those assessed: no ", "No ")
    for prior in study.priors:
        text = text.replace(wording.earlier_study(study, prior.uid), "the prior study")
    return replace(sentence, text=text)


def _requested(study: Study, random: Random) -> Study:
    """With what a requester may have typed, more often than not."""
    words = str(random.choice(INDICATIONS)) if random.random() < 0.6 else ""
    return replace(study, request=Request(words)) if words else study


def _looked_up(given: Sequence[Finding], random: Random) -> list[Evidence]:
    """Passages for what experts found, more often than not; what they are about does not matter."""
    doubtful = (Presence.PRESENT, Presence.INDETERMINATE)
    found = [each.id for each in given if each.presence in doubtful and each.concept not in codes.ANATOMY]
    if not found or random.random() < 0.4:
        return []
    about = [str(random.choice(found)) for _ in range(int(random.integers(1, MOST_EVIDENCE + 1)))]
    return [Evidence(f"e{number}", "", NO_CITATION, 1.0, (id_,)) for number, id_ in enumerate(about, 1)]


def _is_of(comparison: Comparison, given: Sequence[Finding]) -> bool:
    """Whether experts said it: its finding is theirs, or what resolved is of a kind that they assessed."""
    if comparison.finding_id:
        return any(each.id == comparison.finding_id for each in given)
    gone = comparison.prior_finding
    read = [each for each in given if each.presence is not Presence.NOT_ASSESSED]
    return gone is not None and any(each.concept == gone.concept for each in read)


def _bare(finding: Finding | None) -> Finding | None:
    return None if finding is None else replace(finding, measurements=())


def _placed(sentence: Sentence, known: dict[str, Finding], chest: str, shape: tuple[int, ...]) -> str:
    """The sentence with a box after each thing that it speaks of; both lungs where it speaks of what is not there."""
    text = sentence.text
    for id_ in sentence.grounding.finding_ids:
        finding = known[id_]
        if finding.presence is Presence.ABSENT and not text.startswith("The heart"):
            continue  # a list of what is not there rests on all of the chest
        name = _name_in(text, finding)
        if finding.regions and name:
            text = text.replace(name, f"<ref>{name}</ref>{_box(finding.regions, shape)}", 1)
    return text if text != sentence.text else f"{text.removesuffix('.')} <ref>in the chest</ref>{chest}."


def _chest(exam: Exam) -> str:
    """The box around both lungs; all of the film where they are not known."""
    lungs: npt.NDArray[np.bool_] = np.logical_or(exam.now.outlines[0], exam.now.outlines[1])
    rows, columns = np.flatnonzero(lungs.any(axis=1)), np.flatnonzero(lungs.any(axis=0))
    if not rows.size:
        return WHOLE
    box = Box((0, int(rows[0]), int(columns[0])), (1, int(rows[-1]) + 1, int(columns[-1]) + 1))
    return box_text([to_grid(box, lungs.shape)])


def _name_in(text: str, finding: Finding) -> str | None:
    """How the text names the finding, where it is not tagged yet."""
    names = [wording.thing(finding), wording.sided(finding), wording.noun(finding.concept)]
    if finding.concept == codes.CARDIOMEGALY:
        names = ["the heart", "cardiomegaly"]
    both = [each for name in names for each in (name, wording.upper_first(name))]
    return next((each for each in both if each in text and f"<ref>{each}" not in text), None)


def _name(exam: Exam, study: Study, findings: Sequence[Finding], random: Random) -> Input:
    """What is this region? The name of what it was drawn around."""
    shown = [each for each in findings if each.presence is Presence.PRESENT and each.regions]
    shown = [each for each in shown if each.concept != codes.CARDIOMEGALY]
    finding = _one(shown, random)
    made = brief(study, (), (), (), f"what is {REGION}")
    return _input(exam, study, made, wording.thing(finding), regions=[_place(exam, finding.regions[0])])


def _where(exam: Exam, study: Study, findings: Sequence[Finding], random: Random) -> Input:
    """Where is it? A box and a mask, or that it is not there."""
    things = [each for each in findings if each.concept != codes.CARDIOMEGALY]
    placed = [each for each in things if each.regions]
    missing = [each for each in things if each.presence is Presence.ABSENT]
    asked = _one(placed if random.random() < THERE or not missing else missing, random)
    name = wording.thing(asked)
    made = brief(study, (), (), (), f"where is the {name}")
    if not asked.regions:
        return _input(exam, study, made, f"no {name} is seen")
    answer = f"<ref>{name}</ref>{_box(asked.regions, exam.now.picture.shape)} {SEG}"
    return _input(exam, study, made, answer, segments=[_place(exam, asked.regions[0])])


def _ask(exam: Exam, study: Study, findings: Sequence[Finding], random: Random) -> Input:
    """Is it there, and on which side?"""
    diseases = [each for each in findings if each.concept not in codes.ANATOMY]
    present = [each for each in diseases if each.presence is Presence.PRESENT]
    asked = _one(present if present and random.random() < ASKED_OF_PRESENT else diseases, random)
    noun = wording.noun(asked.concept)
    is_there = asked.presence is Presence.PRESENT
    if exam.then is None or random.random() < 0.5:  # of a real film the side is not known
        question, answer = f"is there {noun}", "yes" if is_there else "no"
    else:
        sides = sorted({each.side.value for each in diseases if each.concept == asked.concept and each.side})
        question = f"on which side is the {noun}"
        answer = " and ".join(sides) if sides else "on both sides" if is_there else f"there is no {noun}"
    return _input(exam, study, brief(study, (), (), (), question), answer)


def _what_became(exam: Exam, study: Study, findings: tuple[Finding, ...], random: Random) -> Input:
    """What became of it: of a disease that changed, most often, each kind of change as often as another."""
    known = {each.id: each for each in findings}
    comparisons = comparisons_of(exam, findings)
    by_change: dict[Change, list[Code]] = {}
    for each in comparisons:
        if subject := known.get(each.finding_id or "") or each.prior_finding:
            by_change.setdefault(each.change, []).append(subject.concept)
    unclear = set[Code]()  # whose change is not known; without a prior the answer is the same of all
    if study.priors:
        unclear = seen_on_either(exam, findings).difference(*by_change.values())
    diseases = [each.concept for each in findings if each.concept not in {*codes.ANATOMY, *unclear}]
    if by_change and random.random() < ASKED_OF_CHANGED:
        kinds = list(by_change)
        diseases = by_change[kinds[int(random.integers(len(kinds)))]]
    concept = diseases[int(random.integers(len(diseases)))]
    return _asked_what_became(exam, study, concept, comparisons, known)


def _one(findings: Sequence[Finding], random: Random) -> Finding:
    return findings[int(random.integers(len(findings)))]


def _asked_what_became(
    exam: Exam, study: Study, concept: Code, comparisons: Sequence[Comparison], known: dict[str, Finding]
) -> Input:
    question = f"what became of the {wording.noun(concept)}"
    made = brief(study, (), (), (), question)
    return _input(exam, study, made, _became(concept, study, comparisons, known))


def _became(concept: Code, study: Study, comparisons: Sequence[Comparison], known: dict[str, Finding]) -> str:
    if not study.priors:
        return "there is no prior study to compare with"
    for each in comparisons:
        subject = known.get(each.finding_id or "") or each.prior_finding
        if subject is not None and subject.concept == concept:
            return each.change.value
    return f"no {wording.noun(concept)} is seen on either study"


def _no_film(study: Study, exam: Exam, random: Random, task: str) -> Input:
    lines = [f"findings | {NO_CHEST}{WHOLE}. | -", f"impression | {NO_CHEST}{WHOLE}. | -"]
    is_report = task in ("report", "unaided")
    made = brief(study, (), (), (), "report" if is_report else "is there pneumothorax")
    answer = "\n".join(lines) if is_report else NO_CHEST.lower()
    priors = pictures_of(exam, study)[1]
    return Input(made.text, pictures=[no_film(exam.now, random)], priors=priors, answer=answer)


def no_film(film: Film, random: Random) -> Float32:
    """Noise, one grey, or the film cut into shuffled tiles, of the film's size."""
    side = film.picture.shape[0]
    kind = int(random.integers(3))
    if kind == 0:
        picture = random.random((side, side), dtype=np.float32)
    elif kind == 1:
        picture = np.full((side, side), random.random(), np.float32)
    else:
        tiles = film.picture.reshape(8, side // 8, 8, side // 8).transpose(0, 2, 1, 3).reshape(64, side // 8, -1)
        shuffled = tiles[random.permutation(64)].reshape(8, 8, side // 8, side // 8).transpose(0, 2, 1, 3)
        picture = shuffled.reshape(side, side).astype(np.float32) / np.float32(255)
    return picture


def _place(exam: Exam, region: Region) -> Place:
    """The exam's own mask whose box this region is."""
    for outline in exam.now.outlines:
        rows, columns = np.flatnonzero(outline.any(axis=1)), np.flatnonzero(outline.any(axis=0))
        if rows.size and (rows[0], columns[0]) == region.box.start[1:] and rows[-1] + 1 == region.box.stop[1]:
            return Place(0, outline)
    raise ValueError("a region of another exam")


def _box(regions: Sequence[Region], shape: tuple[int, ...]) -> str:
    return box_text([to_grid(each.box, (shape[0], shape[1])) for each in regions])


def unaided_report(exam: Exam, with_prior: bool = True) -> Input:
    """The report from the pictures alone, with its answer."""
    study = study_of(exam, with_prior)
    findings = findings_of(exam.now, study.series[0].uid)
    return _unaided(exam, study, findings, comparisons_of(exam, findings) if study.priors else ())


def what_became(exam: Exam, concept: Code, with_prior: bool = True) -> Input:
    """The question what became of a disease since the film before, with its answer."""
    study = study_of(exam, with_prior)
    findings = findings_of(exam.now, study.series[0].uid)
    comparisons = comparisons_of(exam, findings)
    return _asked_what_became(exam, study, concept, comparisons, {each.id: each for each in findings})


def where_is_anatomy(exam: Exam) -> list[Input]:
    """Where is it? Of each lung and of the heart, as far as the film has their outlines; with answers and masks."""
    study = study_of(exam, with_prior=False)
    anatomy = [each for each in findings_of(exam.now, study.series[0].uid) if each.concept in codes.ANATOMY]
    return [_where(exam, study, [each], np.random.default_rng(0)) for each in anatomy if each.regions]


def asked_of(exam: Exam, question: str) -> Input:
    """A question of the film alone, without an answer."""
    study = study_of(exam, with_prior=False)
    return replace(_input(exam, study, brief(study, (), (), (), question), ""), answer=None)
