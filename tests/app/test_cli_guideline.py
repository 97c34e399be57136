"""`wetread guideline`: the row, what it rests on and its citation; what is missing; what cannot be."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from app.cli import app
from app.errors import BadSetting

INCIDENTAL = "--single --age 60 --no-known-cancer --not-immunosuppressed --no-screening --morphology ordinary"
SCREENING = "--screening --completeness complete --morphology ordinary --not-suspicious --no-other-finding"


def guideline(line: str) -> str:
    result = CliRunner().invoke(app, ["guideline", *line.split()], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_fleischner_for_people() -> None:
    text = guideline(f"fleischner --type solid --mean-mm 7 --risk high {INCIDENTAL}")
    for words in ("FL-solid-single-6to8-high", "CT at 6 to 12 months", "risk: high", "mean diameter: 7 mm",
                  "doi:10.1148/radiol.2017161659"):  # fmt: skip
        assert words in text


def test_lung_rads_for_machines() -> None:
    body = json.loads(guideline(f"lung-rads --type solid --long-mm 9 --short-mm 8 --status new {SCREENING} --json"))
    assert (body["row"], body["category"], body["missing"]) == ("LR-4B-solid-new-growing", "4B", [])
    assert body["inputs"]["mean diameter"] == "8.5 mm"
    assert "10.1016/j.jacr.2023.09.009" in body["citation"]


def test_growth_from_two_sizes() -> None:
    line = f"lung-rads --type solid --mean-mm 7.6 --prior-mean-mm 6 --months 12 {SCREENING}"
    assert "LR-4A-solid-growing" in guideline(line)
    assert "status is not known" in guideline(line.replace("7.6", "7.5"))


def test_what_is_missing_is_named_and_no_management() -> None:
    body = json.loads(guideline("fleischner --type solid --mean-mm 7 --json"))
    assert body["management"] is None
    assert body["missing"][0] == "age"
    assert "not applicable: screening" in guideline("lung-rads --type solid")


@pytest.mark.parametrize(
    "line",
    [
        "fleischner --mean-mm 0",
        "fleischner --mean-mm nan",
        "fleischner --mean-mm 1e30",
        "fleischner --long-mm 7",
        "fleischner --long-mm 7 --short-mm 8",
        "fleischner --long-mm inf --short-mm 8",
        "fleischner --type part-solid --mean-mm 7 --solid-mm 8",
        "lung-rads --no-nodule --mean-mm 7",
        "lung-rads --mean-mm 7 --prior-mean-mm nan --months 3",
        "lung-rads --months -1",
    ],
)
def test_what_cannot_be_is_one_sentence(line: str) -> None:
    with pytest.raises(BadSetting) as refused:
        CliRunner().invoke(app, ["guideline", *line.split()], catch_exceptions=False)
    assert refused.value.exit_code == 2
    assert "\n" not in str(refused.value)
