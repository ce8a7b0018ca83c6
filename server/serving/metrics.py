"""Prometheus metrics of the endpoint, on an HTTP port of their own. No label holds a shopper, an item or free text.

One worker keeps its numbers in memory. Several write theirs to memory-mapped files of one folder
(`PROMETHEUS_MULTIPROC_DIR`), from which the parent adds them up. docs/operations.md lists every name.
"""

from __future__ import annotations

import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    multiprocess,
    start_http_server,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from server.errors import EndpointError
from server.serving.observation import Observation

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the latency histogram's buckets."""
SIZES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """The numbers of one process; an `Observer` of its calls."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Begin at nought. `clock` gives Unix seconds."""
        self.registry = CollectorRegistry()
        self._clock = clock
        self._in_progress = 0
        self._version = ""
        self._since = clock()
        self._declare_calls()
        self._declare_state()
        self._request = cache(self._requests.labels)
        self._duration = cache(self._seconds.labels)

    def _declare_calls(self) -> None:
        here = self.registry
        self._requests = Counter(
            "fedrank_requests",
            "Calls that ended, by gRPC status.",
            ("method", "surface", "status"),
            registry=here,
        )
        self._refused = Counter(
            "fedrank_refused", "Calls refused, by the kind of error.", ("reason",), registry=here
        )
        self._seconds = Histogram(
            "fedrank_rank_seconds",
            "From a Rank call to its answer.",
            ("surface",),
            buckets=SECONDS,
            registry=here,
        )
        self._batch = Histogram(
            "fedrank_batch_size", "Questions answered together.", buckets=SIZES, registry=here
        )
        self._candidates = Counter(
            "fedrank_candidates", "Items that stood for choice in answers.", registry=here
        )
        self._cold_starts = Counter(
            "fedrank_cold_starts", "Answers to nobody known.", ("surface",), registry=here
        )
        self._events = Counter(
            "fedrank_events", "Events of RecordEvents, by outcome.", ("outcome",), registry=here
        )
        self._swaps = Counter(
            "fedrank_swaps", "Attempts to serve something newer.", ("outcome",), registry=here
        )

    def _declare_state(self) -> None:
        here = self.registry
        self._calls = Gauge(
            "fedrank_calls_in_progress",
            "Calls that have come and not ended.",
            registry=here,
            multiprocess_mode="livesum",
        )
        self._model = Gauge(
            "fedrank_model_info",
            "Workers that serve this model version.",
            ("version",),
            registry=here,
            multiprocess_mode="livesum",
        )
        self._recall = Gauge(
            "fedrank_index_recall",
            "Recall@100 of the vector index against exact search, when it was built.",
            registry=here,
            multiprocess_mode="livemin",
        )
        self._age = Gauge(
            "fedrank_snapshot_age_seconds",
            "Since the oldest snapshot in use was taken.",
            registry=here,
            multiprocess_mode="livemax",
        )
        self._queue = Gauge(
            "fedrank_store_queue",
            "Calls to the event store that wait or run.",
            registry=here,
            multiprocess_mode="livesum",
        )

    def began(self, call: Observation) -> None:
        """Count a call in progress."""
        self._in_progress += 1

    def ended(self, call: Observation, status: str, seconds: float) -> None:
        """Count a call by its status, and a ranking by how long it took."""
        self._in_progress -= 1
        self._request(call.method, call.surface, status).inc()
        if call.reason:
            self._refused.labels(call.reason).inc()
        elif call.method == "Rank" and status == "OK":
            self._duration(call.surface).observe(seconds)
            if call.cold_start:
                self._cold_starts.labels(call.surface).inc()

    def batch(self, questions: int, candidates: int) -> None:
        """Count questions that were answered together, and the items scored for them."""
        self._batch.observe(questions)
        self._candidates.inc(candidates)

    def recorded(self, stored: int, duplicates: int, unknown: int) -> None:
        """Count events of one message."""
        for outcome, count in (("stored", stored), ("duplicate", duplicates), ("unknown_item", unknown)):
            if count:
                self._events.labels(outcome).inc(count)

    def swapped(self, *, failed: bool) -> None:
        """Count an attempt to serve a newer version or catalogue."""
        self._swaps.labels("failed" if failed else "taken").inc()

    def serving(self, version: str, index_recall: float) -> None:
        """Say what is served from now on."""
        if self._version:
            self._model.labels(self._version).set(0)
        self._version, self._since = version, self._clock()
        self._model.labels(version).set(1)
        self._recall.set(index_recall)

    def look(self, store_queue: int) -> None:
        """Bring up to date what changes without a call; once a second is enough."""
        self._calls.set(self._in_progress)
        self._age.set(self._clock() - self._since)
        self._queue.set(store_queue)


@contextmanager
def metrics_of_this_process(registry: CollectorRegistry, host: str, port: int) -> Iterator[str]:
    """Offer one process's numbers on a port, 0 for a free one, and give their URL.

    Raises `EndpointError` where the port is taken.
    """
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise EndpointError(
            f"metrics cannot listen on {host}:{port} ({error.strerror}); give another --metrics-port"
        ) from error
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _WorkersNumbers(Collector):
    """A collector over the files of all workers, which they make, fill and remove at any moment."""

    def __init__(self, folder: str) -> None:
        self._collector = multiprocess.MultiProcessCollector(None, path=folder)  # type: ignore[no-untyped-call]

    def collect(self) -> list[Metric]:
        """Read all files; where one is half made or just gone, read all again after a moment."""
        for pause in (0.02, 0.1, 0.5):
            try:
                return list(self._collector.collect())  # type: ignore[no-untyped-call]
            except (OSError, ValueError, struct.error):
                time.sleep(pause)
        return list(self._collector.collect())  # type: ignore[no-untyped-call]


class SharedMetrics:
    """The numbers of all workers, added up by their parent."""

    def __init__(self, folder: Path) -> None:
        """Read what workers write to `folder`."""
        self.registry = CollectorRegistry()
        self._folder = str(folder)
        self.registry.register(_WorkersNumbers(self._folder))
        self._restarts = Counter(
            "fedrank_worker_restarts", "Workers that ended and were started again.", registry=self.registry
        )

    def worker_ended(self, pid: int) -> None:
        """Forget what a worker was in the middle of; what it has counted stays."""
        multiprocess.mark_process_dead(pid, path=self._folder)  # type: ignore[no-untyped-call]
        self._restarts.inc()


@contextmanager
def metrics_of_workers(host: str, port: int) -> Iterator[tuple[SharedMetrics, dict[str, str], str]]:
    """Offer the sum of several workers' numbers; gives what counts, the environment for workers, and the URL."""
    with tempfile.TemporaryDirectory(prefix="fedrank-metrics-") as folder:
        shared = SharedMetrics(Path(folder))
        with metrics_of_this_process(shared.registry, host, port) as url:
            yield shared, {FOLDER_VARIABLE: folder}, url
