"""The public items of a federation: one file of each merchant, checked and put together in one order."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from deploy.errors import PublicCatalogueError

TEXTS: Final = ("item_id", "title", "category", "brand")
COLUMNS: Final = (*TEXTS, "price", "description", "merchant_id")
LISTED: Final = "listed_at"
"""When the shop listed an item, in Unix seconds; the one column that may be absent."""


def read_items(path: Path, merchant: str) -> pl.DataFrame:
    """Read one merchant's public items, CSV or Parquet, as the columns `COLUMNS`.

    Raises:
        PublicCatalogueError: the file cannot be read, lacks a column, or names an item twice or not at all.
    """
    try:
        table = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = type(error).__name__
        raise PublicCatalogueError(
            f"the catalogue {path} of merchant {merchant!r} cannot be read ({reason}); give a .csv or .parquet file"
        ) from error
    needed = [name for name in COLUMNS if name != "merchant_id"]
    if missing := [name for name in needed if name not in table.columns]:
        raise PublicCatalogueError(
            f"the catalogue {path} of merchant {merchant!r} lacks the columns {', '.join(missing)}; "
            f"it has {', '.join(table.columns)}"
        )
    listed = [pl.col(LISTED).cast(pl.Int64)] if LISTED in table.columns else []
    try:
        columns = [pl.col(name).cast(pl.Float64 if name == "price" else pl.String) for name in needed]
        items = table.select(*columns, pl.lit(merchant).alias("merchant_id"), *listed)
    except pl.exceptions.PolarsError as error:
        raise PublicCatalogueError(
            f"the catalogue {path} of merchant {merchant!r} has a price or {LISTED} that is no number; correct it"
        ) from error
    _check_ids(items, f"the catalogue {path} of merchant {merchant!r}")
    return items


def join_items(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Put the items of all merchants into one table, sorted by item_id: the order of the model's indices.

    Raises `PublicCatalogueError` where two merchants use the same item id.
    """
    items = pl.concat(parts, how="diagonal").sort("item_id")
    repeated = items.filter(pl.col("item_id").is_duplicated())
    if repeated.height:
        owners = repeated.filter(pl.col("item_id") == repeated["item_id"][0])["merchant_id"].to_list()
        raise PublicCatalogueError(
            f"the item id {repeated['item_id'][0]!r} is in the catalogues of {' and '.join(owners)}; "
            "let each merchant's ids begin with a prefix of its own"
        )
    return items


def _check_ids(items: pl.DataFrame, whose: str) -> None:
    ids = items["item_id"]
    if not items.height:
        raise PublicCatalogueError(f"{whose} holds no item; give at least one")
    if ids.null_count():
        raise PublicCatalogueError(
            f"{whose} has {ids.null_count()} items without item_id; give each one of its own"
        )
    if ids.is_duplicated().any():
        first = ids.filter(ids.is_duplicated())[0]
        raise PublicCatalogueError(f"{whose} names the item {first!r} more than once; keep one row per item")
