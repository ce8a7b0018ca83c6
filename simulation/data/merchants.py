"""Which merchant owns an item: a column, a named item attribute, or a stable hash.

Hashes are BLAKE2b of the text, so that a merchant is the same in every process and on every machine. No
item is ever dropped: what belongs to nobody big enough joins a group of small merchants.
"""

from __future__ import annotations

from hashlib import blake2b
from heapq import heapreplace

import polars as pl

from simulation.data.mapping import MerchantRule

_SCHEMA: dict[str, type[pl.DataType]] = {"item_id": pl.String, "merchant_id": pl.String}


def stable_bucket(text: str, buckets: int) -> int:
    """Return a bucket in 0..buckets-1 that depends on `text` alone."""
    return _digest(text) % buckets


def hashed(items: pl.Series, rule: MerchantRule) -> tuple[pl.DataFrame, str]:
    """Return (item_id, merchant_id) with items hashed into `rule.hashed_into` merchants, and words for the report."""
    width = len(str(rule.hashed_into))
    names = [f"merchant-{stable_bucket(item, rule.hashed_into) + 1:0{width}}" for item in items]
    frame = pl.DataFrame({"item_id": items, "merchant_id": names}, schema=_SCHEMA)
    return frame, f"items hashed into {rule.hashed_into} merchants"


def by_attribute(values: pl.DataFrame, rule: MerchantRule) -> tuple[pl.DataFrame, str]:
    """Merchants are the attribute values (item_id, value) with at least `rule.minimum_items` items.

    The items of rarer values, and items without a value, are grouped; a value stays whole. Returns (item_id,
    merchant_id) and words for the report.
    """
    frame, groups = _grouped(values, rule, minimum=rule.minimum_items)
    rest = f"; the rest in {groups} groups" if groups else ""
    return frame, f"item attribute {rule.name} (>= {rule.minimum_items} items{rest})"


def by_column(values: pl.DataFrame, rule: MerchantRule, column: str) -> tuple[pl.DataFrame, str]:
    """Merchants are the values (item_id, value) of a merchant column; items without one are grouped."""
    frame, groups = _grouped(values, rule, minimum=1)
    missing = values["value"].null_count()
    return frame, f"column {column}" + (
        f" ({missing} items without one in {groups} groups)" if groups else ""
    )


def most_frequent(events: pl.DataFrame) -> pl.DataFrame:
    """Return (item_id, value): the merchant that most events of an item name; the first in order for a tie."""
    counts = events.group_by("item_id", "merchant_id").len()
    ranked = counts.sort("item_id", "len", "merchant_id", descending=[False, True, False])
    return ranked.unique("item_id", keep="first", maintain_order=True).select(
        "item_id", value=pl.col("merchant_id")
    )


def _grouped(values: pl.DataFrame, rule: MerchantRule, *, minimum: int) -> tuple[pl.DataFrame, int]:
    """Keep values with `minimum` items; the others, each whole, go to groups of near equal size."""
    counted = values.with_columns(items=pl.len().over("value"))
    big = pl.col("value").is_not_null() & (pl.col("items") >= minimum)
    small = counted.filter(~big.fill_null(False)).with_columns(key=pl.coalesce("value", "item_id"))
    sizes = small.group_by("key").len().rows()
    group_of = _balanced(dict(sizes), groups=min(rule.small_groups, small.height // rule.minimum_items))
    names = [f"small-merchants-{group_of[key] + 1}" for key in small["key"]]
    parts = [
        counted.filter(big).select("item_id", merchant_id="value"),
        pl.DataFrame({"item_id": small["item_id"], "merchant_id": names}, schema=_SCHEMA),
    ]
    return pl.concat(parts), len(set(names))


def _balanced(sizes: dict[str, int], *, groups: int) -> dict[str, int]:
    """Return key -> group: keys in hash order, each to the group with fewest items so far (at least one group).

    Group sizes then differ by at most the largest key.
    """
    heap = [(0, group) for group in range(max(1, groups))]
    group_of: dict[str, int] = {}
    for key in sorted(sizes, key=lambda key: (_digest(key), key)):
        items, group = heap[0]
        heapreplace(heap, (items + sizes[key], group))
        group_of[key] = group
    return group_of


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8, person=b"merchants").digest(), "big")
