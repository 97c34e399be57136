"""Scores of reports against truths written by hand, and the way from a film and a writer to a score."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from expert_models import codes
from expert_models.evaluate import Metric
from expert_models.finding import Change, Code, Comparison, ExpertTag, Finding, Measurement, Presence, Side
from medmllm.evaluate_reports import PHANTOM, Case, evaluate_reports, phantom_cases, scores
from medmllm.report import Grounding, Report, Section, Sentence
from medmllm.train.exams import Drawn, Exam, Film

TAG = ExpertTag("fake", "1")


def there(concept: Code, side: Side | None = None, id_: str = "f1") -> Finding:
    return Finding(id_, concept, Presence.PRESENT, TAG, side=side)


def by_name(metrics: list[Metric] | tuple[Metric, ...]) -> dict[str, tuple[float, int]]:
    return {each.name: (pytest.approx(each.value), each.n) for each in metrics}


def test_findings_and_sides_by_hand() -> None:
    effusion, nodule = there(codes.PLEURAL_EFFUSION, Side.LEFT), there(codes.LUNG_NODULE, Side.RIGHT, "f2")
    absent = replace(there(codes.LUNG_MASS, id_="f3"), presence=Presence.ABSENT)
    cases = [
        # effusion found on its side; the nodule is only possible; nobody has a mass
        Case("a", "Left pleural effusion. Possible right nodule. No mass.", (effusion, nodule, absent)),
        # an opacity is the consolidation, on the wrong side; the edema is invented; emphysema cannot be there
        Case("b", "Right lung opacity. Edema. Emphysema.", (there(codes.CONSOLIDATION, Side.LEFT),)),
        # both sides of two findings are one statement
        Case(
            "c",
            "Bilateral effusions. The mass was not assessed.",
            (effusion, there(codes.PLEURAL_EFFUSION, Side.RIGHT, "f2"), there(codes.LUNG_MASS, Side.LEFT, "f3")),
        ),
        Case("d", "No effusion. The heart is larger than before.", ()),
    ]
    # 3 found (a, b, c), 1 invented (b), 2 missed (a, c).
    assert by_name(scores(cases, PHANTOM)) == {
        "finding/f1": (6 / 9, 4),
        "finding/precision": (3 / 4, 4),
        "finding/recall": (3 / 5, 4),
        "finding/nodule/f1": (0.0, 4),
        "finding/mass/f1": (0.0, 4),
        "finding/consolidation/f1": (1.0, 4),
        "finding/pleural_effusion/f1": (1.0, 4),
        "finding/edema/f1": (0.0, 4),
        "side/accuracy": (2 / 3, 3),
    }


def test_what_is_never_said_has_no_precision() -> None:
    (case,) = [Case("a", "No effusion.", (there(codes.PLEURAL_EFFUSION),))]
    assert by_name(scores([case], PHANTOM)) == {
        "finding/f1": (0.0, 1),
        "finding/recall": (0.0, 1),
        "finding/pleural_effusion/f1": (0.0, 1),
    }
    assert scores([], PHANTOM) == []


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("The left effusion is larger. The pneumothorax has resolved. The heart is smaller.", 1.0),
        ("The effusion is larger.", 1 / 3),
        ("The right effusion is larger.", 0.0),
        ("The left effusion is stable. The right pneumothorax is no longer seen. The cardiomegaly is stable.", 1 / 3),
        ("There is a left effusion.", 0.0),
    ],
)
def test_changes_by_hand(text: str, right: float) -> None:
    effusion, heart = there(codes.PLEURAL_EFFUSION, Side.LEFT), there(codes.CARDIOMEGALY, id_="f2")
    changes = (
        Comparison("c1", Change.LARGER, "1", "t1", "f1", effusion),
        Comparison("c2", Change.SMALLER, "1", "t2", "f2", heart),
        Comparison("c3", Change.RESOLVED, "1", "t3", None, there(codes.PNEUMOTHORAX, Side.RIGHT)),
    )
    metrics = by_name(scores([Case("a", text, (effusion, heart), changes, has_prior=True)], PHANTOM))
    assert metrics["change/accuracy"] == (right, 3)
    assert "no_prior/invented" not in metrics


def test_words_of_change_against_the_reference_and_without_a_prior() -> None:
    cases = [
        Case("a", "The nodule is new and larger.", (), (), "The nodule is new. The mass is unchanged.", True),
        Case("b", "A stable nodule.", (), (), "A nodule.", False),
        Case("c", "A nodule.", (), (), "A nodule.", False),
    ]
    metrics = by_name(scores(cases, PHANTOM))
    # Shared: new. Only said: larger, stable. Only true: unchanged. 2 / (2 + 2 + 1).
    assert metrics["temporal_words/f1"] == (2 / 5, 3)
    assert metrics["no_prior/invented"] == (1 / 2, 2)
    # b: 2 of 3 words, c: 2 of 2, and of a "the nodule is new" of 6 words: 8 of 11; the references have 12.
    assert metrics["bleu1"] == (pytest.approx(8 / 11 * np.exp(1 - 12 / 11)), 3)
    assert metrics["rougeL"] == (pytest.approx((2 * 4 / 14 + 2 * 2 / 5 + 1) / 3), 3)


class Plain:
    """A writer that says one sentence, and remembers what it was given."""

    def __init__(self, text: str) -> None:
        self.text, self.given = text, []  # type: ignore[var-annotated]

    def write(self, study: Any, findings: Any, comparisons: Any, evidence: Any, notices: Any = ()) -> Report:
        self.given.append((study, findings, comparisons))
        sentences = (
            Sentence("A mass was removed.", Section.INDICATION, Grounding(attributes=("PatientID",))),
            Sentence(self.text, Section.FINDINGS),
        )
        return Report(study.uid, sentences, tuple(findings), tuple(comparisons), (), "plain")


class Sees:
    """An expert that sees an effusion on the left of every film."""

    tag = TAG
    concepts = (codes.PLEURAL_EFFUSION,)

    def refuses(self, series: Any) -> str | None:
        return None

    def examine(self, series: Any, masks: Any) -> list[Finding]:
        volume = Measurement(codes.VOLUME, 300.0, codes.MILLILITER)
        return [replace(there(codes.PLEURAL_EFFUSION, Side.LEFT), measurements=(volume,))]


def exam(seed: int, change: str) -> Exam:
    lesion = Drawn("effusion-1", "effusion", "left", None, 50.0, 300.0, change)
    outlines = np.zeros((4, 16, 16), bool)
    outlines[:, 4:8, 4:8] = True
    film = Film("PA", np.full((16, 16), 99, np.uint8), outlines, (lesion,), 0.45)
    return Exam(seed, 30, film, film, ())


def test_every_second_phantom_is_given_with_its_prior() -> None:
    writer = Plain("There is a left pleural effusion.")
    cases = list(phantom_cases([exam(1, "stable"), exam(2, "stable")], writer, [Sees()]))
    assert [bool(study.priors) for study, _, _ in writer.given] == [False, True]
    assert [[each.concept for each in findings] for _, findings, _ in writer.given] == [[codes.PLEURAL_EFFUSION]] * 2
    assert [[each.change for each in made] for _, _, made in writer.given] == [[], [Change.STABLE]]
    assert [(case.patient, case.has_prior, case.text) for case in cases] == [
        ("1", False, "There is a left pleural effusion."),
        ("2", True, "There is a left pleural effusion."),
    ]
    assert [each.change for each in cases[1].changes] == [Change.STABLE]
    assert "unchanged" in cases[1].reference
    assert "unchanged" not in cases[0].reference
    metrics = by_name(scores(cases, PHANTOM))
    assert metrics["finding/f1"] == (1.0, 2)
    assert metrics["change/accuracy"] == (0.0, 1)


def test_films_that_are_not_for_training_are_held_against_their_labels(tmp_path: Path) -> None:
    pack = tmp_path / "cxr_nih"
    pack.mkdir()
    columns = ["file", "patient", "view", "Cardiomegaly", "Effusion", "Pneumonia", "split"]
    rows = [("a", 0, 1, 0, "val"), ("b", 0, 0, 1, "val"), ("c", 0, 1, 0, "train")]
    with (pack / "index.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        for name, heart, effusion, pneumonia, split in rows:
            Image.fromarray(np.full((16, 16), 90, np.uint8)).save(pack / f"{name}.png")
            table.writerow([f"{name}.png", name, "PA", heart, effusion, pneumonia, split])
    writer = Plain("There is a new effusion.")
    evaluation = evaluate_reports(str(tmp_path), writer, experts=[Sees()])
    assert (evaluation.suite, len(writer.given)) == ("reports", 2)
    assert by_name(evaluation.metrics) == {
        "finding/f1": (2 / 4, 2),  # a found; b invented, and its opacity missed
        "finding/precision": (1 / 2, 2),
        "finding/recall": (1 / 2, 2),
        "finding/consolidation/f1": (0.0, 2),
        "finding/pleural_effusion/f1": (2 / 3, 2),
        "no_prior/invented": (1.0, 2),
    }
    assert len(evaluate_reports(str(tmp_path), Plain("No mass."), limit=1, experts=[Sees()]).metrics) == 4


def test_reports_that_people_coded_test_the_labeler(tmp_path: Path) -> None:
    pack = tmp_path / "reports_iu"
    pack.mkdir()
    rows = [
        ("1", "Opacity at the left base.", "", ["Opacity/lung/base/left"], "val"),
        ("2", "", "Enlarged heart, no nodule.", ["Cardiac Shadow/enlarged", "Nodule/lung"], "val"),
        ("3", "A mass.", "", ["Mass"], "train"),
        ("4", "A mass.", "", ["No Indexing"], "val"),
        ("5", "", "", ["normal"], "val"),
    ]
    names = ("id", "findings", "impression", "mesh_major", "split")
    lines = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
    (pack / "val.jsonl").write_text("\n".join(lines))
    evaluation = evaluate_reports(str(tmp_path), Plain("-"), experts=[])
    assert by_name(evaluation.metrics) == {
        "labeler/finding/f1": (4 / 5, 2),
        "labeler/finding/precision": (1.0, 2),
        "labeler/finding/recall": (2 / 3, 2),
        "labeler/finding/consolidation/f1": (1.0, 2),
        "labeler/finding/cardiomegaly/f1": (1.0, 2),
        "labeler/finding/nodule/f1": (0.0, 2),
        "labeler/side/accuracy": (1.0, 1),
    }


def test_sources_that_are_none(tmp_path: Path) -> None:
    for source, words in (
        ("nowhere", "neither a folder"),
        ("phantom:3-3", "START-STOP"),
        (str(tmp_path), "no pack whose reports"),
    ):
        with pytest.raises(ValueError, match=words):
            evaluate_reports(source, Plain("-"), experts=[])
