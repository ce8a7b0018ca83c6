"""The items of a snapshot as columns: facts for filters, and the bytes of each item as an answer carries them.

Columns are plain arrays, so a prepared folder can hold them and every worker can map the same pages. Texts of an
item are kept once, as the protobuf fields `item_id`, `merchant_id` and `title` of a `RankedItem`: an answer copies
them, and a name is read out of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from server.serving.items_lookup import Lookup, table_columns
from server.serving.items_strings import Columns, Strings, string_columns
from server.serving.items_wire import ITEM_ID, TITLE, encoded_item, text_of

Ints = npt.NDArray[np.int32]

FLAGS = ("new_arrival", "promotion")
"""Catalogue columns that mark the items of a surface, where a catalogue has them."""
REMEMBERED = 1 << 15
"""Ids whose rows, and rows whose bytes, a process keeps in dictionaries, some 5 MB each."""
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
        self._parts = [Lookup(part, "wire") for part in (columns, added) if part is not None]
        self._first_added = len(self._parts[0].strings)
        self._rows = _Rows(self._parts, self._first_added)
        self._wires = _Wires(self._parts, self._first_added)
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

    def find(self, ids: Sequence[str]) -> Ints:
        """Rows (ids,) of the items with these ids, -1 where none has one."""
        return np.fromiter(map(self._rows.__getitem__, ids), dtype=np.int32, count=len(ids))

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


class _Rows(dict[str, int]):
    """Id -> row of what was asked for lately, ten times as fast as the table; a small part of a large catalogue.

    Unknown ids are not kept: anybody can make them up.
    """

    def __init__(self, parts: Sequence[Lookup], first_added: int) -> None:
        super().__init__()
        self._parts = parts
        self._first_added = first_added

    def __missing__(self, item_id: str) -> int:
        """Look in the tables, in the added items first: an item that went and came again is there."""
        for number in reversed(range(len(self._parts))):
            row = self._parts[number].row(item_id)
            if row >= 0:
                if len(self) >= REMEMBERED:
                    self.clear()
                self[item_id] = row + number * self._first_added
                return self[item_id]
        return UNKNOWN


class _Wires(dict[int, bytes]):
    """The encoded items that were listed lately: the same few thousand are in most answers."""

    def __init__(self, parts: Sequence[Lookup], first_added: int) -> None:
        super().__init__()
        self._parts = parts
        self._first_added = first_added

    def __missing__(self, item: int) -> bytes:
        """Copy an item's bytes out of the mapped column."""
        if len(self) >= REMEMBERED:
            self.clear()
        added = item >= self._first_added
        self[item] = encoded = self._parts[added].strings.raw(item - added * self._first_added)
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
