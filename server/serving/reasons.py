"""Why each item is in the list. A reason states only what the ranking was computed from.

Where something that the shopper did, or the item looked at, raises an item, the one without which the item would
lose most is named (`server.serving.reasons_causes`). Otherwise the reason is the first that holds of: the segment or
the profile as a whole, the released counts, the moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from model.features import KINDS, POSITIVE_KINDS
from server.serving.profile import Profile
from server.serving.query import Basis, RankQuery, Reason, ReasonKind, Surface
from server.serving.reasons_causes import drops
from server.serving.reasons_popular import popularity_of
from server.serving.rerank import Chosen, is_fresh
from server.serving.scoring import Parts
from server.serving.snapshot import Snapshot

Ints = npt.NDArray[np.int64]

MAX_CAUSES = 50
"""The newest distinct items of a history that are tried as causes; it bounds the work of one call."""
LEAST_DROP = 1e-5
"""A cause must move the score by more than rounding does: this share of the largest score, or of 1."""

_LONGEST_NAME = 80
_PHRASES = {
    "purchase": "you bought {}",
    "add_to_cart": "you put {} in your cart",
    "rating": "you rated {}",
    "search": "you searched for {}",
    "view": "you viewed {}",
}
"""By kind of event, the strongest first: it names what the shopper did with the cause."""
_STRENGTH = {KINDS.index(kind): place for place, kind in enumerate(_PHRASES)}
_IS_POSITIVE = np.isin(KINDS, POSITIVE_KINDS)
_BOUGHT = KINDS.index("purchase")

_EXPLORATION = Reason(kind=ReasonKind.EXPLORATION, text="something different, to learn if you like it")
_PROFILE = Reason(kind=ReasonKind.PROFILE, text="fits your history as a whole")
_SENT_PROFILE = Reason(kind=ReasonKind.PROFILE, text="fits the profile sent with the request")
_MEANING = Reason(kind=ReasonKind.MEANING, text="close to your search in meaning")
_POPULAR = Reason(kind=ReasonKind.POPULAR, text="popular with shoppers of this marketplace")
_MOMENT = Reason(kind=ReasonKind.POPULAR, text="by this marketplace's popularity and the moment")
_NEW = Reason(kind=ReasonKind.NEW, text="new in the shop")
_NEW_FROM_KNOWN = Reason(kind=ReasonKind.NEW, text="new from a merchant you buy from")
_PROMOTED = Reason(kind=ReasonKind.PROMOTION, text="on promotion now")


def explain(
    snapshot: Snapshot, query: RankQuery, profile: Profile, parts: Parts, chosen: Chosen
) -> Sequence[Reason]:
    """One reason per item of the list."""
    if not len(chosen.items):
        return ()
    reasons = _personal(snapshot, query, profile, parts, chosen)
    if query.surface is Surface.SEARCH:
        reasons = _found(snapshot, parts, chosen.items, reasons)
    elif query.surface is Surface.NEW_ARRIVALS:
        reasons = _fresh(snapshot, query, profile, chosen.items, reasons)
    elif query.surface is Surface.PROMOTION:
        reasons = _promoted(snapshot, query, chosen.items, reasons)
    if chosen.drawn is not None:
        reasons = [
            _EXPLORATION if drawn else reason
            for drawn, reason in zip(chosen.drawn.tolist(), reasons, strict=True)
        ]
    return reasons


def _personal(
    snapshot: Snapshot, query: RankQuery, profile: Profile, parts: Parts, chosen: Chosen
) -> list[Reason]:
    """The strongest cause of each item, and for items without one what else speaks for them."""
    items, causes = chosen.items, _tried(profile)
    found: list[Reason | None] = [None] * len(items)
    if len(causes):
        least = LEAST_DROP * max(1.0, float(np.abs(chosen.scores).max()))
        found = _because(snapshot, profile, parts, causes, items, least)
    if None not in found:
        return [reason for reason in found if reason is not None]
    general = _general(snapshot, query, profile, parts, items)
    return [reason or other for reason, other in zip(found, general, strict=True)]


def _tried(profile: Profile) -> Ints:
    """Items that may be a cause: the one looked at, and the newest ones that the shopper wanted."""
    wanted = profile.read.items[_IS_POSITIVE[profile.read.kinds]].tolist()
    anchors = [] if profile.anchor is None else [profile.anchor]
    return np.array(list(dict.fromkeys([*anchors, *wanted]))[:MAX_CAUSES], dtype=np.int64)


def _because(
    snapshot: Snapshot, profile: Profile, parts: Parts, causes: Ints, items: Ints, least: float
) -> list[Reason | None]:
    """For each item the cause without which it loses most, if more than `least`; no item is a cause of itself."""
    lost = drops(snapshot, profile.reading, parts, causes, items)
    total = lost.taste + lost.together
    total[causes[:, None] == items] = -np.inf
    strongest = total.argmax(axis=0)
    rows = np.arange(len(items))
    worst = total[strongest, rows]
    holds, together = worst > least, 2 * lost.together[strongest, rows] > worst

    @cache
    def reason(row: int, goes_with: bool) -> Reason:
        return _naming(snapshot, profile, int(causes[row]), goes_with)

    return [
        reason(row, goes_with) if held else None
        for row, goes_with, held in zip(strongest.tolist(), together.tolist(), holds.tolist(), strict=True)
    ]


def _naming(snapshot: Snapshot, profile: Profile, cause: int, goes_with: bool) -> Reason:
    """The reason that names `cause`; `goes_with`: for what is bought with it more than for what is like it."""
    item_id, name = snapshot.items.item_id(cause), _name(snapshot, cause)
    if goes_with:
        where = "" if cause == profile.anchor else " in your cart"
        return Reason(kind=ReasonKind.TOGETHER, text=f"often bought with {name}{where}", item_id=item_id)
    if cause == profile.anchor:
        return Reason(kind=ReasonKind.SIMILAR, text=f"similar to {name}", item_id=item_id)
    kinds = profile.read.kinds[profile.read.items == cause].tolist()
    strongest = min(kinds, key=lambda kind: _STRENGTH.get(kind, len(_STRENGTH)))
    text = "because " + _PHRASES[KINDS[strongest]].format(name)
    return Reason(kind=ReasonKind.HISTORY, text=text, item_id=item_id)


def _general(
    snapshot: Snapshot, query: RankQuery, profile: Profile, parts: Parts, items: Ints
) -> list[Reason]:
    """What speaks for each item although no single event does."""
    rows = snapshot.index.vectors[items, : snapshot.dim]
    taste = parts.weights[:2] @ parts.pooled[:2, : snapshot.dim]
    given = profile.reading.given
    fitting = _PROFILE
    if given is not None:
        taste = taste + parts.weights[0] * given
        fitting = _SENT_PROFILE if profile.basis is Basis.USER_EMBEDDING else _segment(snapshot, query)
    return [
        fitting if fits > LEAST_DROP else _popular(snapshot, item)
        for fits, item in zip((rows @ taste).tolist(), items.tolist(), strict=True)
    ]


def _segment(snapshot: Snapshot, query: RankQuery) -> Reason:
    name = "" if query.segment is None else snapshot.segments.names[query.segment]
    return Reason(kind=ReasonKind.SEGMENT, text=f"near the segment {_short(name)}")


def _popular(snapshot: Snapshot, item: int) -> Reason:
    popularity = popularity_of(snapshot)
    if popularity.in_category[item]:
        text = f"popular in {_short(snapshot.items.category(item))}"
        return Reason(kind=ReasonKind.POPULAR_CATEGORY, text=text)
    return _POPULAR if popularity.overall[item] else _MOMENT


def _found(snapshot: Snapshot, parts: Parts, items: Ints, reasons: list[Reason]) -> list[Reason]:
    """The query's words that an item holds, or its nearness in meaning, before all else."""
    near = np.zeros(len(items), dtype=np.bool_)
    if parts.text is not None:
        near = snapshot.index.vectors[items, : snapshot.dim] @ parts.text > LEAST_DROP
    held = [() if parts.matches is None else parts.matches.held(item) for item in items.tolist()]
    return [
        Reason(kind=ReasonKind.QUERY, text="matches " + ", ".join(f"'{word}'" for word in words))
        if words
        else _MEANING
        if close
        else reason
        for words, close, reason in zip(held, near.tolist(), reasons, strict=True)
    ]


def _fresh(
    snapshot: Snapshot, query: RankQuery, profile: Profile, items: Ints, reasons: list[Reason]
) -> list[Reason]:
    """Say of what is new that it is; the merchant only where the history holds a purchase there."""
    merchants = snapshot.items.merchant_codes
    known = merchants[profile.past.items[profile.past.kinds == _BOUGHT]]
    new = is_fresh(snapshot, items, query.timestamp)
    flagged = snapshot.items.flags.get("new_arrival")
    if flagged is not None:
        new = new | flagged[items]
    bought_from = np.isin(merchants[items], known)
    return [
        reason if not fresh else _NEW_FROM_KNOWN if buys else _leading("new, ", reason, _NEW)
        for fresh, buys, reason in zip(new.tolist(), bought_from.tolist(), reasons, strict=True)
    ]


def _promoted(snapshot: Snapshot, query: RankQuery, items: Ints, reasons: list[Reason]) -> list[Reason]:
    """Say of what has a promotion now, or is flagged so by the shop, that it has."""
    promoted = np.isin(items, snapshot.promotions.valid_at(query.timestamp))
    flagged = snapshot.items.flags.get("promotion")
    if flagged is not None:
        promoted |= flagged[items]
    return [
        _leading("on promotion, ", reason, _PROMOTED) if holds else reason
        for holds, reason in zip(promoted.tolist(), reasons, strict=True)
    ]


def _leading(lead: str, reason: Reason, otherwise: Reason) -> Reason:
    """A reason that names a cause, with a word before it; `otherwise` where it names none."""
    return (
        Reason(kind=reason.kind, text=lead + reason.text, item_id=reason.item_id)
        if reason.item_id
        else otherwise
    )


def _name(snapshot: Snapshot, item: int) -> str:
    return _short(snapshot.items.title(item) or snapshot.items.item_id(item))


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
