"""From keys to rows: a hash table in arrays that all workers map."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import numpy as np
import numpy.typing as npt

from server.serving.items_strings import Columns, Strings, starts_of, string_columns
from server.serving.items_wire import ITEM_ID, field


class Lookup:
    """Finds the row of a key among strings that each begin with their key, encoded as an item's id is.

    Bucket b of the table holds the places `starts[b]` to `starts[b + 1]` of all keys whose CRC-32 ends in b; `rows`
    says which string each place is, or is not there where strings lie in this order. A string is compared by the key
    itself, so that no collision can answer for another.
    """

    def __init__(self, columns: Columns, name: str) -> None:
        """Use the strings and the table of this name."""
        self.strings = Strings.of(columns, name)
        self._starts = columns[f"{name}_table_starts"].data
        self._rows = columns[f"{name}_table_rows"].data if f"{name}_table_rows" in columns else None

    def row(self, key: str) -> int:
        """The row of a key, -1 where no string has it."""
        encoded = key.encode("utf-8", "surrogatepass")
        bucket = crc32(encoded) & (len(self._starts) - 2)
        begin = field(ITEM_ID, encoded)
        for place in range(self._starts[bucket], self._starts[bucket + 1]):
            row = place if self._rows is None else self._rows[place]
            if self.strings.begins(row, begin):
                return int(row)
        return -1


def table_columns(name: str, keys: Sequence[str]) -> Columns:
    """The hash table over strings whose order is given; `keys` are what each begins with."""
    starts, order = _table(keys)
    return {f"{name}_table_starts": starts, f"{name}_table_rows": order}


def keyed_columns(name: str, keys: Sequence[str]) -> tuple[Columns, npt.NDArray[np.int32]]:
    """A `Lookup` whose strings are the keys and nothing else, in an order of its own; and which key each row is."""
    starts, order = _table(keys)
    encoded = (field(ITEM_ID, keys[number].encode()) for number in order.tolist())
    return {**string_columns(name, encoded), f"{name}_table_starts": starts}, order


def _table(keys: Sequence[str]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int32]]:
    """Where each bucket begins, and the keys in order of their buckets, one or two in each."""
    buckets = 1 << max((len(keys) - 1) // 2, 1).bit_length()
    hashes = np.fromiter((crc32(key.encode()) for key in keys), dtype=np.uint32, count=len(keys))
    bucket_of = hashes & np.uint32(buckets - 1)
    order = np.argsort(bucket_of, kind="stable").astype(np.int32)
    return starts_of(np.bincount(bucket_of, minlength=buckets)), order
