"""Generated requests against the OpenAPI description: no fault, and nothing that the description does not foresee."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from rest_site import Site
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from app.accounts import Scope

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
DESCRIBED = schemathesis.openapi.from_path(Path(__file__).parents[2] / "docs" / "openapi.json")
OPERATIONS = [each.ok() for each in DESCRIBED.get_all_operations()]
NOTHING_TO_GET_WRONG = ("/live", "/ready", "/metrics")  # they take neither parameters nor a body
MODES = [
    (operation, mode)
    for operation in OPERATIONS
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or operation.path not in NOTHING_TO_GET_WRONG
]


@pytest.fixture(scope="module")
def headers(site: Site) -> dict[str, str]:
    _, secret = site.program.accounts.issue("generator", [Scope.READ, Scope.WRITE, Scope.AUDIT])
    return {"Authorization": f"Bearer {secret}"}


@pytest.mark.parametrize(("operation", "mode"), MODES, ids=[f"{each.label} {mode.value}" for each, mode in MODES])
def test_what_is_answered_is_described(
    operation: APIOperation, mode: GenerationMode, site: Site, headers: dict[str, str]
) -> None:
    @settings(max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def answered_as_described(case: Case) -> None:
        case.call_and_validate(base_url=site.url, headers=headers, checks=CHECKS)

    answered_as_described()


@pytest.mark.parametrize(
    "operation", [each for each in OPERATIONS if each.method == "get"], ids=lambda each: each.label
)
def test_what_is_there_is_as_described(operation: APIOperation, ward: Site, ehr: httpx.Client, here: str) -> None:
    """The same of answers that hold something: generated requests never meet a study that exists."""
    _, secret = ward.program.accounts.issue("described", [Scope.READ, Scope.AUDIT])
    job = ehr.get(here).json()["links"]["job"].rsplit("/", 1)[-1]
    names = {"study": here.rsplit("/", 1)[-1], "job": job, "name": "report.pdf"}
    needed = {name: value for name, value in names.items() if f"{{{name}}}" in operation.path}
    forms = ("application/json", "text/html", "application/pdf", "application/fhir+json")
    for form in forms if operation.path.endswith("/report") else ("*/*",):
        case = operation.Case(path_parameters=needed)
        sent = {"Authorization": f"Bearer {secret}", "Accept": form}
        answer = case.call(base_url=ward.url, headers=sent)
        assert answer.status_code == 200
        case.validate_response(answer, checks=CHECKS)
