"""Why each item is in the list. A reason states only what the ranking was computed from.

Where something that the shopper did, or the item looked at, raises an item, the one without which the item would
lose most is named (`server.serving.reasons_causes`). Otherwise the reason is the first that holds of: the segment or
the profile as a whole, the released counts, the moment.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from model.features import KINDS, POSITIVE_KINDS
from server.serving.kernels import distinct_items
from server.serving.kernels_reasons import strongest
from server.serving.profile import Profile
from server.serving.query import Basis, RankQuery, Reason, ReasonKind, Surface
from server.serving.reasons_causes import drops
from server.serving.reasons_naming import DONE, PUT_IN, SIMILAR, STRENGTH, reasons_of, short, together
from server.serving.reasons_popular import popularity_of
from server.serving.rerank import Chosen, is_fresh
from server.serving.scoring import Parts
from server.serving.snapshot import Snapshot

Ints = npt.NDArray[np.int64]

MAX_CAUSES = 50
"""The newest distinct items of a history that are tried as causes; it bounds the work of one call."""
LEAST_DROP = 1e-5
"""A cause must move the score by more than rounding does: this share of the largest score, or of 1."""

_IS_POSITIVE = np.isin(KINDS, POSITIVE_KINDS)
_STRENGTH = np.array(STRENGTH, dtype=np.int64)
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
    general = _general(snapshot, query, profile, parts, causes, items)
    return [reason or other for reason, other in zip(found, general, strict=True)]


def _tried(profile: Profile) -> Ints:
    """Items that may be a cause: the one looked at, and the newest ones that were not rejected last."""
    read, anchor = profile.read, -1 if profile.anchor is None else profile.anchor
    found = np.empty(MAX_CAUSES, dtype=np.int64)
    return found[: distinct_items(read.items, read.kinds, _IS_POSITIVE, anchor, found)]


def _because(
    snapshot: Snapshot, profile: Profile, parts: Parts, causes: Ints, items: Ints, least: float
) -> list[Reason | None]:
    """For each item the cause without which it loses most, if more than `least`; no item is a cause of itself."""
    lost, read = drops(snapshot, parts, causes, items), profile.read
    named = np.empty((3, len(items)), dtype=np.int64)
    strongest(lost.taste, lost.together, causes, items, least, read.items, read.kinds, _STRENGTH, named)
    known, anchor = reasons_of(snapshot), profile.anchor
    return [
        None
        if cause < 0
        else known[cause, together(snapshot.card, in_cart=cause != anchor and strength == PUT_IN)]
        if goes_with
        else known[cause, SIMILAR if cause == anchor else DONE[strength]]
        for cause, goes_with, strength in zip(*named.tolist(), strict=True)
    ]


def _general(
    snapshot: Snapshot, query: RankQuery, profile: Profile, parts: Parts, causes: Ints, items: Ints
) -> list[Reason]:
    """What speaks for each item although no single event does."""
    rows = snapshot.index.vectors[items, : snapshot.dim]
    given = parts.reading.given
    taste = np.zeros(snapshot.dim, dtype=np.float32)
    # What rejections alone say of an item is no reason to list it.
    if len(causes) > (profile.anchor is not None):
        taste = parts.weights[:2] @ parts.pooled[:2, : snapshot.dim]
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
    return Reason(kind=ReasonKind.SEGMENT, text=f"near the segment {short(name)}")


def _popular(snapshot: Snapshot, item: int) -> Reason:
    popularity = popularity_of(snapshot)
    if popularity.in_category[item]:
        text = f"popular in {short(snapshot.items.category(item))}"
        return Reason(kind=ReasonKind.POPULAR_CATEGORY, text=text)
    return _POPULAR if popularity.overall[item] else _MOMENT


def _found(snapshot: Snapshot, parts: Parts, items: Ints, reasons: list[Reason]) -> list[Reason]:
    """The query's words that an item holds, or its nearness in meaning, before all else."""
    near = np.zeros(len(items), dtype=np.bool_)
    if parts.reading.text is not None:
        near = snapshot.index.vectors[items, : snapshot.dim] @ parts.reading.text > LEAST_DROP
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
