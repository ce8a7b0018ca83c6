"""An item is not listed before its date, and what is fresh is the newest of what is listed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from ranking_world import HOME, NOW, ids, names, rank

from model.features import DAY
from server.registry import Registry
from server.serving.engine import Engine
from server.serving.pools import pools_of
from server.serving.query import Surface


@pytest.fixture
def dated(run_folder: Path, registry: Registry, catalogue: pl.DataFrame) -> Engine:
    """Items 0 to 19 come on the 20 days after now, the next 20 came on the days before, the rest has no date."""
    days = [row + 1 if row < 20 else 20 - row if row < 40 else None for row in range(60)]
    listed_at = [None if day is None else NOW + day * DAY for day in days]
    path = run_folder / "dated.parquet"
    catalogue.with_columns(pl.Series("listed_at", listed_at)).write_parquet(path)
    return Engine.load(registry, path)


def test_no_surface_lists_an_item_before_its_date(dated: Engine) -> None:
    """Nor does a filter bring it up, nor a search for its words; on its date it is there."""
    for surface in Surface:
        query = replace(HOME, surface=surface, k=60, words="tea coffee 茶", item_id="item-40")
        for categories in ([], ["Grocery"]):
            query = replace(query, categories=categories, timestamp=NOW)
            early = rank(dated, query)
            assert len(early.items) and early.items.min() >= 20, surface
            later = rank(dated, replace(query, timestamp=NOW + 5 * DAY))
            listed = set(range(5, 20)) & set(later.items.tolist())
            assert not listed and later.items.min() < 5, surface


def test_the_freshest_are_the_newest_of_what_is_listed_by_now(
    dated: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those to come, at the moment of the question whatever it is."""
    monkeypatch.setattr("server.serving.pools.FRESHEST", 3)
    freshest = pools_of(dated.snapshot).freshest
    assert names(np.sort(freshest(NOW))) == names([20, 21, 22])
    assert names(np.sort(freshest(NOW - 10 * DAY))) == names([30, 31, 32])
    assert names(np.sort(freshest(NOW + 99 * DAY))) == names([17, 18, 19])
    assert names(freshest(NOW - 99 * DAY)) == []
    assert len(ids(rank(dated, replace(HOME, timestamp=NOW - 99 * DAY, k=60)))) == 20
