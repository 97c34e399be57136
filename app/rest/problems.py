"""Every error is an application/problem+json document (RFC 9457): one sentence, never an internal, never a patient."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from app.errors import AppError, PeerUnavailable, QueueUnavailable, StorageFailed
from dicom_io.errors import ArchiveUnavailable, DicomError
from expert_models.errors import MasksUnavailable

MEDIA_TYPE = "application/problem+json"
PHRASES = {413: "Content Too Large", 422: "Unprocessable Content"}  # RFC 9110; older Pythons have older words
UNAVAILABLE = (StorageFailed, QueueUnavailable, PeerUnavailable, ArchiveUnavailable, MasksUnavailable)


class ProblemView(BaseModel):
    """A problem (RFC 9457). `type` is always about:blank: the status says what kind it is, `detail` what to do."""

    model_config = ConfigDict(extra="allow", title="Problem")

    type: str = Field(description="Always about:blank.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="One sentence for the person who reads the log of the client.")


class Problem(HTTPException):
    """Raise it anywhere below the gate. more: extension members (RFC 9457 section 3.2)."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, JsonValue] | None = None,
    ) -> None:
        super().__init__(status, detail, dict(headers) if headers else None)
        self.more = dict(more or {})


def problem_of(exc: Exception) -> Problem:
    """What the client is told of an exception. A fault of ours is told without what it says."""
    match exc:
        case Problem():
            return exc
        case HTTPException(status_code=status, detail=detail):  # the framework's say the status in words: say more
            is_ours = detail and detail != HTTPStatus(status).phrase
            return Problem(status, detail if is_ours else sentence(status), headers=exc.headers)
        case RequestValidationError():
            wrong: list[JsonValue] = [
                {"where": ".".join(str(part) for part in each["loc"]), "message": str(each["msg"])}
                for each in exc.errors()
            ]
            return Problem(422, "the request is not as it should be; errors says where", more={"errors": wrong})
        case _ if isinstance(exc, UNAVAILABLE):
            return Problem(503, "something wetread keeps its work in does not answer", headers={"Retry-After": "10"})
        case AppError() | DicomError():
            return Problem(422, str(exc))
        case _:
            return Problem(500, "a fault in wetread; its log says where")


def sentence(status: int) -> str:
    """What is said of a status that the framework chose."""
    match status:
        case 404:
            return "there is nothing at this address"
        case 405:
            return "this address does not take this method; the header Allow says which it takes"
        case 400:
            return "the request cannot be understood"
        case _:
            return phrase(status).lower()


def phrase(status: int) -> str:
    """The status in words (RFC 9110 section 15)."""
    return PHRASES.get(status) or HTTPStatus(status).phrase


def response_of(problem: Problem) -> JSONResponse:
    """The problem as it goes over the line."""
    status = problem.status_code
    body = {"type": "about:blank", "title": phrase(status), "status": status, "detail": problem.detail}
    return JSONResponse({**body, **problem.more}, status, problem.headers, MEDIA_TYPE)


def problems(*statuses: int) -> dict[int | str, dict[str, object]]:
    """What an operation may answer beside its result, for its OpenAPI description; 401, 403, 421 and 503 always."""
    return {
        status: {
            "description": phrase(status),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted({401, 403, 421, 503, *statuses})
    }
