"""From candidates in order of relevance to the list that is shown, by the knobs of the surface.

docs/policy.md says in which order the knobs act and which gives way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from server.serving.exploration import Explored, explore
from server.serving.exposure import Exposure
from server.serving.policy import FRESH_DAYS, SurfacePolicy
from server.serving.rerank_places import Filling, Floor, Quota, Rules, needed, within
from server.serving.snapshot import Snapshot

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

TAIL = 0.8
"""The tail are the items whose released count is in the lower so much of the catalogue."""
_SAMPLED = 10_000
_TIER = 4.0
"""More than relevance, fairness and likeness can move an item: 1 + 1 + 1."""
_DAY = 24 * 3600


class Candidates(Protocol):
    """Items that may be listed, each once, best first."""

    @property
    def items(self) -> Ints:
        """(n,) item indices."""

    @property
    def scores(self) -> Floats:
        """(n,) what ordered them."""

    @property
    def tiers(self) -> Ints | None:
        """(n,) where an item may not come before one of a higher tier; None where all may."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The list, best place first; `scores` are those of the candidates, so knobs may leave them out of order.

    Attributes:
        propensities: (k,) see `server.serving.exploration`; None without exploration.
        drawn: (k,) which items are there by exploration; None without.
        notices: what could not be kept.
    """

    items: Ints
    scores: Floats
    propensities: Floats | None = None
    drawn: Bools | None = None
    notices: tuple[str, ...] = ()


def rerank(
    snapshot: Snapshot,
    candidates: Candidates,
    policy: SurfacePolicy,
    k: int,
    exposure: Exposure,
    seed: str,
    *,
    now: int,
) -> Chosen:
    """At most `k` of the candidates. `seed` (the request id) fixes what exploration draws; `now` in Unix seconds."""
    items, scores = candidates.items, candidates.scores
    if policy.is_off or not len(items):
        return Chosen(items=items[:k], scores=scores[:k])
    rules = _rules(snapshot, items, policy, now)
    relevance = _relevance(scores)
    places, notices = _ordered(snapshot, candidates, relevance, policy, rules, exposure, k)
    chosen = Chosen(items=items, scores=scores, notices=notices)
    if policy.exploration_share:
        explored = _explored(places, candidates, policy, rules, seed)
        places = explored.places
        chosen = replace(chosen, propensities=explored.propensities, drawn=explored.drawn)
    if policy.fairness:
        codes = snapshot.items.merchant_codes[items]
        exposure.record(snapshot.items.merchants, codes, relevance, codes[places])
    return replace(chosen, items=items[places], scores=scores[places])


def _rules(snapshot: Snapshot, items: Ints, policy: SurfacePolicy, now: int) -> Rules:
    """The quotas and floors that are on, for these candidates."""
    table = snapshot.items
    quotas = [
        Quota(name=name, codes=codes[items], most=most)
        for name, codes, most in (
            ("merchant_quota", table.merchant_codes, policy.merchant_quota),
            ("category_quota", table.category_codes, policy.category_quota),
        )
        if most is not None
    ]
    floors = []
    if policy.fresh_share:
        fresh = is_fresh(snapshot, items, now)
        floors.append(Floor(name="fresh_share", members=fresh, share=policy.fresh_share))
    if policy.long_tail_share:
        tail = is_tail(snapshot, items)
        floors.append(Floor(name="long_tail_share", members=tail, share=policy.long_tail_share))
    return Rules(quotas=quotas, floors=floors)


def _relevance(scores: Floats) -> Floats:
    """Scores as shares of their range: 1 the best candidate, 0 the last; all 1 where they tie."""
    least, most = scores.min(), scores.max()
    return (scores - least) / (most - least) if most > least else np.ones_like(scores)


def _ordered(
    snapshot: Snapshot,
    candidates: Candidates,
    relevance: Floats,
    policy: SurfacePolicy,
    rules: Rules,
    exposure: Exposure,
    k: int,
) -> tuple[Ints, tuple[str, ...]]:
    """The list before exploration, as places among the candidates, and notices."""
    items, tiers = candidates.items, candidates.tiers
    if not policy.reorders:
        return np.arange(min(k, len(items))), ()
    values = relevance
    if policy.fairness:
        debts = exposure.debts(snapshot.items.merchants)[snapshot.items.merchant_codes[items]]
        values = values + np.float32(policy.fairness) * np.clip(debts, -1, 1).astype(np.float32)
    values = (1 - policy.diversity) * values
    if tiers is not None:
        values = values + _TIER * tiers.astype(np.float32)
    if not policy.diversity:
        best = np.argsort(-values, kind="stable")[:k]
        if rules.hold(best):
            return best, ()
    filling = Filling(values, rules, policy.diversity, _units(snapshot, items) if policy.diversity else None)
    places = filling.fill(k)
    if tiers is not None:
        places = places[np.argsort(-tiers[places], kind="stable")]
    return places, tuple(filling.notices)


def _explored(
    places: Ints, candidates: Candidates, policy: SurfacePolicy, rules: Rules, seed: str
) -> Explored:
    """The list with exploration: within quotas and the last tier, and never at a place that a floor needs."""
    others = np.setdiff1d(np.arange(len(candidates.items)), places, assume_unique=True)
    fixed = needed(rules.floors, places)
    if candidates.tiers is not None:
        last = candidates.tiers[places].min()
        fixed |= candidates.tiers[places] > last
        others = others[candidates.tiers[others] == last]
    pool = within(rules.quotas, places, others)
    return explore(places, pool, fixed, policy.exploration_share, seed)


def is_fresh(snapshot: Snapshot, items: Ints, now: int) -> Bools:
    """Which items were listed within `FRESH_DAYS` days, or are flagged as new where their day is not known."""
    listed_at = snapshot.items.listed_at[items]
    fresh = (listed_at >= 0) & (listed_at <= now) & (now - listed_at < FRESH_DAYS * _DAY)
    flagged = snapshot.items.flags.get("new_arrival")
    return fresh if flagged is None else fresh | ((listed_at < 0) & flagged[items])


def is_tail(snapshot: Snapshot, items: Ints) -> Bools:
    """Which items have a released count in the lower `TAIL` of the catalogue's."""
    threshold = _thresholds.get(snapshot.index)
    if threshold is None:
        vectors = snapshot.index.vectors
        sample = vectors[:: max(len(vectors) // _SAMPLED, 1), -1]
        threshold = _thresholds[snapshot.index] = float(np.quantile(sample, TAIL))
    return np.asarray(snapshot.index.vectors[items, -1] <= threshold)


_thresholds: WeakKeyDictionary[object, float] = WeakKeyDictionary()
"""The released count, as the index holds it, that ends the tail; of large catalogues from evenly spaced items."""


def _units(snapshot: Snapshot, items: Ints) -> Floats:
    """(n, dim) item vectors at length 1; one of zeros is like no other."""
    vectors = snapshot.index.vectors[items, : snapshot.dim]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12))
