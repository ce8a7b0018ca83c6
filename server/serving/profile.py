"""Who a ranking is for: the events that count, and the user embedding made from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.features import KINDS, Histories, Moments
from server.errors import InvalidRequest, Violation, WrongModelVersion
from server.serving.query import Basis, PastEvent, RankQuery, Surface
from server.serving.snapshot import Floats, Snapshot

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What is known of one shopper at one moment. `vector` (dim,) is None where nothing is."""

    basis: Basis
    past: Histories
    """One shopper's events with items of this catalogue, oldest first."""
    history: Histories
    """What the user tower reads of them: the newest of each item and kind, up to its limit."""
    moment: Moments
    vector: Floats | None = None
    unknown: int = 0

    @property
    def dropped(self) -> int:
        """How many of the events the user tower did not read."""
        return len(self.past.items) - len(self.history.items)


def read_profile(snapshot: Snapshot, query: RankQuery) -> Profile:
    """Turn a question's history or embedding into a profile.

    The item just put into the basket counts as the newest event. Raises `WrongModelVersion` for an embedding
    of another version, whose numbers mean nothing here, and `InvalidRequest` for one of another length.
    """
    moment = snapshot.moment(query.surface, query.timestamp)
    events = list(query.history or ())
    if query.surface is Surface.CART and query.item_id:
        events.append(PastEvent(item_id=query.item_id, kind="add_to_cart", time=query.timestamp))
    past, unknown = known_events(events, snapshot.catalogue.index, query.timestamp)
    history = past.recent()
    basis, vector = _embed(snapshot, query, history, moment)
    return Profile(basis=basis, past=past, history=history, moment=moment, vector=vector, unknown=unknown)


def _embed(
    snapshot: Snapshot, query: RankQuery, history: Histories, moment: Moments
) -> tuple[Basis, Floats | None]:
    if query.embedding is not None:
        if query.embedding.model_version != snapshot.version:
            raise WrongModelVersion(
                f"the embedding is of another model version than {snapshot.version}, which is served now; "
                "compute it again with that version's item vectors, or send a history"
            )
        return Basis.USER_EMBEDDING, _checked(query.embedding.values, snapshot)
    if not history.items.size:
        return Basis.COLD_START, None
    basis = Basis.STORED if query.stored else Basis.HISTORY
    return basis, snapshot.user_vectors(history, moment)[0]


def _checked(values: Floats, snapshot: Snapshot) -> Floats:
    if len(values) != snapshot.dim:
        problem = f"has {len(values)} values; model version {snapshot.version} has {snapshot.dim}"
        raise InvalidRequest(Violation(field="user_embedding.values", problem=problem))
    return values


def known_events(events: Sequence[PastEvent], index: Mapping[str, int], now: int) -> tuple[Histories, int]:
    """Sort the events of one shopper whose item is in `index`; returns them and the number of the others.

    An event without a time, or dated after `now`, counts as now; events of equal time keep the order in which
    they came.
    """
    known = [event for event in events if event.item_id in index]
    times = np.array([now if event.time is None else min(event.time, now) for event in known], dtype=np.int64)
    order = np.argsort(times, kind="stable")
    past = Histories(
        np.array([0, order.size], dtype=np.int64),
        np.array([index[known[row].item_id] for row in order], dtype=np.int32),
        np.array([KINDS.index(known[row].kind) for row in order], dtype=np.int8),
        times[order],
    )
    return past, len(events) - len(known)


def without_each(history: Histories, items: Ints) -> Histories:
    """Alternative histories of one shopper: row j lacks every event with `items[j]`."""
    kept = history.items[None, :] != items[:, None]
    events = np.nonzero(kept)[1]
    indptr = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int64)
    return Histories(indptr, history.items[events], history.kinds[events], history.times[events])
