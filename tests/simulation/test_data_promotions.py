"""Promotions and listing dates: public facts of the shops, and nothing that shoppers did."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from federation_world import population
from test_data_sets import NOW

from simulation.data import Dataset, check, load
from simulation.data.dataset import PROMOTION_SCHEMA
from simulation.data.promotions import LEAST_SHOPS, read_promotions, week_start
from simulation.population import PROMOTIONS_FILE, write_catalogue
from simulation.staging import install, new_stage


@pytest.fixture(scope="module")
def embedded() -> Dataset:
    """The embedded set."""
    return load(None)


def _package(folder: Path) -> Path:
    """A tiny package: product 1 is mailed by enough shops in week 30, product 2 by one too few; one coupon."""
    shops = [(1, shop, "0", "A", 30) for shop in range(LEAST_SHOPS)]
    shops += [(2, shop, "0", "A", 30) for shop in range(LEAST_SHOPS - 1)]
    shops += [(2, shop, "5", "0", 31) for shop in range(LEAST_SHOPS)] + [
        (1, 0, "5", "A", 2),
        (9, 1, "5", "A", 30),
    ]
    names = ["product_id", "store_id", "display_location", "mailer_location", "week"]
    pl.DataFrame(shops, schema=names, orient="row").write_parquet(folder / "promotions.parquet")
    days = {
        "start_date": [datetime(2017, 7, 1)] * 2,
        "end_date": [datetime(2017, 8, 1), datetime(2017, 7, 9)],
    }
    pl.DataFrame({"campaign_id": [4, 5], **days}).write_parquet(folder / "campaign_descriptions.parquet")
    coupons = {"coupon_upc": [70, 70, 71], "product_id": [2, 2, 1], "campaign_id": [4, 4, 5]}
    pl.DataFrame(coupons).write_parquet(folder / "coupons.parquet")
    return folder


def test_mailers_displays_and_coupons_become_promotions_with_their_validity(tmp_path: Path) -> None:
    """Enough shops, the cut's weeks and its goods; a coupon's last day counts whole, repeated lines once."""
    goods = pl.DataFrame({"item_id": ["1", "2"]})
    found = read_promotions(_package(tmp_path), goods, first_week=30)
    assert dict(found.schema) == {name: kind() for name, kind in PROMOTION_SCHEMA.items()}
    assert found.select("promotion_id", "item_id", "kind", "starts", "ends").rows() == [
        ("coupon-70-4", "2", "coupon", 1_498_881_600, 1_501_646_400),
        ("mailer-30", "1", "mailer", week_start(30), week_start(31)),
        ("display-31", "2", "display", week_start(31), week_start(32)),
    ]
    assert found["text"].to_list()[0] == "coupon, valid until 2017-08-01"


def test_the_weeks_of_promotions_are_those_of_the_purchases(embedded: Dataset) -> None:
    """Every week of the cut has promotions, and every purchase falls into one of these weeks, summer time or not."""
    assert embedded.promotions is not None
    weekly = embedded.promotions.filter(pl.col("kind") != "coupon").select("starts", "ends").unique()
    assert weekly.height == 26
    inside = embedded.events.select("timestamp").join_where(
        weekly, pl.col("timestamp") >= pl.col("starts"), pl.col("timestamp") < pl.col("ends")
    )
    assert inside.height == embedded.events.height


def test_promotions_of_the_embedded_set_name_its_items_and_invent_no_discount(embedded: Dataset) -> None:
    """No promotion without an item of the catalogue; what the package does not tell stays unknown."""
    found = embedded.promotions
    assert found is not None and found.join(embedded.items, on="item_id", how="anti").height == 0
    assert found.select("promotion_id", "item_id").is_duplicated().sum() == 0
    assert found["discount"].null_count() == found["least_quantity"].null_count() == found.height
    assert (found["starts"] < found["ends"]).all()
    assert set(found["kind"]) == {"mailer", "display", "coupon"}


def test_items_in_a_mailer_are_bought_more_than_a_week_later(embedded: Dataset) -> None:
    """The weeks of the two tables fit each other."""
    assert embedded.promotions is not None
    mailed = embedded.promotions.filter(pl.col("kind") == "mailer").select("item_id", "starts")
    weeks = pl.DataFrame({"week": range(28, 54)}).with_columns(
        starts=pl.col("week").map_elements(week_start, pl.Int64)
    )
    bought = embedded.events.sort("timestamp").join_asof(weeks, left_on="timestamp", right_on="starts")
    later = bought.drop("starts").with_columns(week=pl.col("week") + 1).join(weeks, on="week")
    there, after = (
        rows.join(mailed, on=["item_id", "starts"], how="semi").height for rows in (bought, later)
    )
    assert there > 1.5 * after


@pytest.mark.parametrize("listed", ["2025-01-02T00:00:00Z", "1735776000", "1735776000000"])
def test_a_shops_listing_date_is_read_in_any_form_of_time(tmp_path: Path, listed: str) -> None:
    """ISO, seconds and milliseconds give one Unix second; an empty cell stays unknown."""
    (tmp_path / "events.csv").write_text("user_id,item_id\nu,a\nu,b\n", encoding="utf-8")
    (tmp_path / "items.csv").write_text(f"item_id,title,listed_at\na,A,{listed}\nb,B,\n", encoding="utf-8")
    items = load(tmp_path).items
    assert dict(items.select("item_id", "listed_at").iter_rows()) == {"a": 1_735_776_000, "b": None}
    write_catalogue(items, tmp_path / "catalogue.parquet")
    assert pl.read_parquet(tmp_path / "catalogue.parquet")["listed_at"].to_list() == [1_735_776_000, None]


def test_a_listing_date_that_cannot_be_read_rejects_its_row(tmp_path: Path) -> None:
    """The item stays by its events, without what the row said."""
    (tmp_path / "events.csv").write_text("user_id,item_id\nu,a\nu,b\n", encoding="utf-8")
    rows = "item_id,title,listed_at\na,A,2025-01-02\nb,B,last spring\n"
    (tmp_path / "items.csv").write_text(rows, encoding="utf-8")
    report = check(tmp_path, now=NOW)
    assert [(one.column, one.reason) for one in report.rejected] == [
        ("listed_at", "is not a time from 1970 to 2100 in the format 'iso'")
    ]


def test_a_catalogue_without_listing_dates_has_no_such_column(embedded: Dataset, tmp_path: Path) -> None:
    """Nobody then takes an empty column for a shop that lists nothing new."""
    write_catalogue(embedded.items, tmp_path / "catalogue.parquet")
    assert "listed_at" not in pl.read_parquet_schema(tmp_path / "catalogue.parquet")


def test_a_run_without_promotions_leaves_none_of_the_run_before_it(tmp_path: Path) -> None:
    """The new population's promotions replace the old ones, and where it has none they go."""
    old = population(tmp_path)
    for content in (b"new", None):
        stage = new_stage(tmp_path)
        for part in ("catalogue.parquet", "participants.json", *([PROMOTIONS_FILE] if content else [])):
            (stage / part).write_bytes(b"new")
        (stage / "store").mkdir()
        install(replace(old, folder=stage), tmp_path)
        assert (tmp_path / PROMOTIONS_FILE).exists() is (content is not None)
