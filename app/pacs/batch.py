"""`wetread batch`: report on every study of a folder, or on every study that a query finds at the PACS.

It can be stopped and started again at any time: a study whose job is done is not reported on again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import monotonic, sleep

from pydicom.datadict import tag_for_keyword

from app.bootstrap import Program, open_peer
from app.errors import AppError, BadSetting, NothingToReport, PeerUnavailable
from app.jobs import Job, JobState
from app.pacs.deliver import deliver_due
from app.pacs.priors import OURS, bring_priors, is_absent, retrieve
from app.submit import job_of, submit
from app.terminal import counting, say, show_left_out
from app.worker import desk_of, run_job
from dicom_io.errors import PeerError
from dicom_io.identity import study_key
from dicom_io.ports import Peer, RemoteStudy

SCHEME = "pacs:"
REQUESTED_BY = "batch"
LOOK_EVERY_S = 0.5  # whether a job that somebody holds is done, or left alone
FETCH_WITHIN_S = 1800.0  # for one study


def run_batch(program: Program, sources: Sequence[str], *, enqueue: bool) -> None:
    """Bring the studies in and report on them here, or leave that to the workers when enqueue is true.

    sources: paths, or queries such as pacs:StudyDate=20260101-20260131,ModalitiesInStudy=CR.
    Raises BadSetting for a source that cannot be, NothingToReport when there is no study, AppError when some failed.
    """
    ended: Counter[str] = Counter()
    for source in sources:
        if not source.startswith(SCHEME) and not Path(source).exists():
            raise BadSetting(f"{source} does not exist")
    for number, uid in enumerate(_studies(program, sources, ended), start=1):
        how = _enqueue(program, uid) if enqueue else _report(program, uid)
        ended[how] += 1
        say(f"study {number} {study_key(uid, program.secret)[:12]}: {how}")
    say(", ".join(f"{count} {how}" for how, count in ended.items()) or "no study was found")
    if not ended:
        raise NothingToReport("no CT or X-ray study was found")
    if failed := ended["failed"] + ended["not fetched"]:
        raise AppError(f"{failed} of {ended.total()} studies are not reported on; the same command tries them again")


def parse_query(query: str) -> dict[str, str]:
    """pacs:Keyword=value,Keyword=value as a match of study attributes. Raises BadSetting."""
    match: dict[str, str] = {}
    for part in filter(None, query.removeprefix(SCHEME).split(",")):
        keyword, sign, value = part.partition("=")
        if not sign or tag_for_keyword(keyword.strip()) is None:
            raise BadSetting(f"{keyword.strip()!r} is not a DICOM keyword with a value, as in pacs:StudyDate=20260131")
        match[keyword.strip()] = value.strip()
    if not any(match.values()):
        raise BadSetting("a query without a value would match every study of the PACS")
    return match


def _studies(program: Program, sources: Sequence[str], ended: Counter[str]) -> Iterator[str]:
    """The UIDs of the studies, each once, in the archive by then."""
    seen: set[str] = set()
    for source in sources:
        is_query = source.startswith(SCHEME)
        for uid in _queried(program, parse_query(source), ended) if is_query else _archived(program, Path(source)):
            if uid not in seen:
                seen.add(uid)
                yield uid


def _archived(program: Program, path: Path) -> tuple[str, ...]:
    with counting(f"ingesting {path.name}") as tick:
        ingested = program.archive.ingest([path], progress=tick)
    show_left_out(ingested.left_out)
    return ingested.study_uids


def _queried(program: Program, match: Mapping[str, str], ended: Counter[str]) -> Iterator[str]:
    if not program.settings.pacs_url:
        raise BadSetting("a query needs the setting pacs_url, which says where the PACS is")
    peer = open_peer(program.settings, program.settings.pacs_url, "pacs_url")
    try:
        found = [each for each in peer.find(match) if not each.modalities or each.modalities & OURS]
    except PeerError as exc:
        raise PeerUnavailable(str(exc)) from exc
    say(f"{len(found)} studies at {peer.name}")
    for study in found:
        if _is_here(program, peer, study):
            yield study.uid
        else:
            ended["not fetched"] += 1


def _is_here(program: Program, peer: Peer, study: RemoteStudy) -> bool:
    """True once the study is in the archive; fetches it when it is not."""
    if not is_absent(program, study):
        return True
    try:
        retrieve(program, peer, study.uid, FETCH_WITHIN_S)
    except PeerError as exc:
        say(f"study {study_key(study.uid, program.secret)[:12]} was not fetched: {exc}")
    return not is_absent(program, study)


def _made(program: Program, job_id: str) -> Job:
    """The job after it was run here. One that somebody holds is waited for: it may be a run of ours that was killed."""
    desk, until = desk_of(program, before=partial(bring_priors, program)), monotonic() + program.settings.lease_s + 1
    while True:
        run_job(job_id, desk)
        job = program.jobs.get(job_id)
        if job.state is not JobState.RUNNING or monotonic() > until:
            return job
        sleep(LOOK_EVERY_S)


def _enqueue(program: Program, uid: str) -> str:
    job = submit(program, uid, REQUESTED_BY)
    return "done before" if job.state is JobState.DONE else "in the queue"


def _report(program: Program, uid: str) -> str:
    job = job_of(program, uid, REQUESTED_BY)
    if job.state is JobState.DONE:
        return "done before"
    job = _made(program, job.id)
    deliver_due(program)
    match job.state:
        case JobState.DONE:
            return "reported"
        case JobState.FAILED:
            say(f"study {study_key(uid, program.secret)[:12]}: {job.reason}")
            return "failed"
        case _:  # a worker has it, or it waits for something to come back
            return "left to the workers"
