"""`wetread evaluate reports`: reports written by a writer, read back by medmllm.labeler, and held against what is true.

Phantoms: a film of each seed, every second one with the film before it; findings and comparisons come from the experts.
Films of cxr_nih that are not for training are held against their labels, which were mined from reports. The reports of
reports_iu have no pictures: there the labeler itself is held against what people coded (`labeler/`).

finding/: micro over studies and the concepts that can be there. Only what a sentence states as present counts as said:
uncertain, absent, not assessed and not mentioned are all "not present". On a film an opacity is a consolidation.
side/accuracy: of the findings that are rightly said and lie on known sides, how often exactly these sides are named.
change/accuracy: of what became of every true lesion (and of a heart that is or was too large), how often a sentence
says it of that concept and of no other side. What is not said is wrong; of several lesions of a kind one may answer for
another. temporal_words/f1: the words that claim a change, as a set of each report against that of the reference, micro
(after Libra's temporal entity F1, with our words and no entity recogniser). no_prior/invented: the share of reports
without a prior that speak of a change or an earlier study. bleu1, bleu4 (of all reports as one corpus), rougeL, meteor
(means over reports): against the reference, the template's prose on the truth; see medmllm/text_scores.py. The same
readings of the reference itself (`reference/`) are 1 unless the labeler misreads the template.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from dicom_io.study import Study
from expert_models import codes
from expert_models.evaluate import Evaluation, Metric, Progress, bootstrapped, mean_metric, phantom_seeds
from expert_models.evaluate_radiographs import MaskShelf, is_held_out, labelled_nih
from expert_models.finding import Code, Comparison, Finding, Presence, Side
from expert_models.panel import Panel
from expert_models.ports import Expert
from expert_models.registry import packaged_experts
from medmllm.labeler import Statement, changed_words, compares, statements
from medmllm.lexicon import Polarity, term_of
from medmllm.ports import Writer
from medmllm.report import Report
from medmllm.template import TemplateWriter
from medmllm.text_scores import bleu, bleu_counts, meteor, rouge_l
from medmllm.train.exams import EXPOSURES, Exam, exams
from medmllm.train.truth import CONCEPTS, TRUTH, comparisons_of, findings_of, study_of
from medmllm.write import WRITTEN

SAME = {codes.LUNG_OPACITY: codes.CONSOLIDATION}  # said as one, counted as the other
PHANTOM = tuple(CONCEPTS.values())
NIH: Mapping[Code, tuple[str, ...]] = {  # columns of cxr_nih
    codes.CARDIOMEGALY: ("Cardiomegaly",),
    codes.LUNG_NODULE: ("Nodule",),
    codes.LUNG_MASS: ("Mass",),
    codes.CONSOLIDATION: ("Consolidation", "Infiltration", "Pneumonia"),
    codes.PLEURAL_EFFUSION: ("Effusion",),
    codes.PNEUMOTHORAX: ("Pneumothorax",),
    codes.ATELECTASIS: ("Atelectasis",),
    codes.PULMONARY_EDEMA: ("Edema",),
    codes.EMPHYSEMA: ("Emphysema",),
}
MESH: Mapping[str, Code] = {  # headings of reports_iu
    "Cardiomegaly": codes.CARDIOMEGALY,
    "Cardiac Shadow/enlarged": codes.CARDIOMEGALY,
    "Nodule": codes.LUNG_NODULE,
    "Mass": codes.LUNG_MASS,
    "Consolidation": codes.CONSOLIDATION,
    "Opacity": codes.CONSOLIDATION,
    "Infiltrate": codes.CONSOLIDATION,
    "Airspace Disease": codes.CONSOLIDATION,
    "Pleural Effusion": codes.PLEURAL_EFFUSION,
    "Pneumothorax": codes.PNEUMOTHORAX,
    "Hydropneumothorax": codes.PNEUMOTHORAX,
    "Pulmonary Atelectasis": codes.ATELECTASIS,
    "Pulmonary Edema": codes.PULMONARY_EDEMA,
    "Emphysema": codes.EMPHYSEMA,
    "Pulmonary Emphysema": codes.EMPHYSEMA,
}
NOT_CODED = "No Indexing"
CONTROL = ("reference/finding/f1", "reference/side/accuracy", "reference/change/accuracy")
Score = Callable[[npt.NDArray[np.int64]], float]


@dataclass(frozen=True, slots=True)
class Case:
    """A report's findings and impression as text, and what is true of its study.

    truth: what is present (others are ignored). changes: what became of it, citing truth by id. reference: prose that
    says the truth, "" where there is none. has_prior: None where the text is not of a study that was given one or none.
    """

    patient: str
    text: str
    truth: tuple[Finding, ...]
    changes: tuple[Comparison, ...] = ()
    reference: str = ""
    has_prior: bool | None = None


def evaluate_reports(
    source: str,
    writer: Writer,
    *,
    limit: int | None = None,
    progress: Progress | None = None,
    experts: Sequence[Expert] | None = None,
) -> Evaluation:
    """Score a writer on `phantom:START-STOP` or on a folder of data packs; see the head of this module.

    limit: at most so many studies of each pack. experts: None for those that ship. ValueError, in one sentence, for a
    source that is neither a folder with a pack that can be scored nor a range of seeds.
    """
    asked = packaged_experts() if experts is None else tuple(experts)
    if source.startswith("phantom:"):
        with TemporaryDirectory() as kept:
            drawn = islice(exams(phantom_seeds(source)[:limit], Path(kept)), 0, None, EXPOSURES)
            cases = list(_told(phantom_cases(drawn, writer, asked), progress))
        control = scores([replace(case, text=case.reference) for case in cases], PHANTOM, "reference/")
        metrics = scores(cases, PHANTOM) + [each for each in control if each.name in CONTROL]
    else:
        folder = Path(source)
        if not folder.is_dir():
            raise ValueError(f"{source} is neither a folder nor a range phantom:START-STOP")
        films = list(_told(islice(film_cases(folder / "cxr_nih", writer, asked), limit), progress))
        coded = list(islice(coded_cases(folder / "reports_iu"), limit))
        metrics = [*scores(films, tuple(NIH)), *scores(coded, tuple(dict.fromkeys(MESH.values())), "labeler/")]
    if not metrics:
        raise ValueError(f"{source} holds no pack whose reports can be scored")
    return Evaluation("reports", source, version("wetread"), tuple(metrics))


def _told(cases: Iterable[Case], progress: Progress | None) -> Iterator[Case]:
    for number, case in enumerate(cases, 1):
        yield case
        if progress and number % 10 == 0:
            progress(f"{number} reports written")


# ----------------------------------------------------------------------------------------------------------- the cases


def phantom_cases(drawn: Iterable[Exam], writer: Writer, experts: Sequence[Expert]) -> Iterator[Case]:
    """A report on each exam, every second one with its prior, beside the template's report on the truth."""
    for number, exam in enumerate(drawn):
        study = study_of(exam, with_prior=number % 2 == 1)
        truth = findings_of(exam.now, study.series[0].uid)
        changes = comparisons_of(exam, truth) if study.priors else ()
        reference = TemplateWriter().write(study, truth, changes, ())
        text = written(_report(study, writer, experts))
        yield Case(str(exam.seed), text, truth, changes, written(reference), bool(study.priors))


def film_cases(pack: Path, writer: Writer, experts: Sequence[Expert]) -> Iterator[Case]:
    """A report on each film of a cxr_nih pack that is not for training, without a prior; none without the pack."""
    if not (pack / "index.csv").is_file():
        return
    with (pack / "index.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if is_held_out(row.get("split", ""))]
    for row, (patient, series, _) in zip(rows, labelled_nih(pack), strict=True):
        there = [code for code, columns in NIH.items() if any(row.get(column) == "1" for column in columns)]
        truth = tuple(Finding(f"f{number}", code, Presence.PRESENT, TRUTH) for number, code in enumerate(there, 1))
        study = Study("1", patient, None, (series,))
        yield Case(patient, written(_report(study, writer, experts)), truth, has_prior=False)


def coded_cases(pack: Path) -> Iterator[Case]:
    """Reports of a reports_iu pack that are not for training, with the findings that people coded; none without it."""
    for path in sorted(pack.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            text = "\n".join(row[name] for name in ("findings", "impression") if row[name])
            if text and is_held_out(row["split"]) and NOT_CODED not in row["mesh_major"]:
                coded = [each for heading in row["mesh_major"] for each in _coded(heading)]
                yield Case(row["id"], text, tuple(coded))


def _coded(heading: str) -> Iterator[Finding]:
    """What a heading with its qualifiers ("Opacity/lung/base/left") says is present."""
    name, *qualifiers = heading.split("/")
    code = MESH.get(name) or MESH.get("/".join([name, *qualifiers[:1]]))
    sides = [side for side in Side if side.value in qualifiers]
    if code is not None:
        yield Finding("f1", code, Presence.PRESENT, TRUTH, side=sides[0] if len(sides) == 1 else None)


def written(report: Report) -> str:
    """Findings and impression, which is what a writer answers for."""
    return " ".join(each.text for each in report.sentences if each.section in WRITTEN)


def _report(study: Study, writer: Writer, experts: Sequence[Expert]) -> Report:
    panel = Panel(experts, MaskShelf())  # a new one for each study, so that masks are not kept
    findings = panel.examine(study)
    return writer.write(study, findings, panel.compare(study, findings).comparisons, ())


# ---------------------------------------------------------------------------------------------------------- the scores


def scores(cases: Sequence[Case], concepts: Sequence[Code], prefix: str = "") -> list[Metric]:
    """Every figure that the cases allow, its name after the prefix; one that is undefined is left out."""
    said = [[_as_counted(each) for each in statements(case.text)] for case in cases]
    metrics = _findings(cases, said, concepts)
    metrics += _mean(
        "side/accuracy", [_sides(case, own, concepts) for case, own in zip(cases, said, strict=True)], cases
    )
    metrics += _mean("change/accuracy", [_changes(case, own) for case, own in zip(cases, said, strict=True)], cases)
    invented = [[float(compares(case.text))] if case.has_prior is False else [] for case in cases]
    metrics += _mean("no_prior/invented", invented, cases)
    metrics += _words([case for case in cases if case.reference])
    return [Metric(f"{prefix}{each.name}", each.value, each.low, each.high, each.n) for each in metrics]


def _as_counted(said: Statement) -> Statement:
    return Statement(SAME.get(said.concept, said.concept), said.polarity, said.side, said.change)


def _findings(cases: Sequence[Case], said: Sequence[Sequence[Statement]], concepts: Sequence[Code]) -> list[Metric]:
    counts = np.zeros((len(cases), len(concepts), 3), np.int64)  # said and true, said alone, true alone
    for number, (case, own) in enumerate(zip(cases, said, strict=True)):
        present, true = _present(own), {each.concept for each in case.truth if each.presence is Presence.PRESENT}
        for at, concept in enumerate(concepts):
            counts[number, at] = (
                concept in present and concept in true,
                concept in present and concept not in true,
                concept not in present and concept in true,
            )
    patients = [case.patient for case in cases]
    whole = counts.sum(axis=1)
    metrics = _share("finding/f1", whole, (2, 0, 0), (2, 1, 1), patients)
    metrics += _share("finding/precision", whole, (1, 0, 0), (1, 1, 0), patients)
    metrics += _share("finding/recall", whole, (1, 0, 0), (1, 0, 1), patients)
    for at, concept in enumerate(concepts):
        name = f"finding/{term_of(concept).replace(' ', '_')}/f1"
        metrics += _share(name, counts[:, at], (2, 0, 0), (2, 1, 1), patients)
    return metrics


def _present(said: Iterable[Statement]) -> set[Code]:
    """Concepts that are stated as present."""
    return {each.concept for each in said if each.polarity is Polarity.PRESENT}


def _sides(case: Case, said: Sequence[Statement], concepts: Sequence[Code]) -> list[float]:
    """For each finding that is rightly said, and whose sides are known, whether exactly these were named."""
    right = []
    for concept in concepts:
        true = [each.side for each in case.truth if each.concept == concept and each.presence is Presence.PRESENT]
        named = [each.side for each in said if each.concept == concept and each.polarity is Polarity.PRESENT]
        if true and named and None not in true:
            right.append(float(_both(true) == _both(named)))
    return right


def _both(sides: Iterable[Side | None]) -> set[Side]:
    """Left, right or both of them."""
    of = {Side.BILATERAL: {Side.LEFT, Side.RIGHT}}
    return {one for side in sides if side is not None for one in of.get(side, {side})}


def _changes(case: Case, said: Sequence[Statement]) -> list[float]:
    """For each true change, whether it was said of that concept, and of no other side."""
    known = {each.id: each for each in case.truth}
    names = {codes.CARDIOMEGALY: (codes.CARDIOMEGALY, codes.HEART)}
    right = []
    for comparison in case.changes:
        subject = known.get(comparison.finding_id or "") or comparison.prior_finding
        if subject is not None:
            where = _both([subject.side])
            right.append(
                float(
                    any(
                        each.change is comparison.change
                        and each.concept in names.get(subject.concept, (subject.concept,))
                        and (not where or not each.side or bool(where & _both([each.side])))
                        for each in said
                    )
                )
            )
    return right


def _words(cases: Sequence[Case]) -> list[Metric]:
    if not cases:
        return []
    patients = [case.patient for case in cases]
    pairs = [(changed_words(case.text), changed_words(case.reference)) for case in cases]
    temporal = np.array([(len(ours & true), len(ours - true), len(true - ours)) for ours, true in pairs])
    grams = np.array([bleu_counts(case.text, case.reference) for case in cases])
    return [
        *_share("temporal_words/f1", temporal, (2, 0, 0), (2, 1, 1), patients),
        bootstrapped("bleu1", lambda index: bleu(grams[index].sum(axis=0), 1), patients),
        bootstrapped("bleu4", lambda index: bleu(grams[index].sum(axis=0), 4), patients),
        mean_metric("rougeL", [rouge_l(case.text, case.reference) for case in cases], patients),
        mean_metric("meteor", [meteor(case.text, case.reference) for case in cases], patients),
    ]


def _share(
    name: str,
    counts: npt.NDArray[np.int64],
    above: tuple[int, int, int],
    below: tuple[int, int, int],
    patients: Sequence[str],
) -> list[Metric]:
    """The counts (cases, 3), summed and weighted by `above` over those by `below`; none where that is 0 of 0."""

    def score(index: npt.NDArray[np.int64]) -> float:
        total = counts[index].sum(axis=0)
        return float(total @ above) / float(total @ below) if total @ below else float("nan")

    is_defined = len(patients) and counts.sum(axis=0) @ below
    return [bootstrapped(name, score, patients)] if is_defined else []


def _mean(name: str, values: Sequence[Sequence[float]], cases: Sequence[Case]) -> list[Metric]:
    """The mean over all values of all cases; none without a value."""
    pairs = [(value, case.patient) for own, case in zip(values, cases, strict=True) for value in own]
    return [mean_metric(name, *zip(*pairs, strict=True))] if pairs else []
