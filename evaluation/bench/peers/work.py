"""The work that all simulators do: one clipped update of each shopper's loss, in the shape of MovieLens 1M."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.features import DAY, KINDS, Histories, moments_at
from model.gradient import ITEM_VECTORS
from model.sampling import NEGATIVES, TARGET_LIMIT, Examples, draw_negatives
from model.schema import Schema, Weights

Sums = dict[str, NDArray[Any]]
Generator = np.random.Generator

SHOPPERS, ITEMS, DIM = 6_040, 3_706, 64
MEDIAN_EVENTS, SPREAD, FEWEST, MOST = 96, 1.0, 20, 2_314
"""Events of a shopper: log-normal with the median and bounds of MovieLens 1M; the mean comes to about 159."""

SMALL = ("gain", "prior_scale", "kind_weight", "position_weight", "age_weight", "context")
TRAINED = frozenset({*SMALL, ITEM_VECTORS})
CLIPPING_NORM = 1.25
"""Near the median length of a gradient, so that about half of the shoppers are clipped."""

START = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Work:
    """A model and one example of each shopper; every parameter of the user tower and the item vectors train."""

    weights: Weights
    vectors: NDArray[np.float32]
    log_q: NDArray[np.float64]
    examples: Examples


@cache
def ml_1m_work(shoppers: int = SHOPPERS) -> Work:
    """Return the same work in every process."""
    random = np.random.default_rng(1)
    weights = _weights(random)
    popularity = np.arange(1, ITEMS + 1) ** -0.5
    q = popularity / popularity.sum()
    vectors = np.asarray(random.normal(size=(ITEMS, DIM)) / np.sqrt(DIM), dtype=np.float32)
    return Work(weights=weights, vectors=vectors, log_q=np.log(q), examples=_examples(random, shoppers, q))


def _weights(random: Generator) -> Weights:
    """Return small weights that are not zero for all that trains; what else a version may have stays at zero."""
    schema = Schema(items=ITEMS, content_features=1, dim=DIM)
    used = (*SMALL, "item_bias")
    drawn = {name: random.normal(0.0, 0.2, schema.shapes()[name]).astype(np.float32) for name in used}
    return {**schema.zeros(), **drawn}


def _examples(random: Generator, shoppers: int, q: NDArray[np.float64]) -> Examples:
    """Return histories with many or few events, 1 to 20 targets, and negatives that the shopper does not have."""
    lengths = random.lognormal(np.log(MEDIAN_EVENTS), SPREAD, shoppers).astype(np.int64).clip(FEWEST, MOST)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    events = int(indptr[-1])
    rows = np.repeat(np.arange(shoppers), lengths)
    times = START + random.integers(0, 1000 * DAY, events)
    items = random.choice(ITEMS, events, p=q).astype(np.int32)
    kinds = random.integers(0, len(KINDS), events).astype(np.int8)
    histories = Histories(indptr, items, kinds, times[np.lexsort((times, rows))])
    targets = random.choice(ITEMS, (shoppers, TARGET_LIMIT), p=q)
    targets[np.arange(TARGET_LIMIT) >= random.integers(1, TARGET_LIMIT + 1, shoppers)[:, None]] = -1
    negatives = draw_negatives(random.random((shoppers, NEGATIVES)), q, histories)
    moments = moments_at(START + random.integers(1000 * DAY, 1400 * DAY, shoppers))
    return Examples(histories, moments, targets, negatives)
