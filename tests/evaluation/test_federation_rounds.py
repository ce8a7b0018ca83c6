"""The figures of a federation's rounds: read from logs, and counted on the wire."""

from __future__ import annotations

import socket
import threading

import pytest

from evaluation.bench.federation_relay import Wire, relay
from evaluation.bench.federation_rounds import Measured, release_times, small_shop
from evaluation.bench.federation_world import compute_seconds

LOG = """
2026-11-22 13:49:59,379 INFO fedrank.coordination: round 1 of 6 done: counts
2026-11-22 13:50:00,000 INFO fedrank.coordination.fleet: merchant (unknown) is turned away: round 2 of 6 done
2026-11-22 13:50:18,879 INFO fedrank.coordination: round 2 of 6 done: gram
"""
NODE = "2026-11-22 13:50:08,205 INFO fedrank.node: train.gram of spring/4cf6/2-gram answered in {} s"


def test_a_round_lasts_from_one_release_to_the_next() -> None:
    """Other lines of the log do not count."""
    first, second = release_times(LOG)
    assert second - first == pytest.approx(19.5)


def test_the_slowest_node_trains_for_as_long_as_a_round_trains() -> None:
    """Questions without training do not count."""
    logs = [
        NODE.format("0.37"),
        NODE.format("1.25") + "\n" + NODE.replace("train.gram", "query.share").format("9.0"),
    ]
    assert compute_seconds(logs) == {2: 1.25}


def test_the_overhead_is_what_a_round_takes_beyond_its_training() -> None:
    """The median over rounds."""
    found = Measured(
        start_seconds=1.0,
        run_seconds=9.0,
        cpu_seconds=4.0,
        rounds=(3.0, 4.0, 9.0),
        training=(1.0, 1.0, 1.0),
        wire=Wire(),
        releases=4,
    )
    assert found.overhead == 3.0


def test_a_relay_counts_what_it_passes_on() -> None:
    """Both ways, to the byte."""
    with socket.create_server(("127.0.0.1", 0)) as far:
        port = far.getsockname()[1]
        threading.Thread(target=_echo_twice, args=(far,), daemon=True).start()
        with (
            relay(("127.0.0.2", port), ("127.0.0.1", port)) as wire,
            socket.create_connection(("127.0.0.2", port)) as near,
        ):
            near.sendall(b"12345")
            near.shutdown(socket.SHUT_WR)
            got = b"".join(iter(lambda: near.recv(100), b""))
    assert got == b"1234512345"
    assert (wire.up, wire.down) == (5, 10)


def _echo_twice(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.sendall(b"".join(iter(lambda: connection.recv(100), b"")) * 2)


def test_shops_of_the_bench_have_items_of_their_own() -> None:
    """A federation takes no item of two merchants."""
    one, other = small_shop("shop00"), small_shop("shop01")
    assert not set(one.items["item_id"]) & set(other.items["item_id"])
    assert set(one.events["item_id"]) <= set(one.items["item_id"])
    assert one.shoppers == 50
