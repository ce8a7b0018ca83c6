"""Which items an answer may list: filters, flags, stock and freshness, with an exact index and with another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from ranking_world import HOME, NOW, bought, ids, names, rank

from model.features import DAY
from model.schema import Weights
from server.registry import Registry
from server.serving.engine import Engine
from server.serving.pools import freshness
from server.serving.query import Surface


def with_columns(
    registry: Registry, folder: Path, catalogue: pl.DataFrame, **columns: Sequence[Any]
) -> Engine:
    """An engine over the catalogue with more columns."""
    path = folder / "more.parquet"
    catalogue.with_columns(*(pl.Series(name, values) for name, values in columns.items())).write_parquet(path)
    return Engine.load(registry, path)


def test_only_the_categories_and_merchants_asked_for_are_listed(engine: Engine) -> None:
    """A category means what is below it too; filters hold together; an unknown name leaves nothing and says so."""
    shelf = rank(engine, replace(HOME, k=60, categories=["Grocery > shelf 1"]))
    assert set(ids(shelf)) == set(names(range(1, 60, 4)))
    assert len(rank(engine, replace(HOME, k=60, categories=["Grocery"])).items) == 60
    assert len(rank(engine, replace(HOME, k=60, categories=["Groc"])).items) == 0
    both = rank(engine, replace(HOME, k=60, categories=["Grocery > shelf 1"], merchants=["merchant-0"]))
    assert set(ids(both)) == {f"item-{row:02d}" for row in range(60) if row % 4 == 1 and row % 3 == 0}
    nobody = rank(engine, replace(HOME, merchants=["nobody"]))
    assert ids(nobody) == [] and "no item here has any of the merchant_ids" in nobody.notices[0]
    detail = replace(HOME, surface=Surface.DETAIL, item_id="item-01", k=60, merchants=["merchant-1"])
    assert set(ids(rank(engine, detail))) == set(names(range(4, 60, 3)))


def test_hidden_items_are_in_no_answer_of_any_surface(engine: Engine) -> None:
    """Even where all but one are hidden, the one is found."""
    hidden = names(range(1, 60))
    for surface in Surface:
        query = replace(HOME, surface=surface, k=60, hidden=hidden, words="coffee tea", item_id="item-07")
        assert ids(rank(engine, query)) == ["item-00"], surface


def test_what_was_dismissed_is_in_no_answer_of_any_surface(engine: Engine) -> None:
    """In the history or in this session; unless the caller asks for what was seen."""
    for surface in Surface:
        query = replace(HOME, surface=surface, k=60, words="coffee tea", item_id="item-07", segment=0)
        for told in ({"history": bought(8, kind="dismiss")}, {"session": bought(8, kind="dismiss")}):
            asked = replace(query, history=told.get("history"), session=told.get("session", ()))
            assert "item-08" not in ids(rank(engine, asked)), surface
            assert "item-08" in ids(rank(engine, replace(asked, exclude_seen=False))), surface


def test_what_is_out_of_stock_or_hidden_by_the_shop_is_in_no_answer(
    registry: Registry, run_folder: Path, catalogue: pl.DataFrame
) -> None:
    """The catalogue's columns `in_stock` and `hidden`; the item may still be in a history."""
    stock = [row % 2 == 0 for row in range(60)]
    engine = with_columns(
        registry, run_folder, catalogue, in_stock=stock, hidden=[row < 10 for row in range(60)]
    )
    for surface in Surface:
        query = replace(
            HOME, surface=surface, k=60, words="tea coffee 绿茶", item_id="item-11", history=bought(11, 12)
        )
        assert set(ids(rank(engine, query))) <= set(names(range(10, 60, 2))), surface
    assert rank(engine, replace(HOME, history=bought(11))).unknown_history_items == 0


def test_flagged_surfaces_list_flagged_items_and_say_where_there_are_no_flags(
    engine: Engine, run_folder: Path, registry: Registry, catalogue: pl.DataFrame
) -> None:
    """With a column `new_arrival` only its items are listed; without one all are, with a notice."""
    query = replace(HOME, surface=Surface.NEW_ARRIVALS, k=60)
    unflagged = rank(engine, query)
    assert len(unflagged.items) == 60
    assert "no column new_arrival" in unflagged.notices[0]
    marks = [None if row == 7 else row % 6 == 0 for row in range(60)]
    flagged = rank(with_columns(registry, run_folder, catalogue, new_arrival=marks), query)
    assert set(ids(flagged)) == set(names(range(0, 60, 6)))
    assert flagged.notices == ()


def test_new_arrivals_are_what_was_listed_in_the_last_thirty_days_and_the_newest_lead(
    run_folder: Path, registry: Registry, catalogue: pl.DataFrame, weights: Weights
) -> None:
    """Where there are dates and no flag; freshness counts by the weight of the surface, halved every 30 days."""
    plain = {**weights, "item_id": 0 * weights["item_id"], "content": 0 * weights["content"]}
    registry.promote(registry.add({**plain, "item_bias": 0 * weights["item_bias"]}, {}).version)
    listed = [NOW - row * DAY for row in range(60)]
    engine = with_columns(registry, run_folder, catalogue, listed_at=listed)
    ranking = rank(engine, replace(HOME, surface=Surface.NEW_ARRIVALS, k=60))
    assert ids(ranking) == names(range(30))
    np.testing.assert_allclose(ranking.scores, [2 ** (-row / 30) for row in range(30)], rtol=1e-4)


def test_freshness_is_nothing_for_an_unknown_date_or_one_to_come(
    run_folder: Path, registry: Registry, catalogue: pl.DataFrame
) -> None:
    """An item that will be listed tomorrow is not fresh today."""
    listed = [None, NOW + DAY, NOW, NOW - 60 * DAY, *[None] * 56]
    table = with_columns(registry, run_folder, catalogue, listed_at=listed).snapshot.items
    np.testing.assert_allclose(freshness(table, np.arange(4), NOW), [0, 0, 1, 0.25])


def test_a_search_for_candidates_widens_until_enough_are_left(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the items of a field are scored one by one or searched for, the answer is the same."""
    questions = [
        replace(HOME, k=5, hidden=names(range(40))),
        replace(HOME, k=5, merchants=["merchant-2"], history=bought(*range(2, 40, 3))),
        replace(HOME, k=60, categories=["Grocery > shelf 3"]),
    ]
    listed = [ids(ranking) for ranking in engine.rank(questions)]
    monkeypatch.setattr("server.serving.nearest.LARGEST_LISTED", 2)
    monkeypatch.setattr("server.serving.nearest._WIDER", 2)
    assert [ids(ranking) for ranking in engine.rank(questions)] == listed


def test_an_index_that_is_not_exact_is_helped_by_the_popular_and_the_fresh(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, weights: Weights
) -> None:
    """An item that the index misses is found where it is among the most popular."""
    index = engine.snapshot.index
    found = index.search
    best = ids(rank(engine, HOME))[0]
    row = int(best.removeprefix("item-"))

    def without_the_best(queries: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
        items, scores = found(queries, m)
        return np.where(items == row, -1, items), scores

    monkeypatch.setattr(index, "search", without_the_best)
    monkeypatch.setattr(index, "exact", False)
    assert ids(rank(engine, HOME))[0] == best
