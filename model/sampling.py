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

from model.errors import FeatureError
from model.features import HISTORY_LIMIT, KINDS, POSITIVE_KINDS, Histories, Moments, moments_at
from model.threads import in_parts, plain

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


def check_items(histories: Histories, catalogue: int) -> None:
    """Refuse events that a catalogue of this many items does not have: compiled loops do not look.

    Raises:
        FeatureError: names the number that is out of bounds and the bound.
    """
    for name, numbers, bound in (("item", histories.items, catalogue), ("kind", histories.kinds, len(KINDS))):
        if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < bound:
            raise FeatureError(
                f"histories hold {name} numbers from {numbers.min()} to {numbers.max()}; they must be from 0 to "
                f"{bound - 1}: read them again with the catalogue of this model"
            )


def draw_negatives(
    draws: NDArray[np.float64], probabilities: NDArray[np.float64], histories: Histories
) -> NDArray[np.int64]:
    """Return negatives for uniform `draws` (shoppers, n) by inverse CDF; -1 where the shopper has the item.

    Args:
        draws: numbers in [0, 1).
        probabilities: (items,) public, summing to 1.
        histories: *train* events of each shopper; their items are never negatives of that shopper.

    Raises:
        FeatureError: the histories do not fit the catalogue.
    """
    from model.kernels_sampling import pick_negatives  # numba loads only where examples are drawn

    check_items(histories, len(probabilities))
    cumulative = np.cumsum(probabilities)
    places = np.linspace(0.0, cumulative[-1], max(1, min(len(cumulative), draws.size)), endpoint=False)
    guide = np.searchsorted(cumulative, places, side="right").clip(max=len(cumulative) - 1)
    negatives = np.empty(draws.shape, dtype=np.int64)
    events = plain(histories.indptr, np.int64), plain(histories.items, np.int32)
    in_parts(pick_negatives, len(draws), *events, plain(draws, np.float64), cumulative, guide, negatives)
    return negatives


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

    Raises:
        FeatureError: the histories do not fit the catalogue.
    """
    draws = uniforms(seed, round_number, keys, 1 + NEGATIVES)
    negatives = draw_negatives(draws[:, 1:], probabilities, histories)
    chosen, past, targets = _split_at_random_moments(histories, draws[:, 0], len(probabilities))
    times = np.where(targets[:, 0] >= 0, chosen, -1) if clock else np.full(len(chosen), -1)
    return Examples(histories.keep(past), moments_at(times), targets, negatives)


def _split_at_random_moments(
    histories: Histories, draws: NDArray[np.float64], catalogue: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """Return each shopper's moment (-1: none), which events the tower reads before it, and the targets at it."""
    from model.kernels_sampling import choose_moments, split_at_moments

    shoppers = len(histories)
    indptr, times = plain(histories.indptr, np.int64), plain(histories.times, np.int64)
    items, kinds = plain(histories.items, np.int32), plain(histories.kinds, np.int8)
    positive = POSITIVE[kinds]
    chosen = np.empty(shoppers, dtype=np.int64)
    in_parts(choose_moments, shoppers, indptr, times, positive, plain(draws, np.float64), chosen)
    past, targets = np.empty(len(items), dtype=np.bool_), np.empty((shoppers, TARGET_LIMIT), dtype=np.int64)
    events = indptr, items, kinds, times, positive, chosen
    in_parts(split_at_moments, shoppers, *events, HISTORY_LIMIT, catalogue, past, targets)
    return chosen, past, targets
