"""The queue of jobs over huey: in memory, in a SQLite file, or on a Redis server.

Of huey only the storages are used. Its task layer pickles what it sends, and asks its result store before every task;
a job's id needs neither: it travels as JSON, and nothing is ever unpickled.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from time import sleep
from typing import Protocol
from urllib.parse import unquote, urlsplit

import structlog
from huey.storage import MemoryStorage, RedisStorage, SqliteStorage
from redis import ConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from app.adapters.consuming import call, reason, until_stopped
from app.errors import WHY, BadSetting, QueueUnavailable

NAME = "wetread"
POLL_S = 0.2  # between looks into a storage that cannot wait for an id by itself
BLOCK_S = 1  # how long Redis waits for an id; a whole number, for servers before 6.0
TIMEOUT_S = 5.0  # for Redis to be reached, and to answer beyond BLOCK_S

log = structlog.get_logger()


class Storage(Protocol):
    """What is used of huey.storage.BaseStorage."""

    def enqueue(self, data: bytes) -> None:
        """Append an item."""

    def dequeue(self) -> bytes | None:
        """Take the first item out; None when there is none."""

    def queue_size(self) -> int:
        """How many items there are."""


class HueyQueue:
    """Implements app.ports.Queue. Opens nothing until it is used; one object serves any number of threads.

    An id is out of the queue before its job is looked at, so that of a worker that dies is lost: Jobs.overdue sends it
    again.
    """

    def __init__(self, url: str) -> None:
        """url: huey+memory:, huey+sqlite:///folder/jobs.db or huey+redis://host:port/db. Raises BadSetting."""
        self._open = opener(url)
        self._storage: Storage | None = None
        self._opening = Lock()
        self._waits = urlsplit(url).scheme == "huey+redis"

    def send(self, job_id: str) -> None:
        """Hand the id to some worker. Raises QueueUnavailable."""
        with reaching():
            self._opened().enqueue(json.dumps({"job": job_id}).encode())

    def work(self, handle: Callable[[str], None], stop: Callable[[], bool]) -> None:
        """Call handle with each id, one at a time, until stop() is true. Outlives a server that is away."""

        def session() -> None:
            while not stop():
                with reaching():
                    data = self._opened().dequeue()
                if data is not None:
                    self._handle(bytes(data), handle)
                elif not self._waits:
                    sleep(POLL_S)

        until_stopped(session, stop)

    def waiting(self) -> int:
        """How many ids wait. Raises QueueUnavailable."""
        with reaching():
            return self._opened().queue_size()

    def _handle(self, data: bytes, handle: Callable[[str], None]) -> None:
        job_id = job_of(data)
        if job_id is None:
            log.warning("the queue held something that is no job; it was thrown away", size=len(data))
        else:
            call(handle, job_id)

    def _opened(self) -> Storage:
        with self._opening:
            if self._storage is None:
                self._storage = self._open()
            return self._storage


def opener(url: str) -> Callable[[], Storage]:
    """What opens the storage of a URL. Raises BadSetting when the URL cannot be one."""
    parts = urlsplit(url)
    match parts.scheme:
        case "huey+memory":
            return lambda: MemoryStorage(NAME)
        case "huey+sqlite":
            path = Path(unquote(parts.path))
            if parts.netloc or not path.is_absolute() or not path.name:
                raise BadSetting("queue_url needs an absolute path: huey+sqlite:///folder/jobs.db")
            return lambda: open_sqlite(path)
        case "huey+redis":
            pool = redis_pool(url.removeprefix("huey+"))
            return lambda: RedisStorage(NAME, connection_pool=pool, read_timeout=BLOCK_S)
    raise BadSetting(f"queue_url has no storage of huey: {parts.scheme}")


def open_sqlite(path: Path) -> Storage:
    """The storage in a file, its folder made when there is none. Commits are synced to the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    storage: Storage = SqliteStorage(NAME, filename=str(path))
    return storage


def redis_pool(url: str) -> ConnectionPool:
    """Connections that are made when they are needed, and once more when the server has closed them."""
    try:
        return ConnectionPool.from_url(
            url,
            socket_connect_timeout=TIMEOUT_S,
            socket_timeout=BLOCK_S + TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),
        )
    except ValueError as exc:  # a port or a database that is no number
        raise BadSetting("queue_url is no URL of Redis: huey+redis://host:port/db") from exc


def job_of(data: bytes) -> str | None:
    """The id in an item of the queue; None when it holds something else."""
    try:
        match json.loads(data):
            case {"job": str(job_id)}:
                return job_id
    except ValueError:  # neither UTF-8 nor JSON
        return None
    return None


@contextmanager
def reaching() -> Iterator[None]:
    """Turn what a storage raises into one sentence."""
    try:
        yield
    except OSError as exc:
        why = WHY.get(exc.errno or 0, exc.strerror or type(exc).__name__)
        raise QueueUnavailable(f"the queue of jobs cannot be opened: {why}") from exc
    except sqlite3.Error as exc:
        raise QueueUnavailable(f"the queue of jobs does not work: {exc}") from exc
    except RedisError as exc:
        raise QueueUnavailable(f"the queue of jobs on Redis does not answer: {reason(exc)}") from exc
