"""The k-core of shoppers and items: drop what is rare, again and again, until nothing is rare."""

from __future__ import annotations

import polars as pl


def core(events: pl.DataFrame, *, items_per_user: int, users_per_item: int) -> pl.DataFrame:
    """Return the events of shoppers with >= `items_per_user` distinct items that have >= `users_per_item` shoppers.

    `events` has the columns user_id and item_id, whose types do not matter. The result is the largest set of
    events for which both hold; it may be empty.
    """
    pairs = events.select("user_id", "item_id").unique()
    while True:
        before = pairs.height
        pairs = pairs.filter(pl.len().over("user_id") >= items_per_user)
        pairs = pairs.filter(pl.len().over("item_id") >= users_per_item)
        if pairs.height == before:
            return events.join(pairs, on=["user_id", "item_id"], how="semi", maintain_order="left")
