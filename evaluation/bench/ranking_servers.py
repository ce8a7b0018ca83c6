"""The processes that the ranking bench measures: `fedrank serve`, the echo server beside it, and the load on both."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile

from evaluation.errors import LoadError
from evaluation.load.generator import write_bodies
from evaluation.load.plan import Outcome, Plan
from evaluation.load.processes import family

_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
"""One thread, and modules that are compiled once, as those of an installed package are."""
_COMMAND_LINE = "from fedrank.cli import main; main()"
_STOP_SECONDS = 20
_LAST_WORDS = 400


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that answers on the loopback interface; `start_seconds` from its start until it said so."""

    process: int
    port: int
    start_seconds: float

    def processes(self) -> tuple[int, ...]:
        """The server's process and its workers."""
        return family(self.process)


@contextmanager
def serving(run: Path, *words: str) -> Iterator[Server]:
    """`fedrank serve` over a run folder, as anybody starts it."""
    command = ["-c", _COMMAND_LINE, "serve", "--run", str(run), "--port", "0", *words]
    with _started(command) as server:
        yield server


@contextmanager
def echoing(answers: Sequence[bytes], folder: Path) -> Iterator[Server]:
    """The bare echo server with these answers."""
    file = folder / "echo-answers"
    write_bodies(file, answers)
    with _started(["-m", "evaluation.load.echo", str(file)]) as server:
        yield server


@contextmanager
def _started(words: Sequence[str]) -> Iterator[Server]:
    began = time.perf_counter()
    environment = {**os.environ, **_ENVIRONMENT}
    with TemporaryFile("w+") as told:
        process = subprocess.Popen(
            [sys.executable, *words], stdout=subprocess.PIPE, stderr=told, text=True, env=environment
        )
        try:
            assert process.stdout is not None  # it was asked for as a pipe
            line = process.stdout.readline().split()
            if line[:1] != ["ready"]:
                told.seek(0)
                raise LoadError(f"a server did not get ready: {told.read().strip()[-_LAST_WORDS:]}")
            port = int(line[1].rpartition(":")[2])
            yield Server(process=process.pid, port=port, start_seconds=time.perf_counter() - began)
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def load(plan: Plan, bodies: Sequence[bytes], folder: Path, server: Server) -> Outcome:
    """Carry a plan out against a server, from a process of its own."""
    files = [folder / name for name in ("load-plan.json", "load-bodies", "load-outcome.npz")]
    replace(plan, port=server.port, watched=server.processes()).write(files[0])
    write_bodies(files[1], bodies)
    command = [sys.executable, "-m", "evaluation.load.generator", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise LoadError(f"the load generator failed: {done.stderr.strip().splitlines()[-1:]}")
    return Outcome.read(files[2])
