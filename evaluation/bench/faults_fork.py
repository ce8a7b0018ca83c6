"""Work in forked children, and the end of one by kill -9 at a named point.

Only a process without threads and without open databases may fork: `python -m evaluation.bench.faults_kills` is one.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from privacy.failpoints import Failpoint

Tell = Callable[[str], None]
"""Tells the parent one line; what was told before a kill arrives."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a child ended, and what it had told.

    Attributes:
        killed: whether kill -9 ended it.
        failed: whether an exception did; it stands on standard error.
    """

    killed: bool
    failed: bool
    told: tuple[str, ...]


def in_child(work: Callable[[Tell], None]) -> Ended:
    """Do `work` in a forked child and wait for its end."""
    gc.freeze()  # else the first collection in a child would copy all that its parent has loaded
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(source)
        os._exit(_exit_code(work, sink))
    os.close(sink)
    with os.fdopen(source) as lines:
        told = tuple(lines.read().splitlines())
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return Ended(killed=status == -signal.SIGKILL, failed=status not in (0, -signal.SIGKILL), told=told)


def killer_at(name: str, passes: int = 1) -> Failpoint:
    """Return what ends this process by kill -9 when it passes the point `name` for the so-manieth time."""
    left = passes

    def at(passed: str) -> None:
        nonlocal left
        left -= passed == name
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


def _exit_code(work: Callable[[Tell], None], sink: int) -> int:
    """Do the work of a child; return 0, or 1 after an exception, which is written to standard error."""

    def tell(line: str) -> None:
        os.write(sink, line.encode() + b"\n")

    try:
        work(tell)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        return 1
    return 0
