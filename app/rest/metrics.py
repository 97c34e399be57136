"""What a monitoring system may know: counts and seconds, no study, no patient."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.bootstrap import Program
from app.errors import AppError

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The metrics of one API, in a registry of its own: two APIs in one process do not count together."""

    def __init__(self, program: Program) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(Stores(program))
        self._requests = Counter(
            "wetread_http_requests_total",
            "HTTP requests answered.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "wetread_http_request_seconds",
            "Seconds until an HTTP request was answered.",
            ("route",),
            buckets=SECONDS,
            registry=self._registry,
        )

    def note(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(method if method in METHODS else "other", route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Everything in the text format of Prometheus, version 0.0.4."""
        return generate_latest(self._registry)


class Stores(Collector):
    """Jobs, deliveries and the queue, asked when the metrics are."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def describe(self) -> Iterator[Metric]:
        """Nothing is asked when the registry is made."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Gauges for each state; wetread_database_up is 0, and they are absent, when the database does not answer."""
        up = GaugeMetricFamily("wetread_database_up", "1 when the database answers.")
        try:
            jobs, deliveries = self._program.jobs.counts(), self._program.deliveries.counts()
        except AppError:
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        yield by_state("wetread_jobs", "Jobs in each state.", jobs)
        yield by_state("wetread_deliveries", "Deliveries of results in each state.", deliveries)
        waiting = self._waiting()
        if waiting is not None:
            yield GaugeMetricFamily("wetread_queue_waiting", "Ids that wait in the queue.", value=waiting)

    def _waiting(self) -> int | None:
        try:
            return self._program.queue.waiting()
        except AppError:
            return None


def by_state(name: str, meaning: str, counts: dict[str, int]) -> Metric:
    """A gauge with one sample for each state."""
    gauge = GaugeMetricFamily(name, meaning, labels=("state",))
    for state, count in counts.items():
        gauge.add_metric([state], count)
    return gauge
