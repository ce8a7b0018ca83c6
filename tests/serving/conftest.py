"""A small marketplace with a random model: what the tests of the ranking endpoint serve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from model.content import CONTENT_FEATURES
from model.schema import Schema, Weights
from server.registry import Registry
from server.serving.engine import Engine

ITEMS = 60
DIM = 8
THINGS = (
    "dark coffee",
    "green tea",
    "绿茶 茶叶",
    "红茶",
    "Earl Grey tea",
    "paper cups",
    "carpet café",
    "Tea POT",
)


@pytest.fixture(scope="session")
def catalogue() -> pl.DataFrame:
    """60 items of 3 merchants; titles in English and Chinese; every tenth without a title."""
    rows = range(ITEMS)
    return pl.DataFrame(
        {
            "item_id": [f"item-{row:02d}" for row in rows],
            "title": [None if row % 10 == 9 else f"{THINGS[row % 8]} {row}" for row in rows],
            "category": [f"Grocery > shelf {row % 4}" for row in rows],
            "brand": [f"brand{row % 5}" for row in rows],
            "price": [None if row % 7 == 0 else 1.5 * row for row in rows],
            "description": pl.Series([None] * ITEMS, dtype=pl.String),
            "merchant_id": [f"merchant-{row % 3}" for row in rows],
        }
    )


@pytest.fixture(scope="session")
def weights() -> Weights:
    """Random parameters of the declared shapes."""
    schema = Schema(items=ITEMS, content_features=CONTENT_FEATURES, dim=DIM)
    generator = np.random.default_rng(7)
    drawn = {
        name: generator.normal(0, 0.5, shape).astype(np.float32) for name, shape in schema.shapes().items()
    }
    return {
        **drawn,
        "gain": np.ones(DIM, dtype=np.float32),
        "prior_scale": np.full(1, 0.1, dtype=np.float32),
    }


@pytest.fixture
def run_folder(tmp_path: Path, catalogue: pl.DataFrame, weights: Weights) -> Path:
    """A run folder with a catalogue and one promoted version."""
    catalogue.write_parquet(tmp_path / "catalogue.parquet")
    registry = Registry(tmp_path / "registry")
    registry.promote(registry.add(weights, {"schema": {"items": ITEMS, "dim": DIM}}).version)
    return tmp_path


@pytest.fixture
def registry(run_folder: Path) -> Registry:
    """The registry of the run folder."""
    return Registry(run_folder / "registry")


@pytest.fixture
def engine(run_folder: Path, registry: Registry) -> Engine:
    """The promoted version over the whole catalogue."""
    return Engine.load(registry, run_folder / "catalogue.parquet")
