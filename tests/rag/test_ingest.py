from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from rag.evidence import Document
from rag.ingest import passages_of

TEXTS = st.text(alphabet=st.sampled_from(list("ab. \n\t!?;…é\u2028\x85\xa0\x1c𝒳")), min_size=1, max_size=300) | st.text(
    min_size=1, max_size=200
)


def document(text: str) -> Document:
    return Document("d", "T", "A", 2020, "10.1000/x", text, topics=("ct",))


@settings(deadline=None)
@given(TEXTS.filter(str.strip), st.integers(5, 80))
def test_every_passage_stands_where_it_says(text: str, size: int) -> None:
    passages = passages_of(document(text), size)
    assert passages
    stop = 0
    for passage in passages:
        assert passage.text == text[passage.start : passage.stop]
        assert passage.start >= stop  # in order, nothing twice
        assert not text[stop : passage.start].strip()  # nothing but white space is left out
        assert passage.stop - passage.start <= size
        stop = passage.stop
    assert not text[stop:].strip()
    assert len({passage.id for passage in passages}) == len(passages)


def test_passages_end_with_sentences() -> None:
    text = "One sentence stands here. Another of 3.5 words follows! A third one ends it.\n\nA paragraph of its own."
    assert [passage.text for passage in passages_of(document(text), 60)] == [
        "One sentence stands here. Another of 3.5 words follows!",
        "A third one ends it.",
        "A paragraph of its own.",
    ]


def test_an_id_names_the_document_and_the_start() -> None:
    (passage,) = passages_of(document("  Words."))
    assert (passage.id, passage.document_id, passage.topics) == ("d#2", "d", ("ct",))
