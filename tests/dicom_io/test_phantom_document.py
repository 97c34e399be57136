"""docs/phantom.md: its example runs, and the fields of truth.json are the ones it names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "phantom.md").read_text()


def test_the_example_runs_and_the_truth_has_the_fields_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    example = example.replace("spacing_mm=2.0", "spacing_mm=4.0").replace(
        'Path("phantom-42"))', 'Path("phantom-42"), rows=128, film_spacing_mm=(4, 4, 4), ct_spacing_mm=(5, 4, 4))'
    )
    exec(compile(example, "docs/phantom.md", "exec"), {})
    assert {path.name for path in Path("phantom-42").iterdir()} == {"xray-0-prior", "xray-1", "ct-1", "truth.json"}
    visit = json.loads(Path("phantom-42/truth.json").read_text())["visits"][-1]
    for name in (*visit, *(visit["lesions"][0] if visit["lesions"] else ())):
        if name not in ("visit", "xray_study_uid", "ct_study_uid"):
            assert f"`{name}`" in PAGE
