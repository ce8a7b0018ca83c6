"""The central twin: the same two towers trained on pooled raw data without clipping or noise.

It starts from the exact counts and Gram and then takes mini-batch Adam steps, with or without the item vectors;
how many steps and which of both is chosen on a validation cut of train, as for every baseline.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from client.contribution import HeadHistories, count_share, gram_share
from client.shoppers import Shoppers
from evaluation.protocol import evaluate
from evaluation.split import Split, validation
from evaluation.towers import has_clock, pooled_shoppers, tower_scorer
from model.catalogue import PublicItems
from model.encoders import Encoder
from model.gradient import ITEM_VECTORS, cohort_gradient
from model.sampling import draw_examples
from model.schema import Weights
from model.spectral import GramBlock
from model.two_tower import encode_items
from server.coordination.blocks import gram_of
from server.coordination.learner import TRAINED, Learner
from server.coordination.optimiser import Adam

BATCH = 1024
CHECKED_STEPS = (0, 4, 8, 12, 16, 24, 32)
ITEM_STEP = 0.3
"""Scale of the gradient step on item vectors against that of the user tower."""
METRIC = "ndcg@10"


@dataclass(frozen=True)
class Recipe:
    """What the validation cut decides."""

    with_items: bool
    steps: int


def central_twin(
    split: Split, catalogue: PublicItems, dim: int, seed: int, encoder: Encoder | None = None
) -> Weights:
    """Return the weights of the twin, trained on all of train with the recipe that validation chose.

    `encoder` makes the features of the catalogue, as in `Learner`; the twin is to be judged with the same ones.
    """
    recipe = _chosen_recipe(validation(split, seed=seed), catalogue, dim, seed, encoder)
    learner, shoppers = _start(split, catalogue, dim, encoder)
    return _after(learner, shoppers, split, recipe, seed)


def _chosen_recipe(
    cut: Split, catalogue: PublicItems, dim: int, seed: int, encoder: Encoder | None
) -> Recipe:
    """Return the recipe with the best validation NDCG@10."""
    learner, shoppers = _start(cut, catalogue, dim, encoder)
    found: list[tuple[float, Recipe]] = []
    for with_items in (False, True):
        for step, weights in _training(learner, shoppers, cut, with_items, seed):
            if step in CHECKED_STEPS:
                scorer = tower_scorer(weights, learner.features, cut)
                value = evaluate("twin", scorer, cut, ks=(10,)).mean(METRIC)
                found.append((value, Recipe(with_items, step)))
    return max(found, key=lambda pair: pair[0])[1]


def _after(learner: Learner, shoppers: Shoppers, split: Split, recipe: Recipe, seed: int) -> Weights:
    """Return the weights after the recipe's steps."""
    trained = _training(learner, shoppers, split, recipe.with_items, seed)
    return next(weights for step, weights in trained if step == recipe.steps)


def _start(
    split: Split, catalogue: PublicItems, dim: int, encoder: Encoder | None
) -> tuple[Learner, Shoppers]:
    """Return a learner at the spectral start from exact statistics, and the pooled shoppers."""
    shoppers, items = pooled_shoppers(split), len(catalogue)
    learner = Learner(catalogue, dim=dim, shoppers=len(shoppers), encoder=encoder)
    learner.learn_counts(count_share(shoppers, items, 1.0), 0.0, 0.0, [np.arange(items)])
    upper = gram_share(HeadHistories.of(shoppers, learner.head, items), 1.0)
    strength = learner.head.popular_strength(len(shoppers))
    block = GramBlock(
        head=learner.head, basis=None, gram=gram_of(upper), noise_std=0.0, popular_strength=strength
    )
    learner.learn_gram([block])
    return learner, shoppers


def _training(
    learner: Learner, shoppers: Shoppers, split: Split, with_items: bool, seed: int
) -> Iterator[tuple[int, Weights]]:
    """Yield the weights after 0, 1, 2, ... mini-batch steps up to the last checked one."""
    weights, adam = dict(learner.weights), Adam()
    vectors = encode_items(weights, learner.features)
    trained = frozenset(TRAINED) | (frozenset({ITEM_VECTORS}) if with_items else frozenset())
    generator = np.random.default_rng(seed)
    yield 0, weights
    for step in range(1, CHECKED_STEPS[-1] + 1):
        batch = np.sort(generator.choice(len(shoppers), min(BATCH, len(shoppers)), replace=False))
        gradients = _batch_gradient(learner, weights, vectors, shoppers, batch, trained, split, seed, step)
        moved = adam.apply({**weights, ITEM_VECTORS: vectors}, gradients)
        vectors = vectors + ITEM_STEP * (moved.pop(ITEM_VECTORS, vectors) - vectors)
        weights = {**weights, **moved, "item_id": _residual(weights, vectors, learner.features)}
        yield step, weights


def _batch_gradient(
    learner: Learner,
    weights: Weights,
    vectors: NDArray[np.float32],
    shoppers: Shoppers,
    batch: NDArray[np.int64],
    trained: frozenset[str],
    split: Split,
    seed: int,
    step: int,
) -> dict[str, NDArray[np.float64]]:
    """Return the mean gradient of one mini-batch."""
    q = learner.probabilities
    examples = draw_examples(
        shoppers.histories.select(batch),
        shoppers.keys[batch],
        q,
        seed=seed,
        round_number=step,
        clock=has_clock(split.clock),
    )
    gradient = cohort_gradient(weights, vectors, examples, np.log(q))
    mean = gradient.weighted_sum(np.full(len(batch), 1.0 / len(batch)), trained)
    return {name: value.reshape(_shape(weights, vectors, name)) for name, value in mean.items()}


def _shape(weights: Weights, vectors: NDArray[np.float32], name: str) -> tuple[int, ...]:
    return vectors.shape if name == ITEM_VECTORS else weights[name].shape


def _residual(weights: Weights, vectors: NDArray[np.float32], features: sp.csr_matrix) -> NDArray[np.float32]:
    """Return the ID embedding that, with the content table, gives the vectors."""
    return np.asarray(vectors - features @ weights["content"], dtype=np.float32)
