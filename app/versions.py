"""One version of a study's report: what was written, by whom, when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from medmllm.report import Report


@dataclass(frozen=True, slots=True)
class Version:
    """number counts from 1 within a study. author: the account that edited or signed; "" for a draft by the writer."""

    number: int
    report: Report
    written_at: datetime
    author: str = ""
