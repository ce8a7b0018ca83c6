"""From keys to rows: a hash table in arrays that all workers map."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import numpy as np

from server.serving.items_strings import Columns, Strings, string_columns
from server.serving.items_wire import ITEM_ID, field


class Lookup:
    """Finds the row of a key among strings that each begin with their key, encoded as an item's id is.

    Bucket b of the table holds the rows `rows[starts[b]:starts[b + 1]]` of all keys whose CRC-32 ends in b; a row is
    compared by the key itself, so that no collision can answer for another.
    """

    def __init__(self, columns: Columns, name: str) -> None:
        """Use the strings and the table of this name."""
        self.strings = Strings.of(columns, name)
        self._starts = columns[f"{name}_table_starts"].data
        self._rows = columns[f"{name}_table_rows"].data

    def row(self, key: str) -> int:
        """The row of a key, -1 where no string has it."""
        encoded = key.encode("utf-8", "surrogatepass")
        bucket = crc32(encoded) & (len(self._starts) - 2)
        begin = field(ITEM_ID, encoded)
        for row in self._rows[self._starts[bucket] : self._starts[bucket + 1]]:
            if self.strings.begins(row, begin):
                return int(row)
        return -1


def table_columns(name: str, keys: Sequence[str]) -> Columns:
    """The hash table over the keys of all rows, with at least one bucket per key."""
    buckets = 1 << max(len(keys) - 1, 1).bit_length()
    hashes = np.fromiter((crc32(key.encode()) for key in keys), dtype=np.uint32, count=len(keys))
    bucket_of = hashes & np.uint32(buckets - 1)
    counts = np.bincount(bucket_of, minlength=buckets)
    return {
        f"{name}_table_starts": np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        f"{name}_table_rows": np.argsort(bucket_of, kind="stable").astype(np.int32),
    }


def keyed_columns(name: str, keys: Sequence[str]) -> Columns:
    """A `Lookup` whose strings are the keys and nothing else."""
    encoded = (field(ITEM_ID, key.encode()) for key in keys)
    return {**string_columns(name, encoded), **table_columns(name, keys)}
