"""`fedrank serve` as a process of its own, for tests of what only a process does."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

FEDRANK = Path(sys.executable).with_name("fedrank")


@contextmanager
def serving(run: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`fedrank serve`, on a free port: its process and address; killed at the end unless it ended before."""
    command: list[str | Path] = [FEDRANK, "serve", "--run", run, "--port", "0", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        ready = process.stdout.readline().split()
        assert ready[:1] == ["ready"], process.stderr and process.stderr.read()
        yield process, ready[1]
    finally:
        process.kill()
        process.communicate()


def children(process: subprocess.Popen[str]) -> list[int]:
    """The process ids of the workers."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(word) for word in found.split()]


def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until a condition holds; a generous bound, not a timing claim."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never held"
        time.sleep(0.02)
