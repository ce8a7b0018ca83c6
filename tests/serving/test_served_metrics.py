"""What the metrics count, that several workers are added up, and that no label can hold a shopper or an item."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from endpoint_process import FEDRANK, children, eventually, serving
from prometheus_client import generate_latest

from client.ranking import RankingClient, RequestRefused, Retries
from client.ranking_words import HistoryEvent, Interaction, Question, Surface
from server.errors import EndpointError
from server.serving.metrics import Metrics, SharedMetrics, metrics_of_this_process
from server.serving.observation import Observation

HOME = Question(surface=Surface.HOME)
CANARY = "canary-4711"
LABELS = {"method", "surface", "status", "reason", "outcome", "version", "le"}


@pytest.fixture
def port() -> int:
    """A port that is free now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def told(port: int) -> dict[str, float]:
    """Every sample offered on a port: name with labels -> value."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    samples = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


def values(metrics: Metrics) -> dict[str, float]:
    """Every sample of one process."""
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
    }


def test_calls_are_counted_by_method_surface_and_status(address: str, metrics: Metrics) -> None:
    """A good call, a refused one and events; the refusal by its kind, never by its words."""
    history = [HistoryEvent(item_id="item-03", kind="view"), HistoryEvent(item_id=CANARY, kind="view")]
    done = Interaction(event_id=CANARY, shopper=CANARY, item_id="item-01", timestamp=1, kind="view")
    with RankingClient(address) as client:
        client.rank(Question(surface=Surface.CART, history=history, query=CANARY))
        client.rank(HOME)
        with pytest.raises(RequestRefused):
            client.rank(Question(surface=Surface.HOME, k=900))
        client.record([done])
        client.record([done])
    found = values(metrics)
    assert found["fedrank_requests_total[('method', 'Rank'), ('status', 'OK'), ('surface', 'cart')]"] == 1
    refused = "[('method', 'Rank'), ('status', 'INVALID_ARGUMENT'), ('surface', 'none')]"
    assert found[f"fedrank_requests_total{refused}"] == 1
    assert found["fedrank_refused_total[('reason', 'InvalidRequest')]"] == 1
    assert found["fedrank_rank_seconds_count[('surface', 'cart')]"] == 1
    assert found["fedrank_cold_starts_total[('surface', 'home')]"] == 1
    assert found["fedrank_batch_size_sum[]"] == 2
    assert found["fedrank_candidates_total[]"] >= 20
    assert found["fedrank_events_total[('outcome', 'stored')]"] == 1
    assert found["fedrank_events_total[('outcome', 'duplicate')]"] == 1
    assert found["fedrank_index_recall[]"] == 1
    assert not any(CANARY in name for name in found)


def test_no_metric_has_a_label_that_could_name_anybody(metrics: Metrics) -> None:
    """The labels are a fixed list, all of them words of this endpoint; and each metric says what it is."""
    call = Observation(
        method="Rank", began=0, surface="home", merchant="shop-1", role="storefront", cold_start=True
    )
    metrics.began(call)
    metrics.ended(call, "OK", 0.01)
    metrics.serving("8a1fbb0c6e1c2f7d", 0.99)
    metrics.swapped(failed=True)
    families = list(metrics.registry.collect())
    assert {label for family in families for sample in family.samples for label in sample.labels} <= LABELS
    assert all(
        family.documentation.endswith(".") and family.name.startswith("fedrank_") for family in families
    )


def test_the_version_that_is_served_is_the_only_one_marked(metrics: Metrics) -> None:
    """And the age begins anew with it."""
    moments: Iterator[float] = iter([100.0, 110.0, 150.0, 155.0])
    metrics = Metrics(clock=lambda: next(moments))
    for version in ("a", "b"):
        metrics.serving(version, 1.0)
    metrics.look(store_queue=3)
    found = values(metrics)
    assert found["fedrank_model_info[('version', 'a')]"] == 0
    assert found["fedrank_model_info[('version', 'b')]"] == 1
    assert found["fedrank_snapshot_age_seconds[]"] == 5
    assert found["fedrank_store_queue[]"] == 3


def test_metrics_are_offered_on_their_own_port_and_a_taken_one_is_an_error(
    metrics: Metrics, port: int
) -> None:
    """The port is free again afterwards."""
    with metrics_of_this_process(metrics.registry, "127.0.0.1", port):
        assert "fedrank_batch_size_count" in told(port)
        with (
            pytest.raises(EndpointError, match="give another --metrics-port"),
            metrics_of_this_process(metrics.registry, "127.0.0.1", port),
        ):
            pass
    with metrics_of_this_process(metrics.registry, "127.0.0.1", port):
        pass


def test_two_workers_are_added_up_and_a_killed_one_leaves_its_counts(stocked: Path, port: int) -> None:
    """The parent offers the sum, with the restart; what a dead worker was in the middle of is not kept."""
    with serving(stocked, "--workers", "2", "--metrics-port", str(port)) as (process, address):
        for _ in range(12):
            with RankingClient(address, timeout=20, retries=Retries(attempts=9)) as client:
                client.rank(HOME)
        counted = 'fedrank_requests_total{method="Rank",status="OK",surface="home"}'
        assert told(port)[counted] == 12
        eventually(lambda: sum_of("fedrank_model_info", told(port)) == 2)
        first, _ = children(process)
        os.kill(first, signal.SIGKILL)
        eventually(lambda: told(port)["fedrank_worker_restarts_total"] == 1)
        assert told(port)[counted] == 12
        eventually(lambda: sum_of("fedrank_model_info", told(port)) == 2)


def test_a_file_that_a_worker_is_making_only_delays_the_page(tmp_path: Path) -> None:
    """An empty file is one whose first bytes are still to come: the page waits and reads again."""
    making = tmp_path / "counter_1.db"
    making.touch()
    numbers = SharedMetrics(tmp_path)
    threading.Timer(0.05, making.unlink).start()
    assert b"fedrank_worker_restarts_total 0.0" in generate_latest(numbers.registry)


def sum_of(name: str, found: dict[str, float]) -> float:
    """The sum of a metric over its labels."""
    return sum(value for sample, value in found.items() if sample.startswith(name))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_ready_line_names_the_port_that_metrics_took(stocked: Path, workers: str) -> None:
    """With `--metrics-port 0` nobody could find it otherwise."""
    command: list[str | Path] = [
        FEDRANK,
        "serve",
        "--run",
        stocked,
        "--port",
        "0",
        "--metrics-port",
        "0",
        "--workers",
        workers,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        words = process.stdout.readline().split()
        assert (words[0], words[2], words[4]) == ("ready", "model", "metrics")
        with urllib.request.urlopen(words[5], timeout=20) as answer:
            assert b"fedrank_" in answer.read()
    finally:
        process.terminate()
        process.communicate(timeout=60)
