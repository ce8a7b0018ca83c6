"""The field of a question: a merchant's name means that merchant, a category's what is below it too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from ranking_world import HOME, ids, names, rank

from server.registry import Registry
from server.serving.engine import Engine

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
