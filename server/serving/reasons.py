"""Why each item is in the list. A reason states only what the ranking was computed from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from model.features import KINDS, POSITIVE_KINDS
from server.serving.order import FLAGS, Order
from server.serving.profile import Profile, without_each
from server.serving.query import Basis, RankQuery, Reason, ReasonKind, Surface
from server.serving.snapshot import Snapshot

Ints = npt.NDArray[np.int64]

MAX_CAUSES = 50
"""The newest distinct items of a history that are tried as causes; it bounds the work of one call."""

_LONGEST_TITLE = 80
_PHRASES = {
    "purchase": "you bought {}",
    "add_to_cart": "you put {} in your cart",
    "rating": "you rated {}",
    "search": "you searched for {}",
    "view": "you viewed {}",
}
"""By kind of event, the strongest first: it names what the shopper did with the cause."""
_POPULAR = "popular with shoppers of this marketplace"
_LESS_POPULAR = "next in the order of this marketplace's popularity"
_FLAG_WORDS = {Surface.NEW_ARRIVALS: "new, ", Surface.PROMOTION: "on promotion, "}


def explain(snapshot: Snapshot, query: RankQuery, profile: Profile, order: Order) -> list[Reason]:
    """One reason per item of `order`."""
    if query.surface is Surface.DETAIL:
        return [_similar(snapshot, query)] * len(order.items)
    if order.matches is not None:
        words = [order.matches.held(int(item)) for item in order.items]
        return [Reason(kind=ReasonKind.QUERY, text=f"matches {_quoted(held)}") for held in words]
    reasons = _personal(snapshot, profile, order.items)
    if FLAGS.get(query.surface) not in snapshot.catalogue.flags:
        return reasons
    lead = _FLAG_WORDS[query.surface]
    return [Reason(kind=r.kind, text=lead + r.text, item_id=r.item_id) for r in reasons]


def _personal(snapshot: Snapshot, profile: Profile, items: Ints) -> list[Reason]:
    if profile.basis is Basis.COLD_START:
        return _popular(snapshot, items)
    if profile.basis is Basis.USER_EMBEDDING:
        return [Reason(kind=ReasonKind.PROFILE, text="fits the profile sent with the request")] * len(items)
    return [_because(snapshot, profile, cause) for cause in causes(snapshot, profile, items)]


def causes(snapshot: Snapshot, profile: Profile, items: Ints) -> list[int | None]:
    """For each item, the item of the history whose removal lowers its score the most; None where none does.

    Each score is computed again without that item's events (leave one out), so the claim holds for any tower.
    Only events that speak for an item are causes, and an item is no cause of itself.
    """
    tried = _candidates(profile)
    if not tried.size or not items.size or profile.vector is None:
        return [None] * len(items)
    without = snapshot.user_vectors(without_each(profile.history, tried), profile.moment)
    drops = (profile.vector - without) @ snapshot.item_vectors[items].T
    drops = np.where(tried[:, None] == items[None, :], -np.inf, drops)
    strongest = drops.argmax(axis=0)
    return [
        int(tried[row]) if drops[row, column] > 0 else None for column, row in enumerate(strongest.tolist())
    ]


def _candidates(profile: Profile) -> Ints:
    positive = np.isin(profile.history.kinds, [KINDS.index(kind) for kind in POSITIVE_KINDS])
    newest_first = profile.history.items[positive][::-1]
    distinct, first = np.unique(newest_first, return_index=True)
    return distinct[np.argsort(first)][:MAX_CAUSES].astype(np.int64)


def _because(snapshot: Snapshot, profile: Profile, cause: int | None) -> Reason:
    if cause is None:
        return Reason(kind=ReasonKind.PROFILE, text="fits your history as a whole")
    kinds = {KINDS[kind] for kind in profile.history.kinds[profile.history.items == cause]}
    phrase = next(phrase for kind, phrase in _PHRASES.items() if kind in kinds)
    text = "because " + phrase.format(_name(snapshot, cause))
    return Reason(kind=ReasonKind.HISTORY, text=text, item_id=snapshot.catalogue.item_ids[cause])


def _popular(snapshot: Snapshot, items: Ints) -> list[Reason]:
    """Call popular what is above the catalogue's median; a short catalogue also lists what is below."""
    above = snapshot.popularity[items] >= np.median(snapshot.popularity)
    texts = [_POPULAR if popular else _LESS_POPULAR for popular in above.tolist()]
    return [Reason(kind=ReasonKind.POPULAR, text=text) for text in texts]


def _similar(snapshot: Snapshot, query: RankQuery) -> Reason:
    name = _name(snapshot, snapshot.catalogue.index[query.item_id])
    return Reason(kind=ReasonKind.SIMILAR, text=f"similar to {name}", item_id=query.item_id)


def _name(snapshot: Snapshot, item: int) -> str:
    title = snapshot.catalogue.titles[item] or snapshot.catalogue.item_ids[item]
    return title if len(title) <= _LONGEST_TITLE else title[: _LONGEST_TITLE - 1] + "…"


def _quoted(words: Sequence[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)
