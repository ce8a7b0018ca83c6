"""The items of a snapshot as columns: facts for filters, and the bytes of each item as an answer carries them.

Columns are plain arrays, so a prepared folder can hold them and every worker can map the same pages. Texts of an
item are kept once, as the protobuf fields `item_id`, `merchant_id` and `title` of a `RankedItem`: an answer copies
them, and a name is read out of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from server.serving.items_lookup import table_columns
from server.serving.items_strings import Columns, Strings, string_columns
from server.serving.items_wire import ITEM_ID, TITLE, encoded_item, text_of
from server.serving.kernels_events import find_rows
from server.serving.query import Events

Ints = npt.NDArray[np.int32]

FLAGS = ("new_arrival", "promotion")
"""Catalogue columns that mark the items of a surface, where a catalogue has them."""
REMEMBERED = 1 << 15
"""Rows whose bytes a process keeps in a dictionary, some 5 MB."""
UNKNOWN = -1
"""`listed_at` where it is not known, and the row of an item that is not here."""


class ItemTable:
    """Public facts of the items of one snapshot, by row.

    Attributes:
        merchants, categories: their names, by code; an item without category has the name "".
        merchant_codes, category_codes: (items,) int32.
        listed_at: (items,) Unix seconds, -1 where unknown.
        flags: (items,) masks by name; a name is absent where the catalogue has no such column.
        servable: (items,) in stock, not hidden, not removed.
    """

    def __init__(self, columns: Columns, added: Columns | None = None) -> None:
        """Use the columns of `columns_of`; names and lookup of the last items are those of `added`, where given."""
        parts = [part for part in (columns, added) if part is not None]
        strings = [Strings.of(part, "wire") for part in parts]
        first_rows = [0, len(strings[0])]
        self._tables = [_table(*part) for part in zip(parts, first_rows, strict=False)][::-1]
        self._wires = _Wires(strings)
        self.merchants: list[str] = list(Strings.of(columns, "merchants"))
        self.categories: list[str] = list(Strings.of(columns, "categories"))
        self.merchant_codes: Ints = columns["merchant_codes"]
        self.category_codes: Ints = columns["category_codes"]
        self.listed_at: npt.NDArray[np.int64] = columns["listed_at"]
        self.servable: npt.NDArray[np.bool_] = columns["servable"]
        self.flags: Mapping[str, npt.NDArray[np.bool_]] = {
            name: columns[name] for name in FLAGS if name in columns
        }

    def __len__(self) -> int:
        """Number of items, those not servable included."""
        return len(self.merchant_codes)

    def find(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Rows (ids,) of the items with these ids, -1 where none has one."""
        zeros = np.zeros(len(ids), dtype=np.int64)
        return self.rows(Events.of_columns(ids, zeros, zeros))

    def rows(self, events: Events) -> npt.NDArray[np.int64]:
        """Rows (e,) of the events' items, -1 where an item is not here.

        An item that went and came again is in both parts; the added one counts.
        """
        found = np.full(len(events), UNKNOWN, dtype=np.int64)
        for first, starts, rows, offsets, data in self._tables:
            find_rows(events.content, events.told, starts, rows, offsets, data, first, found)
        return found

    def wire(self, item: int) -> bytes:
        """The fields `item_id`, `merchant_id` and `title` of the item's `RankedItem`, encoded."""
        return self._wires[item]

    def item_id(self, item: int) -> str:
        """The id of an item."""
        return text_of(self.wire(item), ITEM_ID)

    def title(self, item: int) -> str:
        """The title of an item; empty where it has none."""
        return text_of(self.wire(item), TITLE)

    def merchant_id(self, item: int) -> str:
        """The merchant of an item."""
        return self.merchants[int(self.merchant_codes[item])]

    def category(self, item: int) -> str:
        """The category of an item; empty where it has none."""
        return self.categories[int(self.category_codes[item])]


def _table(columns: Columns, first: int) -> tuple[int, Any, Any, Any, Any]:
    """What `find_rows` needs of a part of the items, whose first row is `first`."""
    table = columns["wire_table_starts"], columns["wire_table_rows"]
    return first, *table, columns["wire_offsets"], columns["wire_bytes"]


class _Wires(dict[int, bytes]):
    """The encoded items that were listed lately: the same few thousand are in most answers."""

    def __init__(self, parts: Sequence[Strings]) -> None:
        super().__init__()
        self._parts = parts

    def __missing__(self, item: int) -> bytes:
        """Copy an item's bytes out of the mapped column."""
        if len(self) >= REMEMBERED:
            self.clear()
        first_added = len(self._parts[0])
        added = item >= first_added
        self[item] = encoded = self._parts[added].raw(item - added * first_added)
        return encoded


def columns_of(table: pl.DataFrame, merchants: Sequence[str] = (), categories: Sequence[str] = ()) -> Columns:
    """The columns of an `ItemTable` over the rows of a catalogue; the names given have the first codes."""
    texts = (table[name].fill_null("").to_list() for name in ("item_id", "merchant_id", "title"))
    wire = [encoded_item(*row) for row in zip(*texts, strict=True)]
    merchants, merchant_codes = _coded(table["merchant_id"], merchants)
    categories, category_codes = _coded(table["category"].fill_null(""), categories)
    return {
        **string_columns("wire", wire),
        **string_columns("merchants", (name.encode() for name in merchants)),
        **string_columns("categories", (name.encode() for name in categories)),
        **table_columns("wire", table["item_id"].to_list()),
        "merchant_codes": merchant_codes,
        "category_codes": category_codes,
        "listed_at": _seconds(table),
        "hidden": _mask(table, "hidden"),
        "servable": _servable(table),
        **{name: _mask(table, name) for name in FLAGS if name in table.columns},
    }


def _coded(names: pl.Series, known: Sequence[str]) -> tuple[list[str], Ints]:
    """Names by code, and the code of each row; new names follow the known ones in order of the alphabet."""
    coded = [*known, *sorted(set(names.unique().to_list()) - set(known))]
    codes = {name: code for code, name in enumerate(coded)}
    return coded, np.fromiter((codes[name] for name in names), dtype=np.int32, count=len(names))


def _seconds(table: pl.DataFrame) -> npt.NDArray[np.int64]:
    if "listed_at" not in table.columns:
        return np.full(table.height, UNKNOWN, dtype=np.int64)
    return table["listed_at"].fill_null(UNKNOWN).to_numpy().astype(np.int64)


def _servable(table: pl.DataFrame) -> npt.NDArray[np.bool_]:
    in_stock = table["in_stock"].fill_null(True).to_numpy() if "in_stock" in table.columns else True
    return ~_mask(table, "hidden") & in_stock


def _mask(table: pl.DataFrame, name: str) -> npt.NDArray[np.bool_]:
    """Where a flag is set; nowhere in a catalogue without such a column."""
    if name not in table.columns:
        return np.zeros(table.height, dtype=np.bool_)
    return table[name].fill_null(False).to_numpy().astype(np.bool_)
