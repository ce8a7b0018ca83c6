"""Knows which nodes have messages waiting, from the SuperLink's database: a look costs a tenth of a millisecond.

Flower's nodes ask again and again whether there is work, and each question costs the SuperLink several milliseconds.
So the fleet proxy holds the question until a message has arrived whole: one that carries its content has no parts,
of a larger one all must be there.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

log = logging.getLogger("fedrank.coordination.fleet")

LOOK_SECONDS: Final = 0.05
_UNSIGNED: Final = 2**64
_WAITING: Final = """
SELECT DISTINCT message.dst_node_id FROM message_ins AS message
WHERE message.delivered_at = '' AND message.created_at + message.ttl > :now AND (
    NOT EXISTS (SELECT 1 FROM object_children WHERE parent_id = message.message_id)
    OR NOT EXISTS (
        WITH RECURSIVE part(id) AS (
            SELECT message.message_id
            UNION SELECT link.child_id FROM object_children AS link JOIN part ON link.parent_id = part.id
        )
        SELECT 1 FROM part JOIN objects ON objects.object_id = part.id WHERE objects.is_available = 0
    )
)
"""


class Mail:
    """Looks into one SuperLink's database, which it never writes to."""

    def __init__(
        self,
        database: Path,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Look into this file; it need not be there yet."""
        self._database, self._now, self._monotonic = database, now, monotonic
        self._connection: sqlite3.Connection | None = None
        self._seen: frozenset[int] | None = frozenset()
        self._next_look = monotonic()

    async def arrived(self, node: int, seconds: float) -> bool:
        """Wait until a message for a node has arrived whole, at most this long; True also where nobody can tell."""
        end = self._monotonic() + seconds
        while True:
            waiting = self._waiting()
            if waiting is None or node in waiting:
                return True
            if self._monotonic() >= end:
                return False
            await asyncio.sleep(LOOK_SECONDS)

    def _waiting(self) -> frozenset[int] | None:
        """Ids of the nodes with messages, at most one look old; None where the database cannot be read."""
        if self._monotonic() >= self._next_look:
            self._next_look = self._monotonic() + LOOK_SECONDS
            self._seen = self._look()
        return self._seen

    def _look(self) -> frozenset[int] | None:
        try:
            if self._connection is None:
                self._connection = sqlite3.connect(
                    f"{self._database.as_uri()}?mode=ro", uri=True, timeout=0.1
                )
            rows = self._connection.execute(_WAITING, {"now": self._now()}).fetchall()
        except sqlite3.Error as error:
            if self._seen is not None:
                log.warning(
                    "the SuperLink's messages cannot be looked at (%s); nodes ask it themselves", error
                )
            self._connection = None
            return None
        return frozenset(node % _UNSIGNED for (node,) in rows)
