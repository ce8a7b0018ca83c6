"""The public catalogue file: one row per item, in the order of the model's item indices."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from model.content import ItemColumns
from model.errors import FeatureError


@dataclass(frozen=True, kw_only=True)
class PublicItems:
    """Ids, merchants and descriptive columns of all items."""

    item_ids: tuple[str, ...]
    merchant_ids: tuple[str, ...]
    columns: ItemColumns

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.item_ids)

    @cached_property
    def index(self) -> dict[str, int]:
        """Item id -> item index."""
        return {item_id: index for index, item_id in enumerate(self.item_ids)}

    def of_merchant(self, merchant_id: str) -> NDArray[np.int64]:
        """Return the indices of one merchant's items, ascending."""
        return np.flatnonzero(np.array(self.merchant_ids) == merchant_id)

    def merchant_codes(self) -> NDArray[np.int64]:
        """Return for each item the number of its merchant, (items,)."""
        return np.asarray(np.unique(np.array(self.merchant_ids), return_inverse=True)[1], dtype=np.int64)


def digest_of_ids(item_ids: Sequence[str]) -> str:
    """Return the SHA-256 of item ids in index order: what a model version says of the items it was trained on."""
    encoded = (str(item_id).encode() for item_id in item_ids)
    return hashlib.sha256(b"".join(len(name).to_bytes(4, "big") + name for name in encoded)).hexdigest()


def item_columns(table: pl.DataFrame) -> ItemColumns:
    """Return the descriptive columns of a catalogue table."""
    return ItemColumns(
        titles=table["title"].to_list(),
        categories=table["category"].to_list(),
        brands=table["brand"].to_list(),
        prices=table["price"].to_list(),
        descriptions=table["description"].to_list(),
    )


def read_public_items(path: Path) -> PublicItems:
    """Read the catalogue file.

    Raises:
        FeatureError: the file cannot be read, lacks a column, or names an item twice or not at all.
    """
    try:
        table = pl.read_parquet(path)
        _check_ids(path, table["item_id"])
        return PublicItems(
            item_ids=tuple(table["item_id"].to_list()),
            merchant_ids=tuple(table["merchant_id"].to_list()),
            columns=item_columns(table),
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = type(error).__name__
        raise FeatureError(
            f"{path} is not a catalogue file ({reason}); make it with fedrank simulate"
        ) from error


def _check_ids(path: Path, ids: pl.Series) -> None:
    """Refuse a catalogue in which an event would not find its item, or would find two."""
    if missing := ids.null_count():
        raise FeatureError(f"{path}: {missing} of {len(ids)} items have no item_id; give each one of its own")
    repeated = ids.filter(ids.is_duplicated()).unique(maintain_order=True)
    if len(repeated):
        raise FeatureError(
            f"{path}: {len(repeated)} item ids stand there more than once, the first is {repeated[0]!r}; "
            "keep one row per item"
        )
