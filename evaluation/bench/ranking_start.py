"""How soon a started endpoint gives its first answer, and what a worker process keeps in memory."""

from __future__ import annotations

import select
import statistics
import time
from pathlib import Path

from evaluation.bench.ranking_servers import Server, serving
from evaluation.bench.ranking_world import DIM, World
from evaluation.bench.rows import Row
from evaluation.errors import LoadError
from evaluation.load.generator import Line
from evaluation.load.http2 import framed
from evaluation.load.plan import OK, RANK_PATH
from evaluation.load.processes import shared_bytes

START_TARGET_S = 2.0
_PATIENCE_S = 20.0


def first_answer(port: int, body: bytes) -> bytes:
    """Ask once over a fresh connection; raises `LoadError` where the answer is a refusal or does not come."""
    line = Line(port, RANK_PATH)
    line.connection.begin(0, framed(body), _PATIENCE_S)
    end = time.perf_counter() + _PATIENCE_S
    while time.perf_counter() < end:
        line.write()
        select.select([line.socket], [], [], 0.05)
        for answer in line.read():
            line.socket.close()
            if answer.status != OK:
                raise LoadError(f"the first call ended with status {answer.status}; it must be answered")
            return answer.body
    raise LoadError(f"the first call was not answered within {_PATIENCE_S:g} s")


def start_seconds(run: Path, body: bytes) -> float:
    """Seconds from the start of `fedrank serve` to its first answer."""
    began = time.perf_counter()
    with serving(run) as server:
        first_answer(server.port, body)
        return time.perf_counter() - began


def start_rows(world: World, *, starts: int) -> list[Row]:
    """The first start of all, which prepares the folder that workers share, and the ones after it."""
    items, body = len(world.groups), world.question(0)
    words = f"start to first answer, {items:,} items"
    first = start_seconds(world.folder, body)
    later = statistics.median(start_seconds(world.folder, body) for _ in range(starts))
    return [
        Row(measure=words, value=later, unit="s", target=START_TARGET_S, at_least=False),
        Row(measure=f"{words}, the first time", value=first, unit="s"),
    ]


def memory_rows(world: World, server: Server) -> list[Row]:
    """What a whole worker process of several holds, its libraries included, each shared page divided among them."""
    workers = [process for process in server.processes() if process != server.process]
    held = statistics.mean(shared_bytes(process) for process in workers)
    words = f"memory of a worker process, one of {len(workers)}, {len(world.groups):,} items x {DIM}"
    return [Row(measure=words, value=held / 2**20, unit="MiB")]
