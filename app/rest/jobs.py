"""Jobs: asked for, and looked at until they are done."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Response
from pydantic import StringConstraints

from app.bootstrap import Program, open_peer
from app.jobs import Job, JobState
from app.orders import Order
from app.pacs.priors import retrieve
from app.rest.callers import KEY_PATTERN, Caller, Here, Reader, Writer, key_of, study_of
from app.rest.orders import json_only, understood
from app.rest.problems import Problem, problems
from app.rest.views import JobView, ReportRequest
from app.submit import submit
from dicom_io.errors import PeerError, PeerSilent

LOOK_AGAIN_S = "3"
ACCEPTED = {
    "description": "Accepted: look at Location until the job is done.",
    "headers": {"Location": {"schema": {"type": "string"}}, "Retry-After": {"schema": {"type": "string"}}},
}
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="A word of your own for this request: sent again under it, it is done once (httpapi draft 07).",
    ),
    StringConstraints(min_length=1, max_length=202),
]

router = APIRouter(prefix="/v1", tags=["reports"])


@router.post(
    "/reports",
    status_code=202,
    summary="Ask for a report",
    dependencies=[Depends(json_only)],
    responses={202: ACCEPTED, **problems(400, 404, 413, 415, 422, 502, 504)},
)
def ask(
    request: ReportRequest, response: Response, caller: Writer, program: Here, idempotency_key: IdempotencyKey = None
) -> JobView:
    """Have a draft report made of a study; answers with the job, at once when the study is here.

    A study that is named by its UID and is not here is fetched from the PACS, where one is set.

    The same study, unchanged, under the same order is reported on once: the answer is its job, which may be done
    already. An indication or a ServiceRequest is kept as the order of the study's accession number, for this report
    and later ones.
    """
    uid = study_meant(program, caller, request)
    key, digest = unquoted(idempotency_key), sha256(request.model_dump_json().encode()).hexdigest()
    job = asked_before(program, caller, key, digest)
    if job is None:
        keep_order(program, caller, uid, request)
        job = submit(program, uid, caller.actor)
        if key:
            program.requests.remember(caller.key, key, digest, job.id)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return told(program, job, response)


def study_meant(program: Program, caller: Caller, request: ReportRequest) -> str:
    """The Study Instance UID of the study to report on, which is here by then. Raises Problem 404, 502 and 504."""
    if request.study is not None:
        return study_of(program, caller, request.study)
    uid = request.study_instance_uid or ""
    if not caller.sees(uid) or not (is_here(program, uid) or is_fetched(program, uid)):
        raise Problem(404, "there is no such study here; bring it in with POST /v1/studies, or send it over DICOM")
    return uid


def is_here(program: Program, uid: str) -> bool:
    """Whether the archive has the study."""
    try:
        program.archive.row(uid)
    except KeyError:
        return False
    return True


def is_fetched(program: Program, uid: str) -> bool:
    """Fetch the study from the PACS, if one is set; whether it came. Raises Problem 502 and 504."""
    settings = program.settings
    if not settings.pacs_url:
        return False
    peer = open_peer(settings, settings.pacs_url, "pacs_url")
    try:
        if not peer.find({"StudyInstanceUID": uid}):
            return False
        retrieve(program, peer, uid, settings.prior_deadline_s)
    except PeerSilent as exc:
        raise Problem(504, "the study is not here, and the PACS did not send it in time") from exc
    except PeerError as exc:
        raise Problem(502, "the study is not here, and the PACS did not hand it over") from exc
    return is_here(program, uid)


def unquoted(key: str | None) -> str:
    """The key, which the draft wants to be a quoted string (RFC 8941 section 3.3.3) and most clients do not quote."""
    if key is None:
        return ""
    bare = key[1:-1] if len(key) > 1 and key[0] == key[-1] == '"' else key
    if not bare.strip() or len(bare) > 200 or not bare.isascii() or not bare.isprintable():
        raise Problem(400, "an Idempotency-Key has 1 to 200 printable characters of ASCII")
    return bare


def asked_before(program: Program, caller: Caller, key: str, digest: str) -> Job | None:
    """The job that this very request has led to. Raises Problem 422 when the key was used for another request."""
    seen = program.requests.seen(caller.key, key) if key else None
    if seen is None:
        return None
    if seen[0] != digest:
        raise Problem(422, "this Idempotency-Key was used for another request")
    return program.jobs.get(seen[1])


def keep_order(program: Program, caller: Caller, study_uid: str, request: ReportRequest) -> None:
    """Keep what the request says of the order, if it says anything. Raises Problem 422."""
    if not (request.indication or request.procedure or request.service_request):
        return
    accession = program.archive.accession(study_uid)
    if not accession:
        raise Problem(422, "the images have no accession number, so an order cannot be kept for them")
    if request.service_request is not None:
        order = understood(request.service_request)
        if order.accession != accession:
            raise Problem(422, "the ServiceRequest has another accession number than the images")
    else:
        try:
            order = Order(accession, " ".join(request.indication.split()), " ".join(request.procedure.split()))
        except ValueError as exc:
            raise Problem(422, f"the order cannot be kept: {exc}") from exc
    program.orders.put(order)
    program.audit.record(caller.actor, "order received", key_of(program, study_uid))


@router.get(
    "/jobs/{job}",
    summary="How far a report is",
    responses={
        200: {
            "description": "The job. Retry-After says when to look again, while it is neither done nor failed.",
            "headers": {"Retry-After": {"schema": {"type": "string"}}},
        },
        **problems(404, 422),
    },
)
def look_at(
    job: Annotated[str, Path(pattern=KEY_PATTERN, description="The job's id.")],
    response: Response,
    caller: Reader,
    program: Here,
) -> JobView:
    """The state of a job, and where its report is once it is done."""
    try:
        found = program.jobs.get(job)
    except KeyError:
        raise Problem(404, "there is no such job") from None
    if not caller.sees(found.study_uid):
        raise Problem(404, "there is no such job")
    return told(program, found, response)


def told(program: Program, job: Job, response: Response) -> JobView:
    """The job for the client; says in the header when to look again."""
    if job.state in (JobState.WAITING, JobState.RUNNING):
        response.headers["Retry-After"] = LOOK_AGAIN_S
    made = program.versions.made_by(job.id) if job.state is JobState.DONE else None
    return JobView.of(job, key_of(program, job.study_uid), made.number if made else None)
