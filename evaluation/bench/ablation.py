"""What each stage and each choice of a recipe contributes at epsilon 8: one thing changed at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from evaluation.bench.judging import federation_of, read
from evaluation.bench.recipes import Condition, Recipe, Task
from evaluation.protocol import evaluate
from evaluation.split import Split
from evaluation.towers import tower_scorer
from evaluation.trials import population_of, trial_by_round
from model.catalogue import read_public_items
from model.content import item_features
from model.head import Basis
from model.schema import Weights
from simulation.data.dataset import Dataset
from simulation.population import Population

GRADIENT_ROUNDS = 12
ITEMS_FIRST = "items: after counts and the first Gram"
ITEMS_BOTH = "items: after the Gram inside its directions"
CONTENT = "content: after counts and the Gram in content axes"


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """One line of the ablation table.

    Attributes:
        words: what was changed, or the stage after which the model was judged.
        value: mean of the task's first metric over seeds.
        spread: its standard deviation over seeds.
    """

    words: str
    value: float
    spread: float


def ablation(task: Task, seeds: Sequence[int]) -> list[Contribution]:
    """Train the private recipe of a task with one thing changed at a time, and judge it after each stage.

    A round of gradients costs budget, so the variant with them has noisier Grams than the one without.
    """
    private = next(condition for condition in task.conditions if condition.epsilon is not None)
    items = replace(private.recipe, basis=Basis.ITEMS)
    content = replace(private.recipe, basis=Basis.CONTENT)
    lines: dict[str, list[float]] = {}
    with _bench(task, private) as bench:
        for seed in seeds:
            first, both = bench.by_round(items, seed)
            lines.setdefault(ITEMS_FIRST, []).append(first)
            lines.setdefault(ITEMS_BOTH, []).append(both)
            lines.setdefault(CONTENT, []).append(bench.last(content, seed))
            for words, variant in _variants(private.recipe).items():
                lines.setdefault(f"{private.recipe.basis}: {words}", []).append(bench.last(variant, seed))
    return [
        Contribution(words=words, value=float(np.mean(values)), spread=float(np.std(values)))
        for words, values in lines.items()
    ]


def _variants(recipe: Recipe) -> dict[str, Recipe]:
    return {
        "no recency": replace(recipe, recency=0.0),
        "popularity prior .25": replace(recipe, prior=0.25),
        f"{GRADIENT_ROUNDS} gradient rounds": replace(recipe, rounds=GRADIENT_ROUNDS),
    }


@contextmanager
def _bench(task: Task, condition: Condition) -> Iterator[_Bench]:
    """A task's population, for as long as its variants are trained."""
    dataset, cut = read(task)
    with population_of(cut, dataset.items) as population:
        features = item_features(read_public_items(population.folder / "catalogue.parquet").columns)
        yield _Bench(
            task=task, condition=condition, dataset=dataset, cut=cut, population=population, features=features
        )


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """Trains and judges one variant after the other on one population."""

    task: Task
    condition: Condition
    dataset: Dataset
    cut: Split
    population: Population
    features: sp.csr_matrix

    def by_round(self, recipe: Recipe, seed: int) -> list[float]:
        """Return the metric after each round that left a model."""
        condition = replace(self.condition, recipe=recipe)
        federation = federation_of(self.task, condition, self.dataset, self.cut, seed)
        return [self._value(weights, self.cut) for weights in trial_by_round(self.population, federation)]

    def last(self, recipe: Recipe, seed: int) -> float:
        """Return the metric of the model that a run ends with."""
        return self.by_round(recipe, seed)[-1]

    def _value(self, weights: Weights, cut: Split) -> float:
        scorer = tower_scorer(weights, self.features, cut)
        return evaluate("ablation", scorer, cut, ks=(10, 20)).mean(self.task.metrics[0])
