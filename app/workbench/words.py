"""How the workbench says things: its templates, and short words for dates and states."""

from __future__ import annotations

from datetime import datetime
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from app.results import words
from app.results.report_html import day_of
from app.terminal import STAGES
from expert_models.codes import ANATOMY


@cache
def templates() -> Environment:
    """The workbench's templates: every text is escaped, and a missing name is an error."""
    loader = PackageLoader("app.workbench", "templates")
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {"day": day_of, "moment": moment}
    made.globals |= {"words": words, "stages": STAGES, "organs": ANATOMY}
    return made


def moment(when: datetime | None) -> str:
    """2024-03-05 14:30, in the zone of the server; "" for None."""
    if when is None:
        return ""
    return f"{when.astimezone() if when.tzinfo else when:%Y-%m-%d %H:%M}"
