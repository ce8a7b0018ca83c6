"""Invented people to look at a model with: what they have is drawn from what was released, never from shoppers.

Each begins with one item by released popularity and goes on with what the model shows such a person, mixed with
popularity again. So they have, as shoppers do, most of what the model would show them first: what is left over for
their lists decides how far an item can be pushed.
"""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from model.features import KINDS, Histories, moments_at
from model.schema import Weights
from model.two_tower import encode_items, encode_users, score

PEOPLE: Final = 4096
FEWEST: Final = 512
_CELLS: Final = 400_000_000
"""Scores of all people together; a large catalogue is looked at by fewer people, at least `FEWEST`."""
LENGTHS: Final = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144)
"""Lengths of the histories, in turn: from nobody known to somebody who comes often."""
_BLOCK = 16_000_000
"""Scores held in memory at once."""

Scores = NDArray[np.float32]


def people_for(items: int) -> int:
    """Return how many people look at a catalogue of so many items."""
    return max(FEWEST, min(PEOPLE, _CELLS // items))


def invented_histories(weights: Weights, features: sp.csr_matrix, people: int, seed: int = 0) -> Histories:
    """Return the histories of invented people.

    Args:
        weights: of a released version; its `item_bias` is the log of popularity.
        features: (items, columns) of the public catalogue.
        people: how many.
        seed: of the draw, which is public.
    """
    random = np.random.default_rng(seed)
    vectors = encode_items(weights, features)
    lengths = np.minimum(np.resize(LENGTHS, people), len(vectors) // 2)
    popularity = weights["item_bias"].astype(np.float64)
    likely = np.exp(popularity - popularity.max())
    first = random.choice(len(vectors), people, p=likely / likely.sum())
    have = np.full((people, max(int(lengths.max()), 1)), -1, dtype=np.int64)
    have[:, 0] = np.where(lengths > 0, first, -1)
    for length, longer in itertools.pairwise(LENGTHS[1:]):
        growing = np.flatnonzero(lengths > length)
        stop, size = min(longer, have.shape[1]), max(1, _BLOCK // len(vectors))
        for start in range(0, len(growing), size):
            rows = growing[start : start + size]
            have[rows, length:stop] = _next(weights, vectors, have[rows, :length], stop - length, random)
    return _histories([row[:length] for row, length in zip(have, lengths.tolist(), strict=True)])


def _next(
    weights: Weights,
    vectors: Scores,
    have: NDArray[np.int64],
    count: int,
    random: np.random.Generator,
) -> NDArray[np.int64]:
    """Draw `count` more items for each row, without those it has: by score and popularity (Gumbel top-k)."""
    scores = scores_of(weights, vectors, _histories(list(have)))
    known = np.isfinite(scores)
    mean = scores.mean(axis=1, where=known, keepdims=True)
    spread = scores.std(axis=1, where=known, keepdims=True)
    keys = (scores - mean) / np.maximum(spread, 1e-6) + weights["item_bias"]
    keys -= np.log(np.maximum(random.standard_exponential(keys.shape, dtype=np.float32), 1e-30))
    return best(keys, count)


def _histories(rows: list[NDArray[np.int64]]) -> Histories:
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    items = np.concatenate(rows).astype(np.int32)
    kinds = np.full(len(items), KINDS.index("purchase"), dtype=np.int8)
    return Histories(indptr, items, kinds, np.zeros(len(items), dtype=np.int64))


def users_of(weights: Weights, vectors: Scores, people: Histories) -> Scores:
    """Return the user vectors of people who come at no known moment, (people, dim)."""
    return encode_users(weights, vectors, people, moments_at(np.full(len(people), -1, dtype=np.int64)))


def scores_of(weights: Weights, vectors: Scores, people: Histories) -> Scores:
    """Return the scores (people, items), -inf for what a person has."""
    scores = score(weights, users_of(weights, vectors, people), vectors)
    scores[people.rows, people.items] = -np.inf
    return scores


def best(scores: Scores, depth: int) -> NDArray[np.int64]:
    """Return the places of the highest scores of each row, in no order."""
    depth = min(depth, scores.shape[1])
    return np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
