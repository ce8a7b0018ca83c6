"""Federations that are trained to be judged and thrown away: their ledger and registry vanish with them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from safetensors.numpy import load_file

from evaluation.split import Split
from model.schema import Weights
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
        return _train_in(Path(folder), population, federation, on_reply)


def trial_by_round(population: Population, federation: FederationSettings) -> list[Weights]:
    """Return the weights after each round of a trial that ended with a model of its own: all but the counts."""
    with tempfile.TemporaryDirectory() as folder:
        _train_in(Path(folder), population, federation, lambda: None)
        kept = [load_file(path) for path in sorted((Path(folder) / "rounds").glob("*.safetensors"))]
    found: list[Weights] = [kept[1]]
    for changed in kept[2:]:
        found.append({**found[-1], **changed})
    return found


def _train_in(
    folder: Path, population: Population, federation: FederationSettings, on_reply: Callable[[], None]
) -> ModelVersion:
    place = Place(
        name="trial",
        registry=folder / "registry",
        ledger=str(folder / "ledger.db"),
        checkpoints=folder / "rounds",
    )
    return train(population, federation, place, run_config_of(population, federation, place), on_reply)


def replies(population: Population, federation: FederationSettings) -> int:
    """Return how many answers a run will wait for: one per node and round."""
    return nodes_of(population, federation) * federation.all_rounds
