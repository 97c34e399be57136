"""The whole way with a real PACS: a film arrives, its prior is fetched, the report goes back into the study."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest

from app.bootstrap import Program, open_peer, open_program
from app.jobs import JobState
from app.outgoing import DeliveryState
from app.pacs.batch import run_batch
from app.pacs.deliver import deliver, deliver_due
from app.pacs.priors import SILENT, bring_priors
from app.settings import Settings
from app.worker import desk_of, run_job
from dicom_io.errors import PeerRefused, PeerSilent
from dicom_io.phantom.patient import LesionKind
from dicom_io.phantom.write import write_patient

Wait = Callable[[Callable[[], bool], float, str], None]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(current, prior): two films of one patient, coarse but good enough for the experts."""
    folder = tmp_path_factory.mktemp("films")
    write_patient(
        24, folder, kinds=(LesionKind.CARDIOMEGALY,), with_ct=False, rows=512, film_spacing_mm=(2.4, 6.0, 2.4)
    )
    [prior], [current] = (list((folder / name).glob("*.dcm")) for name in ("xray-0-prior", "xray-1"))
    return current, prior


def variables(settings: Mapping[str, object]) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WETREAD_")}
    return clean | {f"WETREAD_{name.upper()}": str(value) for name, value in settings.items()}


@contextmanager
def listening(settings: Mapping[str, object], wait: Wait) -> Iterator[None]:
    """`wetread listen`, the command itself."""
    wetread, said = Path(sys.executable).with_name("wetread"), Path(str(settings["home"])) / "listen.log"
    with said.open("wb") as log:
        process = subprocess.Popen([wetread, "listen"], env=variables(settings), stderr=log, cwd=said.parent)
    try:
        wait(lambda: "listening as WETREAD" in said.read_text(), 60, "wetread listens")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.mark.slow
@pytest.mark.parametrize("way", ["DIMSE", "DICOMweb"])
def test_a_film_its_prior_and_the_results(
    way: str, orthanc: Any, films: tuple[Path, Path], tmp_path: Path, wait: Wait
) -> None:
    if shutil.which("storescu") is None:
        pytest.skip("storescu of dcmtk is not installed")
    current, prior = (pydicom.dcmread(film) for film in films)
    orthanc.upload(films[1])  # the prior is there from long ago, and was never sent to us
    there = orthanc.dicom_url if way == "DIMSE" else orthanc.web_url
    settings: dict[str, Any] = {
        "home": tmp_path / "home",
        "listen_port": orthanc.wetread_port,
        "allowed_callers": "ORTHANC",
        "quiet_s": 1,
        "pacs_url": there,
        "results_to": there,
        "embedder_url": "hashing:",
        "vectors_url": "memory:",
        "threads": 1,
    }
    settings["home"].mkdir()
    program = open_program(Settings(**settings))
    with listening(settings, wait):
        send = ["storescu", "-aet", "XRAY", "-aec", "ORTHANC", "127.0.0.1", str(orthanc.dicom_port), str(films[0])]
        subprocess.run(send, check=True, env=os.environ | {"TCP_NODELAY": "1"}, timeout=60)
        wait(lambda: program.jobs.newest_of(current.StudyInstanceUID) is not None, 60, "the film has its job")
        assert [row.uid for row in program.archive.studies()] == [current.StudyInstanceUID]
        job = program.jobs.newest_of(current.StudyInstanceUID)
        assert job is not None
        run_job(job.id, desk_of(program, before=partial(bring_priors, program)))
    assert program.jobs.get(job.id).state is JobState.DONE
    report = program.versions.load(current.StudyInstanceUID)
    assert report.notices == ()
    assert {each.prior_study_uid for each in report.comparisons} == {prior.StudyInstanceUID}
    assert program.jobs.newest_of(prior.StudyInstanceUID) is None  # a prior has no job
    assert list((settings["home"] / "spool").glob("*/*.dcm")) == []

    assert deliver_due(program) == 1
    assert kinds(orthanc, current.StudyInstanceUID) >= {"DX", "SR", "SEG", "DOC", "OT"}
    assert orthanc.count("studies") == 2
    [delivery] = program.deliveries.of_study(current.StudyInstanceUID)
    assert delivery.state is DeliveryState.SENT
    instances = orthanc.count("instances")
    assert deliver(program, delivery)  # once more, as after a crash between sending and noting it
    assert orthanc.count("instances") == instances
    assert [row.uid for row in program.archive.studies()].count(current.StudyInstanceUID) == 1


def kinds(orthanc: Any, study_uid: str) -> set[str]:
    """The modalities of the series of a study."""
    studies = [orthanc.ask(f"/studies/{each}") for each in orthanc.ask("/studies")]
    [study] = [each for each in studies if each["MainDicomTags"]["StudyInstanceUID"] == study_uid]
    return {orthanc.ask(f"/series/{each}")["MainDicomTags"]["Modality"] for each in study["Series"]}


@pytest.mark.parametrize("way", ["dicom", "dicom+get", "web"])
def test_search_and_retrieval_bring_what_was_stored(way: str, orthanc: Any, films: tuple[Path, Path]) -> None:
    current, prior = films
    settings = Settings(ae_title="READER")
    url = orthanc.web_url if way == "web" else orthanc.dicom_url.replace("dicom:", f"{way}:")
    peer = open_peer(settings, url, "pacs_url")
    peer.echo()
    peer.store([current, prior])
    peer.store([current])
    assert orthanc.count("instances") == 2
    patient = pydicom.dcmread(current).PatientID
    found = {each.uid: each for each in peer.find({"PatientID": patient, "IssuerOfPatientID": ""})}
    assert set(found) == {pydicom.dcmread(film).StudyInstanceUID for film in films}
    assert {each.modalities for each in found.values()} == {frozenset(["DX"])}
    assert all(each.acquired_on is not None and each.patient_id == patient for each in found.values())
    assert peer.find({"PatientID": "NOBODY"}) == ()
    kept: list[bytes] = []
    sought = pydicom.dcmread(current)
    if way == "dicom":  # READER is nobody that Orthanc could send to
        with pytest.raises(PeerRefused):
            peer.fetch(sought.StudyInstanceUID, kept.append, 30)
        return
    assert peer.fetch(sought.StudyInstanceUID, kept.append, 30).instances == 1
    assert pydicom.dcmread(BytesIO(kept[0])) == sought


def test_wrong_passwords_and_nobody_there(orthanc: Any) -> None:
    settings = Settings()
    with pytest.raises(PeerRefused, match="HTTP 401: it wants other credentials"):
        open_peer(settings, orthanc.web_url.replace("secret", "guess"), "pacs_url").echo()
    with pytest.raises(PeerSilent, match="does not answer"):
        open_peer(settings, f"dicomweb+http://127.0.0.1:{orthanc.wetread_port}/x", "pacs_url").echo()


def test_a_pacs_that_is_away_costs_a_sentence(orthanc: Any, films: tuple[Path, Path], tmp_path: Path) -> None:
    away = f"dicom://ORTHANC@127.0.0.1:{orthanc.wetread_port}"
    program = here(tmp_path, pacs_url=away)
    [uid] = program.archive.ingest([films[0]]).study_uids
    assert bring_priors(program, uid) == (SILENT,)


def test_a_batch_from_a_query_goes_on_where_it_stopped(
    orthanc: Any, films: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for film in films:
        orthanc.upload(film)
    program = here(tmp_path, pacs_url=orthanc.web_url)
    dates = sorted(pydicom.dcmread(film).StudyDate for film in films)
    query = f"pacs:StudyDate={dates[0]}-{dates[1]},ModalitiesInStudy=DX"
    run_batch(program, [query], enqueue=True)
    assert "2 in the queue" in capsys.readouterr().err
    assert program.queue.waiting() == 2
    jobs = [program.jobs.newest_of(pydicom.dcmread(film).StudyInstanceUID) for film in films]
    for job in jobs:
        assert job is not None
        taken = program.jobs.take(job.id, "a worker", 60)
        assert taken is not None
        program.jobs.finish(job.id, "a worker")
    run_batch(program, [query, str(films[0])], enqueue=False)
    assert "2 done before" in capsys.readouterr().err


def here(tmp_path: Path, **settings: Any) -> Program:
    return open_program(
        Settings(home=tmp_path / "home", embedder_url="hashing:", vectors_url="memory:", threads=1, **settings)
    )
