"""When runs begin: at fixed distances in UTC, a little late so that not all federations begin at once.

Whoever is late begins once, and then at the next time that is to come: missed runs are not made up for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from server.errors import ServerError

SHORTEST, LONGEST = timedelta(minutes=1), timedelta(days=366)
JITTER_SHARE: Final = 0.01
LONGEST_JITTER: Final = timedelta(minutes=5)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION: Final = re.compile(r"([0-9]{1,6})([smhd])", re.ASCII)


class ScheduleError(ServerError, ValueError):
    """A schedule cannot be read, or is out of bounds."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A run every so often."""

    every: timedelta

    @classmethod
    def read(cls, text: str) -> Schedule:
        """Read "24h", "30m", "90s" or "7d"; `ScheduleError` for anything else, or below a minute or above a year."""
        match = _DURATION.fullmatch(text)
        every = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else timedelta(0)
        if not SHORTEST <= every <= LONGEST:
            raise ScheduleError(
                f"every is {text!r}; write a number and s, m, h or d, from 1m to 366d, such as 24h"
            )
        return cls(every=every)

    def due(self, last: datetime | None, now: datetime) -> datetime:
        """Return when the next run is due (UTC): now where none has begun yet, else a multiple after the newest one.

        Of the times that have passed since then only the newest counts.
        """
        if last is None or last > now:
            return now
        return last + self.every * max(1, (now - last) // self.every)

    def late(self, draw: Callable[[float, float], float]) -> timedelta:
        """Return how much later a run begins: uniform up to 1 % of the distance, 5 minutes at most."""
        return timedelta(seconds=draw(0.0, min(self.every * JITTER_SHARE, LONGEST_JITTER).total_seconds()))


def utc_now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)
