"""Random shoppers, weights and examples for the tests of the towers, with every odd case among them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.attention import SHARPNESS
from model.features import KINDS, SURFACES, Histories, Moments, context_codes
from model.sampling import NEGATIVES, TARGET_LIMIT, Examples
from model.schema import Schema, UserTower, Weights

Vectors = NDArray[np.float32]
Random = np.random.Generator

YEAR = 365 * 24 * 3600
START = 1_700_000_000


def histories_of(*shoppers: list[tuple[int, str, int]]) -> Histories:
    """Histories from each shopper's list of (item, kind, time), oldest first."""
    events = [event for shopper in shoppers for event in shopper]
    indptr = np.concatenate([[0], np.cumsum([len(shopper) for shopper in shoppers])])
    return Histories(
        indptr.astype(np.int64),
        np.array([item for item, _, _ in events], dtype=np.int32),
        np.array([KINDS.index(kind) for _, kind, _ in events], dtype=np.int8),
        np.array([time for _, _, time in events], dtype=np.int64),
    )


def random_histories(random: Random, *, shoppers: int, items: int, longest: int) -> Histories:
    """Shoppers with 0 to `longest` events (the first has none, the second one), items often repeated."""
    lengths = random.integers(0, longest + 1, shoppers)
    lengths[:2] = [0, min(1, longest)][: len(lengths)]
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    events = int(indptr[-1])
    times = [np.sort(START + random.integers(0, YEAR, length)) for length in lengths]
    return Histories(
        indptr,
        random.integers(0, items, events).astype(np.int32),
        random.integers(0, len(KINDS), events).astype(np.int8),
        np.concatenate([*times, np.zeros(0)]).astype(np.int64),
    )


def random_moments(random: Random, shoppers: int) -> Moments:
    """Moments after every event, on any surface; for about a third of the shoppers the clock is unknown."""
    times = np.where(
        random.random(shoppers) < 0.3, -1, START + YEAR + random.integers(0, YEAR, shoppers)
    ).astype(np.int64)
    return Moments(times, context_codes(times, random.integers(0, len(SURFACES), shoppers)))


def random_examples(random: Random, *, shoppers: int, items: int, longest: int = 30) -> Examples:
    """Examples with 0 to 20 targets (repeated ones too) and absent negatives; some have neither."""
    targets = random.integers(0, items, (shoppers, TARGET_LIMIT))
    targets[np.arange(TARGET_LIMIT) >= random.integers(0, TARGET_LIMIT + 1, shoppers)[:, None]] = -1
    negatives = random.integers(0, items, (shoppers, NEGATIVES))
    negatives[random.random(negatives.shape) < random.random((shoppers, 1))] = -1
    negatives[
        (negatives[:, :, None] == targets[:, None, :]).any(axis=2)
    ] = -1  # own items are never negatives
    histories = random_histories(random, shoppers=shoppers, items=items, longest=longest)
    return Examples(histories, random_moments(random, shoppers), targets, negatives)


def random_weights(
    random: Random,
    *,
    items: int,
    dim: int,
    scale: float = 0.5,
    user_tower: UserTower = UserTower.POOLING,
) -> Weights:
    """Weights in which no parameter is zero; the attention is as strong as the other event weights."""
    shapes = Schema(items=items, content_features=3, dim=dim, user_tower=user_tower).shapes()
    scales = {"attention": scale / SHARPNESS}
    return {
        name: random.normal(0.0, scales.get(name, scale), shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def random_vectors(random: Random, *, items: int, dim: int) -> Vectors:
    """Item vectors of length near 1."""
    return np.asarray(random.normal(size=(items, dim)) / np.sqrt(dim), dtype=np.float32)


def random_log_q(random: Random, items: int) -> NDArray[np.float64]:
    """Log probabilities of a skewed popularity."""
    return np.asarray(np.log(random.dirichlet(np.full(items, 0.5)) + 1e-6))
