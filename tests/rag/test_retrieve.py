from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from dicom_io.study import Modality, Study
from expert_models import codes
from expert_models.finding import Finding, Measurement, Presence
from rag.adapters.hashing import HashingEmbedder
from rag.adapters.memory import MemoryStore
from rag.errors import DocumentInvalid, EmbedderMismatch
from rag.evidence import Document
from rag.rank import Cut
from rag.retrieve import HybridLibrary

MakeStudy = Callable[..., Study]
MakeFinding = Callable[..., Finding]
OPEN = Cut(floor=0.1, ratio=100.0)  # for a handful of tiny documents under the hashing encoder


class CountingEmbedder(HashingEmbedder):
    """Counts the texts it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded = 0

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.encoded += len(texts)
        return super().encode(texts)


@pytest.fixture
def library(documents: tuple[Document, ...]) -> HybridLibrary:
    return HybridLibrary(MemoryStore(), HashingEmbedder(), cut=OPEN, starter=documents)


def test_evidence_names_its_findings_and_stands_in_its_document(
    library: HybridLibrary, documents: tuple[Document, ...], make_study: MakeStudy, make_finding: MakeFinding
) -> None:
    findings = [
        make_finding("f1", codes.PNEUMOTHORAX, probability=0.9),
        make_finding("f2", codes.CARDIOMEGALY, probability=0.8),
    ]
    evidence = library.retrieve(make_study(Modality.DX), findings)
    assert [each.id for each in evidence] == [f"e{number}" for number in range(1, len(evidence) + 1)]
    first = {each.citation.document_id: each for each in evidence}
    assert first["pneumothorax"].finding_ids[0] == "f1"
    assert "f2" in first["heart"].finding_ids
    by_id = {document.id: document for document in documents}
    for each in evidence:
        document = by_id[each.citation.document_id]
        assert each.text == document.text[each.citation.start : each.citation.stop]
        assert (each.citation.title, each.citation.identifier) == (document.title, document.identifier)
        assert 0.0 <= each.score <= 1.0


def test_a_radiograph_is_not_read_by_ct_guidance_and_the_other_way_round(
    make_study: MakeStudy, make_finding: MakeFinding, documents: tuple[Document, ...]
) -> None:
    about_nodules = [
        replace(documents[0], id=f"nodule-{topic}", title="Pulmonary nodule", topics=(topic,))
        for topic in ("ct", "radiograph")
    ]
    library = HybridLibrary(MemoryStore(), HashingEmbedder(), cut=OPEN, starter=about_nodules)
    nodule = [make_finding("f1", codes.LUNG_NODULE)]
    on_ct = library.retrieve(make_study(Modality.CT), nodule)
    on_radiograph = library.retrieve(make_study(Modality.CR), nodule)
    assert [each.citation.document_id for each in on_ct] == ["nodule-ct"]
    assert [each.citation.document_id for each in on_radiograph] == ["nodule-radiograph"]


def test_other_images_guidance_is_used_when_there_is_nothing_else(
    library: HybridLibrary, make_study: MakeStudy, make_finding: MakeFinding
) -> None:
    strict = HybridLibrary(library.store, library.embedder, cut=Cut(floor=0.3, ratio=1.5), starter=library.starter)
    evidence = strict.retrieve(make_study(Modality.DX), [make_finding("f1", codes.PLEURAL_EFFUSION)])
    assert {each.citation.document_id for each in evidence} == {"effusion"}


def test_a_passage_for_two_queries_stands_once_with_both_findings(
    make_study: MakeStudy, make_finding: MakeFinding, documents: tuple[Document, ...]
) -> None:
    both = replace(documents[0], id="both", title="Pneumothorax and pleural effusion", topics=())
    library = HybridLibrary(MemoryStore(), HashingEmbedder(), cut=OPEN, starter=[both])
    findings = [make_finding("f1", codes.PNEUMOTHORAX), make_finding("f2", codes.PLEURAL_EFFUSION)]
    (evidence,) = library.retrieve(make_study(Modality.DX), findings)
    assert evidence.finding_ids == ("f1", "f2")


def test_every_query_gets_its_best_before_any_gets_its_second(
    make_study: MakeStudy, make_finding: MakeFinding, documents: tuple[Document, ...]
) -> None:
    crowd = [replace(documents[0], id=f"p{number}", topics=()) for number in range(5)]
    library = HybridLibrary(
        MemoryStore(), HashingEmbedder(), most=3, cut=OPEN, starter=[*crowd, replace(documents[1], topics=())]
    )
    findings = [make_finding("f1", codes.PNEUMOTHORAX), make_finding("f2", codes.PLEURAL_EFFUSION, probability=0.6)]
    evidence = library.retrieve(make_study(Modality.DX), findings)
    assert len(evidence) == 3
    assert evidence[1].citation.document_id == "effusion"
    assert len({each.citation.document_id for each in evidence}) == 3


def test_a_normal_study_cites_nothing(library: HybridLibrary, make_study: MakeStudy, make_finding: MakeFinding) -> None:
    study = make_study(Modality.DX)
    ratio = Measurement(codes.CARDIOTHORACIC_RATIO, 0.45, codes.RATIO)
    measured = make_finding("f1", codes.CARDIOMEGALY, Presence.ABSENT, 0.1, (ratio,))
    assert library.retrieve(study, [measured]) == ()
    assert library.retrieve(study, [make_finding("f1", codes.LUNG)]) == ()
    assert library.retrieve(study, []) == ()


def test_nothing_near_enough_is_nothing(documents: tuple[Document, ...]) -> None:
    library = HybridLibrary(MemoryStore(), HashingEmbedder(), starter=documents)
    assert library.search("knee arthroplasty loosening") == ()
    assert library.search("   ") == ()
    assert library.search("pneumothorax", k=0) == ()


def test_a_synonym_finds_what_it_means(library: HybridLibrary) -> None:
    assert library.search("air in the pleural cavity")[0].citation.document_id == "pneumothorax"


def test_an_empty_library_finds_nothing() -> None:
    library = HybridLibrary(MemoryStore(), HashingEmbedder(), starter=())
    assert library.count() == 0
    assert library.search("pneumothorax") == ()


def test_added_documents_are_found_and_replaced(library: HybridLibrary, documents: tuple[Document, ...]) -> None:
    mine = replace(documents[0], id="mine", text="Tree-in-bud marks small airways.", title="Small airways")
    assert library.add([mine]) == 1
    assert library.count() == 4
    assert library.search("tree-in-bud airways")[0].citation.document_id == "mine"
    assert library.add([replace(mine, text="Mosaic attenuation.")]) == 1
    assert library.count() == 4
    assert {each.text for each in library.search("small airways")} == {"Mosaic attenuation."}
    assert library.add([]) == 0


def test_the_starter_library_is_not_overwritten(library: HybridLibrary, documents: tuple[Document, ...]) -> None:
    with pytest.raises(DocumentInvalid, match="'heart' already"):
        library.add([replace(documents[2], text="Mine.")])


def test_the_starter_library_is_encoded_once(documents: tuple[Document, ...]) -> None:
    store, embedder = MemoryStore(), CountingEmbedder()
    assert HybridLibrary(store, embedder, starter=documents).ensure_starter() == 3
    encoded = embedder.encoded
    assert HybridLibrary(store, embedder, starter=documents).ensure_starter() == 0
    assert embedder.encoded == encoded


def test_a_new_starter_library_replaces_the_old_and_leaves_the_users_documents(
    documents: tuple[Document, ...],
) -> None:
    store = MemoryStore()
    old = HybridLibrary(store, HashingEmbedder(), starter=documents)
    old.add([replace(documents[0], id="mine")])
    changed = replace(documents[1], text="New words.")
    new = HybridLibrary(store, HashingEmbedder(), starter=[documents[0], changed])
    assert new.ensure_starter() == 1
    assert [document.id for document in store.documents()] == ["effusion", "mine", "pneumothorax"]
    assert old.count() == 3  # the older object sees the new revision


def test_a_store_of_another_encoder_is_refused(documents: tuple[Document, ...]) -> None:
    store = MemoryStore()
    HybridLibrary(store, HashingEmbedder(), starter=documents).ensure_starter()
    other = HybridLibrary(store, HashingEmbedder(dimensions=64), starter=documents)
    with pytest.raises(EmbedderMismatch, match=r"'hashing-256'.*'hashing-64'"):
        other.search("pneumothorax")


def test_importing_the_library_loads_nothing_heavy() -> None:
    code = (
        "import json, sys, rag.retrieve, rag.documents, rag.adapters.minilm, rag.adapters.chroma;"
        "print(json.dumps(sorted(sys.modules)))"
    )
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    heavy = {"torch", "transformers", "chromadb", "bm25s", "scipy", "langchain_core", "langchain_text_splitters"}
    assert heavy & set(loaded) == set()
