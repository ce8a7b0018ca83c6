"""What a process and its children have used of the machine, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from evaluation.errors import LoadError

PROC = Path("/proc")


def cpu_seconds(processes: Iterable[int]) -> float:
    """Return what processor seconds these processes have used, ended threads included; one that has ended: 0."""
    return sum(_ticks(process) for process in processes) / os.sysconf("SC_CLK_TCK")


def family(process: int) -> tuple[int, ...]:
    """Return a process and all its descendants."""
    found, at = [process], 0
    while at < len(found):
        found += _children(found[at])
        at += 1
    return tuple(found)


def _children(process: int) -> list[int]:
    try:
        tasks = list((PROC / str(process) / "task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


def _ticks(process: int) -> int:
    """User and system time; the fields after the name, which may hold anything, brackets included."""
    try:
        fields = (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def shared_bytes(process: int) -> int:
    """Return what a process holds in memory, each page divided by the number of processes that share it.

    Raises:
        LoadError: the process is gone, or this system does not tell.
    """
    try:
        lines = (PROC / str(process) / "smaps_rollup").read_text().splitlines()
    except OSError as error:
        raise LoadError(f"the memory of a server's process cannot be read: {error.strerror}") from error
    found = [line.split()[1] for line in lines if line.startswith("Pss:")]
    return 1024 * int(found[0])
