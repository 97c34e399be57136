"""report.json, its schema, and the terminal's text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from app.results.record import REPORT_JSON, Record, report_schema
from app.results.text import as_text
from app.results.words import link_of

SCHEMA = Path(__file__).parents[2] / "docs" / "report.schema.json"


def test_json_gives_the_same_report_back(ct_record: Record, dx_record: Record, bare_record: Record) -> None:
    for record in (ct_record, dx_record, bare_record):
        body = REPORT_JSON.dump_json(record.report)
        assert REPORT_JSON.validate_json(body) == record.report
        jsonschema.validate(json.loads(body), json.loads(SCHEMA.read_text()))


def test_a_report_from_before_findings_had_attributes_is_read(ct_record: Record) -> None:
    old = json.loads(REPORT_JSON.dump_json(ct_record.report))
    for finding in old["findings"]:
        del finding["attributes"]
    nodule = REPORT_JSON.validate_python(old, strict=False).findings[2]
    assert (nodule.id, nodule.attributes) == ("f3", ())


def test_an_invented_reference_is_refused_when_read(dx_record: Record) -> None:
    body = REPORT_JSON.dump_json(dx_record.report).replace(b'"finding_ids":["f1"]', b'"finding_ids":["f9"]')
    with pytest.raises(ValueError, match="does not hold"):
        REPORT_JSON.validate_json(body)


def test_the_documented_schema_is_current() -> None:
    assert SCHEMA.read_text() == report_schema()


def test_a_record_is_about_one_study(ct_record: Record, dx_record: Record) -> None:
    with pytest.raises(ValueError, match="not about this study"):
        replace(ct_record, study=dx_record.study)


def test_text_has_every_sentence_its_ids_and_its_doubts(ct_record: Record) -> None:
    text = as_text(ct_record.report)
    assert text.startswith("*** DRAFT — not verified by a physician ***")
    assert "- Follow the left nodule after 6 to 12 months. [f3, e1]" in text
    assert "!! not supported check failed: no finding says so" in text
    assert "!! rests on no finding, measurement or source" in text
    assert "! The effusion expert is down." in text
    assert "10.1148/radiol.2017161659" in text
    assert "Müller" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_terminals_control_characters_are_dropped(bare_record: Record) -> None:
    sentence = replace(bare_record.report.sentences[0], text="red \x1b[31malert")
    assert "\x1b" not in as_text(replace(bare_record.report, sentences=(sentence,)))


@pytest.mark.parametrize(
    ("identifier", "link"),
    [
        ("10.1148/radiol.2017161659", "https://doi.org/10.1148/radiol.2017161659"),
        ("doi:10.1000/182", "https://doi.org/10.1000/182"),
        ("PMID: 28240562", "https://pubmed.ncbi.nlm.nih.gov/28240562/"),
        ("https://example.org/a", "https://example.org/a"),
        ("javascript:alert(1)", ""),
        ("local protocol 7", ""),
    ],
)
def test_only_real_addresses_become_links(identifier: str, link: str) -> None:
    assert link_of(identifier) == link
