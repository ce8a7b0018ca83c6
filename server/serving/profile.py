"""Who a ranking is for: the events that count, what is not listed again, and how the user tower reads it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.features import KINDS, POSITIVE_KINDS
from server.errors import InvalidRequest, UnknownItem, Violation, WrongModelVersion
from server.serving.items import ItemTable
from server.serving.kernels_events import barred_each
from server.serving.past import Known, Past, known_events
from server.serving.query import NOTHING, Basis, Events, PastEvent, RankQuery, Surface, UserVector
from server.serving.reading import put_in, read_input
from server.serving.segments import taste_of
from server.serving.snapshot import Floats, Snapshot
from server.serving.tower import Inputs, Reading

Ints = npt.NDArray[np.int64]

_DONE_WITH = ("purchase", "dismiss")
_SEEN: dict[Surface, tuple[str, ...]] = {
    Surface.HOME: _DONE_WITH,
    Surface.NEW_ARRIVALS: _DONE_WITH,
    Surface.PROMOTION: _DONE_WITH,
    Surface.CART: ("dismiss",),
    Surface.SEARCH: ("dismiss",),
    Surface.DETAIL: ("dismiss",),
}
"""Event kinds after which a surface does not list an item again, unless asked to; on cart also what was put in."""
_NEVER = np.zeros(len(KINDS), dtype=np.bool_)
_IS_SEEN = {surface: np.isin(KINDS, kinds) for surface, kinds in _SEEN.items()}
_IS_WANTED = np.isin(KINDS, POSITIVE_KINDS)
_ADDED, _BOUGHT = KINDS.index("add_to_cart"), KINDS.index("purchase")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that can be answered from this snapshot.

    Attributes:
        session, history: what it tells; on cart the item just put into the basket is the newest of the session.
        anchor: the item looked at; on detail only.
        given: (dim,) the user embedding, or the taste of a segment.
        text: (dim,) what the words searched for mean; None without words known.
    """

    query: RankQuery
    session: Events
    history: Events
    anchor: int | None
    given: Floats | None
    text: Floats | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What is known of one shopper at one moment.

    Attributes:
        past: every event with an item of this catalogue.
        read: what the user tower reads of them: the newest of each item and kind, up to its limit.
        basket: (e,) which events of `read` are the basket; on cart only.
        anchor: the item looked at; on detail only.
        barred: items not to be listed, sorted, each once; -1 may be among them.
        reading: the same events as the tower's input; on detail the item looked at comes last in it.
        unknown: how many of the events told have an item that is not here.
    """

    basis: Basis
    past: Past
    read: Past
    basket: npt.NDArray[np.bool_] | None
    anchor: int | None
    barred: Ints
    reading: Reading
    unknown: int

    @property
    def dropped(self) -> int:
        """How many of the known events the user tower did not read."""
        return len(self.past.items) - len(self.read.items)


def check(snapshot: Snapshot, query: RankQuery) -> Asked:
    """See if a question can be answered from this snapshot.

    Raises `UnknownItem` (detail), `WrongModelVersion` for an embedding of another version, whose numbers mean nothing
    here, and `InvalidRequest` for one of another length or for an unknown segment.
    """
    history, session = _columns(query.history or NOTHING), _columns(query.session)
    if query.surface is Surface.CART and query.item_id:
        session = session.with_one(query.item_id, "add_to_cart")
    given = None if query.segment is None else taste_of(snapshot.segments, query.segment)
    if query.embedding is not None:
        given = _checked(query.embedding, snapshot)
    anchor = _anchor(snapshot.items, query) if query.surface is Surface.DETAIL else None
    text = snapshot.reader.read(query.words) if query.surface is Surface.SEARCH else None
    return Asked(query, session, history, anchor, given, text)


def read_profiles(snapshot: Snapshot, asked: Sequence[Asked]) -> tuple[list[Profile], Inputs]:
    """Turn what questions tell into profiles, and into what the tower reads of them.

    What was done in this session comes after the history, whatever its times.
    """
    queries = [one.query for one in asked]
    nows = np.array([query.timestamp for query in queries])
    sessions, histories = [one.session for one in asked], [one.history for one in asked]
    known = known_events(snapshot.items, sessions, histories, nows)
    pasts, reads, seen = known.each_past(), known.each_read(), _seen(queries, known)
    bases = [_basis(*pair) for pair in zip(asked, pasts, strict=True)]
    used = [
        one.given if basis in (Basis.USER_EMBEDDING, Basis.SEGMENT) else None
        for one, basis in zip(asked, bases, strict=True)
    ]
    anchors, texts = [one.anchor for one in asked], [one.text for one in asked]
    inputs = read_input(snapshot, queries, known, anchors, used, texts)
    profiles = []
    for row, (one, past, read, basis) in enumerate(zip(asked, pasts, reads, bases, strict=True)):
        basket = _basket(read, basis) if one.query.surface is Surface.CART else None
        if basket is not None:
            put_in(inputs, row, read, basket, one.query.timestamp if snapshot.has_clock else None)
        profiles.append(
            Profile(
                basis=basis,
                past=past,
                read=read,
                basket=basket,
                anchor=one.anchor,
                barred=_barred(snapshot.items, one, seen[row], read, basket),
                reading=inputs.of(row, len(read.items) + (one.anchor is not None), used[row], one.text),
                unknown=len(one.history) + len(one.session) - len(past.items),
            )
        )
    return profiles, inputs


def _columns(events: Events | Sequence[PastEvent]) -> Events:
    return events if isinstance(events, Events) else Events.of(events)


def _basis(asked: Asked, past: Past) -> Basis:
    """What the ranking is made from."""
    if asked.query.embedding is not None:
        return Basis.USER_EMBEDDING
    if len(past.items) > past.session:
        return Basis.STORED if asked.query.stored else Basis.HISTORY
    if past.session:
        return Basis.SESSION
    if asked.given is not None:
        return Basis.SEGMENT
    return Basis.NOT_USED if asked.query.surface is Surface.DETAIL else Basis.COLD_START


def _checked(embedding: UserVector, snapshot: Snapshot) -> Floats:
    if embedding.model_version != snapshot.version:
        raise WrongModelVersion(
            f"the embedding is of another model version than {snapshot.version}, which is served now; "
            "compute it again with that version's item vectors, or send a history"
        )
    if len(embedding.values) != snapshot.dim:
        problem = f"has {len(embedding.values)} values; model version {snapshot.version} has {snapshot.dim}"
        raise InvalidRequest(Violation(field="user_embedding.values", problem=problem))
    return embedding.values


def _basket(read: Past, basis: Basis) -> npt.NDArray[np.bool_]:
    """Which events are the basket: the session's; else the history sent, or what was put into it and not bought.

    Each item is in it once, by its newest event; what was dismissed or returned is not.
    """
    places = np.arange(len(read.items))
    if read.session or basis is not Basis.STORED:
        inside = _IS_WANTED[read.kinds] & (places < (read.session or len(places)))
    else:
        bought = np.flatnonzero(read.kinds == _BOUGHT)
        inside = (read.kinds == _ADDED) & (places < (bought[0] if len(bought) else len(places)))
    rows = np.flatnonzero(inside)
    return np.isin(places, rows[np.unique(read.items[rows], return_index=True)[1]])


def _anchor(table: ItemTable, query: RankQuery) -> int:
    row = int(table.find([query.item_id])[0])
    if row < 0:
        raise UnknownItem(
            f"item_id names no item of this endpoint's catalogue ({len(table)} items); "
            "take an id from the catalogue that is served"
        )
    return row


def _seen(queries: Sequence[RankQuery], known: Known) -> list[Ints]:
    """The items that the shoppers have done with, as far as their question does not want them again; sorted."""
    kinds = np.array([_IS_SEEN[query.surface] if query.exclude_seen else _NEVER for query in queries])
    barred = np.empty(known.past.shape[1], dtype=np.int64)
    ends = np.empty(len(queries), dtype=np.int64)
    barred_each(known.past, known.marks[0], kinds, barred, ends)
    return np.split(barred, ends)[:-1]


def _barred(
    table: ItemTable, asked: Asked, seen: Ints, read: Past, basket: npt.NDArray[np.bool_] | None
) -> Ints:
    """Items that an answer may not list: what is seen, hidden items, the item looked at, and the basket."""
    query, more = asked.query, []
    if query.hidden:
        more.append(table.find(query.hidden))
    if asked.anchor is not None:
        more.append(np.array([asked.anchor]))
    if basket is not None and query.exclude_seen:
        put_in = np.setdiff1d(read.items[read.kinds == _ADDED], read.items[read.kinds == _BOUGHT])
        more += [put_in, read.items[basket]]
    return np.unique(np.concatenate([seen, *more])) if more else seen
