"""docs/dicom.md and docs/pacs.md name every reason that the code can give."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STARTS = ("it ", "its ", "the ", "there ", "another ", "they ", "none ", "modality ")
NOT_REASONS = {
    "the system does not say why",  # ends a longer sentence
    "the instances are of several studies",  # a programming error
    "the lookup table is not as long as its descriptor says",  # the cause of the listed reason
    "the disk is full",  # of ArchiveUnavailable, section 8
    "there is no CT, CR or DX image that can be used",  # of NoStudy
    "it is on a read-only disk",
}


NETWORK = {"dicomweb.py", "dimse.py", "intake.py", "listen.py", "query.py"}  # their reasons stand in docs/pacs.md


def reasons(of_network: bool) -> set[str]:
    found: set[str] = set()
    for path in sorted((ROOT / "dicom_io").glob("*.py")):
        if (path.name in NETWORK) is not of_network:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        pieces = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
        strings = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        values = [str(node.value) for node in strings if id(node) not in pieces]
        found |= {value for value in values if value.startswith(STARTS) and "\n" not in value}
    return found - NOT_REASONS


@pytest.mark.parametrize(("page", "of_network", "least"), [("dicom.md", False, 50), ("pacs.md", True, 5)])
def test_every_reason_is_documented(page: str, of_network: bool, least: int) -> None:
    text = " ".join((ROOT / "docs" / page).read_text(encoding="utf-8").split())
    assert len(reasons(of_network)) > least
    assert sorted(reason for reason in reasons(of_network) if reason not in text) == []
