"""Settings to parts: every URL that is documented gives its adapter, any other a sentence that lists the known ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.bootstrap import open_embedder, open_language_model, open_masks, open_vectors, open_writer
from app.errors import BadSetting, UnknownBackend
from app.settings import Settings
from medmllm.ports import Prompt


def settings(**given: object) -> Settings:
    return Settings(**given)  # type: ignore[arg-type]


def test_a_script_answers_in_order(tmp_path: Path) -> None:
    script = tmp_path / "answers.txt"
    script.write_text("findings | One. | f1\n---\nfindings | Two. | f1")
    model = open_language_model(settings(mllm_url=f"scripted://{script}"))
    assert model is not None
    assert [model.complete(Prompt("", "")) for _ in range(2)] == ["findings | One. | f1", "findings | Two. | f1"]
    assert type(open_writer(settings(mllm_url=f"scripted://{script}"))).__name__ == "MllmWriter"


def test_a_script_that_is_not_there_is_a_bad_setting(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="no file"):
        open_language_model(settings(mllm_url=f"scripted://{tmp_path}/absent"))


def test_the_template_needs_no_model() -> None:
    assert open_language_model(settings()) is None
    assert type(open_writer(settings())).__name__ == "TemplateWriter"


@pytest.mark.parametrize(
    ("opened", "setting", "url", "known"),
    [
        (open_language_model, "mllm_url", "telepathy:", "openai+http"),
        (open_vectors, "vectors_url", "faiss:", "chroma+file"),
        (open_embedder, "embedder_url", "word2vec:", "minilm"),
        (open_masks, "blobs_url", "ftp://x", "file"),
    ],
)
def test_an_unknown_backend_is_named_with_those_that_are_known(opened, setting: str, url: str, known: str) -> None:
    with pytest.raises(UnknownBackend, match=f"{setting}.*{known.replace('+', '.')}"):
        opened(settings(**{setting: url}))
