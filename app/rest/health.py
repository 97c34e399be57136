"""For those who watch over the server: no token, no patient data."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import cast

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, JsonValue

from app.bootstrap import Program
from app.errors import AppError, storage
from app.rest.callers import Here
from app.rest.metrics import CONTENT_TYPE, Metrics
from app.rest.problems import MEDIA_TYPE, Problem

PROBLEM = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}

router = APIRouter(tags=["health"])


class Alive(BaseModel):
    """The process answers."""

    status: str = "alive"


class Ready(BaseModel):
    """The server can do its work."""

    status: str = "ready"


@router.get("/live", summary="Does the process answer?")
def live() -> Alive:
    """For a supervisor: restart the process when this does not answer."""
    return Alive()


@router.get(
    "/ready",
    summary="Can it do its work?",
    responses={503: {"description": "It cannot; missing says what is not there.", **PROBLEM}},
)
def ready(program: Here) -> Ready:
    """For a load balancer: send requests elsewhere while this is 503. Looks at database, archive and queue."""
    missing: list[JsonValue] = [name for name, works in checks(program).items() if not is_there(works)]
    if missing:
        raise Problem(503, f"not ready: {', '.join(map(str, missing))}", more={"missing": missing})
    return Ready()


def checks(program: Program) -> dict[str, Callable[[], object]]:
    """What must be there, each with a quick use of it that raises AppError."""
    return {
        "database": program.jobs.counts,
        "archive": lambda: write_in(program.settings.home.expanduser() / "archive"),
        "queue": program.queue.waiting,
    }


def is_there(works: Callable[[], object]) -> bool:
    """Whether it works now."""
    try:
        works()
    except AppError:
        return False
    return True


def write_in(folder: Path) -> None:
    """Write a file without a name into the folder. Raises StorageFailed."""
    with storage(folder), tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"\0")


@router.get(
    "/metrics",
    summary="Counts for Prometheus",
    response_class=Response,
    responses={200: {"description": "Text format 0.0.4.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(request: Request) -> Response:
    """HTTP requests by route template and status, their seconds; jobs and deliveries by state; ids in the queue."""
    counted = cast(Metrics, request.app.state.metrics)
    return Response(counted.text(), headers={"Content-Type": CONTENT_TYPE})
