"""One task of the accuracy bench: its split, its baselines, and its federations over several noise seeds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evaluation.baselines import popularity
from evaluation.bench.recipes import Condition, Task
from evaluation.central import central_twin
from evaluation.linear import content_only, ease_normalised
from evaluation.neighbours import item_neighbours
from evaluation.next_basket import next_basket
from evaluation.protocol import Protocol, Result, Scorer, evaluate
from evaluation.split import Split, SplitKind, split
from evaluation.towers import tower_scorer
from evaluation.trials import population_of, trial
from model.catalogue import read_public_items
from model.content import item_features
from privacy.accountant import default_delta
from server.coordination.config import Participants
from simulation.data import Dataset, load
from simulation.federated import FederationSettings

SETS = Path(os.environ.get("FEDRANK_DATA", "../shared/data"))
"""Folder of the public data sets; they are not part of the repository."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What one task found: the mean result of each model, and the spread of the noisy ones over seeds."""

    task: Task
    baselines: dict[str, Result]
    federated: dict[str, Result]
    spread: dict[str, dict[str, float]]


def present(task: Task) -> bool:
    """Return whether the data of a task are on this machine."""
    return task.data is None or (SETS / task.data).is_dir()


def read(task: Task) -> tuple[Dataset, Split]:
    """Read a task's data and cut them."""
    dataset = load(None if task.data is None else SETS / task.data)
    if task.cut == "basket":
        return dataset, next_basket(dataset)
    return dataset, split(dataset, SplitKind.GIVEN if task.cut == "given" else SplitKind.LAST)


def judge_task(task: Task, seeds: Sequence[int]) -> Judged:
    """Train and judge everything that the table shows of one task."""
    dataset, cut = read(task)
    with population_of(cut, dataset.items) as population:
        catalogue = read_public_items(population.folder / "catalogue.parquet")
        features = item_features(catalogue.columns)
        scorers: dict[str, Scorer] = {
            "popularity": popularity(cut, 0),
            "content only (spends nothing)": content_only(cut, features, 0),
            "item neighbours": item_neighbours(cut, 0),
        }
        if task.linear:
            scorers["EASE, user-normalised"] = ease_normalised(cut, 0)
        if task.central:
            scorers["two towers, central"] = tower_scorer(central_twin(cut, catalogue, 128, 0), features, cut)
        baselines = {name: _judged(name, scorer, cut, task, seeds) for name, scorer in scorers.items()}
        federated, spread = {}, {}
        for condition in task.conditions:
            found = []
            for seed in seeds if condition.epsilon is not None else seeds[:1]:
                version = trial(population, federation_of(task, condition, dataset, cut, seed))
                scorer = tower_scorer(version.weights, features, cut)
                found.append(_judged(condition.words, scorer, cut, task, seeds))
            federated[condition.words] = mean_result(found)
            means = {metric: [result.mean(metric) for result in found] for metric in task.metrics}
            spread[condition.words] = {metric: float(np.std(values)) for metric, values in means.items()}
    return Judged(task=task, baselines=baselines, federated=federated, spread=spread)


def federation_of(
    task: Task, condition: Condition, dataset: Dataset, cut: Split, seed: int
) -> FederationSettings:
    """Return the federation of one condition, with its randomness from one seed."""
    recipe = condition.recipe
    return FederationSettings(
        participants=Participants.SHOPPERS,
        trust=condition.trust,
        epsilon=condition.epsilon or 8.0,
        delta=default_delta(len(cut.shoppers)) if task.delta is None else task.delta,
        rounds=recipe.rounds,
        clock=str(dataset.clock),
        seed=seed,
        noise_seed=seed,
        dim=recipe.dim,
        basis=recipe.basis,
        recency=recipe.recency,
        prior=recipe.prior,
        damping=recipe.damping,
    )


def _judged(name: str, scorer: Scorer, cut: Split, task: Task, seeds: Sequence[int]) -> Result:
    """Judge one model; under sampled negatives the mean over as many draws as there are seeds."""
    if task.cut != "sampled":
        return evaluate(name, scorer, cut, ks=(10, 20))
    draws = [evaluate(name, scorer, cut, ks=(10,), protocol=Protocol.SAMPLED, seed=seed) for seed in seeds]
    return mean_result(draws)


def mean_result(results: Sequence[Result]) -> Result:
    """Return each shopper's mean over several results of the same shoppers."""
    names = results[0].per_shopper.keys()
    per_shopper = {name: np.mean([result.per_shopper[name] for result in results], axis=0) for name in names}
    return replace(results[0], per_shopper=per_shopper, overall={})
