"""Orders from the EHR, as FHIR R4 ServiceRequest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Request, Response
from pydantic import JsonValue

from app.orders import Order, order_from_fhir
from app.rest.callers import REALM, Here, Writer
from app.rest.problems import Problem, problems
from app.rest.views import OrderView

JSON = ("application/json", "application/fhir+json")
EXAMPLE = {
    "resourceType": "ServiceRequest",
    "status": "active",
    "intent": "order",
    "identifier": [
        {
            "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]},
            "value": "A-2024-0042",
        }
    ],
    "code": {"text": "XR chest PA"},
    "reasonCode": [{"text": "Cough for three weeks"}],
    "subject": {"display": "see the images"},
}


def json_only(request: Request) -> None:
    """Raise Problem 415 for a body that is not said to be JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in JSON:
        raise Problem(415, f"the body is one of {', '.join(JSON)}", headers={"Accept": ", ".join(JSON)})


router = APIRouter(prefix="/v1/orders", tags=["orders"])


@router.post(
    "",
    status_code=201,
    summary="Say why a study was, or will be, made",
    dependencies=[Depends(json_only)],
    responses={
        200: {"description": "It replaced the order of this accession number.", "model": OrderView},
        201: {"description": "It is new."},
        **problems(400, 413, 415, 422),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {kind: {"schema": {"type": "object"}, "example": EXAMPLE} for kind in JSON},
        }
    },
)
def put_order(
    resource: Annotated[dict[str, JsonValue], Body()], response: Response, caller: Writer, program: Here
) -> OrderView:
    """Keep the indication and the procedure of a FHIR R4 ServiceRequest under its accession number.

    It may come before the images or after them; a report that is asked for from then on has it. The patient it names is
    not kept.
    """
    if caller.study_uid is not None:
        raise Problem(
            403,
            "the token opens one study, and an order may be of any",
            headers={"WWW-Authenticate": f'{REALM}, error="insufficient_scope"'},
        )
    order = understood(resource)
    try:
        program.orders.get(order.accession)
        response.status_code = 200
    except KeyError:
        response.status_code = 201
    program.orders.put(order)
    program.audit.record(caller.actor, "order received")
    return OrderView.of(order)


def understood(resource: Mapping[str, JsonValue]) -> Order:
    """The order in a ServiceRequest. Raises Problem 422 with the reason."""
    try:
        return order_from_fhir(resource)
    except ValueError as exc:
        raise Problem(422, f"the ServiceRequest cannot be used: {exc}") from exc
