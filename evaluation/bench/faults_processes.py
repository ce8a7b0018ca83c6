"""kill -9 of the real processes of a federation while a round is asked: SuperLink, door, executor, a merchant's node.

Everything runs as its operator and merchants start it, over Flower's SuperLink. A kill costs half a minute and more,
so these are few; kills at every named point are `faults_federation`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from evaluation.bench.faults_federation import RESUMES, PointKills, judged
from evaluation.bench.faults_federation_check import look
from evaluation.bench.faults_federation_world import MERCHANTS, Place, make
from evaluation.bench.federation_world import (
    FEDRANK,
    LOOPBACK,
    Processes,
    environment,
    free_port,
    processes,
    start,
)
from evaluation.errors import LoadError
from evaluation.load.processes import family
from server.coordination.status import RunStatus, State

PROCESSES: Final = {
    "SuperLink process": ("coordinator", "superlink_process"),
    "fleet door process": ("coordinator", "fleet_process"),
    "executor process": ("coordinator", "coordination.executor"),
    "node process": (MERCHANTS[0], "client.node"),
}
"""Who is killed: the command whose child it is, and what its command line has."""
ROUNDS: Final = 5
"""Of a run: in each of them in turn."""
DEADLINE: Final = 60.0
"""Seconds that contributions are awaited: on a busy machine a quarter of 15 was too short for a phase."""
PATIENCE: Final = 900.0
_LOOK_SECONDS: Final = 0.02


def moments(times: int) -> list[tuple[str, int]]:
    """Return every process so often, each time with the round in which it is killed."""
    return [(victim, 1 + number % ROUNDS) for number in range(times) for victim in PROCESSES]


def kill_processes(chosen: Sequence[tuple[str, int]]) -> Iterator[PointKills]:
    """Kill each of the chosen processes in its round; yield what came of each kill."""
    for victim, number in chosen:
        with tempfile.TemporaryDirectory(prefix="fedrank-processes-") as folder:
            place = Place(root=Path(folder) / "place")
            make(place.root, coordinator=f"{LOOPBACK}:{free_port()}", deadline=DEADLINE)
            with processes(place.root / "logs") as started:
                start(started, place.kits, MERCHANTS)
                killed = _killed_and_resumed(place, started, victim, number)
            yield judged(victim, f"round {number} is asked", killed, look(place))


def _killed_and_resumed(place: Place, started: Processes, victim: str, number: int) -> bool:
    """Kill a process in the middle of a run, and run on until there is a version, or nothing goes any more."""
    run = _begun(place)
    killed = _asked(place, run, number) and _kill(started, victim)
    for _ in range(RESUMES):
        if run.wait(PATIENCE) == 0:
            break
        run = _begun(place)
    run.wait(PATIENCE)
    return killed


def _begun(place: Place) -> subprocess.Popen[bytes]:
    with (place.root / "logs" / "run").open("ab") as log:
        words = [*FEDRANK, "federation", "run", str(place.kits.coordinator)]
        return subprocess.Popen(words, stdout=log, stderr=log, env=environment())


def _asked(place: Place, run: subprocess.Popen[bytes], number: int) -> bool:
    """Wait until a round is asked; False where the run ended before."""
    folder = place.coordinator.data / "journal"
    while run.poll() is None:
        status = RunStatus.read(folder)
        if status is not None and status.state is State.ASKING and status.round >= number:
            return True
        time.sleep(_LOOK_SECONDS)
    return False


def _kill(started: Processes, victim: str) -> bool:
    """End one process by kill -9; raises `LoadError` where it is not there."""
    command, words = PROCESSES[victim]
    for process in family(started.running[command].process.pid)[1:]:
        if words.encode() in Path(f"/proc/{process}/cmdline").read_bytes():
            os.kill(process, signal.SIGKILL)
            return True
    raise LoadError(f"there is no {victim} to kill")
