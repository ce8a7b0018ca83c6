"""Children are kept alive, end with their supervisor however it dies, and are ended in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

DEADLINE = 60.0

CHILD = """
import os, signal, sys, time
from pathlib import Path

def end(_sign, _frame):
    with open(sys.argv[2], "a") as log:
        log.write(sys.argv[1] + " ended\\n")
    raise SystemExit

def tell():
    beside = Path(sys.argv[3], sys.argv[1] + ".new")
    beside.write_text(str(os.getpid()))
    beside.replace(Path(sys.argv[3], sys.argv[1]))

def work():
    signal.signal(signal.SIGTERM, end)
    tell()
    if not Path(sys.argv[3], "slow").exists():
        Path(os.environ["FEDRANK_READY"]).touch()
    while True:
        time.sleep(0.05)

def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tell()
    while True:
        time.sleep(0.05)
"""

DRIVER = """
import sys
from pathlib import Path
from fedrank.federation import supervisor

supervisor.GRACE_SECONDS = 0.5
folder, path, targets = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
services = [
    supervisor.Service(
        name=f"child{number}",
        target=f"childwork:{target}",
        arguments=(f"child{number}", str(folder / "log"), str(folder)),
        ready=(folder / f"child{number}").is_file,
        environment={"PYTHONPATH": path, "FEDRANK_READY": str(folder / f"child{number}.ready")},
    )
    for number, target in enumerate(targets)
]
supervisor.Supervisor(services, lambda: print("ready", flush=True)).run()
"""


@dataclass
class Supervised:
    """A supervisor that runs, and its children."""

    process: subprocess.Popen[str]
    folder: Path

    def pid(self, child: str) -> int:
        """The process id that a child has told last."""
        return int((self.folder / child).read_text())

    def log(self) -> list[str]:
        """What the children have told of their end."""
        return (self.folder / "log").read_text().splitlines()


@contextmanager
def supervising(folder: Path, *targets: str) -> Iterator[Supervised]:
    """Run a supervisor until the block ends; nothing of it is left then."""
    (folder / "childwork.py").write_text(CHILD)
    path = os.pathsep.join([str(folder), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(folder), path, *targets],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        text=True,
    )
    found = Supervised(process, folder)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield found
    finally:
        process.kill()
        process.wait()
        for number in range(len(targets)):
            with suppress(ProcessLookupError, FileNotFoundError, ValueError):
                os.kill(found.pid(f"child{number}"), signal.SIGKILL)


def alive(pid: int) -> bool:
    """Whether a process works: a dead one whose parent has not looked yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(what: Callable[[], bool]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + DEADLINE
    while not what():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.02)


def test_a_child_that_is_killed_comes_back_and_the_others_stay(tmp_path: Path) -> None:
    """One child's end is nobody else's."""
    with supervising(tmp_path, "work", "work") as found:
        first, second = found.pid("child0"), found.pid("child1")
        os.kill(first, signal.SIGKILL)
        until(lambda: found.pid("child0") != first and alive(found.pid("child0")))
        assert found.pid("child1") == second


def test_a_child_that_comes_back_is_not_taken_for_ready_before_it_says_so(tmp_path: Path) -> None:
    """Health checks of kits look at that file: a node that is turned away again and again is not healthy."""
    with supervising(tmp_path, "work") as found:
        ready = tmp_path / "child0.ready"
        until(ready.is_file)
        (tmp_path / "slow").touch()
        first = found.pid("child0")
        os.kill(first, signal.SIGKILL)
        until(lambda: found.pid("child0") != first)
        assert not ready.exists()


def test_a_supervisor_that_is_told_to_stop_ends_its_children_the_last_first(tmp_path: Path) -> None:
    """Each child can finish its work; then nothing is left."""
    with supervising(tmp_path, "work", "work") as found:
        children = [found.pid("child0"), found.pid("child1")]
        found.process.terminate()
        assert found.process.wait(DEADLINE) == 0
        assert not any(map(alive, children))
        assert found.log() == ["child1 ended", "child0 ended"]


def test_a_child_that_does_not_end_is_killed(tmp_path: Path) -> None:
    """Stopping takes no longer than the grace."""
    with supervising(tmp_path, "stubborn") as found:
        child = found.pid("child0")
        found.process.terminate()
        found.process.wait(DEADLINE)
        assert not alive(child)


@pytest.mark.parametrize("target", ["work", "stubborn"])
def test_no_child_outlives_a_supervisor_that_is_killed(tmp_path: Path, target: str) -> None:
    """Even SIGKILL of the parent leaves no orphan."""
    with supervising(tmp_path, target, target) as found:
        children = [found.pid("child0"), found.pid("child1")]
        found.process.kill()
        until(lambda: not any(map(alive, children)))
