"""The events told of one shopper, as rows of a catalogue: newest first, each item and kind once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from model.features import HISTORY_LIMIT, KINDS
from server.serving.items import UNKNOWN, ItemTable
from server.serving.query import Events

Ints = npt.NDArray[np.int64]


class Past(NamedTuple):
    """Events with items of this catalogue, newest first: (e,) each; the first `session` are of this session."""

    items: Ints
    kinds: Ints
    times: Ints
    session: int

    def take(self, rows: Ints | slice, session: int) -> Past:
        """The events of some rows."""
        return Past(self.items[rows], self.kinds[rows], self.times[rows], session)


def known_events(table: ItemTable, history: Events, session: Events, now: int) -> Past:
    """The events whose item is in the table, newest first, those of the session before all others.

    An event without a time, or dated after `now`, counts as now; of equal times the later told is the newer.
    """
    older = _known(table, history, now)
    if not len(session):
        return Past(*older, 0)
    newer = _known(table, session, now)
    items, kinds, times = (np.concatenate(pair) for pair in zip(newer, older, strict=True))
    return Past(items, kinds, times, len(newer[0]))


def _known(table: ItemTable, events: Events, now: int) -> tuple[Ints, Ints, Ints]:
    rows = table.find(events.item_ids)
    kinds = np.array(events.kinds, dtype=np.int64)
    times = np.array(events.times, dtype=np.int64)
    times = np.minimum(times.view(np.uint64), np.uint64(now)).view(np.int64)  # -1, no time, is the largest
    newest_first = times.argsort(kind="stable")[::-1]
    if len(rows) and rows.min() == UNKNOWN:
        newest_first = newest_first[rows[newest_first] >= 0]
    return rows[newest_first].astype(np.int64), kinds[newest_first], times[newest_first]


def newest_of_each(past: Past, limit: int = HISTORY_LIMIT) -> Past:
    """The newest event of each item and kind, at most `limit`: what `Histories.recent` keeps, newest first."""
    keys = past.items * len(KINDS) + past.kinds
    if len(keys) <= limit and len(set(keys.tolist())) == len(keys):
        return past
    first = np.sort(np.unique(keys, return_index=True)[1])[:limit]
    return past.take(first, int(np.searchsorted(first, past.session)))
