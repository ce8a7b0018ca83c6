"""The events told of shoppers, as rows of a catalogue: newest first, each item and kind once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from model.features import HISTORY_LIMIT
from server.serving.items import ItemTable
from server.serving.kernels_events import read_each
from server.serving.query import Events

Ints = npt.NDArray[np.int64]


class Past(NamedTuple):
    """Events with items of this catalogue, newest first: (e,) each; the first `session` are of this session."""

    items: Ints
    kinds: Ints
    times: Ints
    session: int


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the shoppers of a batch.

    Attributes:
        past: items, kinds and times (3, e) of every event with an item of this catalogue, newest first, those of the
            session before all others, one shopper's after another's.
        read: the same of what the user tower reads: the newest event of each item and kind.
        marks: (4, b) where a shopper's events end in `past` and how many are of the session, and the same for `read`.
    """

    past: Ints
    read: Ints
    marks: Ints

    def past_of(self, row: int) -> Past:
        """Every known event of one shopper."""
        return self._of(self.past, row, 0)

    def read_of(self, row: int) -> Past:
        """What the user tower reads of one shopper: what `Histories.recent` keeps, newest first."""
        return self._of(self.read, row, 2)

    def _of(self, events: Ints, row: int, mark: int) -> Past:
        begin = self.marks[mark, row - 1] if row else 0
        items, kinds, times = events[:, begin : self.marks[mark, row]]
        return Past(items, kinds, times, int(self.marks[mark + 1, row]))


def known_events(
    table: ItemTable, sessions: Sequence[Events], histories: Sequence[Events], nows: Ints
) -> Known:
    """The events of each shopper whose item is in the table.

    An event without a time, or dated after `now`, counts as now; of equal times the later told is the newer.
    """
    told = [events for both in zip(sessions, histories, strict=True) for events in both]
    events, ends = _joined(told)
    past, read = np.empty((2, 3, len(events)), dtype=np.int64)
    marks = np.empty((4, len(nows)), dtype=np.int64)
    read_each(table.rows(events), events.told, ends, nows, HISTORY_LIMIT, past, read, marks)
    return Known(past, read, marks)


def _joined(told: Sequence[Events]) -> tuple[Events, Ints]:
    """The events of all as one, and where those of each end."""
    sizes = [len(events) for events in told]
    columns = np.concatenate([events.told for events in told], axis=1)
    begins = np.cumsum([0, *(len(events.content) for events in told[:-1])])
    columns[:2] += np.repeat(begins, sizes)
    return Events(b"".join([events.content for events in told]), columns), np.cumsum(sizes)
