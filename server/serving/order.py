"""Which items a surface lists, and in what order. Exact: every item is scored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.features import KINDS
from server.errors import UnknownItem
from server.serving.profile import Profile
from server.serving.query import RankQuery, Surface
from server.serving.snapshot import Floats, Snapshot
from server.serving.words import Matches

Ints = npt.NDArray[np.int64]

_DONE_WITH = ("purchase", "dismiss")
_SEEN: dict[Surface, tuple[str, ...]] = {
    Surface.HOME: _DONE_WITH,
    Surface.NEW_ARRIVALS: _DONE_WITH,
    Surface.PROMOTION: _DONE_WITH,
    Surface.CART: ("add_to_cart", *_DONE_WITH),
    Surface.SEARCH: (),
    Surface.DETAIL: (),
}
"""Event kinds after which a surface does not list an item again, unless asked to."""

FLAGS = {Surface.NEW_ARRIVALS: "new_arrival", Surface.PROMOTION: "promotion"}
"""Catalogue columns that mark the items of a surface."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """Item indices, best first, with the number that ordered each; `matches` on search only."""

    items: Ints
    scores: Floats
    matches: Matches | None = None
    notices: tuple[str, ...] = ()


def order_items(snapshot: Snapshot, query: RankQuery, profile: Profile) -> Order:
    """The best `query.k` items of the surface, or fewer where it has fewer; ties in catalogue order.

    Search orders by the share of the query that an item holds, then by the shopper's score: an exact match
    never loses to a vague one. Detail orders by cosine similarity to its item, else raises `UnknownItem`.
    """
    if query.surface is Surface.DETAIL:
        return _similar(snapshot, query)
    scores = snapshot.popularity if profile.vector is None else snapshot.scores(profile.vector)
    if query.surface is Surface.SEARCH:
        return _found(snapshot, query, scores)
    candidates = np.flatnonzero(_allowed(snapshot, query, profile))
    items = best(candidates, query.k, scores[candidates])
    return Order(items=items, scores=scores[items], notices=_notices(snapshot, query.surface))


def best(candidates: Ints, k: int, *keys: Floats) -> Ints:
    """The `k` candidates with the largest keys: the first key decides, later ones break its ties.

    `candidates` (c,) ascending item indices; each key (c,). What ties in all keys stays in catalogue order:
    `numpy.lexsort` is stable.
    """
    if candidates.size > k:
        cut = np.partition(keys[0], candidates.size - k)[candidates.size - k]
        kept = np.flatnonzero(keys[0] >= cut)
        candidates, keys = candidates[kept], tuple(key[kept] for key in keys)
    return candidates[np.lexsort([-key for key in reversed(keys)])[:k]]


def _allowed(snapshot: Snapshot, query: RankQuery, profile: Profile) -> npt.NDArray[np.bool_]:
    allowed = np.ones(len(snapshot.catalogue.item_ids), dtype=np.bool_)
    flagged = snapshot.catalogue.flags.get(FLAGS.get(query.surface, ""))
    if flagged is not None:
        allowed &= flagged
    if query.exclude_seen:
        kinds = [KINDS.index(kind) for kind in _SEEN[query.surface]]
        allowed[profile.past.items[np.isin(profile.past.kinds, kinds)]] = False
    return allowed


def _found(snapshot: Snapshot, query: RankQuery, scores: Floats) -> Order:
    matches = snapshot.words.match(query.words)
    items = best(matches.items, query.k, matches.coverage, scores[matches.items])
    coverage = matches.coverage[np.searchsorted(matches.items, items)]
    return Order(items=items, scores=coverage, matches=matches)


def _similar(snapshot: Snapshot, query: RankQuery) -> Order:
    if query.item_id not in snapshot.catalogue.index:
        raise UnknownItem(
            "item_id names no item of this endpoint's catalogue "
            f"({len(snapshot.catalogue.item_ids)} items); take an id from the catalogue that is served"
        )
    own = snapshot.catalogue.index[query.item_id]
    cosines = snapshot.item_vectors @ (snapshot.item_vectors[own] / snapshot.item_lengths[own])
    cosines = cosines / snapshot.item_lengths
    others = np.delete(np.arange(len(cosines)), own)
    items = best(others, query.k, cosines[others])
    return Order(items=items, scores=cosines[items])


def _notices(snapshot: Snapshot, surface: Surface) -> tuple[str, ...]:
    if surface in FLAGS and FLAGS[surface] not in snapshot.catalogue.flags:
        return (f"the catalogue has no column {FLAGS[surface]}: every item was a candidate",)
    return ()
