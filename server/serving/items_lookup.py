"""From item ids to rows: a hash table in arrays that all workers map, and a small memory of what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import numpy as np
import numpy.typing as npt

from server.serving.items_strings import Columns, Strings
from server.serving.items_wire import ITEM_ID, field

REMEMBERED = 1 << 15
"""Ids whose rows a process keeps in a dictionary, which is 10 times as fast as the table; some 5 MB."""


class Lookup:
    """Finds rows by id.

    Bucket b of the table holds the rows `lookup_rows[lookup_starts[b]:lookup_starts[b + 1]]` of all ids whose CRC-32
    ends in b; a row is compared by the id itself, so that no collision can answer for another item.
    """

    def __init__(self, columns: Columns, wire: Strings) -> None:
        """Use the columns of `lookup_columns`; `wire` are the encoded items, each beginning with its id."""
        self._remembered = _Remembered(columns, wire)

    def find(self, ids: Sequence[str]) -> npt.NDArray[np.int32]:
        """Rows (ids,) of the items with these ids, -1 where none has one."""
        return np.fromiter(map(self._remembered.__getitem__, ids), dtype=np.int32, count=len(ids))


class _Remembered(dict[str, int]):
    """Id -> row; the table is asked for the others. Unknown ids are not kept: anybody can make them up."""

    def __init__(self, columns: Columns, wire: Strings) -> None:
        super().__init__()
        self._starts = columns["lookup_starts"].data
        self._rows = columns["lookup_rows"].data
        self._wire = wire

    def __missing__(self, item_id: str) -> int:
        key = item_id.encode("utf-8", "surrogatepass")
        bucket = crc32(key) & (len(self._starts) - 2)
        begin = field(ITEM_ID, key)
        for row in self._rows[self._starts[bucket] : self._starts[bucket + 1]]:
            if self._wire.begins(row, begin):
                if len(self) >= REMEMBERED:
                    self.clear()
                self[item_id] = row
                return int(row)
        return -1


def lookup_columns(ids: Sequence[str]) -> Columns:
    """The hash table over the ids of all rows, with at least one bucket per id."""
    buckets = 1 << max(len(ids) - 1, 1).bit_length()
    hashes = np.fromiter((crc32(item_id.encode()) for item_id in ids), dtype=np.uint32, count=len(ids))
    bucket_of = hashes & np.uint32(buckets - 1)
    counts = np.bincount(bucket_of, minlength=buckets)
    return {
        "lookup_starts": np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        "lookup_rows": np.argsort(bucket_of, kind="stable").astype(np.int32),
    }
