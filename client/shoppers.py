"""The shoppers of one cohort as arrays: what the event store holds, indexed by the public catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from client.events import Columns
from client.store import EventStore
from model.features import KINDS, Histories
from model.sampling import POSITIVE


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
        pairs = np.unique(np.stack([positive.rows, positive.items.astype(np.int64)]), axis=1)
        return pairs[0], pairs[1]

    def incidence(self, items: NDArray[np.int64], catalogue_size: int) -> sp.csr_matrix:
        """Return the binary matrix (shoppers, len(items)) of who liked which of the given items."""
        place = np.full(catalogue_size, -1, dtype=np.int64)
        place[items] = np.arange(len(items))
        rows, columns = self.liked
        inside = place[columns] >= 0
        ones = np.ones(int(inside.sum()))
        return sp.csr_matrix((ones, (rows[inside], place[columns[inside]])), shape=(len(self), len(items)))


def load_shoppers(store: EventStore, index: dict[str, int], subjects: Sequence[str] | None) -> Shoppers:
    """Read shoppers from the store: the given pseudonyms, or all.

    Events whose item has left the catalogue, or whose kind this version does not know, are left out.
    """
    return _arrays(store.read_columns(subjects), index)


def _arrays(columns: Columns, index: dict[str, int]) -> Shoppers:
    kind_index = {kind: number for number, kind in enumerate(KINDS)}
    items = np.fromiter((index.get(item, -1) for item in columns.item_id), np.int64, len(columns.item_id))
    kinds = np.fromiter((kind_index.get(kind, -1) for kind in columns.kind), np.int64, len(columns.kind))
    known = (items >= 0) & (kinds >= 0)
    everyone, rows = np.unique(np.array(columns.shopper, dtype=np.str_), return_inverse=True)
    times = np.array(columns.timestamp, dtype=np.int64)
    order = np.lexsort((times[known], rows[known]))
    counts = np.bincount(rows[known], minlength=len(everyone))
    histories = Histories(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        items[known][order].astype(np.int32),
        kinds[known][order].astype(np.int8),
        times[known][order],
    )
    keys = np.array([int(pseudonym[:16], 16) for pseudonym in everyone], dtype=np.uint64)
    return Shoppers(tuple(str(name) for name in everyone), histories, keys)
