"""The queue of jobs over Celery, on RabbitMQ or Redis, for workers on many machines.

Ids are sent as Celery tasks (message protocol 2, JSON), so Celery's own tools see them. They are received by a plain
consumer on Celery's connection, not by Celery's worker class: that keeps its stop flag, its signal handlers and its
logging per process (celery.worker.state, celery.apps.worker), so it cannot be a thread of the web process, nor stop
while another one goes on. What is lost with it (pools, mingle, gossip, events, remote control) is not needed here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import structlog
from celery import Celery
from kombu import Connection, Consumer, Exchange, Message, Queue
from kombu.exceptions import KombuError

from app.adapters.consuming import call, reason, until_stopped
from app.errors import BadSetting, QueueUnavailable

TASK = "wetread.report"
NAME = "wetread.jobs"
DRAIN_S = 0.5  # how long to wait for an id before stop() is asked again
TIMEOUT_S = 5.0  # for the broker to be reached, and to confirm an id

OPTIONS = {
    # A message that is sent has arrived: RabbitMQ confirms it. Dead brokers are noticed by TCP's keepalive, which
    # py-amqp turns on; AMQP's heartbeat stays off, for nobody could send one while a report is made.
    "amqp": {"confirm_publish": True},
    "redis": {"socket_connect_timeout": TIMEOUT_S, "socket_timeout": 2 * TIMEOUT_S},
}

log = structlog.get_logger()


class CeleryQueue:
    """Implements app.ports.Queue. Opens nothing until it is used; one object serves any number of threads.

    An id is acknowledged after its job was looked at, and a worker holds one at a time (prefetch 1): what a dead
    worker held comes again, from RabbitMQ at once, from Redis when Jobs.overdue sends it.
    """

    def __init__(self, url: str) -> None:
        """url: celery+amqp://user:password@host:port/vhost or celery+redis://host:port/db. Raises BadSetting."""
        self._url = url.removeprefix("celery+")
        self._options = OPTIONS[broker(self._url)]
        self._queue = Queue(NAME, Exchange(NAME, type="direct"), routing_key=NAME)
        self._celery = Celery("wetread", broker=self._url, set_as_current=False, fixups=[])
        self._celery.conf.update(
            task_serializer="json",
            accept_content=["json"],
            task_ignore_result=True,
            task_queues=[self._queue],
            task_default_queue=NAME,
            broker_connection_timeout=TIMEOUT_S,
        )

    def send(self, job_id: str) -> None:
        """Hand the id to some worker; the queue is made if need be. Raises QueueUnavailable."""
        with self._connected() as connection:
            # A connection of its own: studies come seldom, and one kept open may be dead when the next one comes.
            self._celery.send_task(
                TASK, args=[job_id], connection=connection, retry=False, confirm_timeout=TIMEOUT_S, ignore_result=True
            )

    def work(self, handle: Callable[[str], None], stop: Callable[[], bool]) -> None:
        """Call handle with each id, one at a time, until stop() is true. Outlives a broker that is away."""

        def session() -> None:
            with self._connected() as connection:
                self._consume(connection, handle, stop)

        until_stopped(session, stop)

    def waiting(self) -> int:
        """How many ids wait that no worker holds. Raises QueueUnavailable."""
        with self._connected() as connection:
            declared = self._queue.bind(connection.default_channel).queue_declare()  # made if nobody has sent yet
            return int(declared.message_count)

    def _consume(self, connection: Connection, handle: Callable[[str], None], stop: Callable[[], bool]) -> None:
        inbox: deque[Message] = deque()
        consumer = Consumer(
            connection.default_channel,
            queues=[self._queue],
            accept=["json"],
            on_message=inbox.append,
            prefetch_count=1,
        )
        with consumer:
            while not stop():
                with suppress(TimeoutError):
                    connection.drain_events(timeout=DRAIN_S)
                while inbox:
                    take(inbox.popleft(), handle)

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A connection, closed at the end; its errors as one sentence."""
        connection = self._celery.connection_for_write(  # the URL is given: CELERY_BROKER_URL must not overrule it
            self._url, heartbeat=0, transport_options=self._options
        )
        errors = (OSError, KombuError, *connection.connection_errors, *connection.channel_errors)
        try:
            with connection:
                connection.ensure_connection(max_retries=1, interval_start=0.2)  # by default it would try for ever
                yield connection
        except errors as exc:
            raise QueueUnavailable(f"the broker of the queue of jobs does not answer: {reason(exc)}") from exc


def take(message: Message, handle: Callable[[str], None]) -> None:
    """Handle one message and acknowledge it; what is no job is thrown away."""
    job_id = job_of(message)
    if job_id is None:
        log.warning("the queue held something that is no job; it was thrown away", content_type=message.content_type)
        message.reject()
        return
    call(handle, job_id)
    message.ack()


def job_of(message: Message) -> str | None:
    """The id in a message; None when it holds another task, or is no JSON (which alone is decoded)."""
    if message.headers.get("task") != TASK:
        return None
    try:
        match message.payload:
            case [[str(job_id)], _, _]:  # arguments, keywords, embedded tasks
                return job_id
    except (KombuError, ValueError):  # not JSON, or damaged
        return None
    return None


def broker(url: str) -> str:
    """The kind of broker of a URL without its celery+. Raises BadSetting."""
    parts = urlsplit(url)
    try:
        is_whole = bool(parts.hostname and parts.scheme in OPTIONS) and (parts.port or 1) > 0
    except ValueError:  # a port that is no number
        is_whole = False
    if not is_whole:
        raise BadSetting("queue_url needs a broker: celery+amqp://user:password@host:port/vhost or celery+redis://…")
    return parts.scheme
