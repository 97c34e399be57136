"""Documents that cannot lie: every command, option, link and container setting."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from app.bootstrap import QUIET
from app.cli import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def commands() -> list[str]:
    group = typer.main.get_command(app)
    names = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", None)
        names += [f"{name} {each}" for each in below] if below else [name]
    return names


@pytest.mark.parametrize("command", commands())
def test_every_command_is_documented(command: str) -> None:
    assert f"`wetread {command}" in (ROOT / "docs" / "commands.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_picture_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http://", "https://", "#", "mailto:")):
            assert (page.parent / target.split("#")[0]).exists(), target


def test_the_readme_names_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for command in ("demo", "test"):
        assert f"make {command}" in text
        assert command in targets


def test_the_image_copies_every_package_the_distribution_has() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    packages = re.search(r"packages = \[(.+)\]", (ROOT / "pyproject.toml").read_text())
    assert packages is not None
    for package in re.findall(r'"(\w+)"', packages[1]):
        assert f"COPY --chown=wetread {package} {package}\n" in dockerfile


def test_what_keeps_dependencies_quiet_is_in_the_makefile_too() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for name in ("HF_HUB_OFFLINE", "ANONYMIZED_TELEMETRY", "GRADIO_ANALYTICS_ENABLED"):
        assert f"export {name} := {QUIET[name]}" in makefile
