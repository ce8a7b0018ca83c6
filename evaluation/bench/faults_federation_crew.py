"""The processes of one small federation: forked, watched, started again when they die."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

from client.app import app as participant
from evaluation.bench.faults_federation_check import TIMES
from evaluation.bench.faults_federation_world import MERCHANTS, Place
from privacy.failpoints import Failpoint, listen
from server.coordination.app import app as coordination
from simulation.grid import run_in_process
from simulation.mailbox import MailboxGrid, answer_letters

COORDINATOR: Final = "coordinator"
LOGS: Final = "logs"
_LOOK_SECONDS: Final = 0.01


class Crew:
    """Children of this process, which has no threads and no open databases."""

    def __init__(self, place: Place) -> None:
        """Have no children yet."""
        self._place, self._names = place, dict[int, str]()
        (place.root / LOGS).mkdir(exist_ok=True)

    def start(self, name: str, failpoint: Failpoint) -> None:
        """Start the coordinator's run or a merchant's node, which calls `failpoint` at every point."""
        work = _coordinate if name == COORDINATOR else _answer
        child = os.fork()
        if child == 0:
            _be(self._place.root / LOGS / name, lambda: work(self._place, name, failpoint))
        self._names[child] = name

    def ended(self, seconds: float) -> tuple[str, int] | None:
        """Wait for the next end of a child; its name and how it ended, or None when the time is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child in self._names:
                return self._names.pop(child), os.waitstatus_to_exitcode(status)
            time.sleep(_LOOK_SECONDS)
        return None

    def end(self) -> None:
        """End everybody who is left."""
        for child in self._names:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        self._names.clear()


def _be(log: Path, work: Callable[[], None]) -> None:
    """Do a child's work and leave; what it says goes to a file."""
    with log.open("ab") as out:
        for stream in (1, 2):
            os.dup2(out.fileno(), stream)
    try:
        work()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def _coordinate(place: Place, _name: str, failpoint: Failpoint) -> None:
    """Do a run, or what is left of one, and write down when which point was passed."""
    times = os.open(place.root / TIMES, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def at(point: str) -> None:
        os.write(times, f"{os.getpid()} {time.monotonic()} {point}\n".encode())
        failpoint(point)

    listen(at)
    run_in_process(coordination, MailboxGrid(place.mail, MERCHANTS), dict(place.words()))


def _answer(place: Place, name: str, failpoint: Failpoint) -> None:
    """Be a merchant's node."""
    listen(failpoint)
    kit = place.merchant(name)
    settings = {"kit": str(kit.folder), "data": str(kit.data), "merchant-id": name}
    answer_letters(place.mail, name, participant, settings)
