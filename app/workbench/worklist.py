"""The worklist, and bringing studies in: whose they are, where their reports stand, how far the jobs are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from pydicom.dataset import Dataset

from app.bootstrap import Program
from app.errors import AppError
from app.jobs import JobState
from app.results.report_html import day_of
from app.submit import submit
from app.terminal import STAGES
from app.workbench.words import templates
from app.worklist import WorkRow
from dicom_io.errors import ArchiveUnavailable
from dicom_io.identity import study_key
from dicom_io.study import LeftOut

MOST_ROWS = 200
UNNAMED = "name not stated"


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose study it is, as the header of its images states it: for the screen, never for a log."""

    patient: str
    patient_id: str
    born: str
    sex: str
    description: str


class Identities:
    """Identities of the studies on the list, read from the archive once."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._kept: dict[str, Identity] = {}
        self._lock = Lock()

    def of(self, study_uid: str) -> Identity:
        """The identity; a blank one when the archive no longer has the study, or cannot be read now."""
        with self._lock:
            kept = self._kept.get(study_uid)
        if kept is None:
            try:
                kept = identity_of(self._program.archive.header(study_uid))
            except (KeyError, ArchiveUnavailable):
                return Identity("the archive does not have the images now", "", "", "", "")
            with self._lock:
                self._kept[study_uid] = kept
        return kept


def identity_of(header: Dataset) -> Identity:
    """What the header says; the names of an alphabet alone (PS3.5 section 6.2.1.1)."""
    name = header.get("PatientName")
    return Identity(
        patient=(name.family_comma_given() if name else "") or UNNAMED,
        patient_id=str(header.get("PatientID") or ""),
        born=day_of(str(header.get("PatientBirthDate") or "")),
        sex=str(header.get("PatientSex") or ""),
        description=str(header.get("StudyDescription") or ""),
    )


@dataclass(frozen=True, slots=True)
class Watched:
    """What somebody has brought in and now waits for: keys of studies, and those of them whose jobs are over."""

    keys: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    said: str = ""
    done: tuple[str, ...] = field(default=())


def worklist_html(program: Program, identities: Identities) -> tuple[str, bool]:
    """The list, newest arrival first, and whether a job on it waits or runs."""
    rows = program.worklist.rows(MOST_ROWS)
    page = templates().get_template("worklist.html.j2").render(rows=[row_of(each, identities) for each in rows])
    return page, any(each.job_state in (JobState.WAITING, JobState.RUNNING) for each in rows)


def row_of(row: WorkRow, identities: Identities) -> dict[str, str | bool]:
    """A line of the list, in words."""
    arrival = row.arrival
    identity = identities.of(arrival.study_uid)
    state, word, more = state_of(row)
    return {
        "key": arrival.study_key,
        "patient": identity.patient,
        "patient_id": identity.patient_id,
        "born": identity.born,
        "sex": identity.sex,
        "description": identity.description,
        "modalities": "+".join(arrival.modalities),
        "day": f"{arrival.acquired_on:%Y-%m-%d %H:%M}" if arrival.acquired_on else "no date",
        "is_open": row.version > 0,
        "state": state,
        "state_word": word,
        "more": more,
    }


def state_of(row: WorkRow) -> tuple[str, str, str]:
    """(kind, word, more) of where a study stands."""
    match row.job_state:
        case JobState.RUNNING:
            return "running", "working", STAGES.get(row.stage, row.stage)
        case JobState.WAITING:
            return "waiting", "waiting", row.reason
        case JobState.FAILED if row.version == 0:
            return "failed", "failed", row.reason
    if row.version == 0:
        return "none", "no report", ""
    failed = f"; not renewed: {row.reason}" if row.job_state is JobState.FAILED else ""
    if row.is_draft:
        signed = f"version {row.signed_version} is signed" if row.signed_version else ""
        edited = f"edited by {row.author}" if row.author else ""
        return "draft", "draft", "; ".join(filter(None, [edited, signed, failed.lstrip("; ")]))
    return "final", "final", f"signed by {row.author}{failed}"


def brought_in(program: Program, paths: Sequence[str], account: str) -> Watched:
    """Archive uploaded files and ask for a report on each study among them."""
    try:
        ingested = program.archive.ingest([Path(path) for path in paths])
        keys = []
        for uid in ingested.study_uids:
            submit(program, uid, account)
            keys.append(study_key(uid, program.secret))
    except (AppError, ArchiveUnavailable) as exc:
        return Watched(said=f"Nothing was brought in: {exc}.")
    said = "" if keys else "None of the files is part of a CT or X-ray study that can be read."
    program.audit.record(account, "files brought in", studies=len(keys), left_out=len(ingested.left_out))
    return Watched(tuple(keys), ingested.left_out, said)


def arrivals_html(program: Program, watched: Watched) -> tuple[str, Watched]:
    """How far the jobs are, and the same again with those moved to `done` whose report is there."""
    shown, done = [], []
    for key in watched.keys:
        row = program.worklist.row(program.worklist.uid_of(key))
        state, word, more = state_of(row)
        shown.append(
            {
                "key": key,
                "modalities": "+".join(row.arrival.modalities),
                "day": f"{row.arrival.acquired_on:%Y-%m-%d}" if row.arrival.acquired_on else "",
                "state": state,
                "state_word": word,
                "more": more if state == "failed" or state == "waiting" else "",
                "steps": steps_of(row),
            }
        )
        if row.job_state in (JobState.DONE, JobState.FAILED, None):
            done.append(key)
    page = templates().get_template("arrivals.html.j2")
    body = page.render(arrivals=shown, left_out=watched.left_out, said=watched.said)
    return body, Watched(watched.keys, watched.left_out, watched.said, tuple(done))


def steps_of(row: WorkRow) -> dict[str, str]:
    """For each stage of the pipeline: past, now, or to come."""
    names = list(STAGES)
    if row.job_state is JobState.DONE:
        return dict.fromkeys(names, "past")
    at = names.index(row.stage) if row.job_state is JobState.RUNNING and row.stage in names else -1
    return {name: "past" if i < at else "now" if i == at else "next" for i, name in enumerate(names)}
