"""Report on archived studies from the command line: the pipeline, then every result written beside each other."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from rich.markup import escape

from app.bootstrap import Program
from app.errors import NothingToReport, storage
from app.pipeline import report_on
from app.results.errors import ResultsIncomplete
from app.results.record import REPORT_JSON, Record
from app.results.text import as_text
from app.results.write import write_results
from app.terminal import counting, err, out, show_left_out, watcher
from dicom_io.errors import NoStudy
from dicom_io.study import LeftOut, Study
from medmllm.report import Report


def report_studies(
    program: Program,
    study_uids: Sequence[str],
    folder: Path,
    *,
    priors_given: Collection[str] = (),
    as_json: bool,
    left_out: Sequence[LeftOut],
) -> None:
    """Report on each study; its results go to FOLDER, or to a folder of its own below it when there are several."""
    written: list[Report] = []
    unusable: list[LeftOut] = []
    incomplete: list[ResultsIncomplete] = []
    for number, uid in enumerate(study_uids, start=1):
        err.print(f"study {number} of {len(study_uids)}")
        place = folder if len(study_uids) == 1 else folder / f"study-{number}"
        try:
            report = report_on(uid, program.parts, watcher())
        except NoStudy as exc:  # its files are DICOM, but none of its images can be used
            show_left_out(exc.left_out)
            unusable += exc.left_out
            continue
        written.append(report)
        try:
            study = hand_over(program, report, place, show=not as_json)
            if priors_given and not {prior.uid for prior in study.priors} & set(priors_given):
                err.print("[yellow]the prior given is not used[/yellow]: it is of another patient, or not earlier")
        except ResultsIncomplete as exc:  # the next study must not pay for it
            incomplete.append(exc)
            err.print(f"[red]wetread:[/red] {escape(str(exc))}")
    if as_json:
        body = {
            "reports": [json.loads(REPORT_JSON.dump_json(report)) for report in written],
            "left_out": [{"name": each.name, "reason": each.reason} for each in (*left_out, *unusable)],
        }
        sys.stdout.write(json.dumps(body, indent=2, ensure_ascii=False) + "\n")
    if not written:
        raise NothingToReport("no study among the files given has an image that can be used", unusable)
    if incomplete:
        raise incomplete[-1]


def hand_over(program: Program, report: Report, folder: Path, *, show: bool = True) -> Study:
    """The report's text on standard output, its results into the folder; returns the study as it was read for them."""
    record = Record(
        report=report,
        study=program.parts.archive.load(report.study_uid),
        masks=program.masks,
        sources=program.archive.datasets(report.study_uid, with_pixels=False),
    )
    if show:
        out.print(as_text(report), markup=False)
    with storage(folder), counting("writing results") as tick:
        paths = write_results(record, folder, progress=tick)
    err.print(f"  {len(paths)} results in {folder}")
    return record.study
