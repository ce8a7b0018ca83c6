"""The shoppers of one cohort as arrays: what the event store holds, indexed by the public catalogue."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from client.events import Columns
from client.store import EventStore
from model.features import KINDS, Histories, positions_from_end
from model.sampling import POSITIVE

log = logging.getLogger("fedrank.participant")

EVENT_LIMIT = 10_000
"""Newest events of a shopper that enter any statistic. It bounds work and memory, not privacy: that is what the
clipping norm does, however many events there are. A public constant, the same for everybody."""

_KIND_INDEX = {kind: number for number, kind in enumerate(KINDS)}
_UNLISTED = "%d events are left out: their item is not in the catalogue"
_UNKNOWN = "%d events are left out: this version does not know their kind"
_CAPPED = f"%d shoppers have more than {EVENT_LIMIT} events; the newest {EVENT_LIMIT} of each are used"


@dataclass(frozen=True)
class Shoppers:
    """Shoppers of one holder with their events.

    Attributes:
        pseudonyms: of each shopper, ascending.
        histories: all events, oldest first, items by catalogue index.
        keys: (shoppers,) uint64 that make each shopper's random draws its own.
    """

    pseudonyms: tuple[str, ...]
    histories: Histories
    keys: NDArray[np.uint64]

    def __len__(self) -> int:
        """Return the number of shoppers."""
        return len(self.pseudonyms)

    @cached_property
    def liked(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the distinct (shopper, item) pairs with a positive event, as two arrays."""
        positive = self.histories.keep(POSITIVE[self.histories.kinds])
        width = int(positive.items.max(initial=0)) + 1
        return np.divmod(np.unique(positive.rows * width + positive.items), width)

    def incidence(self, items: NDArray[np.int64], catalogue_size: int) -> sp.csr_matrix:
        """Return the binary matrix (shoppers, len(items)) of who liked which of the given items."""
        place = np.full(catalogue_size, -1, dtype=np.int64)
        place[items] = np.arange(len(items))
        rows, columns = self.liked
        inside = place[columns] >= 0
        ones = np.ones(int(inside.sum()))
        return sp.csr_matrix((ones, (rows[inside], place[columns[inside]])), shape=(len(self), len(items)))


def load_shoppers(store: EventStore, index: Mapping[str, int], subjects: Sequence[str] | None) -> Shoppers:
    """Read shoppers from the store: the given pseudonyms, or all.

    Events whose item has left the catalogue, or whose kind this version does not know, are left out; of what
    remains a shopper keeps the newest `EVENT_LIMIT`. How many that concerned is data: it goes to the log of
    this participant, at level INFO, and nowhere else.
    """
    left_out = Counter[str]()
    shoppers = shoppers_from(store.pages(subjects), index, left_out)
    for reason, count in (+left_out).items():
        log.info(reason, count)
    return shoppers


def shoppers_from(pages: Iterable[Columns], index: Mapping[str, int], left_out: Counter[str]) -> Shoppers:
    """Return the events of pages (by pseudonym, ascending) as arrays; count in `left_out` what is not among them.

    A page is arrays of 21 bytes an event before the next one is asked for.
    """
    parts = [_coded(page, index, left_out) for page in pages]
    everyone = sorted({name for part in parts for name in part.names})
    row_of = {name: row for row, name in enumerate(everyone)}
    rows = _together(np.int32, [np.repeat(_codes(part.names, row_of), part.counts) for part in parts])
    times = _together(np.int64, [part.times for part in parts])
    order = np.lexsort((times, rows))
    histories = Histories(
        np.searchsorted(rows[order], np.arange(len(everyone) + 1)).astype(np.int64),
        _together(np.int32, [part.items for part in parts])[order],
        _together(np.int8, [part.kinds for part in parts])[order],
        times[order],
    )
    left_out[_CAPPED] += int(np.count_nonzero(np.diff(histories.indptr) > EVENT_LIMIT))
    newest = histories.keep(positions_from_end(histories.indptr) < EVENT_LIMIT)
    keys = np.array([int(pseudonym[:16], 16) for pseudonym in everyone], dtype=np.uint64)
    return Shoppers(tuple(everyone), newest, keys)


@dataclass(frozen=True)
class _Part:
    """The events of one page, as they stood there.

    Attributes:
        names: of the shoppers, in order.
        counts: (names,) known events of each; whoever has none keeps a place.
        items, kinds, times: (events,) of the known events.
    """

    names: list[str]
    counts: NDArray[np.int64]
    items: NDArray[np.int32]
    kinds: NDArray[np.int8]
    times: NDArray[np.int64]


def _coded(columns: Columns, index: Mapping[str, int], left_out: Counter[str]) -> _Part:
    items, kinds = _codes(columns.item_id, index), _codes(columns.kind, _KIND_INDEX)
    left_out[_UNLISTED] += int(np.count_nonzero(items < 0))
    left_out[_UNKNOWN] += int(np.count_nonzero((items >= 0) & (kinds < 0)))
    known = (items >= 0) & (kinds >= 0)
    names = list(dict.fromkeys(columns.shopper))
    rows = _codes(columns.shopper, {name: row for row, name in enumerate(names)})
    return _Part(
        names,
        np.bincount(rows[known], minlength=len(names)),
        items[known].astype(np.int32),
        kinds[known].astype(np.int8),
        np.array(columns.timestamp, dtype=np.int64)[known],
    )


def _codes(values: Sequence[str], index: Mapping[str, int]) -> NDArray[np.int64]:
    """Return the number of each value, -1 where it has none."""
    return np.fromiter((index.get(value, -1) for value in values), np.int64, len(values))


def _together(kind: type[np.generic], arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return arrays one after the other; nothing is an empty array."""
    return np.concatenate([np.empty(0, kind), *arrays], dtype=kind)
