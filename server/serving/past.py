"""The events told of one shopper, as rows of a catalogue: newest first, each item and kind once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from model.features import HISTORY_LIMIT
from server.serving.items import ItemTable
from server.serving.kernels import first_of_each, newest_first
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
    kinds = np.array(events.kinds, dtype=np.int64)
    times = np.array(events.times, dtype=np.int64)
    past = np.empty((3, len(kinds)), dtype=np.int64)
    items, kinds, times = past[:, : newest_first(table.find(events.item_ids), kinds, times, now, past)]
    return items, kinds, times


def newest_of_each(past: Past, limit: int = HISTORY_LIMIT) -> Past:
    """The newest event of each item and kind, at most `limit`: what `Histories.recent` keeps, newest first."""
    first = np.empty(limit, dtype=np.int64)
    count = first_of_each(past.items, past.kinds, first)
    if count == len(past.items):
        return past
    first = first[:count]
    return past.take(first, int(first.searchsorted(past.session)))
