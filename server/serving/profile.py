"""Who a ranking is for: the events that count, what is not listed again, and how the user tower reads it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.features import KINDS, POSITIVE_KINDS
from server.errors import InvalidRequest, UnknownItem, Violation, WrongModelVersion
from server.serving.items import ItemTable
from server.serving.past import Past, known_events, newest_of_each
from server.serving.query import NOTHING, Basis, Events, PastEvent, RankQuery, Surface
from server.serving.reading import read_events
from server.serving.segments import taste_of
from server.serving.snapshot import Floats, Snapshot
from server.serving.tower import Reading

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
_IS_SEEN = {surface: np.isin(KINDS, kinds) for surface, kinds in _SEEN.items()}
_IS_WANTED = np.isin(KINDS, POSITIVE_KINDS)
_ADDED, _BOUGHT = KINDS.index("add_to_cart"), KINDS.index("purchase")


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


def read_profile(snapshot: Snapshot, query: RankQuery) -> Profile:
    """Turn what a question tells into a profile.

    What was done in this session comes after the history, whatever its times. The item just put into the basket is
    its newest event. Raises `UnknownItem` (detail), `WrongModelVersion` for an embedding of another version, whose
    numbers mean nothing here, and `InvalidRequest` for one of another length or for an unknown segment.
    """
    history, session = _columns(query.history or NOTHING), _columns(query.session)
    if query.surface is Surface.CART and query.item_id:
        session = session.with_one(query.item_id, "add_to_cart")
    past = known_events(snapshot.items, history, session, query.timestamp)
    read = newest_of_each(past)
    basis, given = _basis(snapshot, query, past)
    basket = _basket(read, basis) if query.surface is Surface.CART else None
    anchor = _anchor(snapshot.items, query) if query.surface is Surface.DETAIL else None
    return Profile(
        basis=basis,
        past=past,
        read=read,
        basket=basket,
        anchor=anchor,
        barred=_barred(snapshot.items, query, past, read, basket, anchor),
        reading=read_events(
            snapshot, query, read, basket, anchor, given, is_user=basis is Basis.USER_EMBEDDING
        ),
        unknown=len(history) + len(session) - len(past.items),
    )


def _columns(events: Events | Sequence[PastEvent]) -> Events:
    return events if isinstance(events, Events) else Events.of(events)


def _basis(snapshot: Snapshot, query: RankQuery, past: Past) -> tuple[Basis, Floats | None]:
    """What the ranking is made from, and the vector that was given in place of a history."""
    if query.embedding is not None:
        if query.embedding.model_version != snapshot.version:
            raise WrongModelVersion(
                f"the embedding is of another model version than {snapshot.version}, which is served now; "
                "compute it again with that version's item vectors, or send a history"
            )
        return Basis.USER_EMBEDDING, _checked(query.embedding.values, snapshot)
    taste = None if query.segment is None else taste_of(snapshot.segments, query.segment)
    if len(past.items) > past.session:
        return (Basis.STORED if query.stored else Basis.HISTORY), None
    if past.session:
        return Basis.SESSION, None
    if taste is not None:
        return Basis.SEGMENT, taste
    return (Basis.NOT_USED if query.surface is Surface.DETAIL else Basis.COLD_START), None


def _checked(values: Floats, snapshot: Snapshot) -> Floats:
    if len(values) != snapshot.dim:
        problem = f"has {len(values)} values; model version {snapshot.version} has {snapshot.dim}"
        raise InvalidRequest(Violation(field="user_embedding.values", problem=problem))
    return values


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


def _barred(
    table: ItemTable,
    query: RankQuery,
    past: Past,
    read: Past,
    basket: npt.NDArray[np.bool_] | None,
    anchor: int | None,
) -> Ints:
    """Items that this answer may not list: hidden, the item looked at, and what the shopper has done with."""
    barred = set(table.find(query.hidden).tolist()) if query.hidden else set()
    if anchor is not None:
        barred.add(anchor)
    if query.exclude_seen:
        barred.update(past.items[_IS_SEEN[query.surface][past.kinds]].tolist())
        if basket is not None:
            bought = set(read.items[read.kinds == _BOUGHT].tolist())
            barred.update(
                set(read.items[read.kinds == _ADDED].tolist()) - bought, read.items[basket].tolist()
            )
    return np.array(sorted(barred), dtype=np.int64)
