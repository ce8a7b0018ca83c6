"""The public catalogue file: read back in model order, and refused with a reason when it is not one."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from model.catalogue import item_columns, read_public_items
from model.content import item_features
from model.errors import FeatureError

TABLE = pl.DataFrame(
    {
        "item_id": ["b7", "a1", "茶", "a0"],
        "title": ["Mug", None, "绿茶", "Pot"],
        "category": ["Kitchen|Mugs", None, "Tea", "Kitchen"],
        "brand": [None, "Acme", "Acme", None],
        "price": [3.5, None, 12.0, 0.0],
        "description": [None, None, "龙井", "A pot"],
        "merchant_id": ["m2", "m1", "m2", "m1"],
    }
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A catalogue file with missing values and an item id that is not ASCII."""
    path = tmp_path / "catalogue.parquet"
    TABLE.write_parquet(path)
    return path


def test_the_catalogue_comes_back_in_the_order_of_the_file(path: Path) -> None:
    """Item indices are row numbers; facts that are unknown are None."""
    items = read_public_items(path)
    assert len(items) == 4
    assert items.item_ids == ("b7", "a1", "茶", "a0")
    assert items.index == {"b7": 0, "a1": 1, "茶": 2, "a0": 3}
    assert list(items.columns.titles) == ["Mug", None, "绿茶", "Pot"]
    assert list(items.columns.prices) == [3.5, None, 12.0, 0.0]


def test_merchants_own_their_items_in_ascending_order(path: Path) -> None:
    """A merchant's indices cover its rows and nobody else's; one that is not there owns nothing."""
    items = read_public_items(path)
    assert items.of_merchant("m1").tolist() == [1, 3]
    assert items.of_merchant("m2").tolist() == [0, 2]
    assert items.of_merchant("m3").tolist() == []
    assert items.merchant_codes().tolist() == [1, 0, 1, 0]


def test_a_catalogue_gives_features_for_every_row(path: Path) -> None:
    """The columns of the file are what the content features take."""
    assert item_features(read_public_items(path).columns).shape[0] == 4
    assert list(item_columns(TABLE).brands) == [None, "Acme", "Acme", None]


@pytest.mark.parametrize("column", TABLE.columns)
def test_a_file_without_a_column_is_refused(tmp_path: Path, column: str) -> None:
    """Every declared column is needed; the message says how to make a right file."""
    path = tmp_path / "catalogue.parquet"
    TABLE.drop(column).write_parquet(path)
    with pytest.raises(FeatureError, match="make it with fedrank simulate"):
        read_public_items(path)


def test_a_missing_or_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    """No file, and a file that is no Parquet, are the same error with the path in it."""
    with pytest.raises(FeatureError, match=r"absent\.parquet is not a catalogue file"):
        read_public_items(tmp_path / "absent.parquet")
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(b"not a table")
    with pytest.raises(FeatureError, match=r"damaged\.parquet is not a catalogue file"):
        read_public_items(damaged)


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        (["a1", "b7", "a1", "b7"], "2 item ids stand there more than once, the first is 'a1'"),
        (["a1", None, "b7", "a0"], "1 of 4 items have no item_id"),
    ],
)
def test_an_item_that_stands_twice_or_has_no_id_is_refused(
    tmp_path: Path, ids: list[str | None], reason: str
) -> None:
    """An event would find two items, or none; the message counts them and says what to do."""
    path = tmp_path / "catalogue.parquet"
    TABLE.with_columns(pl.Series("item_id", ids)).write_parquet(path)
    with pytest.raises(FeatureError, match=reason):
        read_public_items(path)
