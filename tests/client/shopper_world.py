"""Shoppers, weights and examples for the tests of what a participant computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from client.shoppers import Shoppers
from model.features import KINDS, Histories
from model.head import Head
from model.sampling import Examples, draw_examples
from model.schema import Schema, Weights
from privacy.mechanism import GaussianSum, SeededNoise

ITEMS, DIM = 8, 3
DAY = 24 * 3600
TRAINED = frozenset(
    {"gain", "prior_scale", "kind_weight", "position_weight", "age_weight", "rarity", "context"}
)

Event = tuple[int, str, int]
Arrays = Mapping[str, NDArray[np.generic]]

histories_of_one = st.lists(
    st.tuples(
        st.integers(0, ITEMS - 1), st.sampled_from(KINDS), st.integers(0, 40).map(lambda day: day * DAY)
    ),
    max_size=25,
).map(lambda events: sorted(events, key=lambda event: event[2]))
"""One shopper's events: none, one or many, items repeated, several at one moment, refusals among them."""

cohorts = st.lists(histories_of_one, min_size=1, max_size=5)


def head_of(items: Sequence[int], popularity: Sequence[float] | None = None) -> Head:
    """A head of these items, all equally popular if nothing else is said."""
    counts = np.ones(len(items)) if popularity is None else np.array(popularity)
    return Head(np.array(items, dtype=np.int64), counts)


heads = st.dictionaries(
    st.integers(0, ITEMS - 1), st.floats(-3.0, 6.0).map(lambda power: 10.0**power), min_size=1
).map(lambda popularity: head_of(list(popularity), list(popularity.values())))
"""Heads of one item and more in any order; one item may outweigh the others by nine orders of magnitude."""


def shoppers_of(events: Sequence[Sequence[Event]], first: int = 0) -> Shoppers:
    """Shoppers with these events, oldest first; shopper number i is the same one in every cohort."""
    flat = [event for shopper in events for event in shopper]
    indptr = np.concatenate([[0], np.cumsum([len(shopper) for shopper in events])])
    histories = Histories(
        indptr.astype(np.int64),
        np.array([item for item, _, _ in flat], dtype=np.int32),
        np.array([KINDS.index(kind) for _, kind, _ in flat], dtype=np.int8),
        np.array([time for _, _, time in flat], dtype=np.int64),
    )
    names = [f"{first + number + 1:016x}{0:016x}" for number in range(len(events))]
    keys = np.array([int(name[:16], 16) for name in names], dtype=np.uint64)
    return Shoppers(tuple(names), histories, keys)


def one_of(shoppers: Shoppers, number: int) -> Shoppers:
    """One shopper of a cohort as a cohort of its own."""
    row = np.array([number])
    names = (shoppers.pseudonyms[number],)
    return Shoppers(names, shoppers.histories.select(row), shoppers.keys[row])


def without(shoppers: Shoppers, number: int) -> Shoppers:
    """The cohort that one shopper has left."""
    rows = np.delete(np.arange(len(shoppers)), number)
    names = tuple(shoppers.pseudonyms[row] for row in rows)
    return Shoppers(names, shoppers.histories.select(rows), shoppers.keys[rows])


def random_shoppers(seed: int, count: int, *, items: int = ITEMS, longest: int = 12) -> Shoppers:
    """Shoppers with 0 to `longest` random events; the first has none and the second one."""
    random = np.random.default_rng(seed)
    lengths = random.integers(0, longest + 1, count)
    lengths[:2] = [0, 1][:count]
    return shoppers_of(
        [
            [
                (int(random.integers(items)), str(random.choice(KINDS)), int(time))
                for time in np.sort(random.integers(0, 60 * DAY, length))
            ]
            for length in lengths
        ]
    )


class Model:
    """A random public model: user tower, item vectors and sampling probabilities."""

    def __init__(self, seed: int, *, items: int = ITEMS, dim: int = DIM, scale: float = 0.5) -> None:
        """Draw everything from one seed."""
        random = np.random.default_rng(seed)
        shapes = Schema(items=items, content_features=1, dim=dim).shapes()
        self.weights: Weights = {
            name: random.normal(0.0, scale, shape).astype(np.float32) for name, shape in shapes.items()
        }
        self.vectors = np.asarray(random.normal(size=(items, dim)), dtype=np.float32)
        self.q: NDArray[np.float64] = np.asarray(random.dirichlet(np.ones(items)) * 0.9 + 0.1 / items)
        self.log_q: NDArray[np.float64] = np.log(self.q)

    def examples(self, shoppers: Shoppers, round_number: int = 1) -> Examples:
        """The examples of a cohort in one round."""
        return draw_examples(
            shoppers.histories, shoppers.keys, self.q, seed=3, round_number=round_number, clock=True
        )

    def public(self) -> dict[str, NDArray[np.generic]]:
        """What the coordinator sends for a gradient round."""
        small: dict[str, NDArray[np.generic]] = {name: self.weights[name] for name in TRAINED}
        return {**small, "item_vectors": self.vectors, "item_bias": self.weights["item_bias"], "q": self.q}


def norm_of(parts: Mapping[str, NDArray[np.float32]] | Mapping[str, NDArray[np.float64]]) -> float:
    """L2 norm over all parts together."""
    return float(np.sqrt(sum(float(np.square(part, dtype=np.float64).sum()) for part in parts.values())))


def nearly_noiseless(clipping_norm: float) -> GaussianSum:
    """A mechanism whose noise vanishes beside a contribution."""
    return GaussianSum(clipping_norm=clipping_norm, noise_multiplier=1e-9, noise=SeededNoise(1))
