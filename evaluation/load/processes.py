"""What a process and its children have used of the machine, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

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
