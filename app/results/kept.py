"""The results of each version of a report, made once and kept: whoever serves or sends them has the same bytes."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

import structlog

from app.errors import WHY
from app.results.errors import ResultsIncomplete, ResultsUnwritable
from app.results.record import Record
from app.results.write import write_results
from app.versions import Version
from dicom_io.identity import study_key

if TYPE_CHECKING:
    from app.bootstrap import Program

LONGEST_MAKING_S = 3600.0  # an unfinished folder that is older was left by a process that died

log = structlog.get_logger()


def results_of(program: Program, study_uid: str, version: int) -> Path:
    """The folder with the results of one version, home/results/<study key>/<number>; made at the first call.

    A version never changes, so its folder never does. It appears whole: two processes that make it at once end with
    one folder. What a writer could not make is missing in it, and logged. Raises KeyError when there is no such version
    or the study is gone, and ResultsUnwritable when the folder cannot be made.
    """
    key = study_key(study_uid, program.secret)
    shelf = program.settings.home.expanduser().resolve() / "results" / key
    place = shelf / str(version)
    if place.is_dir():
        return place
    record = record_of(program, study_uid, version)
    part = shelf / f".{version}.{token_hex(8)}"
    try:
        write_results(record, part)
    except ResultsIncomplete as exc:
        log.warning("some results could not be made", study=key, version=version, failed=str(exc))
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    put_in_place(part, place)
    sweep(shelf)
    return place


def record_of(program: Program, study_uid: str, version: int) -> Record:
    """What the results of one version are made from. Raises KeyError."""
    history = program.versions.history(study_uid)
    chosen = next((each for each in history if each.number == version), None)
    if chosen is None:
        raise KeyError("the report has no version of this number")
    return Record(
        report=chosen.report,
        study=program.parts.archive.load(study_uid),
        masks=program.masks,
        sources=program.archive.datasets(study_uid, with_pixels=False),
        earlier=tuple(each.report for each in made_from(history, version)),
    )


def made_from(history: tuple[Version, ...], version: int) -> list[Version]:
    """The versions that a person's version was made from, the writer's draft first; none for a draft by the writer."""
    chain: list[Version] = []
    for each in history:
        if not each.author:
            chain = []
        if each.number == version:
            return chain
        chain.append(each)
    return []


def put_in_place(part: Path, place: Path) -> None:
    """Move a finished folder to where it is looked for; when somebody else was first, theirs stays."""
    try:
        part.rename(place)
    except OSError as exc:
        shutil.rmtree(part, ignore_errors=True)
        if not place.is_dir():
            why = WHY.get(exc.errno or 0, exc.strerror or type(exc).__name__)
            raise ResultsUnwritable(f"{place.parent} cannot be written: {why}") from exc


def sweep(shelf: Path) -> None:
    """Take away unfinished folders that dead processes have left: they hold patient data."""
    for each in shelf.glob(".*"):
        with suppress(OSError):
            if time.time() - each.stat().st_mtime > LONGEST_MAKING_S:
                shutil.rmtree(each)
