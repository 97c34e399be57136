"""Logs go to stderr, as lines for people or as JSON, and never hold patient data.

Code logs keyed hashes (dicom_io.identity.study_key), not UIDs. Should a raw UID slip into an event all the same, for
example inside the message of a library, the redactor below takes it out.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

RAW_UID = re.compile(r"\b[0-2](?:\.(?:0|[1-9]\d*)){4,}\b")  # PS3.5 section 9.1, with at least five components


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace anything that looks like a DICOM UID."""
    return {key: RAW_UID.sub("[uid]", value) if isinstance(value, str) else value for key, value in event.items()}


def start_logs(level: Literal["debug", "info", "warning", "error"], style: Literal["console", "json"]) -> None:
    """Set up structlog, and let loggers of the standard library speak through it, from WARNING upward."""
    renderer = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    logging.basicConfig(handlers=[handler])
