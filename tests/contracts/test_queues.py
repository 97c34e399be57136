"""One suite over every adapter of app.ports.Queue."""

from __future__ import annotations

import pickle
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from app.adapters.celery_queue import NAME, CeleryQueue
from app.adapters.huey_queue import HueyQueue
from app.errors import BadSetting, QueueUnavailable
from app.ports import Queue

BACKENDS = ["huey+memory", "huey+sqlite", "huey+redis", "celery+redis", "celery+amqp"]
SECRET = "s3cret-of-the-site"


def open_queue(url: str) -> Queue:
    return CeleryQueue(url) if url.startswith("celery") else HueyQueue(url)


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty queue."""
    match request.param:
        case "huey+memory":
            return "huey+memory:"
        case "huey+sqlite":
            return f"huey+sqlite://{tmp_path}/folder/jobs.db"
        case "huey+redis" | "celery+redis" as kind:
            import redis

            server = f"{request.getfixturevalue('redis_url')}/3"
            with redis.Redis.from_url(server) as client:
                client.flushdb()
            return kind.removesuffix("redis") + server
        case _:
            from kombu import Connection

            server = request.getfixturevalue("rabbitmq_url")
            with Connection(server) as connection, connection.SimpleQueue(NAME) as queue:
                queue.clear()
            return f"celery+{server}"


@pytest.fixture
def queue(url: str) -> Queue:
    return open_queue(url)


class Worker:
    """A worker in a thread; it keeps what it was handed."""

    def __init__(self, queue: Queue, then: Callable[[str], None] | None = None) -> None:
        self.seen: list[str] = []
        self._then = then
        self._stop = threading.Event()
        self._thread = threading.Thread(target=queue.work, args=(self._handle, self._stop.is_set), daemon=True)

    def _handle(self, job_id: str) -> None:
        self.seen.append(job_id)
        if self._then is not None:
            self._then(job_id)

    def stop(self, within_s: float = 8.0) -> None:
        self._stop.set()
        self._thread.join(within_s)
        assert not self._thread.is_alive(), "the worker does not stop"

    @contextmanager
    def working(self) -> Iterator[Worker]:
        self._thread.start()
        try:
            yield self
        finally:
            self.stop()


def until(is_so: Callable[[], bool], within_s: float = 20.0) -> None:
    end = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.01)


def test_ids_sent_before_any_worker_arrive_later_at_each_of_two_that_share(queue: Queue, url: str) -> None:
    ids = [f"job-{number}" for number in range(40)]
    for job_id in ids[:20]:
        queue.send(job_id)
    until(lambda: queue.waiting() == 20)
    others = queue if url == "huey+memory:" else open_queue(url)  # as another process would open it
    one, two = Worker(queue, lambda _: time.sleep(0.02)), Worker(others, lambda _: time.sleep(0.02))
    with one.working(), two.working():
        for job_id in ids[20:]:
            queue.send(job_id)
        until(lambda: set(one.seen) | set(two.seen) == set(ids))
    assert one.seen
    assert two.seen
    assert Counter(one.seen + two.seen) == Counter(ids)  # where nobody dies, once each
    assert queue.waiting() == 0


def test_a_worker_handles_one_id_at_a_time_and_a_handler_that_raises_does_not_end_it(queue: Queue) -> None:
    busy, most = [0], [0]

    def handle(job_id: str) -> None:
        busy[0] += 1
        most[0] = max(most[0], busy[0])
        time.sleep(0.02)
        busy[0] -= 1
        if job_id.endswith("3"):
            raise RuntimeError("Doe^Jane")

    worker = Worker(queue, handle)
    with worker.working():
        for number in range(8):
            queue.send(f"job-{number}")
        until(lambda: len(set(worker.seen)) == 8)
    assert most == [1]


def test_a_worker_stops_when_told_and_what_it_did_not_take_is_kept_for_the_next(queue: Queue, url: str) -> None:
    first = Worker(queue, lambda _: time.sleep(0.1))
    with first.working():
        for number in range(6):
            queue.send(f"job-{number}")
        until(lambda: len(first.seen) >= 2)
    assert len(first.seen) < 6
    second = Worker(queue if url == "huey+memory:" else open_queue(url))
    with second.working():
        until(lambda: set(first.seen) | set(second.seen) == {f"job-{number}" for number in range(6)})


def test_nothing_pickled_is_ever_opened(url: str, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return (eval, (f"open({str(tmp_path / 'opened')!r}, 'w')",))

    queue = open_queue(url)
    if url.startswith("huey"):
        queue._opened().enqueue(pickle.dumps(Bomb()))
    else:
        from kombu import Connection

        with Connection(url.removeprefix("celery+")) as connection, connection.SimpleQueue(NAME) as simple:
            simple.put(Bomb(), serializer="pickle", headers={"task": "wetread.report"})
            simple.put({"not": "a task"}, serializer="json")
    worker = Worker(queue)
    queue.send("job-1")
    with worker.working():
        until(lambda: worker.seen == ["job-1"])
    assert not (tmp_path / "opened").exists()
    assert "no job" in "".join(capfd.readouterr())


def test_a_job_id_is_the_only_thing_that_is_kept(tmp_path: Path) -> None:
    HueyQueue(f"huey+sqlite://{tmp_path}/jobs.db").send("job-1")
    with sqlite3.connect(tmp_path / "jobs.db") as connection:
        assert connection.execute("select data from task").fetchall() == [(b'{"job": "job-1"}',)]
    connection.close()


@pytest.mark.parametrize(
    "kind", ["huey+redis://{}@127.0.0.1:{}/0", "celery+redis://{}@127.0.0.1:{}/0", "celery+amqp://{}@127.0.0.1:{}//"]
)
def test_a_server_that_is_not_there_is_one_sentence_and_a_worker_waits_for_it(kind: str) -> None:
    with socket.socket() as taken:  # bound, but it does not listen
        taken.bind(("127.0.0.1", 0))
        queue = open_queue(kind.format(f"wetread:{SECRET}", taken.getsockname()[1]))
        for ask in (lambda: queue.send("job-1"), queue.waiting):
            started = time.monotonic()
            with pytest.raises(QueueUnavailable, match="does not answer: connection refused") as caught:
                ask()
            assert time.monotonic() - started < 5
            assert SECRET not in str(caught.value)
            assert "\n" not in str(caught.value)
        with Worker(queue).working() as worker:
            time.sleep(0.2)
            assert worker._thread.is_alive()


@pytest.mark.parametrize("kind", ["huey", "celery"])
def test_a_worker_outlives_its_server(kind: str, redis_on: Callable[[int], AbstractContextManager[str]]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    queue = open_queue(f"{kind}+redis://127.0.0.1:{port}/0")
    worker = Worker(queue)
    with worker.working():
        for job_id in ("before", "after"):
            with redis_on(port):
                queue.send(job_id)
                until(lambda job_id=job_id: job_id in worker.seen)


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(QueueUnavailable, match="a file stands where a folder is needed"):
        HueyQueue(f"huey+sqlite://{quote(str(tmp_path))}/file/jobs.db").send("job-1")
    (tmp_path / "jobs.db").write_text("this is no database, but it is long enough to look at" * 20)
    with pytest.raises(QueueUnavailable, match="not a database"):
        HueyQueue(f"huey+sqlite://{tmp_path}/jobs.db").send("job-1")


@pytest.mark.parametrize(
    "url",
    [
        "huey+sqlite:jobs.db",
        "huey+sqlite://folder/jobs.db",
        "huey+sqlite:///",
        "huey+redis://host:port/0",
        "huey+files:///folder",
        "celery+amqp:",
        "celery+redis://host:port",
        "celery+sqs://",
    ],
)
def test_a_url_that_cannot_be_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(BadSetting, match="queue_url"):
        open_queue(url)
