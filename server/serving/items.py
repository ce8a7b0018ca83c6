"""The items of a snapshot as columns: facts for filters, and the bytes of each item as an answer carries them.

Columns are plain arrays, so a prepared folder can hold them and every worker can map the same pages. Texts of an
item are kept once, as the protobuf fields `item_id`, `merchant_id` and `title` of a `RankedItem`: an answer copies
them, and a name is read out of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from server.serving.items_lookup import Lookup, lookup_columns
from server.serving.items_strings import Columns, Strings, string_columns
from server.serving.items_wire import ITEM_ID, TITLE, encoded_item, text_of

Ints = npt.NDArray[np.int32]

FLAGS = ("new_arrival", "promotion")
"""Catalogue columns that mark the items of a surface, where a catalogue has them."""
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

    def __init__(self, columns: Columns) -> None:
        """Use the columns that `columns_of` made."""
        self._wire = Strings.of(columns, "wire")
        self._lookup = Lookup(columns, self._wire)
        self.merchants: list[str] = list(Strings.of(columns, "merchants"))
        self.categories: list[str] = list(Strings.of(columns, "categories"))
        self.merchant_codes: Ints = columns["merchant_codes"].astype(np.int32, copy=False)
        self.category_codes: Ints = columns["category_codes"].astype(np.int32, copy=False)
        self.listed_at: npt.NDArray[np.int64] = columns["listed_at"].astype(np.int64, copy=False)
        self.servable: npt.NDArray[np.bool_] = columns["servable"].astype(np.bool_, copy=False)
        self.flags: Mapping[str, npt.NDArray[np.bool_]] = {
            name: columns[name].astype(np.bool_, copy=False) for name in FLAGS if name in columns
        }

    def __len__(self) -> int:
        """Number of items, those not servable included."""
        return len(self.merchant_codes)

    def find(self, ids: Sequence[str]) -> Ints:
        """Rows (ids,) of the items with these ids, -1 where none has one."""
        return self._lookup.find(ids)

    def wire(self, item: int) -> bytes:
        """The fields `item_id`, `merchant_id` and `title` of the item's `RankedItem`, encoded."""
        return self._wire.raw(item)

    def item_id(self, item: int) -> str:
        """The id of an item."""
        return text_of(self._wire.raw(item), ITEM_ID)

    def title(self, item: int) -> str:
        """The title of an item; empty where it has none."""
        return text_of(self._wire.raw(item), TITLE)

    def merchant_id(self, item: int) -> str:
        """The merchant of an item."""
        return self.merchants[int(self.merchant_codes[item])]

    def category(self, item: int) -> str:
        """The category of an item; empty where it has none."""
        return self.categories[int(self.category_codes[item])]


def columns_of(table: pl.DataFrame) -> Columns:
    """The columns of an `ItemTable` over the rows of a catalogue."""
    texts = (table[name].fill_null("").to_list() for name in ("item_id", "merchant_id", "title"))
    wire = [encoded_item(*row) for row in zip(*texts, strict=True)]
    merchants, merchant_codes = _coded(table["merchant_id"])
    categories, category_codes = _coded(table["category"].fill_null(""))
    return {
        **string_columns("wire", wire),
        **string_columns("merchants", (name.encode() for name in merchants)),
        **string_columns("categories", (name.encode() for name in categories)),
        **lookup_columns(table["item_id"].to_list()),
        "merchant_codes": merchant_codes,
        "category_codes": category_codes,
        "listed_at": _seconds(table),
        "servable": _servable(table),
        **{name: _mask(table, name) for name in FLAGS if name in table.columns},
    }


def _coded(names: pl.Series) -> tuple[Iterable[str], Ints]:
    distinct = names.unique().sort()
    codes = distinct.search_sorted(names)
    return distinct.to_list(), codes.to_numpy().astype(np.int32)


def _seconds(table: pl.DataFrame) -> npt.NDArray[np.int64]:
    if "listed_at" not in table.columns:
        return np.full(table.height, UNKNOWN, dtype=np.int64)
    return table["listed_at"].fill_null(UNKNOWN).to_numpy().astype(np.int64)


def _servable(table: pl.DataFrame) -> npt.NDArray[np.bool_]:
    servable = np.ones(table.height, dtype=np.bool_)
    if "in_stock" in table.columns:
        servable &= table["in_stock"].fill_null(True).to_numpy()
    if "hidden" in table.columns:
        servable &= ~table["hidden"].fill_null(False).to_numpy()
    return servable


def _mask(table: pl.DataFrame, name: str) -> npt.NDArray[np.bool_]:
    return table[name].fill_null(False).to_numpy().astype(np.bool_)
