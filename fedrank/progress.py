"""Progress of a long command on standard error, so that standard output stays clean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evaluation.settings import Watch


@contextmanager
def progress() -> Iterator[Watch]:
    """Show one bar per stage."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    from evaluation.settings import Watch

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        current: list[TaskID] = []

        def finish() -> None:
            if current:
                bars.update(current[-1], completed=bars.tasks[-1].total)
                bars.stop_task(current[-1])

        def begin(stage: str, steps: int) -> None:
            finish()
            current.append(bars.add_task(stage, total=steps))

        yield Watch(begin=begin, step=lambda: bars.advance(current[-1]))
        finish()
