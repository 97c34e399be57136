"""What was made of a study: the report in the form the client wants, its versions, and every file of its results."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path as FilePath
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.responses import FileResponse

from app.bootstrap import Program
from app.rest.accept import is_known, wanted
from app.rest.callers import Here, Reader, StudyKey, study_of
from app.rest.problems import Problem, problems
from app.rest.views import ResultList, ResultView, VersionList, VersionView
from app.results.kept import results_of
from app.results.record import REPORT_JSON
from app.versions import Version
from medmllm.report import Report

FORMS = {
    "application/json": "report.json",
    "text/html": "report.html",
    "application/pdf": "report.pdf",
    "application/fhir+json": "report-fhir.json",
}
MEDIA_TYPES = {
    ".json": "application/json",
    ".html": "text/html",
    ".pdf": "application/pdf",
    ".dcm": "application/dicom",
}
CHARSET = "; charset=utf-8"
# The page has its own, stricter policy in a meta element, with the hashes of its style and script; these it cannot say.
PAGE_POLICY = "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

Number = Annotated[int | None, Query(ge=1, le=10**6, description="The newest version when it is not given.")]
BINARY = {"schema": {"type": "string", "format": "binary"}}
TAGGED = {"ETag": {"schema": {"type": "string"}}, "Content-Disposition": {"schema": {"type": "string"}}}
NOT_MODIFIED = {"description": "The client has it already."}

router = APIRouter(prefix="/v1/studies/{study}", tags=["results"])


@router.get(
    "/report",
    summary="The report, in the form that Accept asks for",
    response_class=Response,
    responses={
        200: {
            "description": "The report.",
            "model": Report,
            "headers": TAGGED,
            "content": {
                "text/html": {"schema": {"type": "string"}},
                "application/pdf": BINARY,
                "application/fhir+json": {"schema": {"type": "object"}},
            },
        },
        304: NOT_MODIFIED,
        **problems(404, 406, 422),
    },
)
def report(study: StudyKey, request: Request, caller: Reader, program: Here, version: Number = None) -> Response:
    """The newest version, or the one asked for: as JSON (docs/report.schema.json), HTML, PDF or a FHIR R4 bundle.

    A draft until a physician has signed: `is_draft` in JSON, `preliminary` in FHIR, a banner in HTML and PDF.
    """
    form = wanted(request.headers.get("accept"), list(FORMS))
    if form is None:
        raise Problem(406, f"a report comes as {', '.join(FORMS)}")
    uid = study_of(program, caller, study)
    found = version_of(program, uid, version)
    if form == "application/json":
        body = REPORT_JSON.dump_json(found.report)
    else:
        body = file_of(program, uid, found, FORMS[form]).read_bytes()
    program.audit.record(caller.actor, "report read", study, version=found.number, form=form)
    etag = f'"{sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Vary": "Accept", **headers_of(form, FORMS[form])}
    if is_known(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers={"ETag": etag, "Vary": "Accept"})
    return Response(body, headers=headers)


@router.get("/versions", summary="Every version of the report", responses=problems(404, 422))
def versions(study: StudyKey, caller: Reader, program: Here) -> VersionList:
    """Which versions there are, who made each, and when; none before the first report."""
    history = program.versions.history(study_of(program, caller, study))
    program.audit.record(caller.actor, "versions read", study)
    return VersionList(versions=[VersionView.of(each, study) for each in history])


@router.get("/results", summary="The files of a version", responses=problems(404, 422))
def results(study: StudyKey, caller: Reader, program: Here, version: Number = None) -> ResultList:
    """Every file of a version: JSON, HTML, PDF, FHIR, and for the PACS DICOM SR, SEG, PDF and captures."""
    uid = study_of(program, caller, study)
    found = version_of(program, uid, version)
    program.audit.record(caller.actor, "results listed", study, version=found.number)
    files = files_of(program, uid, found)
    return ResultList(
        version=found.number,
        results=[
            ResultView(
                name=name,
                media_type=media_type_of(name),
                bytes=path.stat().st_size,
                link=f"/v1/studies/{study}/results/{name}?version={found.number}",
            )
            for name, path in files.items()
        ],
    )


@router.get(
    "/results/{name}",
    summary="One file of a version",
    response_class=Response,
    responses={
        200: {
            "description": "The file.",
            "headers": TAGGED,
            "content": {
                "application/dicom": BINARY,
                "application/pdf": BINARY,
                "text/html": {},
                "application/json": {},
            },
        },
        304: NOT_MODIFIED,
        **problems(404, 422),
    },
)
def result(
    study: StudyKey,
    name: Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]{1,100}$", description="As the list names it.")],
    request: Request,
    caller: Reader,
    program: Here,
    version: Number = None,
) -> Response:
    """One file as it was made: the same bytes that a PACS or an EHR is sent."""
    uid = study_of(program, caller, study)
    found = version_of(program, uid, version)
    path = file_of(program, uid, found, name)
    program.audit.record(caller.actor, "result read", study, version=found.number, name=name)
    status = path.stat()
    etag = f'"{found.number}-{status.st_size:x}-{status.st_mtime_ns:x}"'
    if is_known(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers={"ETag": etag})
    return FileResponse(path, headers={"ETag": etag, **headers_of(media_type_of(name), name)})


def version_of(program: Program, study_uid: str, number: int | None) -> Version:
    """The newest version or the one of this number. Raises Problem 404."""
    history = program.versions.history(study_uid)
    if not history:
        raise Problem(404, "there is no report on this study yet; ask for one with POST /v1/reports")
    found = [each for each in history if number in (None, each.number)]
    if not found:
        raise Problem(404, "the report has no version of this number")
    return found[-1]


def files_of(program: Program, study_uid: str, version: Version) -> dict[str, FilePath]:
    """The files of a version by name, made now when they were not made before."""
    try:
        folder = results_of(program, study_uid, version.number)
    except KeyError:
        raise Problem(404, "the images of this study are no longer in the archive") from None
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")}


def file_of(program: Program, study_uid: str, version: Version, name: str) -> FilePath:
    """One of the files, by a name that is listed: no other leads anywhere. Raises Problem 404."""
    try:
        return files_of(program, study_uid, version)[name]
    except KeyError:
        raise Problem(404, "this version has no such result; GET …/results lists them") from None


def media_type_of(name: str) -> str:
    """The media type of a result by its name."""
    return "application/fhir+json" if name == "report-fhir.json" else MEDIA_TYPES[FilePath(name).suffix]


def headers_of(media_type: str, name: str) -> dict[str, str]:
    """Type, and a name for the file that says nothing of the patient."""
    how = "attachment" if media_type == "application/dicom" else "inline"
    text = CHARSET if media_type == "text/html" else ""
    headers = {"Content-Type": f"{media_type}{text}", "Content-Disposition": f'{how}; filename="{name}"'}
    return headers | ({"Content-Security-Policy": PAGE_POLICY} if media_type == "text/html" else {})
