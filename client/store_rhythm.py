"""The rhythm of long work on a store that is in use: short transactions, and pauses in which others have the lock."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection

from client.store_access import StoreAccess

PACE: Final = 4.0
"""How many times as long as it was held the lock is left alone: at 4, others have four fifths of the time."""

WRITING_SECONDS: Final = 0.002
"""How long a transaction should write before it commits; its rows follow from what the last one took."""

_FEWEST, _FIRST, _MOST = 64, 64, 1000
"""Fewer than 64 rows would save others nothing: the commit alone takes as long as writing them."""


class Rhythm:
    """How many rows a transaction takes, and how long the lock is left alone after it."""

    def __init__(self, pace: float) -> None:
        """Pause `pace` times as long as the lock was held; 0 makes no pauses."""
        self._rows = _FIRST
        self._pace = pace

    @contextmanager
    def transaction(self, access: StoreAccess, rows: int | None = None) -> Iterator[Connection]:
        """Run a transaction that writes `rows`; fit the size of the next to the time that it took, and pause."""
        with access.writing() as connection:
            begun = time.perf_counter()
            yield connection
            wrote = time.perf_counter() - begun
        held = time.perf_counter() - begun
        if rows is not None:
            # Not by the commit, which waits for the disk as long for one row as for a hundred: to fit it in would
            # leave the fewest rows in each.
            fitting = int(rows * WRITING_SECONDS / max(wrote, 1e-6))
            self._rows = min(max(fitting, self._rows // 2, _FEWEST), self._rows * 2, _MOST)
        time.sleep(held * self._pace)

    def batches(self, rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
        """Cut rows into batches of the size that fits while they are worked on."""
        first = 0
        while first < len(rows):
            batch = rows[first : first + self._rows]
            yield batch
            first += len(batch)
