from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from expert_models.card import CARDS, checked_weights, imported, packaged_card, read_card
from expert_models.errors import CardInvalid, WeightsMismatch
from expert_models.finding import Side

CARD = """
name = "method"
version = "1.2"
title = "A method"
intended_use = "Tests."
limits = ["None."]
indeterminate = [0.2, 0.8]
[input]
modality = ["CT"]
size = [64, 64, 64]
spacing_mm = [1.5, 1, 1]
range = [-1000, 400]
[[labels]]
name = "left lung"
code = ["39607008", "SCT", "Lung"]
side = "left"
threshold = 0.5
[[scores]]
name = "dice"
value = 0.9
low = 0.8
high = 0.95
n = 7
data = "seven scans"
[calibration]
slope = 2
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "method.toml"
    path.write_text(text)
    return path


def test_a_card_says_what_it_says(tmp_path: Path) -> None:
    card = read_card(written(tmp_path, CARD))
    assert (card.name, card.version, card.indeterminate) == ("method", "1.2", (0.2, 0.8))
    assert (card.input.size, card.input.spacing_mm, card.input.range) == (
        (64, 64, 64),
        (1.5, 1.0, 1.0),
        (-1000.0, 400.0),
    )
    assert (card.label("left lung").side, card.label("left lung").code.scheme) == (Side.LEFT, "SCT")
    assert (card.scores[0].n, dict(card.calibration)) == (7, {"slope": 2.0})
    assert card.tag.weights_sha256 == ""
    with pytest.raises(KeyError, match="no label 'spleen'"):
        card.label("spleen")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('name = "method"', 'name = "other"', "calls itself 'other'"),
        ('version = "1.2"', "version = 1.2", "must have 'version' as text"),
        ('version = "1.2"', 'version = "1.2"\ncolour = "red"', "unknown entry 'colour'"),
        ('limits = ["None."]', "limits = []", "'limits' as a list of texts"),
        ("[0.2, 0.8]", "[0.8, 0.2]", "two growing probabilities"),
        ('modality = ["CT"]', 'modality = ["MR"]', "never read: 'MR'"),
        ("size = [64, 64, 64]", "size = [64, 64.5]", "whole pixels"),
        ("range = [-1000, 400]", "range = [400, 400]", "range that is empty"),
        ('"SCT"', '"ICD"', "unknown scheme 'ICD'"),
        ('side = "left"', 'side = "up"', "not left, right or bilateral"),
        ("threshold = 0.5", "threshold = 1", "between 0 and 1"),
        ("low = 0.8", "low = 0.91", "interval or number is impossible"),
        ("n = 7", "n = 0", "interval or number is impossible"),
        ("slope = 2", 'slope = "steep"', "'slope' as a number"),
        ("[[labels]]", "[[other]]", "unknown entry 'other'"),
        ('version = "1.2"', 'version = "1.2"\nweights = "a.safetensors"', "all three of network, weights and sha256"),
        ("[input]", "[input", "cannot be read as TOML"),
    ],
)
def test_a_card_that_is_wrong_says_how(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert CARD.count(old) == 1
    with pytest.raises(CardInvalid, match=sentence) as caught:
        read_card(written(tmp_path, CARD.replace(old, new)))
    assert "method.toml" in str(caught.value)


@pytest.mark.parametrize("weights", ["../a.safetensors", "a.pt"])
def test_weights_are_safetensors_of_the_package(tmp_path: Path, weights: str) -> None:
    extra = f'network = "torch.nn:Conv2d"\nweights = "{weights}"\nsha256 = "{"0" * 64}"\n'
    with pytest.raises(CardInvalid, match=r"\.safetensors file without a folder"):
        read_card(written(tmp_path, extra + CARD))


def test_a_missing_card_is_named() -> None:
    with pytest.raises(CardInvalid, match=r"there is no card spleen\.toml"):
        packaged_card("spleen")


def test_weights_are_compared_with_the_card(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"abc")
    card = replace(read_card(written(tmp_path, CARD)), weights=path.name, sha256=hashlib.sha256(b"abc").hexdigest())
    assert checked_weights(card, path) == path
    path.write_bytes(b"abd")
    with pytest.raises(WeightsMismatch, match="are not those its card names"):
        checked_weights(card, path)
    with pytest.raises(WeightsMismatch, match="cannot be read"):
        checked_weights(card, tmp_path / "gone.safetensors")
    with pytest.raises(WeightsMismatch, match="a method without weights"):
        checked_weights(replace(card, weights=""))


@pytest.mark.parametrize("path", sorted(CARDS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_packaged_card_is_valid_and_its_weights_are_those_it_names(path: Path) -> None:
    card = read_card(path)
    if card.weights:
        checked_weights(card)


def test_an_import_path_that_leads_nowhere_is_told() -> None:
    assert imported("math:sqrt")(9) == 3
    for path in ("nowhere_at_all:Net", "math:no_such_function"):
        with pytest.raises(CardInvalid, match="cannot be imported"):
            imported(path)
