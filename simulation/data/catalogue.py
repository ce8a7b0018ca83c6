"""The catalogue: one row per item, covering every event, with a price and a merchant for each item."""

from __future__ import annotations

import polars as pl

from simulation.data.dataset import ITEM_SCHEMA
from simulation.data.errors import MissingColumn
from simulation.data.events import EventTable
from simulation.data.items import OWNER
from simulation.data.mapping import MerchantRule, MerchantsBy
from simulation.data.merchants import by_attribute, by_column, hashed, most_frequent


def build_items(
    events: pl.DataFrame, test: pl.DataFrame | None, table: pl.DataFrame, *, whole: bool
) -> pl.DataFrame:
    """Return `ITEM_SCHEMA` (merchant_id still absent) and `OWNER`, one row per item, sorted by item_id.

    Every item of `events` and `test` is in it; items of `table` without an event stay if `whole`. An item
    without a price of its own takes the median price of its events.
    """
    parts = [events.select("item_id"), *([] if test is None else [test.select("item_id")])]
    seen = pl.concat([*parts, table.select("item_id")] if whole else parts).unique()
    medians = events.group_by("item_id").agg(median=pl.col("price").median())
    joined = seen.join(table, on="item_id", how="left").join(medians, on="item_id", how="left")
    return joined.with_columns(pl.coalesce("price", "median").alias("price")).drop("median").sort("item_id")


def with_merchants(
    items: pl.DataFrame, events: EventTable, owner_column: str | None, rule: MerchantRule
) -> tuple[pl.DataFrame, str]:
    """Return (items in `ITEM_SCHEMA` with merchant_id filled, words on where merchants come from).

    An event column goes before an item column; without either (and by rule HASH) items are hashed.
    """
    values = items.select("item_id", value=OWNER)
    if events.merchant_column is not None:
        named = values.select("item_id").join(most_frequent(events.frame), on="item_id", how="left")
        owned, words = by_column(named, rule, events.merchant_column)
    elif rule.by is MerchantsBy.ATTRIBUTE:
        if owner_column is None:
            raise MissingColumn(field=f"items.{rule.name}", file="the data set (no items table)", found=[])
        owned, words = by_attribute(values, rule)
    elif owner_column is not None:
        owned, words = by_column(values, rule, owner_column)
    elif rule.by is MerchantsBy.COLUMN:
        raise MissingColumn(
            field="merchant_id", file="the events and items", found=events.unused_columns, mapped=rule.name
        )
    else:
        owned, words = hashed(items["item_id"], rule)
    joined = items.join(owned, on="item_id", how="left", maintain_order="left")
    return joined.select(*ITEM_SCHEMA), words
