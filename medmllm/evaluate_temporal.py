"""What became of it, with the earlier film and without, scored on exams that no one trained on.

`change/accuracy`: asked what became of each disease that a true comparison speaks of, how often the answer is one of
its true changes. `unaided/change/accuracy` and `temporal_words/f1`: of reports from the two pictures alone, as
medmllm/evaluate_reports.py scores them. `no_prior/invented`: without the earlier film, the share of reports and of
answers to the same question that speak of a change or of an earlier study; that there is none may be said.

Of a real film without an earlier one, the last is all that can be scored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from expert_models.evaluate import Metric, Progress, mean_metric
from expert_models.finding import Code, Comparison, Finding
from medmllm.answer import Asked
from medmllm.evaluate_grounding import ask, counted
from medmllm.evaluate_reports import PHANTOM, Case, scores
from medmllm.labeler import compares
from medmllm.processor import Input
from medmllm.radfact import plain
from medmllm.train.exams import Exam
from medmllm.train.tasks import unaided_report, what_became
from medmllm.train.truth import comparisons_of, findings_of, study_of

KEPT = {"temporal_words/f1": "temporal_words/f1", "change/accuracy": "unaided/change/accuracy"}


def evaluate_temporal(
    asked: Asked, exams: Iterable[Exam], limit: int | None = None, progress: Progress | None = None
) -> list[Metric]:
    """The figures of this module that the exams allow; an empty list when there is no exam."""
    right: list[tuple[float, str]] = []
    invented: list[tuple[float, str]] = []
    cases: list[Case] = []
    for (exam, concept), given, answered in ask(asked, _questions(counted(islice(exams, limit), progress))):
        patient, text = str(exam.seed), plain(answered.text)
        if not any(prior is not None for prior in given.priors):
            invented.append((float(compares(text)), patient))
            continue
        findings, comparisons = _truth(exam)
        if concept is None:
            cases.append(Case(patient, text, findings, comparisons, plain(given.answer or ""), has_prior=True))
        else:
            right.append((float(text in _changes(findings, comparisons)[concept]), patient))
    metrics = {"change/accuracy": right, "no_prior/invented": invented}
    return [
        *(mean_metric(name, *zip(*values, strict=True)) for name, values in metrics.items() if values),
        *(
            Metric(KEPT[each.name], each.value, each.low, each.high, each.n)
            for each in scores(cases, PHANTOM)
            if each.name in KEPT
        ),
    ]


def _questions(exams: Iterable[Exam]) -> Iterator[tuple[tuple[Exam, Code | None], Input]]:
    """Each with the disease that it asks about, None for a report. Without a prior any disease will do."""
    for number, exam in enumerate(exams):
        if exam.then is not None:
            yield (exam, None), unaided_report(exam)
            for concept in _changes(*_truth(exam)):
                yield (exam, concept), what_became(exam, concept)
        concept = PHANTOM[number % len(PHANTOM)]
        yield (exam, None), unaided_report(exam, with_prior=False)
        yield (exam, concept), what_became(exam, concept, with_prior=False)


def _truth(exam: Exam) -> tuple[tuple[Finding, ...], tuple[Comparison, ...]]:
    findings = findings_of(exam.now, study_of(exam).series[0].uid)
    return findings, comparisons_of(exam, findings)


def _changes(findings: Iterable[Finding], comparisons: Iterable[Comparison]) -> dict[Code, set[str]]:
    """What became of the findings of each disease; of several each has its own."""
    known = {each.id: each for each in findings}
    true: dict[Code, set[str]] = {}
    for each in comparisons:
        if subject := known.get(each.finding_id or "") or each.prior_finding:
            true.setdefault(subject.concept, set()).add(each.change.value)
    return true
