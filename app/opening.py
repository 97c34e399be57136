"""What every command begins and ends with: settings and logs, the program, JSON for machines."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import BadSetting

if TYPE_CHECKING:
    from app.bootstrap import Program
    from app.settings import Settings


def open_settings(**given: object) -> Settings:
    """The settings, with logging started."""
    from app.logs import start_logs
    from app.settings import load_settings

    settings = load_settings(**given)
    start_logs(settings.log_level, settings.log_format)
    return settings


def open_here() -> Program:
    """The program as the settings say."""
    from app.bootstrap import open_program

    return open_program(open_settings())


def print_json(value: object) -> None:
    """JSON on standard output, for machines."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def check_paths(paths: list[Path]) -> None:
    """Raise BadSetting for the first path that does not exist."""
    for path in paths:
        if not path.exists():
            raise BadSetting(f"{path} does not exist")
