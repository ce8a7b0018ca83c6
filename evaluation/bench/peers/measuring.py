"""What a simulator used: CPU time and memory of this process and of everything that it has started."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.bench.peers.work import Sums

Cohort = NDArray[np.int64]
Step = Callable[[Cohort], Sums]

CPU_FIELDS = slice(11, 15)
"""utime, stime and those of ended children, counted from the field after the command's name (proc(5))."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one simulator took.

    Attributes:
        cpu_seconds: of each measured cohort, the warming one left out.
        peak_gib: sum of the largest resident sizes of all its processes.
        sums: clipped sum of the first cohort, by parameter.
    """

    cpu_seconds: tuple[float, ...]
    peak_gib: float
    sums: Sums


def measured(step: Step, cohorts: Sequence[Cohort]) -> Measured:
    """Run a simulator on each cohort; the first one warms it up and gives the sums."""
    sums, seconds = step(cohorts[0]), []
    for cohort in cohorts[1:]:
        before = cpu_seconds()
        step(cohort)
        seconds.append(cpu_seconds() - before)
    return Measured(cpu_seconds=tuple(seconds), peak_gib=peak_gib(), sums=sums)


def most(cohorts: Sequence[Cohort]) -> int:
    """Return how many of the first shoppers the cohorts are drawn from."""
    return max(int(cohort.max()) for cohort in cohorts) + 1


def cpu_seconds() -> float:
    """Return the CPU time so far of this process, and of all below it."""
    ended = os.times()
    own = time.process_time() + ended.children_user + ended.children_system
    return own + sum(_cpu_seconds_of(pid) for pid in _descendants(os.getpid()))


def peak_gib() -> float:
    """Return the sum of the largest resident sizes of this process and all below it."""
    return sum(_peak_kib(pid) for pid in [os.getpid(), *_descendants(os.getpid())]) / 2**20


def _cpu_seconds_of(pid: int) -> float:
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return sum(map(int, fields[CPU_FIELDS])) / os.sysconf("SC_CLK_TCK")


def _peak_kib(pid: int) -> int:
    lines = [line for line in _read(pid, "status").splitlines() if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) if lines else 0


def _descendants(pid: int) -> list[int]:
    """Return the process ids of all children, their children and so on."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        for child in _read(pid, f"task/{thread.name}/children").split():
            found += [int(child), *_descendants(int(child))]
    return found


def _read(pid: int, name: str) -> str:
    """Return a file of a process; nothing where the process has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8")
    except OSError:
        return ""
