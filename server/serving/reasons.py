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
from server.serving.kernels_reasons import name_each, strongest
from server.serving.profile import Profile
from server.serving.query import Basis, RankQuery, Reason, ReasonKind, Surface
from server.serving.reasons_causes import drops, tables_of
from server.serving.reasons_naming import PUT_IN, STRENGTH, reasons_of, short
from server.serving.reasons_popular import popularity_of
from server.serving.rerank import Chosen, is_fresh
from server.serving.scoring import Composed, Parts
from server.serving.snapshot import Floats, Snapshot

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


def explain(snapshot: Snapshot, composed: Composed, chosen: Sequence[Chosen]) -> list[Sequence[Reason]]:
    """One reason per item of each list, where the question wants reasons."""
    wanted = [
        listed.items if one.query.reasons else listed.items[:0]
        for one, listed in zip(composed.profiles.asked, chosen, strict=True)
    ]
    named, tried = _named(snapshot, composed, wanted, [listed.scores for listed in chosen])
    return [
        _explained(snapshot, Parts(composed, row), listed, named[row, : len(items)].tolist(), tried[row])
        if len(items)
        else ()
        for row, (items, listed) in enumerate(zip(wanted, chosen, strict=True))
    ]


def _named(
    snapshot: Snapshot, composed: Composed, wanted: Sequence[Ints], scores: Sequence[Floats]
) -> tuple[Ints, list[int]]:
    """For each item the number of the reason that names a cause, -1 for none; and how many causes were tried."""
    longest = max(map(len, wanted))
    listed = np.full((len(wanted), longest), -1, dtype=np.int64)
    ordered = np.zeros((len(wanted), longest), dtype=np.float32)
    for row, items in enumerate(wanted):
        listed[row, : len(items)], ordered[row, : len(items)] = items, scores[row][: len(items)]
    named, tried = np.empty_like(listed), np.empty(len(wanted), dtype=np.int64)
    if snapshot.tower.attends:
        for row in range(len(wanted)):
            tried[row] = _name(snapshot, Parts(composed, row), listed[row], ordered[row], named[row])
    else:
        known, inputs, tables = composed.profiles.known, composed.profiles.inputs, tables_of(snapshot)
        name_each(
            snapshot.index.vectors,
            listed,
            ordered,
            known.read,
            known.marks,
            inputs.vectors,
            inputs.items,
            inputs.codes,
            composed.fused.counts,
            inputs.anchors,
            composed.weights,
            inputs.looked_at,
            tables.gain,
            tables.counts,
            _IS_POSITIVE,
            _STRENGTH,
            PUT_IN,
            LEAST_DROP,
            MAX_CAUSES,
            named,
            tried,
        )
    return named, tried.tolist()


def _name(snapshot: Snapshot, parts: Parts, listed: Ints, scores: Floats, named: Ints) -> int:
    """Name the causes of one list, padded by -1, where the tower attends; returns how many were tried.

    They are the item looked at, and the newest ones that were not rejected last.
    """
    profile = Profile(parts.batch.profiles, parts.row)
    read, anchor = profile.read, -1 if profile.anchor is None else profile.anchor
    causes = np.empty(MAX_CAUSES, dtype=np.int64)
    causes = causes[: distinct_items(read.items, read.kinds, _IS_POSITIVE, anchor, causes)]
    items, named[:] = listed[listed >= 0], -1
    if len(causes) and len(items):
        least = LEAST_DROP * max(1.0, float(np.abs(scores).max()))
        lost = drops(snapshot, parts, causes, items)
        told = read.items, read.kinds, _STRENGTH, PUT_IN, anchor
        strongest(lost.taste, lost.together, causes, items, least, *told, named[: len(items)])
    return len(causes)


def _explained(
    snapshot: Snapshot, parts: Parts, chosen: Chosen, named: Sequence[int], tried: int
) -> Sequence[Reason]:
    query, profile = parts.batch.profiles.asked[parts.row].query, Profile(parts.batch.profiles, parts.row)
    reasons = _personal(snapshot, parts, chosen.items, named, tried)
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
    snapshot: Snapshot, parts: Parts, items: Ints, named: Sequence[int], tried: int
) -> list[Reason]:
    """The strongest cause of each item, and for items without one what else speaks for them."""
    known = reasons_of(snapshot)
    if -1 not in named:
        return [known[number] for number in named]
    general = _general(snapshot, parts, items, tried)
    return [other if number < 0 else known[number] for number, other in zip(named, general, strict=True)]


def _general(snapshot: Snapshot, parts: Parts, items: Ints, tried: int) -> list[Reason]:
    """What speaks for each item although no single event does, of as many as were tried."""
    asked, profile = parts.batch.profiles.asked[parts.row], Profile(parts.batch.profiles, parts.row)
    rows = snapshot.index.vectors[items, : snapshot.dim]
    given = parts.reading.given
    taste = np.zeros(snapshot.dim, dtype=np.float32)
    # What rejections alone say of an item is no reason to list it.
    if tried > (asked.anchor is not None):
        taste = parts.weights[:2] @ parts.pooled[:2, : snapshot.dim]
    fitting = _PROFILE
    if given is not None:
        taste = taste + parts.weights[0] * given
        fitting = _SENT_PROFILE if profile.basis is Basis.USER_EMBEDDING else _segment(snapshot, asked.query)
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
