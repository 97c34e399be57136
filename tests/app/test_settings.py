"""Settings: precedence, unknown keys, and documents that cannot lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.bootstrap import open_language_model
from app.errors import BadSetting
from app.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("WETREAD_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_the_constructor_beats_the_environment_which_beats_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "wetread.toml").write_text('priors = 5\nevidence = 2\ndevice = "cuda"\n')
    monkeypatch.setenv("WETREAD_EVIDENCE", "4")
    monkeypatch.setenv("WETREAD_DEVICE", "cuda")
    settings = load_settings(device="cpu")
    assert (settings.priors, settings.evidence, settings.device) == (5, 4, "cpu")


def test_an_unknown_key_is_an_error_wherever_it_stands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="hoem"):
        load_settings(hoem="/data")
    (tmp_path / "wetread.toml").write_text("hoem = 1\n")
    with pytest.raises(BadSetting, match="setting hoem: unknown setting"):
        load_settings()
    (tmp_path / "wetread.toml").unlink()
    monkeypatch.setenv("WETREAD_HOEM", "/data")
    with pytest.raises(BadSetting, match="WETREAD_HOEM"):
        load_settings()


def test_a_wrong_value_names_the_setting_and_not_the_value() -> None:
    with pytest.raises(BadSetting, match="setting priors") as caught:
        load_settings(priors="many-secrets")
    assert "many-secrets" not in str(caught.value)


def test_a_broken_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "wetread.toml").write_text("home = [\n")
    with pytest.raises(BadSetting, match=r"wetread\.toml is not valid TOML"):
        load_settings()


def test_a_named_file_that_is_absent_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WETREAD_CONFIG", "elsewhere.toml")
    with pytest.raises(BadSetting, match=r"elsewhere\.toml"):
        load_settings()


def test_urls_left_empty_lie_below_home(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    assert settings.url_of("database_url") == f"sqlite:///{tmp_path}/wetread.db"
    assert load_settings(database_url="sqlite://").url_of("database_url") == "sqlite://"


def test_the_api_key_is_not_shown() -> None:
    assert "hunter2" not in repr(load_settings(mllm_api_key="hunter2"))


def test_every_setting_is_documented_with_its_default() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    rows = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}
    assert sorted(rows) == sorted(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        assert f"WETREAD_{name.upper()}" in rows[name]
        if isinstance(field.default, str | int | float) and field.default != "":
            assert f"`{field.default}`" in rows[name], f"{name}: the default {field.default!r} is not in its row"


def test_a_language_models_url_that_cannot_be_is_a_setting_and_not_a_fault() -> None:
    with pytest.raises(BadSetting, match="mllm_url: a language model's URL looks like"):
        open_language_model(Settings(mllm_url="openai+http://"))
