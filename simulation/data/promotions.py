"""Promotions of the embedded set: weekly mailers, displays and coupons, as public facts of the shops.

Only what the shops announced is read, never who bought or redeemed what. How much a promotion takes off the price is
not published, so `discount` and `least_quantity` stay unknown.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from simulation.data.dataset import PROMOTION_SCHEMA

SECOND_WEEK = datetime(2017, 1, 2)
"""The Monday on which week 2 begins; every later week begins seven days after the one before it."""
ZONE = "America/New_York"
"""Where the shops' days begin: the set's weeks change at that midnight, and move with its summer time."""
LEAST_SHOPS = 28
"""A mailer or display counts where at least a quarter of the 112 shops have it: a catalogue knows no single shop."""
WORDS = {"mailer": "in this week's mailer", "display": "on display in the shops this week"}


def read_promotions(folder: Path, items: pl.DataFrame, first_week: int) -> pl.DataFrame:
    """Return `PROMOTION_SCHEMA` for the items (item_id) of the cut that begins with `first_week`.

    `folder` holds the package's promotions, coupons and campaign_descriptions.
    """
    goods = items.select("item_id", product_id=pl.col("item_id").cast(pl.Int64))
    parts = [_weekly(folder, goods, first_week), _coupons(folder, goods, week_start(first_week))]
    return pl.concat(parts).sort("starts", "promotion_id", "item_id")


def week_start(week: int) -> int:
    """Return the moment, in Unix seconds, at which a week of the set (2 or later) begins."""
    monday = pl.lit(SECOND_WEEK + timedelta(weeks=week - 2))
    return int(pl.select(_midnight(monday)).item())


def _midnight(day: pl.Expr) -> pl.Expr:
    """Return the Unix seconds at which a calendar day begins in the shops."""
    return day.cast(pl.Datetime("us")).dt.replace_time_zone(ZONE).dt.epoch("s")


def _weekly(folder: Path, goods: pl.DataFrame, first_week: int) -> pl.DataFrame:
    """One promotion per week and kind, over all items that enough shops have in it."""
    shops = (
        pl.scan_parquet(folder / "promotions.parquet")
        .filter(pl.col("week") >= first_week)
        .join(goods.lazy(), on="product_id", how="semi")
        .group_by("product_id", "week")
        .agg((pl.col(f"{kind}_location") != "0").sum().alias(kind) for kind in WORDS)
        .collect()
    )
    long = shops.unpivot(
        on=list(WORDS), index=["product_id", "week"], variable_name="kind", value_name="shops"
    )
    monday = pl.lit(SECOND_WEEK) + pl.duration(weeks=pl.col("week") - 2)
    return _shaped(
        long.filter(pl.col("shops") >= LEAST_SHOPS)
        .join(goods, on="product_id")
        .with_columns(
            promotion_id=pl.concat_str("kind", "week", separator="-"),
            text=pl.col("kind").replace_strict(WORDS),
            starts=_midnight(monday),
            ends=_midnight(monday + pl.duration(weeks=1)),
        )
    )


def _coupons(folder: Path, goods: pl.DataFrame, since: int) -> pl.DataFrame:
    """One promotion per coupon and campaign that is valid at or after `since`; the last day counts whole."""
    campaigns = pl.read_parquet(folder / "campaign_descriptions.parquet").select(
        "campaign_id",
        last="end_date",
        starts=_midnight(pl.col("start_date")),
        ends=_midnight(pl.col("end_date") + pl.duration(days=1)),
    )
    coupons = pl.read_parquet(folder / "coupons.parquet").join(goods, on="product_id").unique()
    return _shaped(
        coupons.join(campaigns.filter(pl.col("ends") > since), on="campaign_id").with_columns(
            promotion_id=pl.concat_str(pl.lit("coupon"), "coupon_upc", "campaign_id", separator="-"),
            kind=pl.lit("coupon"),
            text=pl.lit("coupon, valid until ") + pl.col("last").dt.strftime("%Y-%m-%d"),
        )
    )


def _shaped(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the columns of `PROMOTION_SCHEMA`, what is not known being null."""
    unknown = [
        pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in PROMOTION_SCHEMA.items()
        if name not in rows.columns
    ]
    return rows.with_columns(unknown).select(*PROMOTION_SCHEMA).cast(pl.Schema(PROMOTION_SCHEMA))
