"""Every result of one report into one folder; a writer that fails never costs the others."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import WHY
from app.results.errors import Failure, ResultRefused, ResultsIncomplete, ResultsUnwritable
from app.results.record import REPORT_JSON, Record
from dicom_io.read import quiet

if TYPE_CHECKING:
    from app.results.report_seg import Segmentation

Tick = Callable[[int, int], None]  # (done, total)

log = logging.getLogger(__name__)


def write_results(record: Record, folder: Path, *, progress: Tick | None = None) -> tuple[Path, ...]:
    """Write every result (docs/results.md) into the folder; returns their paths.

    Each file appears whole or not at all. A segmentation or capture of an earlier run that this one does not make is
    removed.
    Raises ResultsUnwritable when the folder cannot take them, and ResultsIncomplete, after all the others were
    written, when a writer failed.
    """
    written: list[Path] = []
    failed: list[Failure] = []
    stages = stages_of(record)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for done, (name, make) in enumerate(stages):
            if progress is not None:
                progress(done, len(stages))
            try:
                with quiet():
                    for file_name, body in make():
                        put(folder / file_name, body)
                        written.append(folder / file_name)
            except OSError:
                raise
            except ResultRefused as exc:
                failed.append(Failure(name, str(exc)))
            except Exception as exc:  # a defect in one writer, or an image it was not made for, is told and contained
                log.error("a result could not be made", extra={"result": name, "error": type(exc).__name__})
                failed.append(Failure(name, f"an unexpected {type(exc).__name__}"))
        for old in (*folder.glob("report-seg-*.dcm"), *folder.glob("report-capture-*.dcm")):
            if old not in written:
                old.unlink()
    except OSError as exc:
        why = WHY.get(exc.errno or 0, exc.strerror or type(exc).__name__)
        raise ResultsUnwritable(f"{folder} cannot be written: {why}") from exc
    if progress is not None:
        progress(len(stages), len(stages))
    if failed:
        raise ResultsIncomplete(failed, written)
    return tuple(written)


Stage = tuple[str, Callable[[], Iterator[tuple[str, bytes]]]]


def stages_of(record: Record) -> list[Stage]:
    """The results in the order they are made: the SR refers to the segmentations that were made before it.

    Each writer's libraries are imported when it runs: none of them costs a command that writes no results.
    """
    segmentations: list[Segmentation] = []

    @cache
    def document() -> bytes:
        from app.results.report_pdf import pdf_document

        return pdf_document(record)

    def json() -> Iterator[tuple[str, bytes]]:
        yield "report.json", REPORT_JSON.dump_json(record.report, indent=2) + b"\n"

    def html() -> Iterator[tuple[str, bytes]]:
        from app.results.report_html import html_page

        yield "report.html", html_page(record)

    def pdf() -> Iterator[tuple[str, bytes]]:
        yield "report.pdf", document()

    def seg() -> Iterator[tuple[str, bytes]]:
        from app.results.report_seg import segmentations as made

        for each in made(record):
            segmentations.append(each)
            yield each.name, each.body

    def sr() -> Iterator[tuple[str, bytes]]:
        from app.results.report_sr import structured_report

        yield "report-sr.dcm", structured_report(record, segmentations)

    def fhir() -> Iterator[tuple[str, bytes]]:
        from app.results.report_fhir import fhir_bundle
        from app.results.report_html import html_page

        page = html_page(record, with_pictures=False)
        yield "report-fhir.json", fhir_bundle(record, page, None if record.report.is_draft else document())

    def encapsulated() -> Iterator[tuple[str, bytes]]:
        from app.results.encapsulated import encapsulated_pdf

        yield "report-pdf.dcm", encapsulated_pdf(record, document())

    def capture() -> Iterator[tuple[str, bytes]]:
        from app.results.capture import captures

        yield from captures(record)

    return [
        ("report.json", json),
        ("report.html", html),
        ("report.pdf", pdf),
        ("report-seg.dcm", seg),
        ("report-sr.dcm", sr),
        ("report-fhir.json", fhir),
        ("report-pdf.dcm", encapsulated),
        ("report-capture.dcm", capture),
    ]


def put(path: Path, body: bytes) -> None:
    """Write a file beside its place, then move it there: a reader never sees half a file."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
