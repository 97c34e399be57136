"""Studies: brought in, listed, looked at."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import JsonValue
from starlette.concurrency import run_in_threadpool

from app.bootstrap import Program
from app.rest.callers import Caller, Here, Reader, StudyKey, Writer, key_of, no_such_study, study_of
from app.rest.problems import Problem, problems
from app.rest.uploads import Upload, place_for_upload, receive, refuse_bombs
from app.rest.views import Received, StudyPage, StudyView, left_out_views
from app.submit import note
from app.worklist import WorkRow
from dicom_io.errors import Unreadable
from dicom_io.read import find, parse, text
from dicom_io.study import LeftOut

BINARY = {"schema": {"type": "string", "format": "binary"}}
FILES = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
BODY = {
    "required": True,
    "description": "A form whose every part is a file, whatever its field is called; or one zip archive; or one file.",
    "content": {
        "multipart/form-data": {
            "schema": {"type": "object", "properties": {"files": FILES}, "required": ["files"]},
        },
        "application/zip": BINARY,
        "application/dicom": BINARY,
    },
}

router = APIRouter(prefix="/v1/studies", tags=["studies"])


@router.post(
    "",
    status_code=201,
    summary="Bring in studies",
    responses={
        201: {
            "description": "Kept. Location is the study, when it is one.",
            "headers": {"Location": {"schema": {"type": "string"}}},
        },
        **problems(400, 413, 415, 422, 404),
    },
    openapi_extra={"requestBody": BODY},
)
async def bring_in(request: Request, response: Response, caller: Writer, program: Here) -> Received:
    """Keep the DICOM files of an upload. Every file that cannot be used is listed with the reason.

    No report is made: ask for one with POST /v1/reports. A file that came before is kept once. 422 when not one of the
    files is part of a CT or X-ray study.
    """
    async with place_for_upload(program.settings.home.expanduser()) as upload:
        await receive(request, upload)
        received = await run_in_threadpool(keep, program, caller, upload)
    if len(received.studies) == 1:
        response.headers["Location"] = received.studies[0].links.self
    return received


def keep(program: Program, caller: Caller, upload: Upload) -> Received:
    """Archive the files and note their studies. Raises Problem 404, 413 and 422."""
    refuse_bombs(upload, program.settings.max_upload_mb * 1024**2)
    if caller.study_uid is not None:
        refuse_other_studies(program, caller, upload)
    ingested = program.archive.ingest(upload.paths)
    left_out = [LeftOut(upload.told(each.name), each.reason) for each in ingested.left_out]
    told, in_all = left_out_views(left_out), len(left_out)
    if not ingested.study_uids:
        listed: list[JsonValue] = [{"name": each.name, "reason": each.reason} for each in told]
        more: dict[str, JsonValue] = {"left_out": listed, "left_out_in_all": in_all}
        raise Problem(422, "none of the files is part of a CT or X-ray study; left_out says why", more=more)
    studies = []
    for uid in ingested.study_uids:
        note(program, uid)
        row = program.worklist.row(uid)
        program.audit.record(caller.actor, "study received", row.arrival.study_key, instances=row.arrival.instances)
        studies.append(StudyView.of(row))
    return Received(studies=studies, left_out=told, left_out_in_all=in_all)


def refuse_other_studies(program: Program, caller: Caller, upload: Upload) -> None:
    """Raise Problem 404, before anything is kept, when a file is of a study that the caller's token does not open."""
    found, _ = find(upload.paths)
    for each in found:
        try:
            uid = text(parse(each.read()), "StudyInstanceUID")
        except Unreadable:
            continue  # it will be listed with its reason
        if uid and not caller.sees(uid):
            program.audit.record(caller.actor, "refused", key_of(program, uid), reason="the token opens another study")
            raise no_such_study()


@router.get("", summary="The worklist", responses=problems(422))
def worklist(
    caller: Reader,
    program: Here,
    limit: Annotated[int, Query(ge=1, le=500, description="At most so many.")] = 50,
    offset: Annotated[int, Query(ge=0, le=10**9, description="Leave out so many from the top.")] = 0,
) -> StudyPage:
    """The studies that came in, newest arrival first, each with the state of its report."""
    if caller.study_uid is None:
        rows = program.worklist.rows(limit + 1, before=offset)
    else:
        rows = own_row(program, caller.study_uid) if offset == 0 else ()
    more = f"/v1/studies?limit={limit}&offset={offset + limit}" if len(rows) > limit else None
    program.audit.record(caller.actor, "worklist read", studies=min(len(rows), limit))
    return StudyPage(studies=[StudyView.of(row) for row in rows[:limit]], next=more)


def own_row(program: Program, study_uid: str) -> tuple[WorkRow, ...]:
    """The one row that a caller with one study sees."""
    try:
        return (program.worklist.row(study_uid),)
    except KeyError:
        return ()


@router.get("/{study}", summary="One study", responses=problems(404, 422))
def one_study(study: StudyKey, caller: Reader, program: Here) -> StudyView:
    """One study and the state of its report."""
    uid = study_of(program, caller, study)
    program.audit.record(caller.actor, "study read", study)
    return StudyView.of(program.worklist.row(uid))
