"""Federations that are trained to be judged and thrown away: their ledger and registry vanish with them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from evaluation.split import Split
from server.coordination.config import Participants
from server.registry import ModelVersion
from simulation.federated import FederationSettings, Place, nodes_of, run_config_of, train
from simulation.population import Population, build_population


@contextmanager
def population_of(
    split: Split, items: pl.DataFrame, participants: Participants = Participants.SHOPPERS
) -> Iterator[Population]:
    """Write the train events of a split to participants' encrypted stores, for as long as the block runs."""
    with tempfile.TemporaryDirectory() as folder:
        yield build_population(Path(folder), items, split.train, participants)


def trial(
    population: Population, federation: FederationSettings, on_reply: Callable[[], None] = lambda: None
) -> ModelVersion:
    """Train one model version of a population through the same apps as every run, and release nothing."""
    with tempfile.TemporaryDirectory() as folder:
        place = Place(
            name="trial",
            registry=Path(folder) / "registry",
            ledger=str(Path(folder) / "ledger.db"),
            checkpoints=Path(folder) / "rounds",
        )
        return train(population, federation, place, run_config_of(population, federation, place), on_reply)


def replies(population: Population, federation: FederationSettings) -> int:
    """Return how many answers a run will wait for: one per node and round."""
    return nodes_of(population, federation) * (federation.statistics_rounds + federation.rounds)
