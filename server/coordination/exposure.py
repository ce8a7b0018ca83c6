"""Watches what a new model version would show more of than the one in service, and damps what rises too fast.

Exposure of an item: its share of the places in the lists of many people. The people are invented
(`server.coordination.probes`): no shopper's data is read, and nothing is spent. Whoever pushes an item through a run
raises its exposure; here it may at most double from one version to the next, or reach a public floor where it had
nearly none. What would pass is damped, back to what it had: its vector is shortened and its prior lowered together,
found by bisection for all such items at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from model.features import Histories
from model.schema import COMPLEMENT, Weights
from model.two_tower import encode_items
from server.coordination.probes import best, invented_histories, people_for, scores_of, users_of

Floats = NDArray[np.float64]
Scores = NDArray[np.float32]
Indices = NDArray[np.int64]

GROWTH: Final = 2.0
"""How many times an item's exposure may be that of the version in service."""
FLOOR: Final = 1.0
"""Exposure that counts as nearly none, in shares of an average item's: what has less is taken to have this."""
BACK_TO: Final = 0.25
"""What a damped item is brought down to, as a share of its limit: invented people are not quite the real ones."""
RESOLVED: Final = 10.0
"""Places in the lists of all invented people below which an exposure says nothing: the floor is at least that."""
DEPTH: Final = 10
_FITS, _PASSES, _HALVINGS = 3, 20, 12
"""Looks that end in a bisection, looks in all, and halvings of one bisection."""
_KEPT = 0.6
"""What an item that is beyond its limit after the bisections keeps of itself at each further look."""
_BLOCK = 16_000_000
"""Scores held in memory at once."""


@dataclass(frozen=True, kw_only=True)
class Damped:
    """One item that would have risen too fast; exposures are shares of all places in lists.

    Attributes:
        before: in the version in service; `pushed`: in the new one as it was learned; `after`: as it is released.
        limit: what the item might have risen to without being damped.
    """

    item: int
    before: float
    pushed: float
    after: float
    limit: float


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A new version's weights with what rose too fast damped, and what that was, the highest first."""

    weights: Weights
    damped: tuple[Damped, ...]


def watch(before: Weights, after: Weights, features: sp.csr_matrix) -> Watched:
    """Hold a new version against the one in service, both over the catalogue of `features` (items, columns)."""
    people = invented_histories(before, features, people_for(features.shape[0]))
    shown = exposure(before, features, people)
    limit = limits(shown, len(people))
    pushed = exposure(after, features, people)
    weights, now, strength = after, pushed, np.zeros(len(shown))
    for turn in range(_PASSES):
        if not (now > limit).any():
            break
        over = now > limit
        if turn < _FITS:
            watched = over | (strength > 0)
            strength = _fitted(after, weights, features, people, watched, BACK_TO * limit)
        else:  # what the bisections left, since items that are damped together move each other
            strength = np.where(over, 1.0 - _KEPT * (1.0 - strength), strength)
        weights = damped(after, features, strength)
        now = exposure(weights, features, people)
    found = np.flatnonzero(strength > 0)
    rows = [
        Damped(
            item=item,
            before=float(shown[item]),
            pushed=float(pushed[item]),
            after=float(now[item]),
            limit=float(limit[item]),
        )
        for item in found[np.argsort(-pushed[found], kind="stable")].tolist()
    ]
    return Watched(weights=weights, damped=tuple(rows))


def limits(shown: Floats, people: int) -> Floats:
    """Return what each item's exposure may be, from its exposure in the version in service, (items,)."""
    floor = max(FLOOR / len(shown), RESOLVED / (people * DEPTH))
    return GROWTH * np.maximum(shown, floor)


def exposure(weights: Weights, features: sp.csr_matrix, people: Histories) -> Floats:
    """Return each item's share of the places in the lists of some people, (items,); what they have is not listed."""
    vectors = encode_items(weights, features)
    places = np.zeros(len(vectors), dtype=np.int64)
    for part in _parts(people, len(vectors)):
        listed = best(scores_of(weights, vectors, part), DEPTH)
        places += np.bincount(listed.ravel(), minlength=len(vectors))
    return np.asarray(places / (len(people) * DEPTH))


def damped(weights: Weights, features: sp.csr_matrix, strength: Floats) -> Weights:
    """Return weights whose items are damped by `strength` (items,), 0 to 1: not at all, to nothing for anybody.

    The item's vectors are shortened by that share of their length, and its prior goes that share of the way down to
    the lowest of the catalogue.
    """
    items = np.flatnonzero(strength > 0)
    kept = (1.0 - strength[items])[:, None]
    vectors = encode_items(weights, features)[items]
    item_id, bias = weights["item_id"].copy(), weights["item_bias"].copy()
    item_id[items] -= (1.0 - kept) * vectors
    bias[items] = _lowered(weights["item_bias"], items, strength[items])
    found = {**weights, "item_id": item_id, "item_bias": bias}
    if COMPLEMENT in weights:
        found[COMPLEMENT] = weights[COMPLEMENT] * (1.0 - strength)[:, None].astype(np.float32)
    return found


def _lowered(bias: Scores, items: Indices, strength: Floats) -> Scores:
    return np.asarray((1.0 - strength) * bias[items] + strength * bias.min(), dtype=np.float32)


def _fitted(
    after: Weights,
    now: Weights,
    features: sp.csr_matrix,
    people: Histories,
    watched: NDArray[np.bool_],
    limit: Floats,
) -> Floats:
    """Return how much to damp the `watched` items (items,) so that each fits its limit, all others as they are.

    What people are like is taken from the weights `now`: the next pass looks again.
    """
    items = np.flatnonzero(watched)
    vectors = encode_items(after, features)
    affinity, bar = _rivals(now, vectors, encode_items(now, features), people, items)
    low, high = np.zeros(len(items)), np.ones(len(items))
    prior = float(after["prior_scale"][0])
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        own = affinity * (1.0 - middle) + prior * _lowered(after["item_bias"], items, middle)
        listed = best(np.concatenate([bar, own.astype(np.float32)], axis=1), DEPTH) - bar.shape[1]
        share = np.bincount(listed[listed >= 0], minlength=len(items)) / (len(people) * DEPTH)
        fits = share <= limit[items]
        low, high = np.where(fits, low, middle), np.where(fits, middle, high)
    strength = np.zeros(len(watched))
    strength[items] = high
    return strength


def _rivals(
    now: Weights, whole: Scores, vectors: Scores, people: Histories, items: Indices
) -> tuple[Scores, Scores]:
    """Return what each person feels for `items` undamped, (people, items), and the best scores of the others.

    -inf for what the person has.
    """
    affinities, bars = [], []
    for part in _parts(people, len(vectors)):
        scores = scores_of(now, vectors, part)
        own = users_of(now, vectors, part) @ whole[items].T
        own[np.isneginf(scores[:, items])] = -np.inf
        scores[:, items] = -np.inf
        affinities.append(own)
        bars.append(np.take_along_axis(scores, best(scores, DEPTH), axis=1))
    return np.concatenate(affinities), np.concatenate(bars)


def _parts(people: Histories, items: int) -> list[Histories]:
    size = max(1, _BLOCK // items)
    starts = range(0, len(people), size)
    return [people.select(np.arange(start, min(start + size, len(people)))) for start in starts]
