"""The public items that an endpoint ranks: one row per item, in the order of the model's item indices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from server.errors import CatalogueError

_TEXT = ("item_id", "title", "category", "brand", "description", "merchant_id")
_FLAGS = ("new_arrival", "promotion", "in_stock", "hidden")


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Items with their public texts; `table` has the columns of `catalogue.parquet`."""

    table: pl.DataFrame

    def rows_of(self, merchant_id: str) -> npt.NDArray[np.int64]:
        """Indices of one merchant's items; raises `CatalogueError` where it has none."""
        rows = np.flatnonzero((self.table["merchant_id"] == merchant_id).to_numpy())
        if rows.size == 0:
            raise CatalogueError(
                f"merchant {merchant_id!r} has no item in the catalogue of {self.table.height} items; "
                "see its column merchant_id"
            )
        return rows


def texts_of(table: pl.DataFrame) -> list[str]:
    """What a search looks through: title, brand and category of each row."""
    columns = [pl.col(name).fill_null("") for name in ("title", "brand", "category")]
    return table.select(pl.concat_str(columns, separator=" ")).to_series().to_list()


def read_catalogue(path: Path) -> Catalogue:
    """Read `catalogue.parquet`; texts may be null except the two ids.

    Raises `CatalogueError` where the file, a column or an id is missing, or an item has two rows.
    """
    try:
        table = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CatalogueError(f"{path} cannot be read as parquet ({type(error).__name__})") from error
    missing = [name for name in (*_TEXT, "price") if name not in table.columns]
    if missing:
        raise CatalogueError(f"{path} lacks the columns {', '.join(missing)}; it has {table.columns}")
    flags = [pl.col(name).cast(pl.Boolean) for name in _FLAGS if name in table.columns]
    table = table.with_columns(*(pl.col(name).cast(pl.String) for name in _TEXT), *flags, *_listing(table))
    _check_ids(path, table)
    return Catalogue(table=table)


def _listing(table: pl.DataFrame) -> list[pl.Expr]:
    """When an item was listed, in Unix seconds, from a column of them or of dates."""
    if "listed_at" not in table.columns:
        return []
    listed_at = pl.col("listed_at")
    return [listed_at.dt.epoch("s") if table["listed_at"].dtype.is_temporal() else listed_at.cast(pl.Int64)]


def _check_ids(path: Path, table: pl.DataFrame) -> None:
    if table.height == 0:
        raise CatalogueError(f"{path} holds no item; a ranking needs at least one")
    for name in ("item_id", "merchant_id"):
        if table[name].null_count():
            raise CatalogueError(f"{path} has {table[name].null_count()} items without {name}")
    repeated = table.height - table["item_id"].n_unique()
    if repeated:
        raise CatalogueError(f"{path} repeats {repeated} item ids; each item has one row")
