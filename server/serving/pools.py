"""The newest items, what is listed at a moment, and what freshness counts."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from model.features import DAY
from server.serving.index import VectorIndex
from server.serving.items import ItemTable
from server.serving.snapshot import Floats, Snapshot

Ints = npt.NDArray[np.int64]

FRESHEST = 200
HALF_LIFE_DAYS = 30


@dataclass(frozen=True, kw_only=True)
class Pools:
    """What of the servable items a question may need that no search gives.

    Attributes:
        dated: (n,) int32 items whose date is known, the first listed first.
        listed_at: (items,) as of the item table.
        latest: the last of the dates; -1 where none is known.
    """

    dated: npt.NDArray[np.int32]
    listed_at: Ints
    latest: int

    def freshest(self, now: int) -> Ints:
        """The items listed last, of those listed by `now`."""
        end = len(self.dated)
        if now < self.latest:
            end = bisect_right(self.dated, now, key=self.listed_at.__getitem__)
        return self.dated[max(end - FRESHEST, 0) : end].astype(np.int64)


_made: WeakKeyDictionary[VectorIndex, Pools] = WeakKeyDictionary()


def pools_of(snapshot: Snapshot) -> Pools:
    """The pools of a snapshot; made once for each index."""
    if snapshot.index not in _made:
        servable = np.flatnonzero(snapshot.items.servable)
        listed_at = snapshot.items.listed_at
        dated = servable[listed_at[servable] >= 0]
        dated = dated[np.argsort(listed_at[dated], kind="stable")]
        _made[snapshot.index] = Pools(
            dated=dated.astype(np.int32),
            listed_at=listed_at,
            latest=int(listed_at[dated[-1]]) if len(dated) else -1,
        )
    return _made[snapshot.index]


def freshness(table: ItemTable, items: Ints, now: int) -> Floats:
    """(n,) 2 ** (-days since listed / 30); 0 for an item whose date is unknown or still to come."""
    listed = table.listed_at[items]
    days = np.maximum(now - listed, 0) / DAY
    known = (listed >= 0) & (listed <= now)
    return np.where(known, np.exp2(-days / HALF_LIFE_DAYS), 0.0).astype(np.float32)
