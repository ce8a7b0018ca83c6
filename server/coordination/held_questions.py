"""How many questions for messages a member may have waiting at the coordinator's door."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Coroutine
from typing import Any, Final

HELD_AT_ONCE: Final = 4
"""A node has one; one that has just come back may still have those of its former connections."""


class HeldQuestions:
    """The questions that wait, oldest first, by member: one too many, and the oldest waits no longer."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._waiting: defaultdict[str, deque[asyncio.Task[bool]]] = defaultdict(deque)
        self._over = False

    async def hold(self, merchant: str, arriving: Coroutine[Any, Any, bool]) -> bool:
        """Wait for `arriving` and return what it does; False at once where newer questions of this member wait."""
        waiting, task = self._waiting[merchant], asyncio.ensure_future(arriving)
        waiting.append(task)
        if self._over:
            task.cancel()
        if len(waiting) > HELD_AT_ONCE:
            waiting.popleft().cancel()
        try:
            await asyncio.wait({task})
            return not task.cancelled() and task.result()
        finally:
            task.cancel()
            if task in waiting:
                waiting.remove(task)

    def end(self) -> None:
        """Let nobody wait any more: this process ends."""
        self._over = True
        for waiting in self._waiting.values():
            for task in waiting:
                task.cancel()
