"""The invariants of ARCHITECTURE.md that the import contracts cannot see."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "medmllm", "rag", "expert_models", "dicom_io")
HEAVY = ("torch", "monai", "gradio", "chromadb", "transformers", "highdicom", "langchain_core", "fhir", "reportlab")


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(run.stdout.split())


def test_the_pipeline_loads_no_framework() -> None:
    assert loaded_by("import app.pipeline") == set()


def test_the_command_line_loads_no_framework() -> None:
    assert loaded_by("import app.cli") == set()


def test_package_inits_hold_a_docstring_and_nothing_else() -> None:
    inits = [path for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")]
    assert len(inits) >= len(PACKAGES)
    for path in inits:
        body = ast.parse(path.read_text()).body
        assert len(body) == 1, path
        assert isinstance(body[0], ast.Expr), path
        assert ast.get_docstring(ast.parse(path.read_text())), path
