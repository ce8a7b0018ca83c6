"""Several processes on one port: all answer, the dead are replaced, and nobody outlives the parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from endpoint_process import FEDRANK, children, eventually, serving

from client.ranking import EndpointUnreachable, RankingClient, Retries
from client.ranking_words import Interaction, Question, Surface
from fedrank.endpoint_options import EndpointOptions
from server.errors import EndpointError
from server.serving.workers import WorkerPlan, reserved_port

HOME = Question(surface=Surface.HOME)


def running(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def answers(address: str) -> bool:
    """Whether a fresh connection gets a ranking at its first attempt."""
    with RankingClient(address, timeout=10, retries=Retries(attempts=1)) as client:
        try:
            return len(client.rank(HOME).items) == 10
        except EndpointUnreachable:
            return False


def test_two_workers_share_a_port_and_a_killed_one_is_replaced(stocked: Path) -> None:
    """Both are processes of their own; a client that reconnects sees no failure; SIGTERM ends all of them cleanly."""
    with serving(stocked, "--workers", "2") as (process, address):
        first = children(process)
        assert len(first) == 2
        with RankingClient(address, timeout=30, retries=Retries(attempts=50)) as client:
            assert len(client.rank(HOME).items) == 10
            os.kill(first[0], signal.SIGKILL)
            assert len(client.rank(HOME).items) == 10
        eventually(lambda: len(children(process)) == 2 and first[0] not in children(process))
        eventually(lambda: all(answers(address) for _ in range(8)))
        last = children(process)
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=30)
        assert (process.returncode, out) == (0, "")
        assert "a worker ended and is started again worker=" in errors
        assert "code=-9" in errors
        assert not any(running(pid) for pid in last)


def test_events_that_reach_both_workers_are_stored_once(stocked: Path) -> None:
    """Callers that tell the same events at the same time, on connections of their own, count them together once."""
    told = [
        Interaction(event_id=f"e{number}", shopper="anna", item_id="item-01", timestamp=1, kind="view")
        for number in range(40)
    ]

    def tell(number: int) -> int:
        with RankingClient(address, timeout=30, retries=Retries(attempts=20)) as client:
            answer = client.record(told)
            assert answer.acknowledged == len(told)
            return answer.acknowledged - answer.duplicates

    with (
        serving(stocked, "--workers", "2", "--stored-profiles") as (_, address),
        ThreadPoolExecutor(6) as threads,
    ):
        assert sum(threads.map(tell, range(12))) == len(told)


def test_workers_do_not_outlive_a_killed_parent(stocked: Path) -> None:
    """The end of the pipe to the parent stops them, and the port is free again."""
    with serving(stocked, "--workers", "2") as (process, address):
        workers = children(process)
        process.kill()
        eventually(lambda: not any(running(pid) for pid in workers))
        assert not answers(address)


def test_one_worker_is_the_process_itself(stocked: Path) -> None:
    """The default costs no second process."""
    with serving(stocked) as (process, address):
        assert children(process) == []
        assert answers(address)


def test_a_worker_that_cannot_start_ends_the_endpoint_with_its_reason_and_status(stocked: Path) -> None:
    """The message is told once, and `ready` is never said."""
    words: list[str | Path] = [
        FEDRANK,
        "serve",
        "--run",
        stocked,
        "--port",
        "0",
        "--workers",
        "3",
        "--version",
        "0" * 16,
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("no model version '0000000000000000'") == 1


def test_a_port_is_reserved_once_even_from_others_that_would_share_it() -> None:
    """Workers of one parent share it; a second endpoint is told the next step."""
    with reserved_port("127.0.0.1", 0) as port:
        with pytest.raises(EndpointError, match="use --port 0"), reserved_port("127.0.0.1", port):
            pass
        with socket.socket() as worker:
            worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            worker.bind(("127.0.0.1", port))
            worker.listen()
            with pytest.raises(EndpointError), reserved_port("127.0.0.1", port):
                pass


def test_pauses_before_restarts_grow_to_a_bound_and_start_anew_after_a_calm_life() -> None:
    """A worker that dies at once does not use up the machine."""
    plan = WorkerPlan(command=("x",), options="{}", count=2)
    pauses = [plan.pause(0.0, 0.0)]
    while len(pauses) < 10:
        pauses.append(plan.pause(pauses[-1], 1.0))
    assert pauses[:3] == [0.1, 0.2, 0.4]
    assert max(pauses) == 10.0
    assert plan.pause(10.0, 61.0) == 0.1


def test_options_reach_a_worker_unchanged() -> None:
    """Also a database URL with what JSON has to escape."""
    options = EndpointOptions(run="r", store='postgresql://u:"p\\w"@h/d', keys="k", port=0, workers=2)
    assert EndpointOptions.from_json(options.to_json()) == options
