"""Items as columns: ids of any script are found again, and texts are what an answer would carry."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.fedrank.ranking.v1 import ranking_pb2 as pb
from server.serving import items as module
from server.serving.catalogue import read_catalogue
from server.serving.items import ItemTable, columns_of

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)


def table_of(ids: list[str], **columns: Sequence[Any]) -> pl.DataFrame:
    """A catalogue table with these ids; every other column is empty unless given."""
    plain = {"title": None, "category": None, "merchant_id": "shop"}
    frame = pl.DataFrame({"item_id": ids})
    return frame.with_columns(
        *(
            pl.Series(name, columns.get(name, [value] * len(ids)), dtype=pl.String)
            for name, value in plain.items()
        ),
        *(pl.Series(name, value) for name, value in columns.items() if name not in plain),
    )


@given(st.lists(TEXTS, unique=True, max_size=40), st.lists(st.text(max_size=20), max_size=10))
def test_every_id_is_found_in_its_row_and_no_other_is(ids: list[str], others: list[str]) -> None:
    """Ids of any script and length, in any order, asked for twice."""
    items = ItemTable(columns_of(table_of(ids)))
    rows = {item_id: row for row, item_id in enumerate(ids)}
    asked = [*others, *reversed(ids), *others]
    expected = [rows.get(item_id, -1) for item_id in asked]
    assert items.find(asked).tolist() == expected
    assert items.find(asked).tolist() == expected


def test_ids_that_share_a_hash_are_told_apart() -> None:
    """`plumless` and `buckeroo` have one CRC-32, the textbook collision."""
    items = ItemTable(columns_of(table_of(["plumless", "other"])))
    assert items.find(["plumless", "buckeroo"]).tolist() == [0, -1]


def test_a_process_forgets_bytes_rather_than_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for two items, all five are still read."""
    monkeypatch.setattr(module, "REMEMBERED", 2)
    ids = [f"item-{row}" for row in range(5)]
    items = ItemTable(columns_of(table_of(ids)))
    assert [items.item_id(row) for row in [*range(5), *range(5)]] == ids * 2


@given(TEXTS, TEXTS, st.none() | TEXTS, st.none() | TEXTS)
def test_the_encoded_item_is_what_protobuf_makes_of_it(
    item_id: str, merchant_id: str, title: str | None, category: str | None
) -> None:
    """An answer may copy it as it is, and each text can be read back."""
    table = table_of([item_id], title=[title], category=[category], merchant_id=[merchant_id])
    items = ItemTable(columns_of(table))
    message = pb.RankedItem(item_id=item_id, merchant_id=merchant_id, title=title or "")
    assert items.wire(0) == message.SerializeToString()
    read = (items.item_id(0), items.merchant_id(0), items.title(0), items.category(0))
    assert read == (item_id, merchant_id, title or "", category or "")


def test_items_out_of_stock_or_hidden_are_not_servable() -> None:
    """An unknown state counts as in stock and shown."""
    table = table_of(
        list("abcde"), in_stock=[True, False, None, True, True], hidden=[None, False, False, True, False]
    )
    assert ItemTable(columns_of(table)).servable.tolist() == [True, False, True, False, True]


def test_flags_and_times_that_a_catalogue_lacks_are_absent() -> None:
    """A surface can tell "no such column" from "no such item"."""
    items = ItemTable(columns_of(table_of(["a", "b"], promotion=[True, None])))
    assert items.flags["promotion"].tolist() == [True, False]
    assert "new_arrival" not in items.flags
    assert items.listed_at.tolist() == [-1, -1]


@pytest.mark.parametrize("listed_at", [[1_700_000_000, None], [datetime(2023, 11, 14, 22, 13, 20), None]])
def test_times_of_listing_are_read_as_seconds_or_dates(
    run_folder: Path, catalogue: pl.DataFrame, listed_at: list[object]
) -> None:
    """Both forms of one moment give the same number."""
    path = run_folder / "catalogue.parquet"
    catalogue.head(2).with_columns(pl.Series("listed_at", listed_at)).write_parquet(path)
    columns = columns_of(read_catalogue(path).table)
    np.testing.assert_array_equal(columns["listed_at"], [1_700_000_000, -1])
