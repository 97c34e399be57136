from __future__ import annotations

from collections.abc import Callable

import pytest

from dicom_io.study import Modality, Study
from expert_models import codes
from expert_models.finding import Code, Finding, Measurement, Presence
from rag.query import queries_for

MakeStudy = Callable[..., Study]
MakeFinding = Callable[..., Finding]
RATIO = Measurement(codes.CARDIOTHORACIC_RATIO, 0.45, codes.RATIO)


def test_one_query_for_each_concept_the_surest_first(make_study: MakeStudy, make_finding: MakeFinding) -> None:
    findings = [
        make_finding("f1", codes.LUNG),
        make_finding("f2", codes.PLEURAL_EFFUSION, Presence.INDETERMINATE, 0.5),
        make_finding("f3", codes.LUNG_NODULE, Presence.PRESENT, 0.7),
        make_finding("f4", codes.PNEUMOTHORAX, Presence.ABSENT, 0.01),
        make_finding("f5", codes.LUNG_NODULE, Presence.PRESENT, 0.9),
        make_finding("f6", codes.ATELECTASIS, Presence.NOT_ASSESSED),
        make_finding("f7", codes.CONSOLIDATION, Presence.PRESENT, 0.8),
    ]
    queries = queries_for(make_study(Modality.CT), findings)
    assert [query.finding_ids for query in queries] == [("f5", "f3"), ("f7",), ("f2",)]
    assert [query.text.split(" on ")[0] for query in queries] == [
        "pulmonary nodule",
        "consolidation",
        "pleural effusion",
    ]


@pytest.mark.parametrize(
    ("modalities", "topics", "words"),
    [
        ((Modality.DX,), ("radiograph", "any modality"), "on chest radiograph"),
        ((Modality.CR, Modality.DX), ("radiograph", "any modality"), "on chest radiograph"),
        ((Modality.CT,), ("ct", "any modality"), "on chest CT"),
        ((Modality.CT, Modality.DX), ("ct", "radiograph", "any modality"), "on chest CT and chest radiograph"),
    ],
)
def test_topics_and_words_follow_the_images(
    make_study: MakeStudy, make_finding: MakeFinding, modalities: tuple[Modality, ...], topics: object, words: str
) -> None:
    (query,) = queries_for(make_study(*modalities), [make_finding("f1", codes.PNEUMOTHORAX)])
    assert query.topics == topics
    assert words in query.text


def test_a_study_in_which_nothing_was_found_asks_nothing(make_study: MakeStudy, make_finding: MakeFinding) -> None:
    findings = [
        make_finding("f1", codes.HEART, measurements=(RATIO,)),
        make_finding("f2", codes.CARDIOMEGALY, Presence.ABSENT, 0.02, (RATIO,)),
        make_finding("f3", codes.PNEUMOTHORAX, Presence.ABSENT, 0.01),
    ]
    assert queries_for(make_study(Modality.DX), findings) == ()


def test_a_concept_of_another_expert_is_asked_by_its_meaning(make_study: MakeStudy, make_finding: MakeFinding) -> None:
    (query,) = queries_for(make_study(Modality.CT), [make_finding("f1", Code("1", "99X", "Hiatal hernia"))])
    assert query.text == "hiatal hernia on chest CT"


def test_the_request_never_reaches_a_query(make_study: MakeStudy, make_finding: MakeFinding) -> None:
    study = make_study(Modality.DX, indication="Mrs Example, cough")
    (query,) = queries_for(study, [make_finding("f1", codes.CONSOLIDATION)])
    assert "Example" not in query.text
    assert "cough" not in query.text
