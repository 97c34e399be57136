"""One suite over every vector store: in memory, Chroma in a folder, and a real Chroma server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from rag.adapters.chroma import PATIENCE_S, ChromaStore, sessions_of
from rag.adapters.memory import MemoryStore
from rag.errors import EmbedderMismatch, StoreUnavailable
from rag.evidence import Document, Passage
from rag.ports import VectorStore

DOCUMENT = Document("pleura", "Pleura", "A. Author", 2020, "10.1000/x", "Gas. Fluid — œdème.", "Journal", ("ct",))
GAS = Passage("pleura#0", "pleura", "Gas.", 0, 4, ("ct",))
FLUID = Passage("pleura#5", "pleura", "Fluid — œdème.", 5, 19, ("ct",))
OTHER = Document("heart", "Heart", "B. Author", 2021, "10.1000/y", "Size.", topics=("radiograph", "any modality"))
SIZE = Passage("heart#0", "heart", "Size.", 0, 5, ("radiograph", "any modality"))
BARE = Document("bare", "Bare", "C. Author", 2022, "10.1000/z", "Nothing.")
NOTHING = Passage("bare#0", "bare", "Nothing.", 0, 8)
# Unit vectors in a plane: 0, 60 and 90 degrees, so that the cosines to the first are 1, 0.5 and 0.
EAST = np.array([1.0, 0.0, 0.0], dtype=np.float32)
NORTH_EAST = np.array([0.5, 0.75**0.5, 0.0], dtype=np.float32)
NORTH = np.array([0.0, 1.0, 0.0], dtype=np.float32)


@pytest.fixture(scope="session")
def chroma_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Chroma server of our own on a free port of this machine."""
    executable = shutil.which("chroma", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if executable is None:
        pytest.skip("the chroma executable, which comes with chromadb, is not on the path")
    folder = tmp_path_factory.mktemp("chroma")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [executable, "run", "--path", str(folder), "--host", "127.0.0.1", "--port", str(port)],
            env={**os.environ, "ANONYMIZED_TELEMETRY": "False"},
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(port, server)
        yield f"chroma+http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=20)


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if server.poll() is not None:
            pytest.fail(f"the chroma server ended with {server.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail("the chroma server did not listen within a minute")


@pytest.fixture
def chroma() -> Iterator[Callable[[str], ChromaStore]]:
    """Opens stores, and closes them all in the end."""
    opened: list[ChromaStore] = []

    def open_one(url: str) -> ChromaStore:
        opened.append(ChromaStore(url))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture(params=["memory", "chroma+file", "chroma+http"])
def open_store(
    request: pytest.FixtureRequest, tmp_path: Path, chroma: Callable[[str], ChromaStore]
) -> Callable[[], VectorStore]:
    """Opens the same store again and again, empty at first."""
    if request.param == "memory":
        store = MemoryStore()
        return lambda: store
    if request.param == "chroma+file":
        return lambda: chroma(f"chroma+file://{tmp_path}/a%20folder/vectors")
    url = request.getfixturevalue("chroma_server")
    used_before = chroma(url)
    for document in used_before.documents():
        used_before.remove(document.id)
    return lambda: chroma(url)


@pytest.fixture
def store(open_store: Callable[[], VectorStore]) -> VectorStore:
    return open_store()


def fill(store: VectorStore) -> None:
    store.add([DOCUMENT, OTHER], [GAS, FLUID, SIZE], np.stack([EAST, NORTH_EAST, NORTH]))


def test_an_empty_store_answers(store: VectorStore) -> None:
    assert store.nearest(EAST, 5) == []
    assert store.passages() == []
    assert store.documents() == []
    store.add([], [], np.zeros((0, 3), dtype=np.float32))
    store.remove("nobody")


def test_the_nearest_come_first_with_their_cosine(store: VectorStore) -> None:
    fill(store)
    found = store.nearest(EAST, 5)
    assert [passage for passage, _ in found] == [GAS, FLUID, SIZE]
    np.testing.assert_allclose([cosine for _, cosine in found], [1.0, 0.5, 0.0], atol=1e-6)
    assert [passage for passage, _ in store.nearest(NORTH, 1)] == [SIZE]


def test_what_went_in_comes_out(store: VectorStore) -> None:
    fill(store)
    store.add([BARE], [NOTHING], NORTH[None])
    assert store.passages() == [NOTHING, SIZE, GAS, FLUID]
    assert store.documents() == [BARE, OTHER, DOCUMENT]


def test_topics_restrict_the_search(store: VectorStore) -> None:
    fill(store)
    store.add([BARE], [NOTHING], EAST[None])
    assert [passage for passage, _ in store.nearest(EAST, 5, ["any modality"])] == [SIZE]
    assert {passage for passage, _ in store.nearest(EAST, 5, ["ct", "radiograph"])} == {GAS, FLUID, SIZE}
    assert store.nearest(EAST, 5, ["knee"]) == []
    assert store.nearest(EAST, 5, ["c"]) == []  # a whole topic, not a part of one


def test_adding_a_document_twice_keeps_one(store: VectorStore) -> None:
    fill(store)
    fill(store)
    assert len(store.passages()) == 3
    assert len(store.documents()) == 2


def test_replacing_a_document_forgets_its_old_passages(store: VectorStore) -> None:
    fill(store)
    shorter = replace(DOCUMENT, text="Gas.", title="New")
    store.add([shorter], [GAS], NORTH[None])
    assert store.passages() == [SIZE, GAS]
    assert store.documents() == [OTHER, shorter]
    assert store.nearest(NORTH, 5, ["ct"])[0] == (GAS, pytest.approx(1.0))


def test_a_removed_document_is_gone(store: VectorStore) -> None:
    fill(store)
    store.remove("pleura")
    assert store.passages() == [SIZE]
    assert store.documents() == [OTHER]
    assert [passage for passage, _ in store.nearest(EAST, 5)] == [SIZE]


def test_notes_are_seen_by_others(open_store: Callable[[], VectorStore]) -> None:
    one, other = open_store(), open_store()
    key = uuid4().hex
    one.note(key, "a")
    assert other.notes()[key] == "a"
    other.note("second", "b" * 10_000)
    assert (one.notes()[key], one.notes()["second"]) == ("a", "b" * 10_000)
    one.note(key, "c")
    assert open_store().notes()[key] == "c"


def test_a_store_opened_again_holds_what_it_held(open_store: Callable[[], VectorStore]) -> None:
    fill(open_store())
    assert [passage for passage, _ in open_store().nearest(EAST, 2)] == [GAS, FLUID]


def test_a_passage_without_a_vector_is_refused(store: VectorStore) -> None:
    with pytest.raises(ValueError, match="2 passages came with 1 vectors"):
        store.add([DOCUMENT], [GAS, FLUID], EAST[None])


def test_many_passages_are_all_read(store: VectorStore) -> None:
    text = "x" * 1200
    long = Document("long", "Long", "A", 2020, "10.1000/x", text)
    passages = [Passage(f"long#{start}", "long", "x", start, start + 1) for start in range(1200)]
    angles = np.linspace(0, 1, len(passages), dtype=np.float32)
    store.add([long], passages, np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1))
    assert len(store.passages()) == 1200
    assert store.nearest(EAST, 1)[0][0].start == 0


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(StoreUnavailable, match="does not answer"):
        ChromaStore(f"chroma+http://127.0.0.1:{port}").notes()


def test_a_server_that_keeps_silent_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rag.adapters.chroma.PATIENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(StoreUnavailable, match="does not answer"):
            ChromaStore(f"chroma+http://127.0.0.1:{port}").notes()


def test_a_server_of_another_kind_is_unavailable() -> None:
    with HTTPServer(("127.0.0.1", 0), Refusing) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        try:
            with pytest.raises(StoreUnavailable, match="does not answer"):
                ChromaStore(f"chroma+http://127.0.0.1:{other.server_port}").documents()
        finally:
            other.shutdown()
            thread.join()


class Refusing(BaseHTTPRequestHandler):
    """Knows no page."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_every_request_to_a_server_has_a_limit(chroma: Callable[[str], ChromaStore], chroma_server: str) -> None:
    store = chroma(chroma_server)
    store.notes()
    assert store._client is not None
    assert {session.timeout.read for session in sessions_of(store._client)} == {PATIENCE_S}


def test_a_closed_store_opens_again(chroma: Callable[[str], ChromaStore], tmp_path: Path) -> None:
    store = chroma(f"chroma+file://{tmp_path}/vectors")
    fill(store)
    store.close()
    assert len(store.passages()) == 3


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreUnavailable):
        ChromaStore(f"chroma+file://{tmp_path}/file/below").documents()


def test_vectors_of_another_length_are_another_encoders(chroma: Callable[[str], ChromaStore], tmp_path: Path) -> None:
    store = chroma(f"chroma+file://{tmp_path}/vectors")
    fill(store)
    with pytest.raises(EmbedderMismatch):
        store.nearest(np.ones(5, dtype=np.float32), 1)
