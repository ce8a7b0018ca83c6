"""The standing test against the evaluation trap: a ranker without a model must score like chance."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_world import random_dataset

from evaluation.memory import NegativeSampler, distance_from_chance, memory_ranker
from evaluation.metrics import Flags, Indices
from evaluation.protocol import evaluate
from evaluation.split import Csr, Split, SplitKind, split
from model.features import Histories
from model.sampling import draw_negatives, uniforms

DRAWS = 40
FAR = 4.0  # standard errors: an honest sampler fails this once in 30,000 seeds


def _uniform(cut: Split, seed: int, round_number: int) -> Indices:
    """Items drawn for each shopper, keyed by (seed, round, shopper): (shoppers, draws)."""
    shape = (len(cut.shoppers), DRAWS)
    keys = [np.random.default_rng((seed, round_number, shopper)) for shopper in range(shape[0])]
    return np.stack([key.integers(0, len(cut.items), DRAWS) for key in keys])


def _outside(items: Indices, excluded: Csr) -> Flags:
    """Which draws do not collide with a shopper's excluded items."""
    collides: Flags = np.take_along_axis(excluded.toarray() > 0, items, axis=1)
    return ~collides


def leak_free(split: Split, seed: int, round_number: int) -> tuple[Indices, Flags]:
    """Negatives that avoid the shopper's train items and nothing else."""
    items = _uniform(split, seed, round_number)
    return items, _outside(items, split.seen)


def published(split: Split, seed: int, round_number: int) -> tuple[Indices, Flags]:
    """Negatives as the PFedRec family draws them: from the items the shopper never touches, test included."""
    items = _uniform(split, seed, round_number)
    return items, _outside(items, split.seen) & _outside(items, split.held_out)


def production(split: Split, seed: int, round_number: int) -> tuple[Indices, Flags]:
    """The sampler that trains the models, asked for items that are all equally likely."""
    train = split.train
    histories = Histories(
        indptr=np.searchsorted(train["shopper"].to_numpy(), np.arange(len(split.shoppers) + 1)).astype(
            np.int64
        ),
        items=train["item"].to_numpy(),
        kinds=np.zeros(train.height, dtype=np.int8),
        times=train["timestamp"].to_numpy(),
    )
    keys = np.arange(len(split.shoppers), dtype=np.uint64)
    even = np.full(len(split.items), 1.0 / len(split.items))
    items = draw_negatives(uniforms(seed, round_number, keys, DRAWS), even, histories)
    return np.maximum(items, 0), items >= 0


@pytest.fixture(scope="module", params=list(SplitKind)[:2])
def cut(request: pytest.FixtureRequest) -> Split:
    """A split of 300 shoppers and 200 items, by time and by the last item."""
    return split(random_dataset(5, shoppers=300, items=200, count=6000), request.param)


@pytest.mark.parametrize("sampler", [leak_free, production])
def test_without_a_leak_the_memory_ranker_scores_like_chance(cut: Split, sampler: NegativeSampler) -> None:
    """The mean AUC lies within four standard errors of 0.5, for our own training negatives too."""
    assert abs(distance_from_chance(cut, sampler)) < FAR


def test_the_same_measure_rejects_the_published_sampler(cut: Split) -> None:
    """Negatives that spare the test items lift a ranker that has learnt nothing far above chance."""
    assert distance_from_chance(cut, published) > 4 * FAR
    leaking = evaluate("memory", memory_ranker(cut, published, rounds=20, seed=0), cut)
    honest = evaluate("memory", memory_ranker(cut, leak_free, rounds=20, seed=0), cut)
    assert leaking.mean("ndcg@10") > 3 * honest.mean("ndcg@10")


def test_a_sampler_that_spares_the_test_items_half_of_the_time_is_rejected_too(cut: Split) -> None:
    """The measure is sharp enough to see a leak that shows in every other draw only."""

    def rarely(split: Split, seed: int, round_number: int) -> tuple[Indices, Flags]:
        items, counted = leak_free(split, seed, round_number)
        spared = np.random.default_rng((seed, round_number)).random(items.shape) < 0.5
        return items, counted & (_outside(items, split.held_out) | ~spared)

    sampler: NegativeSampler = rarely
    assert distance_from_chance(cut, sampler) > FAR
