"""Items that are candidates whoever asks, and what freshness counts."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from model.features import DAY
from server.serving.index import VectorIndex
from server.serving.items import ItemTable
from server.serving.snapshot import Floats, Snapshot

Ints = npt.NDArray[np.int64]

POPULAR = 100
FRESHEST = 200
HALF_LIFE_DAYS = 30

_made: WeakKeyDictionary[VectorIndex, tuple[Ints, Ints]] = WeakKeyDictionary()


def popular_and_freshest(snapshot: Snapshot) -> tuple[Ints, Ints]:
    """The items with the largest released counts, and those listed last; made once for each index."""
    if snapshot.index not in _made:
        servable = np.flatnonzero(snapshot.items.servable)
        popular = _largest(servable, np.asarray(snapshot.index.vectors[servable, -1]), POPULAR)
        dated = servable[snapshot.items.listed_at[servable] >= 0]
        freshest = _largest(dated, snapshot.items.listed_at[dated], FRESHEST)
        _made[snapshot.index] = popular, freshest
    return _made[snapshot.index]


def freshness(table: ItemTable, items: Ints, now: int) -> Floats:
    """(n,) 2 ** (-days since listed / 30); 0 for an item whose date is unknown or still to come."""
    listed = table.listed_at[items]
    days = np.maximum(now - listed, 0) / DAY
    known = (listed >= 0) & (listed <= now)
    return np.where(known, np.exp2(-days / HALF_LIFE_DAYS), 0.0).astype(np.float32)


def _largest(items: Ints, values: npt.NDArray[np.generic], count: int) -> Ints:
    if len(items) <= count:
        return items
    return items[np.argpartition(values, len(items) - count)[len(items) - count :]]
