"""From the spool into the archive: when a study is complete, what becomes of what cannot be used."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from app.bootstrap import Program
from app.pacs.arrivals import take_in_complete
from app.pacs.spool import Spool
from dicom_io.identity import study_key
from dicom_io.listen import Received

Film = Callable[..., bytes]
Word = Callable[[str], str]


@pytest.fixture
def spool(program: Program) -> Spool:
    return Spool(program.settings.home, program.secret)


def arrive(spool: Spool, uid: str, data: bytes, digest: str, *, ago_s: float = 60, retrieved: bool = False) -> None:
    """As the listener hands a file over, so many seconds ago."""
    spool.incoming.mkdir(parents=True, exist_ok=True)
    part = spool.incoming / "one.part"
    part.write_bytes(data)
    os.utime(part, (time.time() - ago_s,) * 2)
    spool.keep(Received(part, digest, uid, retrieved))


def files(folder: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in folder.rglob("*.dcm"))


def test_a_study_is_taken_in_once_it_was_quiet(
    program: Program, spool: Spool, film: Film, uid: Word, digest: Callable[[bytes], str]
) -> None:
    first, second, other = film(), film(InstanceNumber=2), film("other")
    arrive(spool, uid("study"), first, digest(first), ago_s=60)
    arrive(spool, uid("study"), second, digest(second), ago_s=2)
    arrive(spool, uid("other"), other, digest(other), ago_s=6)
    assert take_in_complete(program, spool, since=time.time() - 3) == 0  # it has listened for three seconds only
    assert take_in_complete(program, spool) == 1
    assert program.jobs.newest_of(uid("study")) is None
    assert program.jobs.newest_of(uid("other")) is not None
    assert files(program.settings.home / "spool") == sorted([first, second])
    assert files(program.settings.home / "archive") == [other]

    arrive(spool, uid("study"), second, digest(second), ago_s=60)  # sent again: the same file, its time renewed
    assert take_in_complete(program, spool) == 1
    assert sorted(files(program.settings.home / "archive")) == sorted([first, second, other])
    assert program.jobs.counts()["waiting"] == 2
    assert {row.arrival.study_uid for row in program.worklist.rows()} == {uid("study"), uid("other")}

    arrive(spool, uid("study"), second, digest(second))  # and again after the archive has it
    assert take_in_complete(program, spool) == 1
    assert program.jobs.counts()["waiting"] == 2


def test_what_the_archive_refuses_is_not_lost(
    program: Program,
    spool: Spool,
    film: Film,
    uid: Word,
    digest: Callable[[bytes], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    good, colour, damaged = film(), film(PhotometricInterpretation="RGB", SamplesPerPixel=3), film()[:-5]
    for data in (good, colour, damaged):
        arrive(spool, uid("study"), data, digest(data))
    assert take_in_complete(program, spool) == 1
    refused = program.settings.home / "refused" / study_key(uid("study"), program.secret)
    assert files(refused) == sorted([colour, damaged])
    assert files(program.settings.home / "archive") == [good]
    said = capsys.readouterr()
    assert "it is a colour picture, not a grayscale one" in said.out + said.err
    assert "Doe" not in said.out + said.err
    assert uid("study") not in said.out + said.err


def test_what_we_have_fetched_gets_no_job(
    program: Program, spool: Spool, film: Film, uid: Word, digest: Callable[[bytes], str]
) -> None:
    prior, colour = film("prior"), film("prior", PhotometricInterpretation="RGB", SamplesPerPixel=3)
    arrive(spool, uid("prior"), prior, digest(prior), retrieved=True)
    arrive(spool, uid("prior"), colour, digest(colour), retrieved=True)
    assert take_in_complete(program, spool) == 1
    assert files(program.settings.home / "archive") == [prior]
    assert program.jobs.newest_of(uid("prior")) is None
    assert files(program.settings.home / "spool") == []
    assert not (program.settings.home / "refused").exists()  # the PACS has the colour picture

    arrive(spool, uid("prior"), prior, digest(prior), retrieved=True)
    arrive(spool, uid("prior"), prior, digest(prior))  # and now somebody sends it as well
    take_in_complete(program, spool)
    assert program.jobs.newest_of(uid("prior")) is not None
    assert files(program.settings.home / "spool") == []


def test_an_archive_that_cannot_be_written_leaves_everything_where_it_is(
    program: Program, spool: Spool, film: Film, uid: Word, digest: Callable[[bytes], str]
) -> None:
    arrive(spool, uid("study"), film(), digest(film()))
    (program.settings.home / "archive").write_text("a file is where a folder should be")
    assert take_in_complete(program, spool) == 0
    assert files(program.settings.home / "spool") == [film()]
    (program.settings.home / "archive").unlink()
    assert take_in_complete(program, spool) == 1
    assert files(program.settings.home / "spool") == []


class BrokenArchive:
    """An archive with a fault that quotes a value."""

    def ingest(self, sources: object) -> None:
        raise ValueError("Doe^Jane")


def test_a_study_that_makes_us_fail_is_left_alone_for_a_while(
    program: Program,
    spool: Spool,
    film: Film,
    uid: Word,
    digest: Callable[[bytes], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    arrive(spool, uid("study"), film(), digest(film()))
    failed_at: dict[str, float] = {}
    broken = replace(program, archive=BrokenArchive())
    for _ in range(3):
        assert take_in_complete(broken, spool, failed_at=failed_at) == 0
    said = capsys.readouterr()
    assert (said.out + said.err).count("a fault (ValueError) at test_arrivals.py") == 1
    assert "Doe" not in said.out + said.err
    assert take_in_complete(program, spool, failed_at=dict.fromkeys(failed_at, 0.0)) == 1


def test_empty_folders_go_away_while_files_come(program: Program, spool: Spool, uid: Word) -> None:
    folder, over = program.settings.home / "spool" / study_key(uid("study"), program.secret), False

    def tidy() -> None:
        while not over:
            assert len(list(spool.waiting())) <= 1

    tidying = Thread(target=tidy)
    tidying.start()
    try:
        for number in range(100):
            folder.mkdir(parents=True, exist_ok=True)
            os.utime(folder, (0, 0))  # left alone since 1970: it may vanish at any moment
            file = spool.put(uid("study"), b"%d" % number)
            assert file.read_bytes() == b"%d" % number
            spool.done(file)
    finally:
        over = True
        tidying.join()
    os.utime(folder, (0, 0))
    assert list(spool.waiting()) == []
    assert not folder.exists()
