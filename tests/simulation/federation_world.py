"""A small shopping world: 120 shoppers, 60 items, 4 merchants, and tastes that a model can find."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from model.catalogue import PublicItems, read_public_items
from model.content import ItemColumns
from model.encoders import EncoderName
from privacy.plan import Trust
from server.coordination.config import Participants
from server.registry import ModelVersion
from simulation.data.dataset import EVENT_SCHEMA, ITEM_SCHEMA, USER_SUPPLIED, Clock, Dataset
from simulation.federated import FederationSettings, Place, run_config_of, train
from simulation.population import Population, build_population

SHOPPERS, ITEMS, MERCHANTS, TASTES = 120, 60, 4, 5
START = 1_700_000_000
DAY = 86_400
WORDS = ("tea", "lamp", "garden", "kitchen", "paper")


class ByTaste:
    """A content encoder of one feature per taste in place of thousands, whose ridge regression takes most time."""

    name, version, columns = EncoderName.HASHED, "by taste", TASTES

    def encode(self, items: ItemColumns) -> sp.csr_matrix:
        """Return (items, TASTES) ones and zeros."""
        tastes = np.unique([str(category) for category in items.categories], return_inverse=True)[1]
        return sp.csr_matrix(np.eye(TASTES)[tastes])


def with_few_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let learners and federations read the catalogue by taste alone."""
    monkeypatch.setattr("server.coordination.learner.Hashed", ByTaste)
    monkeypatch.setattr("server.coordination.federation.encoder_named", lambda _name: ByTaste())


@cache
def items() -> pl.DataFrame:
    """Items of five tastes, dealt out to four merchants; taste shows in the title and the category."""
    rows = [
        {
            "item_id": f"i{index:03d}",
            "title": f"{WORDS[index % TASTES]} number {index}",
            "category": WORDS[index % TASTES],
            "brand": f"brand {index % 7}",
            "price": 1.0 + index % 11,
            "description": None,
            "merchant_id": f"m{index // TASTES % MERCHANTS}",
        }
        for index in range(ITEMS)
    ]
    return pl.DataFrame(rows, schema=ITEM_SCHEMA)


@cache
def events(seed: int = 0) -> pl.DataFrame:
    """About ten events per shopper, nine of ten inside its own taste, over a hundred days."""
    random, catalogue = np.random.default_rng(seed), items()
    rows = []
    for shopper in range(SHOPPERS):
        for _ in range(8 + shopper % 7):
            taste = shopper % TASTES if random.random() < 0.9 else int(random.integers(TASTES))
            item = taste + TASTES * int(12 * random.random() ** 2)
            rows.append(_event(shopper, item, catalogue, random))
    rows.append(_event(SHOPPERS, 0, catalogue, random))  # a shopper with one event
    return pl.DataFrame(rows, schema=EVENT_SCHEMA).sort("user_id", "timestamp", maintain_order=True)


def _event(shopper: int, item: int, catalogue: pl.DataFrame, random: np.random.Generator) -> dict[str, Any]:
    return {
        "user_id": f"shopper-{shopper:03d}",
        "item_id": f"i{item:03d}",
        "kind": str(random.choice(["purchase", "view", "dismiss"], p=[0.7, 0.25, 0.05])),
        "timestamp": START + int(random.integers(100 * DAY)),
        "merchant_id": catalogue["merchant_id"][item],
        "quantity": 1.0,
        "price": catalogue["price"][item],
        "ranking_id": None,
    }


def dataset() -> Dataset:
    """The world as every reader returns it."""
    return Dataset(
        name="toy-shops",
        label=USER_SUPPLIED,
        events=events(),
        items=items(),
        users=None,
        given_test=None,
        clock=Clock.SECONDS,
        merchants_from="column merchant_id",
        rejected_rows=0,
        source="made by a test",
    )


def write_csv(folder: Path) -> Path:
    """Write the world as a folder of CSV files, as a user would have it, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    events().drop("ranking_id").write_csv(folder / "events.csv")
    items().drop("description").write_csv(folder / "items.csv")
    return folder


def population(
    folder: Path, kind: Participants = Participants.SHOPPERS, frame: pl.DataFrame | None = None
) -> Population:
    """The population of all events (or those of `frame`) in `folder`."""
    if frame is None:
        return population_of(folder, kind, events)
    return build_population(folder, items(), frame, kind)


def population_of(folder: Path, kind: Participants, happened: Callable[[], pl.DataFrame]) -> Population:
    """The population of what has happened, in `folder`; a folder with keys keeps them."""
    if (folder / "keys").exists():
        return build_population(folder, items(), happened(), kind)
    made = made_once(kind, happened)
    shutil.copytree(made.folder, folder, dirs_exist_ok=True)
    return replace(made, folder=folder)


@cache
def made_once(kind: Participants, happened: Callable[[], pl.DataFrame]) -> Population:
    """A population with new keys, which tests copy: to seal its events takes longer than most tests do."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return build_population(Path(folder.name), items(), happened(), kind)


def settings(**changes: Any) -> FederationSettings:
    """Settings of a small federation without noise; `changes` replace some."""
    words: dict[str, Any] = {
        "participants": Participants.SHOPPERS,
        "trust": Trust.NONE,
        "epsilon": 8.0,
        "delta": 1e-3,
        "rounds": 2,
        "clock": "seconds",
        "seed": 7,
        "dim": 8,
    }
    return FederationSettings(**{**words, **changes})


def place(folder: Path) -> Place:
    """Where a test's run keeps what it makes."""
    return Place(
        name="toy",
        registry=folder / "registry",
        ledger=str(folder / "ledger.db"),
        checkpoints=folder / "rounds",
    )


def trained(
    people: Population,
    wanted: FederationSettings,
    folder: Path,
    *,
    spent_mu2: float = 0.0,
    on_reply: Callable[[], None] = lambda: None,
) -> ModelVersion:
    """Train in process with everything that is made in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    where = place(folder)
    return train(people, wanted, where, run_config_of(people, wanted, where, spent_mu2), on_reply)


def catalogue(people: Population) -> PublicItems:
    """The public items of a population."""
    return read_public_items(people.folder / "catalogue.parquet")
