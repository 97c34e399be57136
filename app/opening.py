"""What every command begins and ends with: settings and logs, the program, JSON for machines."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

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
