"""Who a ranking is for: the events that count, what is not listed again, and how the user tower reads it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

Bools = npt.NDArray[np.bool_]
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
_IS_GIVEN = (Basis.USER_EMBEDDING, Basis.SEGMENT)
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
class Profiles:
    """What is known of the shoppers of a batch, each at one moment.

    Attributes:
        baskets: by row, which events of `read` are the basket; on cart only.
        barred: items not to be listed, sorted, one question's after another's; -1 may be among them.
        ends: (b,) where those of each end.
        given: (dim,) by row the vector that stands in place of a history, where one does.
        inputs: the events as the tower's input; on detail the item looked at comes last in it.
    """

    asked: Sequence[Asked]
    known: Known
    bases: Sequence[Basis]
    baskets: Mapping[int, Bools]
    barred: Ints
    ends: Ints
    given: Sequence[Floats | None]
    inputs: Inputs


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of one shopper of a batch."""

    batch: Profiles
    row: int

    @property
    def basis(self) -> Basis:
        """What the ranking is made from."""
        return self.batch.bases[self.row]

    @property
    def past(self) -> Past:
        """Every event with an item of this catalogue."""
        return self.batch.known.past_of(self.row)

    @property
    def read(self) -> Past:
        """What the user tower reads of them: the newest of each item and kind, up to its limit."""
        return self.batch.known.read_of(self.row)

    @property
    def basket(self) -> Bools | None:
        """(e,) which events of `read` are the basket; on cart only."""
        return self.batch.baskets.get(self.row)

    @property
    def anchor(self) -> int | None:
        """The item looked at; on detail only."""
        return self.batch.asked[self.row].anchor

    @property
    def barred(self) -> Ints:
        """Items not to be listed, sorted, each once; -1 may be among them."""
        begin = self.batch.ends[self.row - 1] if self.row else 0
        return self.batch.barred[begin : self.batch.ends[self.row]]

    @property
    def reading(self) -> Reading:
        """The events as the tower's input; on detail the item looked at comes last in it."""
        return self.batch.inputs.of(self.row, self.batch.given[self.row], self.batch.asked[self.row].text)


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


def read_profiles(snapshot: Snapshot, asked: Sequence[Asked]) -> Profiles:
    """Turn what questions tell into profiles.

    What was done in this session comes after the history, whatever its times.
    """
    queries = [one.query for one in asked]
    nows = np.array([query.timestamp for query in queries])
    known = known_events(snapshot.items, [one.session for one in asked], [one.history for one in asked], nows)
    bases = list(map(_basis, asked, np.diff(known.marks[0], prepend=0).tolist(), known.marks[1].tolist()))
    given = [one.given if basis in _IS_GIVEN else None for one, basis in zip(asked, bases, strict=True)]
    inputs = read_input(
        snapshot, queries, known, [one.anchor for one in asked], given, [one.text for one in asked]
    )
    baskets = {
        row: _basket(known.read_of(row), bases[row])
        for row, query in enumerate(queries)
        if query.surface is Surface.CART
    }
    for row, basket in baskets.items():
        put_in(inputs, row, known.read_of(row), basket, int(nows[row]) if snapshot.has_clock else None)
    barred, ends = _barred(snapshot.items, asked, known, baskets)
    return Profiles(
        asked=asked,
        known=known,
        bases=bases,
        baskets=baskets,
        barred=barred,
        ends=ends,
        given=given,
        inputs=inputs,
    )


def _columns(events: Events | Sequence[PastEvent]) -> Events:
    return events if isinstance(events, Events) else Events.of(events)


def _basis(asked: Asked, known: int, of_session: int) -> Basis:
    """What the ranking is made from, with so many known events."""
    if asked.query.embedding is not None:
        return Basis.USER_EMBEDDING
    if known > of_session:
        return Basis.STORED if asked.query.stored else Basis.HISTORY
    if of_session:
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


def _basket(read: Past, basis: Basis) -> Bools:
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
    table: ItemTable, asked: Sequence[Asked], known: Known, baskets: Mapping[int, Bools]
) -> tuple[Ints, Ints]:
    """Items that each answer may not list, and where they end: seen, hidden, looked at, and in the basket.

    Seen is what a shopper has done with, as far as the question does not want it again.
    """
    kinds = np.array([_IS_SEEN[one.query.surface] if one.query.exclude_seen else _NEVER for one in asked])
    seen, ends = np.empty(known.past.shape[1], dtype=np.int64), np.empty(len(asked), dtype=np.int64)
    barred_each(known.past, known.marks[0], kinds, seen, ends)
    if not (baskets or any(one.query.hidden or one.anchor is not None for one in asked)):
        return seen, ends
    parts = [
        np.unique(np.concatenate([mine, *_more_barred(table, one, known.read_of(row), baskets.get(row))]))
        for row, (one, mine) in enumerate(zip(asked, np.split(seen, ends)[:-1], strict=True))
    ]
    return np.concatenate(parts), np.cumsum([len(part) for part in parts])


def _more_barred(table: ItemTable, asked: Asked, read: Past, basket: Bools | None) -> list[Ints]:
    more = [table.find(asked.query.hidden)]
    if asked.anchor is not None:
        more.append(np.array([asked.anchor]))
    if basket is not None and asked.query.exclude_seen:
        put_in = np.setdiff1d(read.items[read.kinds == _ADDED], read.items[read.kinds == _BOUGHT])
        more += [put_in, read.items[basket]]
    return more
