"""The starter library on hand-labelled queries: those in even places, on which nothing was tuned."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_io.study import Modality, Study
from expert_models import codes
from expert_models.finding import Code, Finding
from rag.adapters.memory import MemoryStore
from rag.adapters.minilm import MiniLmEmbedder
from rag.documents import starter_library
from rag.retrieve import HybridLibrary

LABELS = Path(__file__).with_name("labelled_queries.toml")
TOPIC_OF = {
    codes.CARDIOMEGALY: "cardiomegaly",
    codes.LUNG_NODULE: "nodule",
    codes.PLEURAL_EFFUSION: "effusion",
    codes.PNEUMOTHORAX: "pneumothorax",
    codes.CONSOLIDATION: "consolidation",
    codes.ATELECTASIS: "atelectasis",
    codes.PULMONARY_EDEMA: "edema",
}

pytestmark = pytest.mark.slow  # the whole starter library is encoded


@pytest.fixture(scope="module")
def library() -> HybridLibrary:
    return HybridLibrary(MemoryStore(), MiniLmEmbedder())


def test_labels_name_documents_that_exist() -> None:
    rows = tomllib.loads(LABELS.read_text())["query"]
    assert len(rows) >= 30
    known = {document.id for document in starter_library()}
    assert {each for row in rows for each in row["documents"]} <= known


def test_the_held_out_queries_find_their_documents_and_nothing_where_there_is_none(library: HybridLibrary) -> None:
    rows = tomllib.loads(LABELS.read_text())["query"][1::2]
    found = [[each.citation.document_id for each in library.search(row["text"])] for row in rows]
    first = [bool(ids) and ids[0] in row["documents"] for ids, row in zip(found, rows, strict=True) if row["documents"]]
    silent = [not ids for ids, row in zip(found, rows, strict=True) if not row["documents"]]
    assert sum(first) / len(first) >= 0.75
    assert sum(silent) / len(silent) >= 0.85


@pytest.mark.parametrize("modality", [Modality.CT, Modality.DX])
@pytest.mark.parametrize(("concept", "topic"), TOPIC_OF.items(), ids=TOPIC_OF.values())
def test_every_finding_gets_literature_on_it_and_on_its_images(
    library: HybridLibrary,
    make_study: Callable[..., Study],
    make_finding: Callable[..., Finding],
    modality: Modality,
    concept: Code,
    topic: str,
) -> None:
    topics = {document.id: document.topics for document in starter_library()}
    texts = {document.id: document.text for document in starter_library()}
    evidence = library.retrieve(make_study(modality), [make_finding("f1", concept)])
    assert 1 <= len(evidence) <= 6
    assert topic in topics[evidence[0].citation.document_id]
    image, other = ("radiograph", "ct") if modality.is_projection else ("ct", "radiograph")
    for each in evidence:
        on = topics[each.citation.document_id]
        assert image in on or other not in on
        assert not {"ai", "dataset"} & set(on)
        assert each.text == texts[each.citation.document_id][each.citation.start : each.citation.stop]
    right = [topic in topics[each.citation.document_id] for each in evidence]
    assert sum(right) / len(right) >= 0.5
