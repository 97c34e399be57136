"""What people send: several files, archives, too much, and things that are no DICOM at all."""

from __future__ import annotations

import io
import socket
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from rest_site import Site, radiograph, uid_of, zipped

from app.accounts import Scope
from app.rest.uploads import STALE_SECONDS, clear_stale

ZIP, DICOM = {"Content-Type": "application/zip"}, {"Content-Type": "application/dicom"}


@pytest.fixture(scope="module")
def writer(site: Site) -> httpx.Client:
    return site.client(Scope.WRITE, label="modality")


@pytest.fixture(autouse=True)
def nothing_is_left_behind(site: Site) -> Iterator[None]:
    yield
    assert list((site.program.settings.home / "uploads").glob("*")) == []


def test_what_cannot_be_used_is_listed_beside_what_can(site: Site, writer: httpx.Client) -> None:
    first, second = radiograph("mixed-1"), radiograph("mixed-2")
    answer = writer.post(
        "/v1/studies",
        files=[
            ("files", ("first.dcm", first)),
            ("anything", ("folder/second.dcm", second)),
            ("files", ("Doe^Jane.pdf", b"%PDF-1.7")),
            ("files", ("cut.dcm", first[:-40])),
            ("files", ("empty", b"")),
            ("files", ("more.zip", zipped(third=radiograph("mixed-3"), note=b"a word"))),
        ],
    )
    assert answer.status_code == 201, answer.text
    told = answer.json()
    keys = {site.key(uid_of(radiograph(f"mixed-{number}"))) for number in (1, 2, 3)}
    assert {each["study"] for each in told["studies"]} == keys
    assert "Location" not in answer.headers
    reasons = {each["name"]: each["reason"] for each in told["left_out"]}
    assert set(reasons) == {"Doe^Jane.pdf", "cut.dcm", "empty", "more.zip/note"}
    assert "PDF" in reasons["Doe^Jane.pdf"]
    assert told["left_out_in_all"] == 4


def test_no_name_that_a_client_gives_reaches_the_disk(site: Site, writer: httpx.Client) -> None:
    named = radiograph("named")
    writer.post("/v1/studies", files={"files": ("../../Doe^Jane.dcm", named)})
    kept = [path.name for path in site.program.settings.home.rglob("*")]
    assert not any("Doe" in name for name in kept)
    notes = [path.read_text() for path in site.program.settings.home.rglob("*.left.json")]
    assert not any("Doe" in note for note in notes)


def test_what_was_sent_twice_is_kept_once(writer: httpx.Client) -> None:
    film = radiograph("twice")
    answers = [writer.post("/v1/studies", content=film, headers=DICOM) for _ in range(2)]
    assert [each.status_code for each in answers] == [201, 201]
    assert answers[1].json()["studies"][0]["instances"] == 1
    assert answers[1].headers["Location"] == answers[0].headers["Location"]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", DICOM),
        (b"no DICOM at all", DICOM),
        (b"\0" * 5000, DICOM),
        (radiograph("cut")[:300], DICOM),
        (b"PK\x03\x04 and then nothing", ZIP),
        (zipped(note=b"a word"), ZIP),
        (radiograph("modality", Modality="US", SOPClassUID="1.2.840.10008.5.1.4.1.1.6.1"), DICOM),
    ],
    ids=["empty", "text", "zeros", "cut", "broken zip", "zip of text", "ultrasound"],
)
def test_nothing_usable_is_422_with_the_reason(writer: httpx.Client, body: bytes, headers: dict[str, str]) -> None:
    answer = writer.post("/v1/studies", content=body, headers=headers)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["left_out"]
    assert all(each["reason"] for each in told["left_out"])


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (b"x", "", 415),
        (b"x", "multipart/form-data", 400),
        (b"x", "multipart/form-data; boundary=b", 400),
        (
            b"--b\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\nhalf",
            "multipart/form-data; boundary=b",
            400,
        ),
        (b"--b\r\n" + b"X" * 40_000 + b": 1\r\n\r\n", "multipart/form-data; boundary=b", 400),
        (b"--b--\r\n", "multipart/form-data; boundary=b", 422),
    ],
    ids=["json", "no type", "no boundary", "no form", "cut form", "endless header", "empty form"],
)
def test_another_kind_of_body_or_a_damaged_form(writer: httpx.Client, body: bytes, kind: str, status: int) -> None:
    answer = writer.post("/v1/studies", content=body, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_too_much_is_refused_before_it_is_read_and_while_it_comes(site: Site, writer: httpx.Client) -> None:
    most = site.program.settings.max_upload_mb * 1024**2
    host, port = site.url.removeprefix("http://").split(":")
    token = writer.headers["Authorization"]
    head = f"POST /v1/studies HTTP/1.1\r\nHost: {host}\r\nAuthorization: {token}\r\nContent-Type: application/dicom\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as said:
        said.sendall(f"{head}Content-Length: {most + 1}\r\n\r\n".encode())
        assert said.recv(4096).startswith(b"HTTP/1.1 413 ")  # not one byte of the body was sent

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b"\0" * (most // 16)

    try:
        answer = writer.post("/v1/studies", content=endless(), headers=DICOM)
        assert answer.status_code == 413
    except httpx.WriteError:  # the server answered and closed while we were still sending: allowed, RFC 9112 9.6
        pass
    answer = writer.post("/v1/reports", content=b" " * (1024**2 + 1), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")


def test_a_client_that_goes_away_leaves_nothing(site: Site, writer: httpx.Client) -> None:
    host, port = site.url.removeprefix("http://").split(":")
    place = site.program.settings.home / "uploads"
    head = f"POST /v1/studies HTTP/1.1\r\nHost: {host}\r\nAuthorization: {writer.headers['Authorization']}\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(f"{head}Content-Type: application/dicom\r\nContent-Length: 9999\r\n\r\nhalf".encode())
        until(lambda: any(place.iterdir()))
    until(lambda: not any(place.iterdir()))


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_archive_that_unpacks_to_far_too_much_is_never_unpacked(writer: httpx.Client) -> None:
    bomb = zipped(one=b"\0" * (2 * 1024**2))
    assert len(bomb) < 10_000
    many = zipped(**{f"part-{number}": b"\0" * 1024**2 for number in range(5)})
    for body in (bomb, many):
        answer = writer.post("/v1/studies", content=body, headers=ZIP)
        assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
        inside = writer.post("/v1/studies", files={"files": ("x.zip", body)})
        assert inside.status_code == 413


def test_an_archive_that_lies_about_its_size_is_no_way_in(writer: httpx.Client) -> None:
    body = io.BytesIO(zipped(one=b"\0" * (2 * 1024**2)))
    with zipfile.ZipFile(body) as archive:
        place = archive.start_dir
    raw = bytearray(body.getvalue())
    raw[place + 24 : place + 28] = (1000).to_bytes(4, "little")  # uncompressed size, APPNOTE 4.3.12
    answer = writer.post("/v1/studies", content=bytes(raw), headers=ZIP)
    assert answer.status_code == 422
    assert answer.json()["left_out"][0]["reason"] == "it is damaged in the zip archive, or packed in an unknown way"


def test_what_a_killed_server_has_left_is_removed(tmp_path: Path) -> None:
    import os

    for name, age in (("old", STALE_SECONDS + 60), ("new", 0)):
        (tmp_path / name).mkdir()
        then = time.time() - age
        os.utime(tmp_path / name, (then, then))
    clear_stale(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
