"""The field of a question: a merchant's name means that merchant, a category's what is below it too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from ranking_world import HOME, NOW, ids, names, rank

from model.features import DAY
from server.registry import Registry
from server.serving.engine import Engine
from server.serving.promotions import SCHEMA
from server.serving.query import Surface

MERCHANTS = ("shop", "shop/eu", "shop > eu", "Shop")
PATHS = (
    "Food",
    "Food > Tea",
    "Food > Tea > Green",
    "Food|Tea",
    "Food/",
    "Foodstuff > Tea",
    "Non > Food",
    None,
)


@pytest.fixture
def engine(run_folder: Path, registry: Registry, catalogue: pl.DataFrame) -> Engine:
    """Merchants and categories whose names begin alike."""
    path = run_folder / "named.parquet"
    merchants = pl.Series("merchant_id", [MERCHANTS[row % 4] for row in range(60)])
    paths = pl.Series("category", [PATHS[row % 8] for row in range(60)])
    catalogue.with_columns(merchants, paths).write_parquet(path)
    return Engine.load(registry, path)


@pytest.mark.parametrize("place", range(4))
def test_a_merchant_is_named_whole(engine: Engine, place: int) -> None:
    """What looks like a path below a merchant is another merchant."""
    ranking = rank(engine, replace(HOME, k=60, merchants=[MERCHANTS[place]]))
    assert sorted(ids(ranking)) == names(range(place, 60, 4))


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        (["Food"], {0, 1, 2, 3, 4}),
        (["Food > Tea"], {1, 2}),
        (["Food > Tea > Green", "Food|Tea"], {2, 3}),
        (["Food >"], set()),
        (["Foo"], set()),
        (["Tea"], set()),
        ([""], {7}),
    ],
)
def test_a_category_is_named_by_its_path_or_the_beginning_of_it(
    engine: Engine, asked: list[str], meant: set[int]
) -> None:
    """Whole parts only, whatever mark separates them; an empty name is that of the items without category."""
    ranking = rank(engine, replace(HOME, k=60, categories=asked))
    assert set(ids(ranking)) == {f"item-{row:02d}" for row in range(60) if row % 8 in meant}


def promote(folder: Path, starts: Sequence[int], ends: Sequence[int]) -> None:
    """Write promotions of the first items."""
    rows = [
        dict.fromkeys(SCHEMA) | {"promotion_id": f"p{row}", "item_id": f"item-{row:02d}", "kind": "discount"}
        for row in range(len(starts))
    ]
    table = pl.DataFrame(rows, schema=dict(SCHEMA))
    table.with_columns(starts=pl.Series(starts), ends=pl.Series(ends)).write_parquet(
        folder / "promotions.parquet"
    )


@pytest.mark.parametrize(
    ("starts", "ends", "notices"),
    [
        (
            [NOW + 9, NOW - 9, NOW - 9],
            [NOW + 99, NOW, NOW - 1],
            ("of 3 promotions none is valid at this moment",),
        ),
        ([NOW + 9, NOW - 9, NOW - 9], [NOW + 99, NOW + 1, NOW - 1], ()),
    ],
)
def test_that_no_promotion_is_valid_now_is_said(
    run_folder: Path, registry: Registry, starts: list[int], ends: list[int], notices: tuple[str, ...]
) -> None:
    """An empty page is then no riddle; of a page with something on it nothing is said."""
    promote(run_folder, starts, ends)
    engine = Engine.load(registry, run_folder / "catalogue.parquet")
    ranking = rank(engine, replace(HOME, surface=Surface.PROMOTION))
    assert ranking.notices == notices
    assert len(ranking.items) == (0 if notices else 1)


@pytest.mark.parametrize(
    ("surface", "column", "notice"),
    [
        (
            Surface.NEW_ARRIVALS,
            {"listed_at": NOW - 31 * DAY},
            "of 60 items none was listed in the 30 days before this moment",
        ),
        (Surface.NEW_ARRIVALS, {"new_arrival": False}, "of 60 items the shop flags none with new_arrival"),
        (Surface.PROMOTION, {"promotion": False}, "of 60 items the shop flags none with promotion"),
    ],
)
def test_that_nothing_is_new_or_flagged_is_said(
    run_folder: Path,
    registry: Registry,
    catalogue: pl.DataFrame,
    surface: Surface,
    column: Mapping[str, Any],
    notice: str,
) -> None:
    """As of promotions, whether the shop tells it by dates or by flags."""
    path = run_folder / "more.parquet"
    catalogue.with_columns(pl.lit(value).alias(name) for name, value in column.items()).write_parquet(path)
    ranking = rank(Engine.load(registry, path), replace(HOME, surface=surface))
    assert (len(ranking.items), ranking.notices) == (0, (notice,))
