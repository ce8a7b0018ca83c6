"""How often a node asks whether there is work: at once while a round goes on, seldom when nothing happens."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

SHORTEST_SECONDS: Final = 0.05
SHARE: Final = 0.1
"""The pause is this share of the time since the last work."""


class Pace:
    """Pauses between questions."""

    def __init__(
        self,
        longest: float,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Pause for at most `longest` seconds."""
        self._longest, self._monotonic, self._sleep = longest, monotonic, sleep
        self._last_work = monotonic()

    def worked(self) -> None:
        """There was work."""
        self._last_work = self._monotonic()

    def pause(self) -> None:
        """Wait until the next question is due."""
        quiet = self._monotonic() - self._last_work
        self._sleep(min(self._longest, max(SHORTEST_SECONDS, SHARE * quiet)))
