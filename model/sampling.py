"""Training examples of a shopper: one moment, the history before it, its targets, and negatives of its own.

Every draw is a function of (seed, round, shopper), so that a cohort gives the same examples in one message or
in a thousand. Negatives come from public item probabilities and never from other shoppers: in-batch negatives
would void a per-shopper guarantee. Only the shopper's *train* items are masked among the negatives; masking
held-out items as well would leak the test set (see docs/threat-model.md, "The evaluation trap").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.features import KINDS, POSITIVE_KINDS, Histories, Moments, moments_at, positions_from_end

NEGATIVES = 64
TARGET_LIMIT = 20

POSITIVE = np.array([kind in POSITIVE_KINDS for kind in KINDS])


@dataclass(frozen=True)
class Examples:
    """One example per shopper, for one round.

    Attributes:
        histories: what came before the moment (may be empty).
        moments: the context of the moment.
        targets: (shoppers, TARGET_LIMIT) int64 item indices, -1 where fewer.
        negatives: (shoppers, NEGATIVES) int64 item indices, -1 where the draw hit the shopper's own items.
    """

    histories: Histories
    moments: Moments
    targets: NDArray[np.int64]
    negatives: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of shoppers."""
        return len(self.targets)

    def select(self, shoppers: NDArray[np.int64]) -> Examples:
        """Return the examples of the given rows, in that order."""
        moments = Moments(self.moments.times[shoppers], self.moments.codes[shoppers])
        histories = self.histories.select(shoppers)
        return Examples(histories, moments, self.targets[shoppers], self.negatives[shoppers])

    def part(self, start: int, stop: int) -> Examples:
        """Return the examples of the rows start:stop without copying them."""
        moments = Moments(self.moments.times[start:stop], self.moments.codes[start:stop])
        indptr = self.histories.indptr[start : min(stop, len(self)) + 1]
        events = slice(indptr[0], indptr[-1])
        histories = Histories(
            indptr - indptr[0],
            self.histories.items[events],
            self.histories.kinds[events],
            self.histories.times[events],
        )
        return Examples(histories, moments, self.targets[start:stop], self.negatives[start:stop])


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a well mixed 64-bit hash of each value (SplitMix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = values + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniforms(seed: int, round_number: int, keys: NDArray[np.uint64], draws: int) -> NDArray[np.float64]:
    """Return numbers in [0, 1), (shoppers, draws), that depend on nothing but their arguments."""
    stream = mixed(np.array([seed & (2**64 - 1)], np.uint64)) ^ np.uint64(round_number)
    with np.errstate(over="ignore"):
        per_shopper = mixed(mixed(stream) ^ keys)[:, None] + np.arange(draws, dtype=np.uint64)
    bits = (mixed(np.asarray(per_shopper, np.uint64)) >> np.uint64(11)).astype(np.float64)
    return bits * 2.0**-53


def draw_negatives(
    draws: NDArray[np.float64], probabilities: NDArray[np.float64], histories: Histories
) -> NDArray[np.int64]:
    """Return negatives for uniform `draws` (shoppers, n) by inverse CDF; -1 where the shopper has the item.

    Args:
        draws: numbers in [0, 1).
        probabilities: (items,) public, summing to 1.
        histories: *train* events of each shopper; their items are never negatives of that shopper.
    """
    cumulative = np.cumsum(probabilities)
    items = np.minimum(np.searchsorted(cumulative, draws * cumulative[-1], side="right"), len(cumulative) - 1)
    count = np.int64(len(probabilities))
    own = np.unique(histories.rows * count + histories.items)
    asked = np.arange(len(histories))[:, None] * count + items
    place = np.minimum(np.searchsorted(own, asked), max(len(own) - 1, 0))
    taken = own[place] == asked if len(own) else np.zeros(asked.shape, dtype=bool)
    return np.where(taken, -1, items)


def draw_examples(
    histories: Histories,
    keys: NDArray[np.uint64],
    probabilities: NDArray[np.float64],
    *,
    seed: int,
    round_number: int,
    clock: bool,
) -> Examples:
    """Return one example per shopper: a random moment among the shopper's moments with a positive event.

    Args:
        histories: all train events of the shoppers.
        keys: (shoppers,) uint64 stable key of each shopper.
        probabilities: (items,) public sampling probabilities of the negatives.
        seed: of the draws; from the operating system's entropy in production.
        round_number: of this round.
        clock: whether times are seconds, so that moments have hours and events have ages.
    """
    draws = uniforms(seed, round_number, keys, 1 + NEGATIVES)
    chosen = _chosen_times(histories, draws[:, 0])
    at = chosen[histories.rows]
    positive = POSITIVE[histories.kinds]
    targets = _first_targets(histories.keep((histories.times == at) & positive))
    past = histories.keep(histories.times < at)
    times = np.where(targets[:, 0] >= 0, chosen, -1) if clock else np.full(len(chosen), -1)
    negatives = draw_negatives(draws[:, 1:], probabilities, histories)
    return Examples(past.recent(), moments_at(times), targets, negatives)


def _chosen_times(histories: Histories, draws: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the time of one distinct positive moment per shopper, chosen uniformly; -1 without any."""
    positive = histories.keep(POSITIVE[histories.kinds])
    first = np.diff(positive.times, prepend=-1) != 0
    starts = positive.indptr[:-1][np.diff(positive.indptr) > 0]
    first[starts] = True
    distinct = positive.keep(first)
    counts = np.diff(distinct.indptr)
    pick = distinct.indptr[:-1] + np.minimum((draws * counts).astype(np.int64), np.maximum(counts - 1, 0))
    return np.where(counts > 0, np.append(distinct.times, -1)[np.minimum(pick, len(distinct.times))], -1)


def _first_targets(at_moment: Histories) -> NDArray[np.int64]:
    """Return up to TARGET_LIMIT targets per shopper, -1 padded."""
    targets = np.full((len(at_moment), TARGET_LIMIT), -1, dtype=np.int64)
    places = positions_from_end(at_moment.indptr)
    fits = places < TARGET_LIMIT
    targets[at_moment.rows[fits], places[fits]] = at_moment.items[fits]
    return targets
