"""The REST endpoint: `make_api(program)` gives an ASGI application. docs/rest.md walks through it.

There is no documentation page: FastAPI's own loads its scripts from the network. GET /v1/openapi.json describes all.
"""

from __future__ import annotations

from importlib.metadata import version

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.bootstrap import Program
from app.rest import health, jobs, orders, results, studies, trail
from app.rest.gate import Gate
from app.rest.listen import names_of
from app.rest.metrics import Metrics
from app.rest.problems import ProblemView, problem_of, response_of

ABOUT = """\
Studies in, draft reports out. **Not a medical device**: a report is a draft until a physician has read the images and
signed it, which is done in the workbench; no token can sign.

Bring in a study (POST /v1/studies), ask for a report (POST /v1/reports), look at its job until it is done, fetch the
report as JSON, HTML, PDF or FHIR, and its DICOM results. Studies are addressed by keyed hashes, never by a UID.

Every error is application/problem+json (RFC 9457). A token that opens one study gets 404 for every other one.
"""
TAGS = [
    {"name": "studies", "description": "Bring in, list and look at studies."},
    {"name": "reports", "description": "Ask for a report, and look how far it is."},
    {"name": "orders", "description": "Why studies were made, from the EHR."},
    {"name": "results", "description": "What was made of a study."},
    {"name": "audit", "description": "What was done, by whom, when."},
    {"name": "health", "description": "For those who watch over the server; no token."},
]


class Api(FastAPI):
    """FastAPI with the schema of problems in its description, and nothing there that is never answered."""

    def openapi(self) -> dict[str, object]:
        """The OpenAPI document, made once."""
        if self.openapi_schema is None:
            document = super().openapi()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas["Problem"] = ProblemView.model_json_schema()
            for framework in ("HTTPValidationError", "ValidationError"):
                schemas.pop(framework, None)
        return self.openapi_schema or {}


def make_api(program: Program) -> FastAPI:
    """The application over a program. Opens nothing by itself; any server may run it, in any number of threads."""
    metrics = Metrics(program)
    api = Api(
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        title="Wetread",
        version=version("wetread"),
        description=ABOUT,
        openapi_tags=TAGS,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    api.state.program = program
    api.state.metrics = metrics
    for each in (studies, jobs, orders, results, trail, health):
        api.include_router(each.router)
    api.add_middleware(Gate, program=program, metrics=metrics, names=names_of(program.settings))
    api.add_exception_handler(HTTPException, told)
    api.add_exception_handler(RequestValidationError, told)
    return api


def operation_id(route: APIRoute) -> str:
    """What a client that is made from the description calls the operation."""
    return route.name


async def told(_: Request, exc: Exception) -> Response:
    """What the framework itself refuses; anything else goes on to the gate."""
    return response_of(problem_of(exc))
