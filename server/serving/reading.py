"""Which events the user tower reads as the history, which as the session, and which items something is to go with.

As `model.fusion` has it: on detail the item looked at is the session, seen just now; on cart the basket is, its items
read as put in, and they are what something is to go with. Elsewhere the session is what was done in it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from model.features import DAY, HOUR, KINDS, SURFACES, Context, moments
from model.onnx_tower import codes_newest_first
from server.serving.past import Past
from server.serving.query import RankQuery, Surface
from server.serving.snapshot import Floats, Snapshot
from server.serving.tower import Reading

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_ADDED = KINDS.index("add_to_cart")
_VIEW = np.array([KINDS.index("view")])
_TODAY = np.zeros(1, dtype=np.int64)
_NUMBER = {surface: SURFACES.index(surface) for surface in Surface}
_UNKNOWN_MOMENT = (-1, -1, -1, -1)


def read_events(
    snapshot: Snapshot,
    query: RankQuery,
    read: Past,
    basket: Bools | None,
    anchor: int | None,
    given: Floats | None,
    *,
    is_user: bool,
) -> Reading:
    """The tower's input. With `is_user` the vector `given` is a whole user embedding, its moment included."""
    days = (query.timestamp - read.times) // DAY if snapshot.has_clock else None
    codes = np.zeros((2, len(read.items) + (anchor is not None)), dtype=np.int64)  # ABSENT
    anchors = np.zeros(codes.shape[1], dtype=np.float32)
    events = read.items
    history = codes_newest_first(read.kinds, days)
    newest = 0
    if not is_user:
        codes[0, : len(history)] = history
    if anchor is not None:
        newest = len(history)
        codes[1, newest:] = codes_newest_first(_VIEW, _TODAY if snapshot.has_clock else None)
        anchors[-1] = 1.0
        events = np.append(events, anchor)
    elif basket is not None:
        newest = int(basket.argmax()) if basket.any() else 0
        inside = int(np.count_nonzero(basket))
        put_in = np.full(inside, _ADDED)
        codes[1, basket] = codes_newest_first(put_in, None if days is None else days[basket])
        anchors[basket] = 1.0 / np.sqrt(max(inside, 1))
    elif read.session:
        codes[1, : read.session] = history[: read.session]
    return Reading(
        vectors=snapshot.index.vectors.take(events, axis=0),
        codes=codes,
        anchors=anchors,
        context=_UNKNOWN_MOMENT if is_user else _moment(query.surface, query.timestamp, snapshot.has_clock),
        surface=_NUMBER[query.surface],
        given=given,
        text=snapshot.reader.read(query.words) if query.surface is Surface.SEARCH else None,
        newest=(0, newest),
    )


def _moment(surface: Surface, timestamp: int, has_clock: bool) -> tuple[int, ...]:
    return _rows_of_hour(surface, timestamp // HOUR if has_clock else None)


@lru_cache(maxsize=4096)
def _rows_of_hour(surface: Surface, hour: int | None) -> tuple[int, ...]:
    """Rows of the context table; they are the same for a whole hour."""
    moment = moments([Context(surface=surface.value, timestamp=None if hour is None else hour * HOUR)])
    return tuple(moment.codes[0].tolist())
