"""Federations that are thrown away: the same apps as every run, and nothing of them is left."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from evaluation_world import without_content

from evaluation.split import SplitKind, split
from evaluation.trials import population_of, replies, trial, trial_by_round
from privacy.plan import Trust
from server.coordination.config import Participants
from simulation.data.dataset import EVENT_SCHEMA, ITEM_SCHEMA, Clock, Dataset
from simulation.federated import FederationSettings, nodes_of
from simulation.population import Population

SHOPPERS, ITEMS, MERCHANTS, STEPS = 30, 20, 3, 6


@pytest.fixture(autouse=True)
def few_content_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two content features in place of thousands."""
    without_content(monkeypatch)


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for everything temporary, so that what is left behind shows."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def kept_files(folder: Path) -> list[Path]:
    """Everything in a folder but the logs of databases that a process may hold open."""
    return sorted(path for path in folder.rglob("*") if not path.name.endswith(("-wal", "-shm")))


def shops() -> Dataset:
    """Thirty shoppers of two tastes at three merchants."""
    bought = [(shopper, 2 * ((shopper + 3 * step) % 10) + shopper % 2, step)
              for shopper in range(SHOPPERS) for step in range(STEPS)]  # fmt: skip
    rows = [
        {"user_id": f"s{shopper:02d}", "item_id": f"i{item:02d}", "kind": "purchase", "timestamp": step + 1}
        for shopper, item, step in bought
    ]
    items = pl.DataFrame(
        [{"item_id": f"i{item:02d}", "merchant_id": f"m{item % MERCHANTS}"} for item in range(ITEMS)],
        schema=ITEM_SCHEMA,
    )
    owned = pl.DataFrame(rows).join(items.select("item_id", "merchant_id"), on="item_id")
    missing = [
        pl.lit(None, dtype=kind).alias(name)
        for name, kind in EVENT_SCHEMA.items()
        if name not in owned.columns
    ]
    return Dataset(
        name="toy",
        label="user-supplied",
        events=owned.with_columns(missing).select(list(EVENT_SCHEMA)).sort("user_id", "timestamp"),
        items=items,
        users=None,
        given_test=None,
        clock=Clock.SECONDS,
        merchants_from="column merchant_id",
        rejected_rows=0,
        source="made by a test",
    )


def settings(**changes: Any) -> FederationSettings:
    """A small federation whose noise can be repeated."""
    words: dict[str, Any] = {
        "participants": Participants.SHOPPERS,
        "trust": Trust.CENTRAL,
        "epsilon": 8.0,
        "delta": 1e-3,
        "rounds": 1,
        "clock": "seconds",
        "dim": 4,
        "noise_seed": 2,
    }
    return FederationSettings(**{**words, **changes})


def people(kind: Participants = Participants.SHOPPERS) -> AbstractContextManager[Population]:
    """The population of the train part."""
    shop = shops()
    return population_of(split(shop, SplitKind.LAST, seed=0), shop.items, kind)


@pytest.fixture
def devices() -> Iterator[Population]:
    """Every shopper's device."""
    with people() as population:
        yield population


def test_a_population_lives_as_long_as_its_block(scratch: Path) -> None:
    """Its stores hold the train events of every shopper, encrypted, and vanish with keys and all."""
    with people() as population:
        assert len(population.devices) == SHOPPERS
        assert (population.folder / "store" / "events.db").exists()
        assert scratch in population.folder.parents
    assert list(scratch.iterdir()) == []


def test_a_trial_is_the_same_each_time_and_leaves_nothing(devices: Population, scratch: Path) -> None:
    """No account is continued: a second trial has the whole budget again, under the same noise the same model."""
    before = kept_files(scratch)
    first, second = (trial(devices, settings()) for _ in range(2))
    assert first.content_hash == second.content_hash
    assert first.card["privacy"]["spent_before_mu2"] == second.card["privacy"]["spent_before_mu2"] == 0.0
    assert second.card["privacy"]["epsilon"] == pytest.approx(8.0)
    assert trial(devices, settings(noise_seed=3)).content_hash != first.content_hash
    assert kept_files(scratch) == before


@pytest.mark.parametrize(("trust", "rounds"), [(Trust.CENTRAL, 4), (Trust.LOCAL, 4), (Trust.NONE, 3)])
def test_as_many_replies_come_as_were_announced(devices: Population, trust: Trust, rounds: int) -> None:
    """One per node and round: counts, Gram, its subspace where there is noise, and one gradient."""
    wanted = settings(trust=trust, devices_per_message=8)
    come: list[int] = []
    trial(devices, wanted, lambda: come.append(1))
    assert nodes_of(devices, wanted) == 4
    assert len(come) == replies(devices, wanted) == 4 * rounds


@pytest.mark.parametrize(("trust", "rounds"), [(Trust.CENTRAL, 4), (Trust.NONE, 3)])
def test_a_trial_shows_the_model_after_every_round_but_the_counts(
    devices: Population, scratch: Path, trust: Trust, rounds: int
) -> None:
    """After each Gram and each gradient; the last is what a run would release, bit by bit."""
    before = kept_files(scratch)
    shown = trial_by_round(devices, settings(trust=trust))
    assert len(shown) == rounds - 1
    released = trial(devices, settings(trust=trust)).weights
    assert shown[-1].keys() == released.keys()
    for name, value in released.items():
        np.testing.assert_array_equal(shown[-1][name], value)
    assert any((shown[-2][name] != value).any() for name, value in released.items())
    assert kept_files(scratch) == before


def test_merchants_have_trials_too() -> None:
    """The kind of participants is that of the population."""
    with people(Participants.MERCHANTS) as population:
        assert len(population.merchants) == MERCHANTS and not population.devices
        wanted = settings(participants=Participants.MERCHANTS)
        version = trial(population, wanted)
        assert version.card["privacy"]["participants"] == "merchants"
