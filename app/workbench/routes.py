"""The workbench's own addresses beside Gradio's: pixels and shapes of the open study, and its results as files."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response
from starlette.responses import FileResponse

from app.accounts import Scope
from app.errors import AppError, NotAllowed
from app.results.kept import results_of
from app.results.pictures import Picture
from app.results.report_html import labels_of, path_of
from app.workbench.desk import Desk
from app.workbench.entry import add_entry
from app.workbench.session import COOKIE, ROOT, Session
from app.workbench.viewer import Plane, values_of
from app.workbench.words import templates

MEDIA_TYPES = {
    ".json": "application/json",
    ".html": "text/html",
    ".pdf": "application/pdf",
    ".dcm": "application/dicom",
}

WHAT = (
    ("-sr.", "DICOM structured report"),
    ("-seg-", "DICOM segmentation"),
    ("-pdf.dcm", "PDF in DICOM"),
    ("-capture-", "DICOM key image"),
    ("-fhir.", "FHIR bundle"),
    (".json", "the record"),
    (".html", "page"),
    (".pdf", "document"),
    ("", "DICOM"),
)


def router_of(desk: Desk) -> APIRouter:
    """Every address below /workbench that is not Gradio's."""
    router = APIRouter(prefix=ROOT, include_in_schema=False)
    add_entry(router, desk)
    add_images(router, desk)
    add_results(router, desk)
    return router


def add_images(router: APIRouter, desk: Desk) -> None:
    """Pixels and shapes of one plane."""

    def plane_of(request: Request, key: str, position: int, axis: int, index: int) -> Plane:
        session_of(desk, request, key)
        try:
            return desk.readings.opened(key).plane(position, axis, index)
        except (KeyError, IndexError):
            raise HTTPException(404, "there is no such image") from None

    @router.get("/studies/{key}/series/{position}/{axis}/{index}/pixels")
    def pixels(request: Request, key: str, position: int, axis: int, index: int) -> Response:
        body, rows, columns = values_of(plane_of(request, key, position, axis, index))
        headers = {"Content-Encoding": "gzip", "X-Rows": str(rows), "X-Columns": str(columns)}
        return Response(body, media_type="application/octet-stream", headers=headers)

    @router.get("/studies/{key}/series/{position}/{axis}/{index}/shapes")
    def shapes(request: Request, key: str, position: int, axis: int, index: int) -> Response:
        plane = plane_of(request, key, position, axis, index)
        width, height = plane.size
        picture = Picture("", plane.shown.is_prior, (), width, height, plane.shapes)
        letter = max(width, height) / 30
        labels = labels_of(picture)
        drawn = [(each, path_of(each), label) for each, label in zip(picture.shapes, labels, strict=True)]
        page = templates().get_template("shapes.svg.j2").render(shapes=drawn, letter=letter)
        return Response(page, media_type="image/svg+xml")


def add_results(router: APIRouter, desk: Desk) -> None:
    """The files that were made of a version."""

    @router.get("/studies/{key}/versions/{number}/results")
    def listed(request: Request, key: str, number: int) -> list[dict[str, str | int]]:
        session_of(desk, request, key)
        folder = folder_of(desk, key, number)
        return [{"name": p.name, "what": what_of(p.name), "bytes": p.stat().st_size} for p in files_in(folder)]

    @router.get("/studies/{key}/versions/{number}/results/{name}")
    def one(request: Request, key: str, number: int, name: str) -> Response:
        session = session_of(desk, request, key)
        found = [path for path in files_in(folder_of(desk, key, number)) if path.name == name]
        if not found:
            raise HTTPException(404, "this version has no such result")
        desk.program.audit.record(session.account.name, "result downloaded", key, version=number, name=name)
        return FileResponse(found[0], media_type=MEDIA_TYPES[found[0].suffix], filename=name)


def session_of(desk: Desk, request: Request, key: str) -> Session:
    """The session, when it may read and has opened this study. Raises HTTPException."""
    try:
        session = desk.session(request.cookies.get(COOKIE), Scope.READ)
    except NotAllowed as exc:
        raise HTTPException(403, str(exc)) from None
    if key not in session.opened:
        raise HTTPException(403, "open the study first")
    return session


def folder_of(desk: Desk, key: str, number: int) -> Path:
    """Where the results of a version are kept, made now when they were not. Raises HTTPException."""
    try:
        return results_of(desk.program, desk.program.worklist.uid_of(key), number)
    except KeyError:
        raise HTTPException(404, "there is no such version") from None
    except AppError as exc:
        raise HTTPException(503, str(exc)) from None


def what_of(name: str) -> str:
    """What a result is, in a word or two."""
    return next(what for part, what in WHAT if part in name)


def files_in(folder: Path) -> list[Path]:
    """The results, by name."""
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in MEDIA_TYPES)
