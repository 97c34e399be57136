"""`wetread batch` over files: resumed after a run that was killed in the middle of a study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from app.bootstrap import Program
from app.jobs import JobState
from app.pacs.batch import run_batch
from app.submit import job_of


def test_a_study_that_a_killed_run_held_is_reported_by_the_next(
    program: Program, film: Callable[..., bytes], uid: Callable[[str], str], tmp_path: Path
) -> None:
    (tmp_path / "film.dcm").write_bytes(film())
    program.archive.ingest([tmp_path / "film.dcm"])
    held = program.jobs.take(job_of(program, uid("study"), "batch").id, "killed", 1.5)
    assert held is not None
    run_batch(program, [str(tmp_path / "film.dcm")], enqueue=False)
    assert program.jobs.get(held.id).state is JobState.DONE
    assert [each.number for each in program.versions.history(uid("study"))] == [1]
    run_batch(program, [str(tmp_path / "film.dcm")], enqueue=False)
    assert program.jobs.get(held.id).attempts == 2
